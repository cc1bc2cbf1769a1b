"""The last word of those who command at once is what is wanted: in memory, on the disk, and after a restart."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psutil
import pytest
import zmq

from protocol import codec
from protocol.client import CommandFailed
from tests.daemon import Daemon, bot_text, config_text
from tests.diskfaults import locked
from tests.stableaudit import audit
from tests.support import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.posix]

Make = Callable[..., Daemon]
_SECONDS = 30
_LOOKS = 700
_SLEEP = "import time; time.sleep(600)"
#: Says with the file `u` that it is there, and ends once it may: when the file `ok` is there.
_SLOW = (
    "import os, signal as s, time as t; m = lambda: os.path.exists(str(chr(111)) + chr(107)) or t.sleep(0.05) or m(); "
    "s.signal(15, lambda *_: (m(), os._exit(0))); open(chr(117), chr(119)).close(); t.sleep(600)"
)


def program(name: str, text: str) -> str:
    return (
        f"[[programs]]\nname = \"{name}\"\ncommand = ['{sys.executable}', '-c', '{text}']\nstop_timeout_seconds = 60\n"
    )


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
        daemon.client._join(socket, daemon.client.endpoints.control)
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


def test_a_stop_is_not_undone_by_a_change_of_configuration(stable: Make) -> None:
    """A bot that takes its time to stop is changed meanwhile: it stays stopped, and its next run has the change."""
    daemon = stable(config_text(bots=program("slow", _SLOW))).start()
    for change in ("update", "reload"):
        (daemon.folder / "ok").touch()
        daemon.ask("stop", bots=["slow"], wait=_SECONDS)
        for name in ("ok", "u"):
            (daemon.folder / name).unlink(missing_ok=True)
        daemon.ask("start", bots=["slow"], wait=_SECONDS)
        eventually((daemon.folder / "u").exists, 20, what="it is there")
        daemon.ask("stop", bots=["slow"])
        assert daemon.bot("slow")["state"] == "stopping"
        if change == "update":
            (told,) = daemon.ask("update", bots=["slow"], set={"environment": {"A": "1"}})["updated"]
            assert told["changed"] and not told["restarted"]
        else:
            text = daemon.config.read_text().replace('name = "slow"', 'name = "slow"\nstart_timeout_seconds = 9')
            daemon.config.write_text(text, "utf-8")
            assert daemon.ask("reload", apply=True)["changed"]
        assert daemon.bot("slow")["state"] == "stopping", "it was changed while it was being stopped"
        (daemon.folder / "ok").touch()
        daemon.wait_state("slow", "stopped")
        daemon.ask("stop", bots=["slow"], wait=_SECONDS)  # decided after whatever the change had begun
        row = daemon.bot("slow")
        assert (row["wanted"], row["state"], row["pid"]) == ("stopped", "stopped", None)
    audit(daemon)


def test_while_all_is_being_stopped_nothing_is_begun(stable: Make) -> None:
    daemon = stable(config_text(bots=program("slow", _SLOW))).start()
    eventually((daemon.folder / "u").exists, 20, what="it is there")
    daemon.ask("down")
    eventually(lambda: daemon.bot("slow")["state"] == "stopping", 10)
    begun: dict[str, dict[str, Any]] = {
        "start": {"bots": ["slow"]},
        "restart": {"bots": ["slow"]},
        "add": {"bots": [{"name": "late", "market": "EURUSD", "strategy": "MA_CROSSOVER"}]},
        "update": {"bots": ["slow"], "set": {"environment": {"A": "1"}}},
        "remove": {"bots": ["slow"]},
        "reload": {"apply": True},
    }
    for command, args in begun.items():
        with pytest.raises(CommandFailed, match="the supervisor is leaving"):
            daemon.ask(command, **args)
    (daemon.folder / "ok").touch()
    assert daemon.process is not None and daemon.process.wait(30) == 0
    eventually(lambda: daemon.processes() == [], 10, what="nothing was left behind")


def test_who_waits_for_a_bot_that_is_removed_is_told_and_nobody_else_waits_longer_for_it(stable: Make) -> None:
    daemon = stable(config_text(bots=bot_text("one"))).start()
    daemon.wait_all("running")
    never = {"name": "never", "command": [sys.executable, "-c", _SLEEP], "ready": "notify"}
    daemon.ask("add", bots=[never])
    start: tuple[str, dict[str, Any]] = ("start", {"bots": ["never"], "wait": 60.0})
    started, removed = _all_at_once(daemon, [start, ("remove", {"bots": ["never"]})])
    assert removed["result"]["removed"] == ["never"], removed
    assert started["result"]["missed"] == {"never": "it was removed"} and not started["result"]["reached"]
    began = time.monotonic()
    daemon.ask("restart", bots=["one"], wait=_SECONDS)
    assert time.monotonic() - began < _SECONDS / 2
    assert "Traceback" not in (daemon.data_dir / "logs" / "supervisor.log").read_text()


def test_update_and_remove_look_who_is_there_when_it_is_their_turn(stable: Make) -> None:
    """All or none also holds for a bot that is removed by the change before."""
    daemon = stable(config_text(bots=bot_text("stays"))).start()
    daemon.wait_all("running")
    added = {"name": "goes", "command": [sys.executable, "-c", _SLOW]}
    daemon.ask("add", bots=[added])
    eventually((daemon.folder / "u").exists, 20, what="it is there")
    requests: list[tuple[str, dict[str, Any]]] = [
        ("remove", {"bots": ["goes"]}),
        ("update", {"bots": ["goes", "stays"], "set": {"priority": 9}}),
        ("remove", {"bots": ["goes"]}),
    ]
    ends = threading.Timer(2.0, (daemon.folder / "ok").touch)  # the first remove takes as long
    ends.start()
    answers = _all_at_once(daemon, requests)
    ends.join()
    assert answers[0]["ok"], answers
    assert [one["error"]["code"] for one in answers[1:]] == ["unknown_bot", "unknown_bot"], answers
    assert daemon.bot("stays")["priority"] == 5
    twice = [{"name": "stays", "set": {"priority": 1}}, {"name": "stays", "set": {"risk_percent": 2.0}}]
    with pytest.raises(CommandFailed, match="'stays' is there twice"):
        daemon.ask("update", updates=twice)


def _all_at_once(daemon: Daemon, requests: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """The answers to requests that come one right after the other."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        daemon.client._join(socket, daemon.client.endpoints.control)
        for number, (command, args) in enumerate(requests):
            socket.send(codec.pack({"v": 1, "id": f"{uuid.uuid4().hex}-{number}", "cmd": command, "args": args}))
        answers: dict[str, dict[str, Any]] = {}
        while len(answers) < len(requests):
            assert socket.poll(_SECONDS * 1000), answers
            answer = codec.unpack(socket.recv())
            answers[answer["id"][-1]] = answer
        return [answers[str(number)] for number in range(len(requests))]


def test_a_launcher_that_stands_still_keeps_no_bot_alive(stable: Make) -> None:
    """It reads no signal that it shall send, though its socket is open."""
    daemon = stable(config_text(profile="default", bots=bot_text("one"))).start()
    pid = daemon.wait_state("one", "running")["pid"]
    (launcher,) = {psutil.Process(pid).ppid()}
    os.kill(launcher, signal.SIGSTOP)
    try:
        told = daemon.ask("stop", bots=["one"], mode="kill", wait=_SECONDS)
        assert told["reached"] == ["one"], told
        assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # for its launcher to reap
    finally:
        os.kill(launcher, signal.SIGCONT)
    daemon.ask("start", bots=["one"], wait=_SECONDS)
    audit(daemon)


def test_whoever_only_looks_keeps_nobody_from_acting_and_fills_no_machine(stable: Make) -> None:
    bots = "".join(bot_text(f"asleep-{number}", extra='wanted = "stopped"') for number in range(8))
    daemon = stable(config_text(bots=bots)).start()
    looks: list[tuple[str, dict[str, Any]]] = [
        ("analysis", {"bot": f"asleep-{number % 8}"}) for number in range(_LOOKS)
    ]
    most, before = 0, len(daemon.processes())
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger, socket.sndhwm = 0, 2 * _LOOKS
        daemon.client._join(socket, daemon.client.endpoints.control)
        for number, (command, args) in enumerate([*looks, ("halt", {"reason": "now", "who": "me"})]):
            socket.send(codec.pack({"v": 1, "id": f"{number}", "cmd": command, "args": args}))
        answers: dict[str, dict[str, Any]] = {}
        began = time.monotonic()
        while len(answers) < _LOOKS + 1 and time.monotonic() - began < 2 * _SECONDS:
            if socket.poll(10):
                answer = codec.unpack(socket.recv())
                answers[answer["id"]] = answer
            most = max(most, len(daemon.processes()) - before)
    assert answers[f"{_LOOKS}"]["ok"], "the halt was taken"
    refused = [one for one in answers.values() if not one["ok"]]
    assert len(refused) == _LOOKS - 500 and {one["error"]["message"] for one in refused} == {
        "too many requests in progress"
    }
    assert len(answers) == _LOOKS + 1 and 1 <= most <= 8, "four at once, and what the launcher has for itself"
    audit(daemon)
