"""The last word of those who command at once is what is wanted: in memory, on the disk, and after a restart."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import zmq

from protocol import codec
from tests.daemon import Daemon, bot_text, config_text
from tests.diskfaults import locked
from tests.stableaudit import audit

pytestmark = [pytest.mark.acceptance, pytest.mark.posix]

Make = Callable[..., Daemon]
_SECONDS = 30


def test_a_stop_is_not_undone_by_what_was_said_before_it(stable: Make) -> None:
    daemon = stable(config_text(bots=bot_text("one"))).start()
    for before, first in (
        ("stop", "start"), ("stop", "pause"), ("stop", "restart"), ("start", "pause"), ("pause", "resume")
    ):  # fmt: skip
        daemon.ask("start", bots=["one"], wait=_SECONDS)
        daemon.ask(before, bots=["one"], wait=_SECONDS)
        told, stopped = _one_after_the_other(daemon, first, "stop")
        assert told["failed"] == {"one": "it was told to stop meanwhile"}, (before, first)
        assert stopped["reached"] == ["one"], f"the later word is in force, after {before} and {first}"
        _is_so(daemon, "stopped")
    daemon.kill()
    daemon.start()
    _is_so(daemon, "stopped")
    audit(daemon)


def test_a_start_undoes_what_was_said_before_it(stable: Make) -> None:
    daemon = stable(config_text(bots=bot_text("one"))).start()
    for first in ("stop", "pause"):
        daemon.ask("start", bots=["one"], wait=_SECONDS)
        _, started = _one_after_the_other(daemon, first, "start")
        assert started["reached"] == ["one"], first
        _is_so(daemon, "running")
    audit(daemon)


def _is_so(daemon: Daemon, state: str) -> None:
    """In memory, in fact, and on the disk."""
    row = daemon.bot("one")
    with closing(sqlite3.connect(daemon.data_dir / "supervisor.db")) as store:
        (on_disk,) = store.execute("SELECT wanted FROM bots WHERE name = 'one'").fetchone()
    assert (row["wanted"], row["state"], on_disk) == (state, state, state)


def _one_after_the_other(daemon: Daemon, *commands: str) -> list[dict[str, Any]]:
    """The results of commands that come in this order while the disk keeps them waiting."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(daemon.client.endpoints.control)
        with locked(daemon):
            for number, command in enumerate(commands):
                wait = _SECONDS if number == len(commands) - 1 else None  # what is overtaken is not so any more
                request = {"v": 1, "id": f"{uuid.uuid4().hex}-{number}", "cmd": command}
                socket.send(codec.pack(request | {"args": {"bots": ["one"], "wait": wait}}))
            socket.send(codec.pack({"v": 1, "id": "received", "cmd": "ping", "args": {}}))
            assert socket.poll(_SECONDS * 1000)
            # Requests are begun in their order, so those before are under way; neither can end without the disk.
            assert codec.unpack(socket.recv())["id"] == "received"
        answers: dict[str, dict[str, Any]] = {}
        while len(answers) < len(commands):
            assert socket.poll(2 * _SECONDS * 1000), f"no answer to {commands}, but {answers}"
            answer = codec.unpack(socket.recv())
            answers[answer["id"][-1]] = answer["result"]
        return [answers[str(number)] for number in range(len(commands))]
