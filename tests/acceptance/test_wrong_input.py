"""Wrong input: one clear line, exit code 2, and nothing has changed."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from protocol.endpoints import Endpoints
from tests.console import COMMAND, Answer, stablehand
from tests.daemon import Daemon, bot_text, config_text, installation
from tests.support import eventually

pytestmark = pytest.mark.acceptance
Make = Callable[..., Daemon]

HEAD = '[supervisor]\ndata_dir = "var"\n[accounts.main]\nkind = "paper"\n'  # 4 lines
BOT = '[[bots]]\nname = "one"\nmarket = "EURUSD"\nstrategy = "MA_CROSSOVER"\n'
ONE = HEAD + BOT  # 8 lines
REPLAY = HEAD + 'feed = "replay"\npath = "data"\nsymbols = ["EURUSD"]\n'  # 7 lines
CSV = "time,open,high,low,close,tick_volume,spread,real_volume\n"
BARS = "".join(f"2020-01-{d:02} 10:00:00,1.10,1.12,1.09,1.11,100,10,0\n" for d in range(1, 29))


class Case(NamedTuple):
    """A file that cannot be right: its text, the line that must be named, words, and files beside it."""

    text: str | bytes | None
    line: int | None
    words: tuple[str, ...]
    files: tuple[tuple[str, str | bytes], ...] = ()


MISTAKES: dict[str, Case] = {
    "missing_file": Case(None, None, ("there is no", "supervisor.toml")),
    "empty_file": Case("", None, ("there is no account",)),
    "not_toml": Case(HEAD + "balance = \n", 5, ("not valid TOML",)),
    "not_text": Case(HEAD.encode() + b"# \xff\n", 5, ("not UTF-8 text",)),
    "data_dir_is_a_number": Case("[supervisor]\ndata_dir = 5\n" + ONE.split("\n", 2)[2], 2, ("data_dir", "a text")),
    "data_dir_of_nobody": Case(
        ONE.replace('"var"', '"~nobody-is-called-so/var"'), 2, ("data_dir", "there is no such user")
    ),
    "unknown_key": Case(ONE + "risk_precent = 1\n", 9, ("did you mean 'risk_percent'?",)),
    "unknown_table": Case(HEAD + "[bot_default]\n", 5, ("did you mean 'bot_defaults'?",)),
    "unknown_strategy": Case(ONE.replace("MA_CROSSOVER", "MA_CROSOVER"), 8, ("'MA_CROSOVER'", "MA_CROSSOVER?")),
    "unknown_strategy_module": Case(ONE.replace("MA_CROSSOVER", "mymod:Mine"), 8, ("no module 'mymod'",)),
    "unknown_timeframe": Case(ONE + 'timeframe = "H11"\n', 9, ("did you mean 'H1",)),
    "unknown_symbol": Case(ONE.replace('"EURUSD"', '"EURUDS"'), 7, ("did you mean 'EURUSD'?",)),
    "unknown_symbol_of_account": Case(HEAD + 'symbols = ["EURUSD", "EURUDS"]\n', 5, ("EURUDS", "EURUSD")),
    "unknown_parameter": Case(ONE + "params = { fats = 10 }\n", 9, ("'fats'", "did you mean 'fast'?")),
    "parameter_in_a_table": Case(ONE + "[bots.params]\nfast = 10\nslo = 30\n", 11, ("'slo'", "'slow'")),
    "duplicate_bot": Case(ONE + BOT, 10, ("'one'", "line 5")),
    "risk_out_of_bounds": Case(ONE + "risk_percent = 101\n", 9, ("risk_percent = 101", "100")),
    "interval_out_of_bounds": Case(ONE + "check_interval_seconds = 0.01\n", 9, ("check_interval_seconds", "0.1")),
    "netting": Case(
        HEAD + 'margin_mode = "netting"\n' + BOT + BOT.replace('"one"', '"two"'), 12, ("'one' and 'two'", "EURUSD")
    ),
    "csv_folder_missing": Case(REPLAY, 6, ("data", "no folder")),
    "csv_missing": Case(REPLAY, 6, ("EURUSD_H1.csv", "no such file"), (("data/other.txt", ""),)),
    "csv_empty": Case(REPLAY, 6, ("EURUSD_H1.csv", "empty file"), (("data/EURUSD_H1.csv", ""),)),
    "csv_without_bars": Case(REPLAY, 6, ("EURUSD_H1.csv", "no bars"), (("data/EURUSD_H1.csv", CSV),)),
    "csv_broken": Case(
        REPLAY, 6, ("EURUSD_H1.csv", "line 30", "column high", "abc"),
        (("data/EURUSD_H1.csv", CSV + BARS + "2020-01-29 10:00:00,1.1,abc,1.0,1.1,1,1,0\n"),),
    ),
    "csv_binary": Case(REPLAY, 6, ("EURUSD_H1.csv",), (("data/EURUSD_H1.csv", b"\x00\x01\xfe\xff" * 100),)),
    "start_outside": Case(
        REPLAY + "start = 2030-01-01\n", 8, ("start 2030-01-01", "2020-01-01"), (("data/EURUSD_H1.csv", CSV + BARS),)
    ),
    "end_outside": Case(
        REPLAY + "end = 1999-01-01\n", 8, ("end 1999-01-01", "2020-01-01"), (("data/EURUSD_H1.csv", CSV + BARS),)
    ),
    "end_before_start": Case(
        REPLAY + "start = 2020-01-20\nend = 2020-01-10\n", 9, ("not after start",),
        (("data/EURUSD_H1.csv", CSV + BARS),),
    ),
    "data_dir_is_a_file": Case(
        ONE.replace('"var"', '"taken"'), None, ("data_dir", "taken", "cannot be written"), (("taken", "x"),)
    ),
    "data_dir_below_a_file": Case(
        ONE.replace('"var"', '"taken/var"'), None, ("data_dir", "cannot be written"), (("taken", "x"),)
    ),
    "data_dir_not_ours": Case(
        ONE.replace('"var"', '"/proc/stablehand"'), None, ("/proc/stablehand", "cannot be written")
    ),
}  # fmt: skip
#: Checked with `config check` too, which must say the same and touch nothing.
CHECKED = {"not_toml", "unknown_key", "unknown_strategy", "netting", "csv_broken"}
#: What a check that needs a launcher leaves: its log, the supervisor's, and the lock that was held meanwhile.
LEFT = {"logs", "logs/launcher.log", "logs/supervisor.log", "locks", "supervisor.lock", "run.path", "run"}


class Tried(NamedTuple):
    """What `up` and `config check` said, and what was left behind."""

    up: Answer
    check: Answer | None
    files: set[str]
    before: set[str]
    processes: list[str]


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _processes(folder: Path) -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline"])
    return [one for one in found if any(str(folder) in word for word in one.info["cmdline"] or ())]


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Tried]]:
    """Every wrong file, started and checked with the real command: two at a time, since each takes its second."""
    folders = {name: tmp_path_factory.mktemp(name) for name in MISTAKES}

    def attempt(name: str) -> Tried:
        folder, case = folders[name], MISTAKES[name]
        config = folder / "supervisor.toml"
        for file, content in {**dict(case.files), **({} if case.text is None else {config.name: case.text})}.items():
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
        before = _files(folder)
        check = None
        if name in CHECKED:
            check = stablehand(config, "config", "check")
            assert _files(folder) == before, "config check changes nothing at all"
        up = stablehand(config, "up")
        left = _processes(folder)
        for process in left:
            process.kill()
        return Tried(up, check, _files(folder), before, [f"{one.pid} {one.info}" for one in left])

    with ThreadPoolExecutor(2) as pool:
        yield dict(zip(MISTAKES, pool.map(attempt, MISTAKES), strict=True))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_file_is_one_line_and_changes_nothing(tried: dict[str, Tried], mistake: str) -> None:
    case, result = MISTAKES[mistake], tried[mistake]
    said = result.up.line(2)
    place = "supervisor.toml" if case.line is None else f"supervisor.toml:{case.line}: "
    if not mistake.startswith("data_dir"):
        assert place in said, said
    if result.check is not None:
        assert result.check.line(2) == said
    assert all(word in said for word in case.words), said
    new = {path.removeprefix("var/") for path in result.files - result.before - {"var"}}
    assert new <= LEFT, new
    assert result.processes == []


# --- on the command line ------------------------------------------------------------------------------------

STABLE = (
    config_text(account='feed = "synthetic"\nbars_per_second = 5\n[accounts.net]\nmargin_mode = "netting"',
                bots=bot_text("one", extra='account = "main"') + bot_text("net-one", extra='account = "net"'))
)  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A stable of two bots, which nothing of what follows may change."""
    with installation(tmp_path_factory.mktemp("running"), STABLE) as daemon:
        daemon.start()
        daemon.wait_all("running")
        yield daemon


def _store(daemon: Daemon) -> list[Any]:
    with sqlite3.connect(f"file:{daemon.data_dir / 'supervisor.db'}?mode=ro", uri=True) as store:
        return store.execute("select * from bots order by id").fetchall()


NEW = ("add", "two", "market=EURUSD", "strategy=MA_CROSSOVER", "account=main")
WRONG_WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "add_unknown_key": ((*NEW, "risk_precent=1"), ("'risk_precent'", "'risk_percent'")),
    "add_unknown_strategy": ((*NEW[:3], "strategy=MA_CROSOVER", "account=main"), ("MA_CROSOVER", "MA_CROSSOVER?")),
    "add_unknown_timeframe": ((*NEW, "timeframe=H11"), ("'H11'", "did you mean 'H1")),
    "add_unknown_symbol": ((*NEW[:2], "market=EURUDS", *NEW[3:]), ("'EURUDS'", "'EURUSD'")),
    "add_unknown_parameter": ((*NEW, "params.fats=10"), ("two", "'fats'", "'fast'")),
    "add_unknown_account": ((*NEW[:4], "account=mian"), ("'mian'", "'main'")),
    "add_without_account": (NEW[:4], ("names no account", "main, net")),
    "add_without_market": (("add", "two", "strategy=MA_CROSSOVER", "account=main"), ("market is missing",)),
    "add_duplicate_name": (("add", "one", *NEW[2:]), ("'one'", "another name")),
    "add_risk_out_of_bounds": ((*NEW, "risk_percent=500"), ("risk_percent = 500", "100")),
    "add_interval_out_of_bounds": ((*NEW, "check_interval_seconds=0"), ("check_interval_seconds = 0", "0.1")),
    "add_text_for_a_number": ((*NEW, "priority=high"), ("priority = 'high'", "whole number")),
    "add_huge_number": ((*NEW, f"params.fast={10**30}"), ("fast must be a whole number", "500")),
    "add_name_with_slash": (("add", "../two", *NEW[2:]), ("'../two'", "letters")),
    "add_name_unicode": (("add", "zwei-ü", *NEW[2:]), ("'zwei-ü'", "letters")),
    "add_second_on_netting": ((*NEW[:4], "account=net"), ("'net-one' and 'two'", "netting")),
    "add_no_key_value": ((*NEW, "fast"), ("'fast'", "key=value")),
    "update_unknown_bot": (("update", "oen", "priority=3"), ("'oen'", "did you mean 'one'?")),
    "update_unknown_key": (("update", "one", "prioritty=3"), ("'prioritty'", "'priority'")),
    "update_unknown_parameter": (("update", "one", "params.slwo=30"), ("'slwo'", "'slow'")),
    "update_parameter_of_nothing": (("update", "one", "risk.percent=3"), ("risk",)),
    "update_unknown_symbol": (("update", "one", "market=GBPUDS"), ("'GBPUDS'", "'GBPUSD'")),
    "update_out_of_bounds": (("update", "one", "risk_percent=-1"), ("risk_percent = -1",)),
    "update_wanted": (("update", "one", "wanted=stopped"), ("start, stop",)),
    "update_name": (("update", "one", "name=x"), ("name",)),
    "update_many_one_wrong": (("update", "one", "net-one", "params.fast=80"), ("fast (80)",)),
    "status_unknown_bot": (("status", "oen"), ("'oen'", "did you mean 'one'?")),
    "start_unknown_bot_among_known": (("start", "one", "net-on"), ("'net-on'", "'net-one'")),
    "stop_unknown_where": (("stop", "--where", "markt=EURUSD"), ("'markt'", "'market'")),
    "stop_says_nothing": (("stop",), ("which bots",)),
    "stop_says_too_much": (("stop", "one", "--all"), ("one way",)),
    "restart_with_a_wrong_wait": (("restart", "one", "--wait", "1e9"), ("86400",)),
    "remove_without_word_on_positions": (("remove", "one"), ("--positions",)),
    "remove_wrong_word_on_positions": (("remove", "one", "--positions", "sell"), ("keep", "close")),
    "show_unknown_bot": (("show", "oen"), ("'one'",)),
    "analysis_unknown_bot": (("analysis", "oen"), ("'one'",)),
    "logs_unknown_bot": (("logs", "oen"), ("'one'",)),
    "deals_unknown_account": (("deals", "--account", "mian"), ("'mian'", "'main'")),
    "account_not_said": (("account",), ("name an account", "main, net")),
    "equity_account_not_said": (("equity",), ("name an account", "main, net")),
    "equity_unknown_account": (("equity", "mian"), ("'mian'", "did you mean 'main'?")),
    "equity_since_no_time": (("equity", "main", "--since", "yesterday"), ("'yesterday' is no time", "24h, 7d")),
    "equity_since_to_come": (("equity", "main", "--since", "2999-01-01"), ("'2999-01-01' is yet to come",)),
    "unknown_verb": (("statsu",), ("statsu",)),
    "unknown_option": (("status", "--jsn"), ("--jsn",)),
}  # fmt: skip


def test_wrong_words_are_one_line_and_change_nothing(running: Daemon) -> None:
    before = _store(running), {row["name"]: (row["pid"], row["epoch"]) for row in running.status()}
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda case: stablehand(running.config, *case[0]), WRONG_WORDS.values()))
    wrong = []
    for (name, (_, words)), answer in zip(WRONG_WORDS.items(), answers, strict=True):
        try:
            said = answer.line(2)
            assert all(word in said for word in words), (said, words)
        except AssertionError as error:
            wrong.append(f"{name}: {error}")
    assert not wrong, "\n".join(wrong)
    assert (_store(running), {row["name"]: (row["pid"], row["epoch"]) for row in running.status()}) == before


def test_two_starts_of_one_bot_at_once_make_one_process(running: Daemon) -> None:
    assert stablehand(running.config, "stop", "one", "--wait", "15").code == 0
    epoch = running.bot("one")["epoch"]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: stablehand(running.config, "start", "one", "--json"), range(4)))
    assert [answer.code for answer in answers] == [0] * 4
    said = [answer.json() for answer in answers]
    assert all(one["done"] + one["already"] == ["one"] and not one["failed"] for one in said)
    row = running.wait_state("one", "running")
    assert row["epoch"] == epoch + 1
    mine = [one for one in running.ask("show", bot="one")["runs"] if one["epoch"] > epoch]
    assert len(mine) == 1


def test_a_data_directory_in_use_names_the_process_and_is_left_alone(running: Daemon) -> None:
    before = {row["name"]: row["pid"] for row in running.status()}
    said = stablehand(running.config, "up").line(2)
    assert f"in use by supervisor process {running.pid}" in said
    other = running.folder / "other.toml"
    other.write_text(STABLE, "utf-8")
    assert f"{running.pid}" in stablehand(other, "up").line(2)
    assert {row["name"]: row["pid"] for row in running.status()} == before


def test_a_file_that_became_wrong_changes_nothing_at_reload(running: Daemon) -> None:
    before = _store(running), running.status()
    try:
        for line, words in (
            ("risk_precent = 1", "'risk_percent'"), ("params = { fats = 1 }", "'fast'"),
            ('strategy = "X"', "not valid TOML"),
        ):  # fmt: skip
            text = STABLE.rstrip() + f"\n{line}\n"
            running.config.write_text(text, "utf-8")
            said = stablehand(running.config, "reload", "--yes").line(2)
            assert f"supervisor.toml:{len(text.splitlines())}: " in said and words in said, said
    finally:
        running.config.write_text(STABLE, "utf-8")
    assert _store(running) == before[0]
    assert [row["epoch"] for row in running.status()] == [row["epoch"] for row in before[1]]


def test_no_supervisor_is_exit_code_3(tmp_path: Path) -> None:
    config = tmp_path / "supervisor.toml"
    config.write_text(ONE, "utf-8")
    for words in (("status",), ("start", "--all"), ("down",), ("events",), ("reload", "--yes")):
        assert "stablehand up" in stablehand(config, *words).line(3)
    assert _files(tmp_path) == {"supervisor.toml"}


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_data_directory_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    config = tmp_path / "supervisor.toml"
    config.write_text(ONE.replace('"var"', '"locked/var"'), "utf-8")
    assert "cannot be written" in stablehand(config, "up").line(2)


# --- ports --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["portable"], indirect=True)
def test_a_port_that_is_taken_meanwhile_is_replaced_by_another(stable: Make) -> None:
    daemon = stable(config_text(bots=bot_text("one"))).start()
    daemon.wait_state("one", "running", 40)
    before = Endpoints.load(daemon.data_dir)
    assert daemon.down() == 0
    taken = [socket.create_server(("127.0.0.1", int(address.rpartition(":")[2])))
             for address in (before.control, before.accounts["main"]["orders"])]  # fmt: skip
    try:
        daemon.start()
        row = daemon.wait_state("one", "running", 40)
        after = Endpoints.load(daemon.data_dir)
        assert after.control != before.control and after.accounts["main"]["orders"] != before.accounts["main"]["orders"]
        assert after.bus == before.bus
        assert stablehand(daemon.config, "status", "--json").json()[0]["pid"] == row["pid"]
    finally:
        for one in taken:
            one.close()


def test_a_ready_line_that_nobody_reads_and_a_second_up_beside_it(stable: Make) -> None:
    """`up` twice at once, from two terminals: one wins, the other says who did."""
    daemon = stable(config_text(bots=bot_text("one")))
    both = [
        subprocess.Popen([*COMMAND, "-c", str(daemon.config), "up"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, start_new_session=True)
        for _ in range(2)
    ]  # fmt: skip
    try:
        loser = eventually(lambda: next((one for one in both if one.poll() is not None), None), 30)
        winner = next(one for one in both if one is not loser)
        assert loser.returncode == 2
        assert loser.stderr is not None and winner.stdout is not None
        assert f"supervisor process {winner.pid}" in loser.stderr.read()
        assert "ready" in winner.stdout.readline()
        daemon.wait_state("one", "running")
        assert stablehand(daemon.config, "down").code == 0
        assert winner.wait(10) == 0
    finally:
        for one in both:
            if one.poll() is None:
                one.kill()
            one.communicate()
