"""The store refuses under a running supervisor: supervision goes on, and what is not remembered is said."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest

from protocol.client import CommandFailed
from protocol.errors import NOT_REMEMBERED
from tests.console import stablehand
from tests.daemon import Daemon, bot_text, config_text
from tests.diskfaults import full, locked, refusing, small_disk
from tests.support import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.posix]

Make = Callable[..., Daemon]
THREE = bot_text("one") + bot_text("two", "GBPUSD") + bot_text("idle", "XAUUSD", extra='wanted = "stopped"')


@pytest.fixture
def disk(stable: Make) -> Iterator[Callable[[bool], Daemon]]:
    """A maker of a running installation, on a small disk of its own where that is asked for."""
    with ExitStack() as stack:

        def make(small: bool) -> Daemon:
            daemon = stable(config_text(bots=THREE))
            if small:
                stack.enter_context(small_disk(daemon.data_dir, 24))
            daemon.start()
            for name in ("one", "two"):
                daemon.wait_state(name, "running")
            return daemon

        yield make


def refused(daemon: Daemon, command: str, **args: Any) -> str:
    with pytest.raises(CommandFailed) as error:
        daemon.ask(command, **args)
    assert error.value.code == NOT_REMEMBERED, error.value
    return error.value.message


def check_refusals(daemon: Daemon, stopped: dict[str, Any]) -> None:
    """What would surprise after a reboot is not done, and it is said what is not remembered."""
    assert stopped["warning"].startswith("in force, NOT remembered: ")
    refused(daemon, "start", bots=["idle"])
    refused(daemon, "add", bots=[{"name": "new", "market": "EURUSD", "strategy": "MA_CROSSOVER"}])
    refused(daemon, "handover")
    assert daemon.bot("two")["state"] == "stopped"
    said = str(daemon.ask("ping")["not_remembered"])
    assert "what is wanted of two" in said and "starts" in said, said
    shown = stablehand(daemon.config, "status")
    assert shown.code == 0 and "NOT REMEMBERED" in shown.err and "two" in shown.out


@pytest.mark.parametrize("fault", [locked, full, refusing], ids=lambda one: one.__name__)
def test_supervision_goes_on(
    disk: Callable[[bool], Daemon], fault: Callable[[Daemon], AbstractContextManager[None]]
) -> None:
    daemon = disk(fault is full)
    before = daemon.bot("one")
    with fault(daemon):
        # A crash is seen, and the bot comes back.
        os.kill(before["pid"], signal.SIGKILL)
        after = eventually(lambda: row if (row := daemon.bot("one"))["pid"] not in (None, before["pid"]) else None, 30)
        assert after["epoch"] > before["epoch"]
        if fault is not full:  # there the ledger refuses too, and nobody trades under a fence that is not durable
            daemon.wait_state("one", "running", 30)
        # What makes things safer is done.
        answer = daemon.ask("stop", bots=["two"], wait=20)
        assert answer["reached"] == ["two"]
        if fault is not full:  # a small write may still fit somewhere
            check_refusals(daemon, answer)
    eventually(lambda: daemon.ask("ping")["not_remembered"] is None, 15)
    daemon.wait_state("one", "running", 30)
    # All of it is remembered now.
    restarted = daemon.bot("one")["epoch"]
    runs = daemon.ask("show", bot="one")["runs"]
    assert [run["epoch"] for run in runs][:2] == [restarted, before["epoch"]]
    assert runs[0]["pid"] == daemon.bot("one")["pid"] and runs[1]["status"] == signal.SIGKILL
    daemon.kill()
    daemon.start()
    assert daemon.wait_state("one", "running")["epoch"] == restarted  # adopted
    assert (daemon.bot("two")["wanted"], daemon.bot("two")["state"]) == ("stopped", "stopped")
    assert daemon.ask("start", bots=["two"], wait=20)["reached"] == ["two"]


def test_an_adopted_bot_that_crashes_comes_back_while_the_store_refuses(stable: Make) -> None:
    daemon = stable(config_text(bots=bot_text("one"))).start()
    daemon.wait_state("one", "running")
    daemon.kill()
    daemon.start()
    before = daemon.wait_state("one", "running")
    with locked(daemon):
        os.kill(before["pid"], signal.SIGKILL)
        eventually(lambda: daemon.bot("one")["pid"] not in (None, before["pid"]), 30)
        assert daemon.wait_state("one", "running", 30)["epoch"] > before["epoch"]
    eventually(lambda: daemon.ask("ping")["not_remembered"] is None, 15)


def test_a_later_wish_is_not_overruled_by_an_earlier_one(stable: Make) -> None:
    daemon = stable(config_text(bots=THREE)).start()
    daemon.wait_state("two", "running")
    with locked(daemon):
        daemon.ask("stop", bots=["two"], wait=20)
    daemon.ask("start", bots=["two"], wait=20)  # the earlier wish may still wait for its turn
    eventually(lambda: daemon.ask("ping")["not_remembered"] is None, 15)
    daemon.kill()
    daemon.start()
    assert daemon.bot("two")["wanted"] == "running"
