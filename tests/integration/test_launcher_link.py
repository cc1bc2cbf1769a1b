"""The supervisor's end of a launcher's socket, with a launcher that says nothing. Real sockets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol import codec
from supervisor.errors import LauncherLost
from supervisor.runtime.launching import ForkLink, LauncherLink

pytestmark = pytest.mark.posix


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[tuple[socket.socket, Path]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(tmp_path / "l.sock"))
        listening.listen()
        yield listening, tmp_path / "l.sock"


@pytest.mark.parametrize(("op", "lost"), [("launch", True), ("stale", True), ("catalogue", False)])
def test_one_that_does_not_answer_is_given_up_where_it_had_to_answer_at_once(
    silent: tuple[socket.socket, Path], op: str, lost: bool
) -> None:
    told: list[LauncherLink] = []

    async def ask() -> None:
        link = ForkLink("l", silent[1], lambda *_: None, told.append)
        waiting = link.request("list")
        with pytest.raises(LauncherLost, match=f"did not answer '{op}' within"):
            await link.ask(op, 0.05)
        assert link.alive is not lost and told == ([link] if lost else [])
        if lost:  # whoever else waited for it is told as well
            with pytest.raises(LauncherLost, match="is gone"):
                await waiting
        link.hang_up()

    asyncio.run(ask())


def test_an_answer_that_lies_there_counts_however_late_it_is_read(silent: tuple[socket.socket, Path]) -> None:
    """The supervisor itself stood still: its time was over when it looked, and the answer had come."""

    async def ask() -> None:
        link = ForkLink("l", silent[1], lambda *_: None, lambda _: None)
        peer, _ = silent[0].accept()
        with peer:
            asked = asyncio.ensure_future(link.ask("launch", 0.05))
            await asyncio.sleep(0)
            peer.send(codec.pack({"id": codec.unpack(peer.recv(1000))["id"], "ok": True}))
            time.sleep(0.2)
            assert (await asked)["ok"] and link.alive
        link.hang_up()

    asyncio.run(ask())
