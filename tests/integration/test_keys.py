"""Keys on TCP: which one opens which door, and that nobody comes in where no door is kept."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from broker.client import AttachDenied, GatewayClient, GatewayDown
from protocol.keys import KeyPair, load_or_create, new_pair, secure_client, secure_server
from protocol.link import BusLink
from protocol.messages import Admit, Message, Unwelcome
from protocol.progress import Progress
from protocol.spec import RunSpec
from supervisor.runtime.launching import SpawnLink
from supervisor.runtime.zap import BUS, CONTROL, KeyDoor
from tests.gateway_rig import Rig, last_bar_time
from tests.support import eventually


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    made: zmq.Context[Any] = zmq.Context()
    yield made
    made.destroy(linger=0)


def secured(context: zmq.Context[Any], server: KeyPair, domain: str) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
    secure_server(socket, server, domain)
    socket.bind("tcp://127.0.0.1:*")
    return socket


def knock(context: zmq.Context[Any], at: zmq.Socket[bytes], server: KeyPair, pair: KeyPair) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    socket.linger = 0
    secure_client(socket, pair, server.public)
    socket.connect(at.getsockopt_string(zmq.LAST_ENDPOINT))
    socket.send(b"here I am")
    return socket


async def _doors(context: zmq.Context[Any]) -> None:
    server, run, operator = new_pair(), new_pair(), new_pair()
    door = KeyDoor(context)
    door.admit(run.public, "eurusd-ma", BUS)
    door.admit(operator.public, "operator", CONTROL)
    bus, control = secured(context, server, BUS), secured(context, server, CONTROL)

    async def comes_in(at: zmq.Socket[bytes], pair: KeyPair) -> bool:
        refused = door.refused
        with knock(context, at, server, pair):
            for _ in range(500):
                await asyncio.sleep(0.01)
                if at.poll(0):
                    at.recv_multipart()
                    return True
                if door.refused > refused:
                    return False
        raise AssertionError("neither let in nor refused")

    assert await comes_in(bus, run)
    assert await comes_in(control, operator)
    assert not await comes_in(control, run)  # a bot gives no orders to the stable
    assert not await comes_in(bus, operator)
    assert not await comes_in(bus, new_pair())
    door.forget(run.public)
    assert not await comes_in(bus, run)
    door.close()


def test_a_key_opens_the_door_that_it_was_made_for(context: zmq.Context[Any]) -> None:
    asyncio.run(_doors(context))


def test_where_no_door_is_kept_nobody_comes_in(context: zmq.Context[Any]) -> None:
    server = new_pair()
    socket = secured(context, server, BUS)
    with knock(context, socket, server, new_pair()):
        assert not socket.poll(500)


def test_a_run_whose_key_a_supervisor_refuses_is_told_so(context: zmq.Context[Any], tmp_path: Path) -> None:
    server, pair = new_pair(), new_pair()
    doors: zmq.Socket[bytes] = context.socket(zmq.REP)
    doors.bind("inproc://zeromq.zap.01")
    bus = secured(context, server, BUS)
    spec = RunSpec(
        kind="bot", token="t", bot_id=1, epoch=1, name="one", installation="i", data_dir=str(tmp_path), lock_path="",
        log_path="", bus=bus.getsockopt_string(zmq.LAST_ENDPOINT), server_key=server.public,
        public_key=pair.public, secret_key=pair.secret,
    )  # fmt: skip
    heard: list[Message] = []
    link = BusLink(context, spec, Progress(), heard.append, dict)
    link.start()
    try:
        assert doors.poll(5000)
        version, number, *_ = doors.recv_multipart()
        doors.send_multipart([version, number, b"400", b"unknown key", b"", b""])
        (word,) = eventually(lambda: list(heard))
        assert isinstance(word, Unwelcome) and "key" in word.reason
    finally:
        link.stop(0.1)


def test_a_reader_reads_and_does_nothing_else(tmp_path: Path) -> None:
    with Rig(tmp_path, {"seed": 7, "symbols": ["EURUSD"], "bars_per_second": 5}, tcp=True) as rig:
        rig.start()
        rig.ready()
        reader, bot = new_pair(), new_pair()
        rig.supervisor.fence(1, 1, key=bot.public)
        rig.supervisor.say(Admit(bot_id=1, key=reader.public))
        trading = rig.client(1, 1, bot)
        attached = trading.attach("EURUSD", "H1", 50, timeout=5.0)
        reading = rig.client(1, 1, reader)
        seen = reading.attach("EURUSD", "H1", 50, timeout=5.0, read_only=True)
        assert last_bar_time(seen) >= last_bar_time(attached)
        assert reading.call("account_info")["balance"] > 0
        with pytest.raises(GatewayDown):  # no word comes back to who speaks in another's name
            reading.attach("EURUSD", "H1", 50, timeout=0.5)
        order = reading.new_order("open", symbol="EURUSD", decision="d", bar_time=last_bar_time(seen), volume=0.01)
        assert reading.send(order, timeout=0.5).status == "unknown"
        with pytest.raises(GatewayDown):
            rig.client(2, 1, reader).attach("EURUSD", "H1", 50, timeout=0.5, read_only=True)  # nor for another bot
        assert trading.call("positions_get") == []
        rig.supervisor.say(Admit(bot_id=1, key=reader.public, alive=False))
        eventually(lambda: _shut_out(rig.client(1, 1, reader)))


def _shut_out(client: GatewayClient) -> bool:
    try:
        client.attach("EURUSD", "H1", 50, timeout=0.5, read_only=True)
    except GatewayDown:
        return True
    except AttachDenied:
        return False
    return False


def test_the_spawner_obeys_the_operators_key_only(tmp_path: Path, context: zmq.Context[Any]) -> None:
    address = tmp_path / "launcher-1.addr"
    command = [sys.executable, "-m", "botproc.spawner", "--socket", str(address), "--generation", "launcher-1"]
    command += ["--tcp", "--keys", str(tmp_path / "keys")]
    spawner = subprocess.Popen(command, stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONWARNINGS": "error"})
    try:
        eventually(lambda: address.exists() or spawner.poll() is not None, 30)
        asyncio.run(_two_ask(context, address.read_text(), tmp_path))
    finally:
        spawner.kill()
        spawner.wait(10)


async def _two_ask(context: zmq.Context[Any], address: str, folder: Path) -> None:
    lost: list[str] = []

    def link(name: str, pair: KeyPair) -> SpawnLink:
        server = load_or_create(folder, "supervisor")
        return SpawnLink(
            name, context, address, pair, server.public, lambda *_: None, lambda one: lost.append(one.name)
        )

    operator = link("operator", load_or_create(folder, "operator"))
    stranger = link("stranger", new_pair())
    try:
        assert (await operator.ask("list", timeout=10.0))["generation"] == "launcher-1"
        for _ in range(500):
            if lost:
                break
            await asyncio.sleep(0.01)
        assert lost == ["stranger"]  # at once, not after the time that an answer may take
        assert operator.alive
    finally:
        operator.hang_up()
        stranger.hang_up()
