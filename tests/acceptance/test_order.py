"""`after` and groups with real processes: who waits, who is restarted, and what is refused."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from protocol.errors import StablehandError
from tests.acceptance.test_programs import NOTIFY, program
from tests.console import stablehand
from tests.daemon import Daemon, bot_text, config_text
from tests.support import eventually

pytestmark = pytest.mark.acceptance
Make = Callable[..., Daemon]

SLEEP = "import time; time.sleep(600)"
GATED = 'while not os.path.exists("go"): time.sleep(0.01)\nnotify("READY=1"); time.sleep(600)'


def epochs(daemon: Daemon) -> dict[str, int]:
    return {row["name"]: row["epoch"] for row in daemon.status()}


def test_a_bot_starts_after_the_program_that_it_needs(stable: Make) -> None:
    text = (
        bot_text("one", extra='after = ["middle"]')
        + program("middle", SLEEP, extra='after = ["feed"]')
        + program("feed", NOTIFY, GATED, extra='ready = "notify"')
    )
    daemon = stable(config_text(bots=text)).start()
    held = eventually(lambda: row if "waiting" in (row := daemon.bot("one"))["reason"] else None)
    assert (held["state"], held["pid"], held["reason"]) == ("backoff", None, "dependency: waiting for middle")
    assert daemon.ask("stop", bots=["one"], wait=5)["reached"] == ["one"]  # one that is held can be stopped
    daemon.ask("start", bots=["one"])
    (daemon.folder / "go").touch()
    daemon.wait_all("running")
    shown = daemon.ask("show", bot="one")
    assert shown["restarts"] == 0 and set(shown["counts"]) == {"dependency"}
    before = epochs(daemon)
    os.kill(daemon.bot("feed")["pid"], signal.SIGKILL)  # what runs already is not stopped: that is what groups are for
    eventually(lambda: daemon.bot("feed")["epoch"] > before["feed"])
    daemon.wait_all("running")
    assert {**epochs(daemon), "feed": 0} == {**before, "feed": 0}


@pytest.mark.parametrize(
    ("strategy", "fails", "restarted"),
    [
        ("one_for_one", "b", {"b"}),
        ("rest_for_one", "b", {"b", "c"}),
        ("one_for_all", "b", {"a", "b", "c"}),
    ],
)
def test_a_group_is_restarted_as_its_strategy_says(
    stable: Make, strategy: str, fails: str, restarted: set[str]
) -> None:
    group = f'[groups.g]\nstrategy = "{strategy}"\n'
    members = "".join(program(name, SLEEP, extra='group = "g"') for name in "abc")
    daemon = stable(config_text(bots=group + members + program("other", SLEEP))).start()
    daemon.wait_all("running")
    before = epochs(daemon)
    os.kill(daemon.bot(fails)["pid"], signal.SIGKILL)
    eventually(lambda: all(daemon.bot(name)["epoch"] > before[name] for name in restarted), 15)
    daemon.wait_all("running")
    assert {name for name, epoch in epochs(daemon).items() if epoch > before[name]} == restarted
    for name in "abc":
        counts = daemon.ask("show", bot=name)["counts"]
        assert counts.get("crash", 0) == (name == fails)
        assert bool(counts.get("dependency")) <= (name in restarted)


def test_those_that_need_a_member_in_quarantine_are_held_until_it_is_started(stable: Make) -> None:
    group = '[groups.g]\nstrategy = "rest_for_one"\n'
    fragile = program("first", "import os, time; time.sleep(0.5); os.path.exists('ok') or os._exit(1); time.sleep(600)",
                      extra='group = "g"\nintensity = 0')  # fmt: skip
    daemon = stable(config_text(bots=group + fragile + program("second", SLEEP, extra='group = "g"'))).start()
    daemon.wait_state("first", "failed")
    eventually(lambda: daemon.bot("second")["reason"] == "dependency: waiting for first (failed)", 10)
    (daemon.folder / "ok").touch()
    daemon.ask("start", bots=["first"])
    daemon.wait_all("running")


@pytest.mark.parametrize(
    ("tables", "where", "words"),
    [
        (
            program("a", SLEEP, extra='after = ["b"]') + program("b", SLEEP, extra='after = ["a"]'),
            "after = ",
            "a after b",
        ),
        (program("feed", SLEEP) + program("b", SLEEP, extra='after = ["fed"]'), "after = ", "did you mean 'feed'?"),
        (program("a", SLEEP, extra='group = "g"'), "group = ", "[groups.g]"),
        (program("a", SLEEP, extra="wachdog_seconds = 3"), "wachdog", "watchdog_seconds"),
        (program("a", SLEEP, extra='market = "EURUSD"'), "market", "unknown key 'market'"),
        (program("one", SLEEP) + bot_text("one"), 'name = "one"', "a second bot or program is called 'one'"),
        (program("gateway-main", SLEEP), "name", "no bot can be called"),
        ('[groups.g]\nstrategy = "all"\n', "strategy = ", "one_for_all"),
        ('[[programs]]\nname = "a"\ncommand = []\n', "command", "command"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_place(stable: Make, tables: str, where: str, words: str) -> None:
    daemon = stable(config_text(bots=tables))
    answer = stablehand(daemon.config, "config", "check")
    assert answer.code == 2 and words in answer.err, answer
    assert len(answer.err.splitlines()) <= 2
    line = int(answer.err.split("supervisor.toml:")[1].split(":")[0])
    text = daemon.config.read_text().splitlines()
    assert where in text[line - 1] or where in "\n".join(text[line - 1 : line + 2]), (line, text[line - 1])


def test_commands_keep_the_order_whole(stable: Make) -> None:
    daemon = stable(config_text(bots=bot_text("one"))).start()
    daemon.ask("add", bots=[{"name": "base", "command": ["sleep", "600"]}])
    daemon.ask("add", bots=[{"name": "top", "command": ["sleep", "600"], "after": ["base"]}])
    daemon.wait_all("running")
    for command, args, words in (
        ("remove", {"bots": ["base"]}, "top starts after 'base'"),
        ("update", {"bots": ["base"], "set": {"after": ["top"]}}, "nobody could start first"),
        ("update", {"bots": ["base"], "set": {"group": "none"}}, "unknown group"),
        ("add", {"bots": [{"name": "x", "command": ["sleep", "1"], "after": ["y"]}]}, "does not exist"),
        ("update", {"bots": ["one"], "set": {"command": ["sleep", "1"]}}, ""),
    ):
        with pytest.raises(StablehandError) as error:
            daemon.ask(command, **args)
        assert words in error.value.message, error.value
    assert {row["state"] for row in daemon.status()} == {"running"}


def test_who_waits_for_others_leaves_them_the_place_and_programs_need_none(stable: Make) -> None:
    needy = bot_text("needy", extra='priority = 9\nafter = ["feed", "first"]')
    text = needy + bot_text("first", extra="priority = 1") + program("feed", SLEEP)
    daemon = stable(config_text(bots=text, supervisor="max_running = 1\n")).start()
    eventually(lambda: daemon.bot("first")["state"] == "running", 20)
    assert daemon.bot("feed")["state"] == "running" and not daemon.bot("feed")["held"]
    eventually(lambda: daemon.bot("needy")["epoch"] > 0 and daemon.bot("needy")["state"] == "running", 20)
    with pytest.raises(StablehandError, match="is a program"):
        daemon.ask("halt", bot="feed", reason="news")
    assert daemon.ask("halt", reason="news")["halt"]["scope"] == "all"
    assert daemon.bot("needy")["halted"] and not daemon.bot("feed")["halted"]


def test_who_waits_for_a_member_goes_on_when_that_one_is_said_not_to_be_wanted(stable: Make) -> None:
    group = '[groups.g]\nstrategy = "rest_for_one"\n'
    brief = program("first", "pass", extra='group = "g"\nrestart = "transient"')
    daemon = stable(config_text(bots=group + brief + program("second", SLEEP, extra='group = "g"'))).start()
    daemon.wait_state("first", "stopped")
    daemon.ask("restart", bots=["second"])
    eventually(lambda: daemon.bot("second")["reason"].startswith("dependency: waiting for first"), 10)
    daemon.ask("stop", bots=["first"])
    daemon.wait_state("second", "running", 10)


def test_who_waited_for_another_waits_for_a_place_as_well(stable: Make) -> None:
    """All became free to start in the same moment, whatever `max_running` said."""
    text = NOTIFY + "while not os.path.exists('go'):\n    time.sleep(0.05)\nnotify('READY=1')\ntime.sleep(600)\n"
    late = program("collector", text, extra='ready = "notify"\nstart_timeout_seconds = 120')
    bots = "".join(bot_text(f"b{number}", extra='after = ["collector"]') for number in range(6))
    daemon = stable(config_text(supervisor="max_running = 2\n", bots=late + bots)).start()
    daemon.wait_state("collector", "starting")
    waiting = {f"b{number}": "backoff" for number in range(6)}
    eventually(
        lambda: {row["name"]: row["state"] for row in daemon.status() if row["name"] in waiting} == waiting,
        20, what="each has had a place, and left it since it waits for the other",
    )  # fmt: skip
    (daemon.folder / "go").touch()
    most, until = 0, time.monotonic() + 8.0
    while time.monotonic() < until:
        alive = [row for row in daemon.status() if row["name"] != "collector" and row["pid"]]
        most = max(most, len(alive))
    assert most == 2, most
    eventually(lambda: sum(row["state"] == "running" for row in daemon.status()) == 3, 20, what="and these come up")
