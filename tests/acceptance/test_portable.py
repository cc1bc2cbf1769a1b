"""The portable profile, which is Windows' way: fresh interpreters, loopback TCP, a key for everybody."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
import zmq

from protocol import codec
from protocol.client import ControlClient
from protocol.endpoints import Endpoints
from protocol.errors import DENIED, StablehandError
from protocol.keys import KeyPair, new_pair, secure_client
from tests.daemon import Daemon, bot_text, config_text, installation
from tests.support import eventually

pytestmark = pytest.mark.acceptance

TWO = bot_text("one") + bot_text("two", "GBPUSD", extra='wanted = "stopped"')
Make = Callable[..., Daemon]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One bot that runs and one that does not, spawned, on TCP; the tests that share it leave it as it is."""
    text = config_text(profile="portable", bots=TWO)
    with installation(tmp_path_factory.mktemp("portable"), text) as made:
        made.start().wait_state("one", "running")
        yield made


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    made: zmq.Context[Any] = zmq.Context()
    yield made
    made.destroy(linger=0)


def supervisor_key(daemon: Daemon) -> str:
    return Endpoints.load(daemon.data_dir).server_key


def gateway_key(daemon: Daemon) -> str:
    raw = json.loads((daemon.data_dir / "keys" / "gateway-main.key").read_text())
    return str(raw["public"])


def knock(context: zmq.Context[Any], address: str, server_key: str, pair: KeyPair | None) -> zmq.Socket[bytes]:
    """A connection that asks something, whoever it asks."""
    socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    secure_client(socket, pair, server_key)
    socket.connect(address)
    socket.send(codec.pack({"v": 1, "id": "x", "cmd": "ping", "args": {}}))
    return socket


def test_every_process_is_a_fresh_interpreter_and_every_socket_a_loopback_port_with_a_key(daemon: Daemon) -> None:
    endpoints = Endpoints.load(daemon.data_dir)
    addresses = [endpoints.bus, endpoints.control, endpoints.events, *endpoints.accounts["main"].values()]
    ports = [int(address.removeprefix("tcp://127.0.0.1:")) for address in addresses]
    # Below the ports that clients are given: else one that connects in vain is one day connected to itself.
    assert len(set(ports)) == 6 and all(20_000 <= port < 32_000 for port in ports)
    bot = psutil.Process(daemon.bot("one")["pid"])
    spawner = bot.parent()
    assert bot.cmdline()[-2:] == ["-m", "botproc"]
    assert spawner is not None and "botproc.spawner" in spawner.cmdline()


def test_secrets_stay_in_files_that_only_the_owner_reads(daemon: Daemon) -> None:
    folder = daemon.data_dir / "keys"
    files = sorted(folder.glob("*.key"))
    assert [file.stem for file in files] == ["gateway-main", "operator", "supervisor"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    secrets = [json.loads(file.read_text())["secret"].encode() for file in files]
    told = [path.read_bytes() for path in daemon.data_dir.rglob("*") if path.is_file() and path.parent != folder]
    told += [" ".join(one.cmdline()).encode() for one in daemon.processes()]
    assert len(told) > 10
    assert not any(secret in text for secret in secrets for text in told)


def test_a_key_that_nobody_gave_out_gets_no_answer_and_is_counted(daemon: Daemon, context: zmq.Context[Any]) -> None:
    endpoints, server, gateway = Endpoints.load(daemon.data_dir), supervisor_key(daemon), gateway_key(daemon)
    supervisors = (endpoints.bus, endpoints.control, endpoints.events)
    gateways = tuple(endpoints.accounts["main"].values())
    # A key of nobody, and no key at all, at each of the five doors.
    strangers = [knock(context, one, server, new_pair()) for one in supervisors]
    strangers += [knock(context, one, gateway, new_pair()) for one in gateways]
    strangers += [knock(context, one, "", None) for one in (*supervisors, *gateways)]
    with ControlClient(daemon.data_dir, key=new_pair()) as client, pytest.raises(StablehandError) as refused:
        client.ping()
    assert refused.value.code == DENIED
    # The gateway gives a key the time of a handshake, for a run may come before its fence.
    eventually(lambda: daemon.ask("accounts")[0]["refused_keys"] >= 2, 15)
    assert daemon.ask("host")["refused_keys"] >= 4
    assert not any(one.poll(0) for one in strangers)
    assert "unknown key was refused" in (daemon.data_dir / "logs" / "supervisor.log").read_text()
    assert daemon.bot("one")["state"] == "running"


def test_the_operators_key_commands_and_does_not_speak_for_a_bot(daemon: Daemon, context: zmq.Context[Any]) -> None:
    endpoints = Endpoints.load(daemon.data_dir)
    raw = json.loads((daemon.data_dir / "keys" / "operator.key").read_text())
    operator = KeyPair(raw["public"], raw["secret"])
    before = daemon.ask("host")["refused_keys"]
    assert knock(context, endpoints.control, endpoints.server_key, operator).poll(5000)
    bus = knock(context, endpoints.bus, endpoints.server_key, operator)
    eventually(lambda: daemon.ask("host")["refused_keys"] > before)
    assert not bus.poll(0)


def test_a_stopped_bot_is_analysed_by_a_process_that_may_only_read(daemon: Daemon) -> None:
    told = daemon.ask("analysis", bot="two")
    assert told["signal"] in ("BUY", "SELL", "HOLD") and told["live"] is False
    assert daemon.ask("analysis", bot="one")["live"] is True


def test_adopted_runs_are_let_in_by_a_supervisor_and_a_gateway_that_never_launched_them(stable: Make) -> None:
    daemon = stable(config_text(profile="portable", bots=TWO)).start()
    before = daemon.wait_state("one", "running")
    ports = Endpoints.load(daemon.data_dir)
    daemon.kill()
    with sqlite3.connect(daemon.data_dir / "supervisor.db") as store:
        kept = store.execute("SELECT public_key FROM runs WHERE ended_at IS NULL").fetchall()
    assert len(kept) == 2 and all(len(key) == 40 for (key,) in kept)  # the bot's and the gateway's
    daemon.start()
    row = daemon.wait_state("one", "running", 10)
    assert (row["pid"], row["epoch"]) == (before["pid"], before["epoch"])
    assert Endpoints.load(daemon.data_dir).bus == ports.bus
    gateway = daemon.ask("accounts")[0]["pid"]
    os.kill(gateway, signal.SIGKILL)
    eventually(lambda: daemon.ask("accounts")[0]["pid"] not in (None, gateway), 20)
    cycles = daemon.bot("one")["cycles"] + 5  # more than what it had done and not told when its gateway died
    row = eventually(lambda: row if (row := daemon.bot("one"))["cycles"] > cycles else None, 20)
    assert row["pid"] == before["pid"] and row["restarts"] == 0
    assert daemon.down() == 0
    assert daemon.processes() == []
