"""Both clients against a real ROUTER and XPUB."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import zmq

from protocol import keys
from protocol.client import AsyncControlClient, CommandFailed, ControlClient
from protocol.endpoints import Endpoints
from protocol.errors import DENIED, UNKNOWN_BOT, StablehandError, Unreachable
from tests.scripted import ScriptedSupervisor
from tests.support import eventually


@pytest.mark.parametrize("tcp", [False, True], ids=["ipc", "tcp_curve"])
def test_commands_and_their_results(tmp_path: Path, tcp: bool) -> None:
    with ScriptedSupervisor(tmp_path / "var", tcp=tcp) as server, ControlClient(tmp_path / "var") as client:
        assert client.ping()["wire"] == 1
        assert [bot["name"] for bot in client.status(["us500-ma"])] == ["us500-ma"]
        assert client.start(where={"state": "stopped"}, wait=2)["reached"] == ["us500-ma"]
        assert server.requests[-1]["args"] == {"where": {"state": "stopped"}, "wait": 2}
        client.update(["eurusd-ma"], set={"params": {"fast": 10}})
        assert server.requests[-1]["args"] == {"bots": ["eurusd-ma"], "set": {"params": {"fast": 10}}}


def test_refusal_carries_code_and_hint(tmp_path: Path) -> None:
    with ScriptedSupervisor(tmp_path / "var"), ControlClient(tmp_path / "var") as client:
        with pytest.raises(CommandFailed) as failure:
            client.status(["eurusd"])
        assert failure.value.code == UNKNOWN_BOT
        assert failure.value.hint == "did you mean eurusd-ma?"
        assert client.ping()["wire"] == 1  # the connection serves on


def test_nobody_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="no supervisor runs on"):
        ControlClient(tmp_path)
    with ScriptedSupervisor(tmp_path / "var"):
        pass
    began = time.monotonic()
    with pytest.raises(Unreachable, match="no supervisor answers"):
        ControlClient(tmp_path / "var", timeout=30).ping()
    assert time.monotonic() - began < 3


def test_silence_and_death_end_the_waiting(tmp_path: Path) -> None:
    with ScriptedSupervisor(tmp_path / "var") as server, ControlClient(tmp_path / "var") as client:
        server.mute = True
        with pytest.raises(Unreachable, match=r"did not answer within 0\.1 s"):
            client.request("ping", timeout=0.1)
        threading.Timer(0.1, server.close).start()
        with pytest.raises(Unreachable, match="went away"):
            client.request("ping", timeout=30)


def test_same_client_finds_the_next_supervisor(tmp_path: Path) -> None:
    with ScriptedSupervisor(tmp_path / "var"):
        client = ControlClient(tmp_path / "var")
        assert client.ping()
    with ScriptedSupervisor(tmp_path / "var"), client:
        assert eventually(lambda: client.ping())


class TurnedAway:
    """Has its answer before it asks: as where another process runs between the two."""

    def _join(self, socket: Any, address: str) -> Any:
        joined = super()._join(socket, address)  # type: ignore[misc]
        eventually(lambda: not int(socket.get(zmq.EVENTS)) & zmq.POLLOUT, 10, what="the door has turned it away")
        return joined


class TurnedAwayClient(TurnedAway, ControlClient):
    pass


class TurnedAwayAsyncClient(TurnedAway, AsyncControlClient):
    pass


@pytest.mark.parametrize("kind", [ControlClient, TurnedAwayClient])
def test_unknown_key_is_denied(tmp_path: Path, kind: type[ControlClient]) -> None:
    with ScriptedSupervisor(tmp_path / "var", tcp=True):
        stranger = kind(endpoints=Endpoints.load(tmp_path / "var"), key=keys.new_pair(), timeout=10)
        with stranger, pytest.raises(StablehandError) as failure:
            stranger.ping()
        assert failure.value.code == DENIED


@pytest.mark.parametrize("kind", [AsyncControlClient, TurnedAwayAsyncClient])
def test_unknown_key_is_denied_to_asyncio(tmp_path: Path, kind: type[AsyncControlClient]) -> None:
    async def ask() -> None:
        async with kind(endpoints=Endpoints.load(tmp_path / "var"), key=keys.new_pair(), timeout=10) as stranger:
            await stranger.ping()

    with ScriptedSupervisor(tmp_path / "var", tcp=True), pytest.raises(StablehandError) as failure:
        asyncio.run(asyncio.wait_for(ask(), 30))
    assert failure.value.code == DENIED


def test_follow_closes_gaps_by_number(tmp_path: Path) -> None:
    with ScriptedSupervisor(tmp_path / "var") as server, ControlClient(tmp_path / "var") as client:
        follower = client.follow(since=1)
        seen = [next(follower)["seq"], next(follower)["seq"]]
        server.record("its frame is lost", publish=False)
        server.record("of another bot", bot="usdjpy-boll")
        server.record("after the gap")
        seen += [next(follower)["seq"] for _ in range(3)]
        server.record("lost, and nothing follows", publish=False)
        assert seen == [2, 3, 4, 5, 6]
        assert next(follower)["seq"] == 7


def test_follow_one_bot(tmp_path: Path) -> None:
    with ScriptedSupervisor(tmp_path / "var") as server, ControlClient(tmp_path / "var") as client:
        follower = client.follow(since=0, bot="eurusd-ma")
        server.record("not this", bot="usdjpy-boll")
        server.record("this", bot="eurusd-ma")
        assert [next(follower)["seq"] for _ in range(3)] == [2, 3, 5]


@pytest.mark.parametrize("tcp", [False, True], ids=["ipc", "tcp_curve"])
def test_asyncio_client(tmp_path: Path, tcp: bool) -> None:
    async def talk(server: ScriptedSupervisor) -> None:
        async with AsyncControlClient(tmp_path / "var") as client:
            pong, bots, host = await asyncio.gather(client.ping(), client.status(), client.host())
            assert (pong["wire"], len(bots), host["cpu_percent"]) == (1, 6, 12.5)
            with pytest.raises(CommandFailed):
                await client.stop(["nobody"])
            seen: list[int] = []
            async for event in client.follow(since=1):
                if not seen:
                    server.record("its frame is lost", publish=False)
                    server.record("after the gap")
                seen.append(event["seq"])
                if len(seen) == 4:
                    break
            assert seen == [2, 3, 4, 5]
            server.mute = True
            with pytest.raises(Unreachable, match="did not answer"):
                await client.request("ping", timeout=0.1)
        server.close()
        with pytest.raises(Unreachable, match="no supervisor answers"):
            await AsyncControlClient(tmp_path / "var", timeout=30).ping()

    server = ScriptedSupervisor(tmp_path / "var", tcp=tcp)
    asyncio.run(asyncio.wait_for(talk(server), 30))
