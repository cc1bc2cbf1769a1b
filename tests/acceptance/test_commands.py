"""Every verb of `stablehand`, against a real stable, and the control protocol below it."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgpack
import psutil
import pytest
import zmq

from protocol.endpoints import Endpoints
from protocol.errors import StablehandError
from tests.console import COMMAND, Answer, stablehand
from tests.daemon import Daemon, bot_text, config_text, installation
from tests.support import eventually

pytestmark = pytest.mark.acceptance
Make = Callable[..., Daemon]

HEAD = '''
from botproc.strategy import Signal, Strategy, StrategyParams, param

class Params(StrategyParams):
    weight: int = param(1, ge=1, le=9)

class Base(Strategy):
    """Says the same of every bar."""
    Params = Params
    @property
    def lookback(self):
        return 3
'''
MINE = (
    HEAD
    + '''
class Buyer(Base):
    """Buys whenever it may."""
    def analyze(self, bars):
        return Signal("BUY", float(bars["close"].iloc[-1]), "Always.", {"weight": float(self.params.weight)})

class Holder(Base):
    """Watches."""
    def analyze(self, bars):
        return Signal("HOLD", float(bars["close"].iloc[-1]), "Never.", {"weight": float(self.params.weight)})

class Raiser(Base):
    """Fails."""
    def analyze(self, bars):
        raise ZeroDivisionError("no bars like these")
'''
)
FAST = 'feed = "synthetic"\nbars_per_second = 10'
DECLARED = (
    bot_text("one", extra="params = { fast = 5, slow = 20 }\npriority = 7")
    + bot_text("two", "GBPUSD", "RSI_CROSSOVER")
    + bot_text("three", "XAUUSD", "mine:Holder", 'wanted = "stopped"')
)
TEXT = config_text(supervisor='strategy_path = ["strategies"]\n', account=FAST, bots=DECLARED)


def _made(folder: Path, **modules: str) -> None:
    (folder / "strategies").mkdir()
    for name, text in modules.items():
        (folder / "strategies" / f"{name}.py").write_text(text, "utf-8")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One stable for all tests of this module that leave its declared bots as they found them."""
    folder = tmp_path_factory.mktemp("commands")
    _made(folder, mine=MINE)
    with installation(folder, TEXT) as made:
        made.start()
        made.wait_state("one", "running")
        made.wait_state("two", "running")
        yield made


@pytest.fixture
def run(daemon: Daemon) -> Iterator[Callable[..., Answer]]:
    """The real command for that stable; what the test added is removed afterwards."""

    def call(*words: str) -> Answer:
        return stablehand(daemon.config, *words)

    yield call
    extra = [row["name"] for row in daemon.status() if row["name"] not in ("one", "two", "three")]
    if extra:
        daemon.ask("remove", bots=extra, positions="close", timeout=60.0)


def row_of(answer: Answer, name: str) -> dict[str, Any]:
    """One bot of `status --json`."""
    rows: list[dict[str, Any]] = answer.json()
    return next(row for row in rows if row["name"] == name)


# --- looking ------------------------------------------------------------------------------------------------

KEYS: dict[str, tuple[type, ...]] = {
    "name": (str,), "wanted": (str,), "state": (str,), "pid": (int,), "epoch": (int,), "market": (str,),
    "timeframe": (str,), "strategy": (str,), "pace": (float, int), "restarts": (int,), "uptime_s": (float, int),
    "heartbeat_age_s": (float, int), "cycles": (int,), "last_signal": (str,), "position": (dict, type(None)),
    "profit": (float, int), "cpu_percent": (float, int), "rss_bytes": (int,), "reason": (str,), "errors": (int,),
}  # fmt: skip
UNKNOWN_AT_REST = {"pid", "uptime_s", "heartbeat_age_s", "last_signal", "position", "cpu_percent", "rss_bytes"}


def test_status_has_every_key_and_none_only_where_nothing_is_known(daemon: Daemon, run: Callable[..., Answer]) -> None:
    def full() -> dict[str, Any] | None:
        row = row_of(run("status", "--json"), "one")
        return row if row["last_signal"] and row["cpu_percent"] is not None else None

    running = eventually(full, 15)
    for key, types in KEYS.items():
        assert isinstance(running[key], types) and not isinstance(running[key], bool), (key, running[key])
    assert running["state"] == "running" and running["timeframe"] == "H1" and running["rss_bytes"] > 1_000_000
    assert running["heartbeat_age_s"] < 5 and psutil.pid_exists(running["pid"])
    stopped = row_of(run("status", "--json", "three"), "three")
    assert {key for key in KEYS if stopped[key] is None} == UNKNOWN_AT_REST
    text = run("status", "two", "three")
    assert text.code == 0 and "two" in text.out and "three" in text.out and "one" not in text.out.split()


def test_show_history_and_logs_of_a_bot(daemon: Daemon, run: Callable[..., Answer]) -> None:
    shown = run("show", "one", "--json").json()
    assert (
        shown["source"] == "file" and shown["config"]["params"] == {"fast": 5, "slow": 20} and shown["override"] == {}
    )
    assert shown["run"]["pid"] == daemon.bot("one")["pid"] and len(shown["run"]["code_hash"]) == 16
    # The first lines are written just after Ready, so that they do not delay it.
    eventually(lambda: len(run("logs", "one", "-n", "2").out.splitlines()) == 2)
    history = run("history", "one", "--json", "-n", "3").json()
    assert history and all({"seq", "at", "action", "text", "epoch"} <= set(row) for row in history)
    assert [row["seq"] for row in history] == sorted(row["seq"] for row in history)
    assert "START" in {row["action"] for row in run("history", "one", "--json", "-n", "1000").json()}
    lines = run("logs", "one", "-n", "2")
    assert lines.code == 0 and len(lines.out.splitlines()) == 2
    assert [json.loads(line) for line in run("logs", "one", "-n", "2", "--json").out.splitlines()]
    assert run("logs", "one", "-n", "0").code == 0
    for verb in ("show", "history", "status", "logs"):
        text = run(verb, "one")
        assert text.code == 0 and text.out and not text.err, text


def test_market_and_account(daemon: Daemon, run: Callable[..., Answer]) -> None:
    account = run("account", "--json").json()
    assert {"login", "balance", "equity", "margin_free", "leverage", "currency", "profit"} <= set(account)
    (only,) = run("accounts", "--json").json()
    assert (only["name"], only["state"], only["bots"]) == ("main", "running", 3)
    first = eventually(lambda: run("equity", "--json").json(), what="the sample that is kept after a start")[0]
    assert first["account"] == "main" and first["balance"] > 0 and time.time() - 3600 < first["at"] < time.time()
    assert run("equity", "main", "--since", "1h").out.splitlines()[0].split()[-1] == "DRAWDOWN"
    symbols = {row["name"]: row for row in run("symbols", "--json").json()}
    assert set(symbols) == {"EURUSD", "GBPUSD", "USDJPY", "XAUUSD", "BTCUSD", "US500"}
    assert all(row["ask"] >= row["bid"] > 0 for row in symbols.values())
    strategies = {row["id"]: row for row in run("strategies", "--json").json()}
    assert {"MA_CROSSOVER", "RSI_CROSSOVER", "BOLLINGER_REVERSION", "mine:Holder"} <= set(strategies)
    assert strategies["mine:Holder"]["params"]["weight"]["maximum"] == 9
    for verb in ("account", "accounts", "symbols", "strategies", "positions", "deals"):
        text = run(verb)
        assert text.code == 0 and text.out and not text.err, text


def test_analysis_of_a_running_and_of_a_stopped_bot(daemon: Daemon, run: Callable[..., Answer]) -> None:
    live = run("analysis", "one", "--json").json()
    assert live["live"] is True and live["signal"] in ("BUY", "SELL", "HOLD") and "fast" in live["figures"]
    before = daemon.bot("three")
    asleep = run("analysis", "three", "--json").json()
    assert (asleep["live"], asleep["signal"], asleep["explanation"], asleep["figures"]) == (
        False, "HOLD", "Never.", {"weight": 1.0},
    )  # fmt: skip
    assert daemon.bot("three") == before
    text = run("analysis", "three")
    assert text.code == 0 and "Never." in text.out


def test_config_check_and_version(run: Callable[..., Answer]) -> None:
    told = run("config", "check")
    assert told.code == 0 and "3 bots" in told.out and not told.err
    assert run("config", "check", "--json").json()["ok"] is True
    assert run("--version").out.startswith("stablehand ")


# --- operating ----------------------------------------------------------------------------------------------


def test_start_stop_pause_resume_restart_by_name_all_and_where(daemon: Daemon, run: Callable[..., Answer]) -> None:
    assert run("stop", "one", "--wait", "15", "--json").json()["reached"] == ["one"]
    assert run("stop", "one", "--json").json()["already"] == ["one"]
    said = run("start", "--all", "--wait", "20", "--json").json()
    assert set(said["done"]) == {"one", "three"} and said["already"] == ["two"]
    assert set(said["reached"]) == {"one", "two", "three"}
    assert run("pause", "--where", "market=GBPUSD", "--wait", "15", "--json").json()["reached"] == ["two"]
    assert daemon.bot("two")["state"] == "paused"
    assert run("resume", "two", "--wait", "15").code == 0 and daemon.bot("two")["state"] == "running"
    before = {row["name"]: row["pid"] for row in daemon.status()}
    assert run("restart", "two", "--wait", "20").code == 0
    after = {row["name"]: row["pid"] for row in daemon.status()}
    assert after["two"] != before["two"] and after["one"] == before["one"]
    assert run("stop", "--where", "strategy=mine:Holder", "--wait", "15").code == 0
    refused = run("resume", "three")
    assert refused.code == 1 and "three" in refused.err and "start" in refused.err
    assert run("stop", "--where", "market=US500").code == 1  # nobody, as `pkill` has it: it may be a slip


def test_wait_that_is_not_reached_is_exit_code_1_and_names_the_bot(daemon: Daemon, run: Callable[..., Answer]) -> None:
    pid = daemon.bot("one")["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        late = run("stop", "one", "--wait", "0.3")
        assert late.code == 1 and "one" in late.err and "0.3" in late.err
        assert run("stop", "one", "--wait", "0.1", "--json").code == 1
    finally:
        os.kill(pid, signal.SIGCONT)
    daemon.wait_state("one", "stopped")
    assert run("start", "one", "--wait", "20").code == 0


def test_add_many_from_a_file_is_all_or_nothing(daemon: Daemon, run: Callable[..., Answer]) -> None:
    many = "".join(bot_text(f"many-{n}", "EURUSD", "mine:Holder", "params = { weight = 2 }") for n in range(5))
    file = daemon.folder / "many.toml"
    file.write_text(many + bot_text("many-x", "EURUSD", "mine:Holder", "params = { wieght = 2 }"), "utf-8")
    before = [row["name"] for row in daemon.status()]
    assert "'wieght'" in run("add", "--file", str(file)).line(2)
    file.write_text(many + bot_text("one"), "utf-8")
    assert "'one'" in run("add", "--file", str(file)).line(2)
    assert [row["name"] for row in daemon.status()] == before
    file.write_text(many, "utf-8")
    assert run("add", "--file", str(file), "--json").json()["added"] == [f"many-{n}" for n in range(5)]
    for n in range(5):
        daemon.wait_state(f"many-{n}", "running")
    pids = {row["name"]: row["pid"] for row in daemon.status()}
    wrong = run("update", "many-0", "many-1", "params.weight=10")
    assert "weight" in wrong.line(2) and "9" in wrong.err
    assert {row["name"]: row["pid"] for row in daemon.status()} == pids
    changed = run("update", "--where", "strategy=mine:Holder", "params.weight=3", "--json").json()["updated"]
    assert {one["name"]: one["restarted"] for one in changed} == {"three": False} | {
        f"many-{n}": True for n in range(5)
    }
    eventually(lambda: all(daemon.bot(f"many-{n}")["pid"] not in (None, pids[f"many-{n}"]) for n in range(5)), 20)
    assert daemon.bot("one")["pid"] == pids["one"] and daemon.bot("three")["state"] == "stopped"
    removed = run("remove", *(f"many-{n}" for n in range(5)), "--positions", "keep", "--json").json()
    assert len(removed["removed"]) == 5 and [row["name"] for row in daemon.status()] == before
    run("update", "three", "params.weight=1")


def test_update_restarts_only_that_bot_and_is_kept_as_an_override(daemon: Daemon, run: Callable[..., Answer]) -> None:
    before = {row["name"]: row["pid"] for row in daemon.status()}
    (told,) = run("update", "one", "risk_percent=2", "params.fast=7", "--json").json()["updated"]
    assert told["changed"] == {"risk_percent": [1.0, 2.0], "params.fast": [5, 7]} and told["restarted"] is True
    eventually(lambda: daemon.bot("one")["pid"] not in (None, before["one"]), 15)
    daemon.wait_state("one", "running")
    assert daemon.bot("two")["pid"] == before["two"]
    (same,) = run("update", "one", "risk_percent=2", "--json").json()["updated"]
    assert same["changed"] == {} and same["restarted"] is False
    shown = run("show", "one", "--json").json()
    assert shown["override"] == {"risk_percent": 2, "params": {"fast": 7}}
    assert shown["declared"]["params"] == {"fast": 5, "slow": 20}
    assert shown["config"]["params"] == {"fast": 7, "slow": 20}
    assert run("reload", "--dry-run", "--json").json()["overrides"]["one"] == shown["override"]
    assert "risk_percent" in run("show", "one").out
    refused = run("update", "one", "--unset", "risk_pct").line(2)
    assert "risk_pct was not set by update" in refused and "risk_percent" in refused
    (back,) = run("update", "one", "--unset", "risk_percent", "--unset", "params", "--json").json()["updated"]
    assert back["changed"] == {"risk_percent": [2.0, 1.0], "params.fast": [7, 5]} and back["restarted"] is True
    daemon.wait_state("one", "running")
    assert daemon.ask("show", bot="one")["override"] == {}


def test_what_the_run_need_not_know_takes_effect_without_a_restart(daemon: Daemon) -> None:
    before = daemon.wait_state("one", "running")
    (told,) = daemon.ask("update", bots=["one"], set={"priority": 8, "intensity": 7})["updated"]
    assert told["changed"] == {"priority": [7, 8], "intensity": [5, 7]} and told["restarted"] is False
    (back,) = daemon.ask("update", bots=["one"], unset=["priority", "intensity"])["updated"]
    assert back["changed"] == {"priority": [8, 7], "intensity": [7, 5]} and back["restarted"] is False
    assert daemon.bot("one")["pid"] == before["pid"]


def test_remove_closes_the_position_or_says_that_it_stays(daemon: Daemon, run: Callable[..., Answer]) -> None:
    far = ("sl_atr_multiplier=60", "tp_atr_multiplier=0", "min_lot=accept")  # so that only we close it
    for name, market in (("buyer-a", "BTCUSD"), ("buyer-b", "USDJPY")):
        assert run("add", name, f"market={market}", "strategy=mine:Buyer", *far).code == 0

    def held(name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = run("positions", "--bot", name, "--json").json()
        return rows

    (first,) = eventually(lambda: held("buyer-a"), 30)
    eventually(lambda: held("buyer-b"), 30)
    assert {"ticket", "symbol", "type", "volume", "price_open", "sl", "tp", "magic", "profit", "bot"} <= set(first)
    assert (first["bot"], first["symbol"], first["type"]) == ("buyer-a", "BTCUSD", 0)
    status = eventually(lambda: daemon.bot("buyer-a")["position"], 10)
    assert status["side"] == "buy" and status["volume"] == first["volume"]
    pids = [row["pid"] for row in daemon.status("buyer-a", "buyer-b")]
    closed = run("remove", "buyer-a", "--positions", "close", "--json").json()
    assert closed["positions"]["buyer-a"] == "1 position closed"
    magics = {one["magic"] for one in run("positions", "--json").json()}
    assert first["magic"] not in magics
    deals = run("deals", "--json").json()
    mine = [one for one in deals if one["magic"] == first["magic"]]
    assert [one["entry"] for one in mine] == [0, 1] and [one["type"] for one in mine] == [0, 1]
    assert [one["ticket"] for one in deals] == sorted(one["ticket"] for one in deals)
    assert deals[0]["bot"] == "unattributed" and deals[0]["type"] == 2
    kept = run("remove", "buyer-b", "--positions", "keep", "--json").json()["positions"]["buyer-b"]
    (left,) = [one for one in run("positions", "--json").json() if one["symbol"] == "USDJPY"]
    assert "kept open" in kept and str(left["ticket"]) in kept
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)
    assert "buyer-a" in run("show", "buyer-a").line(2)
    declared = run("remove", "two", "--positions", "keep", "--yes")
    assert "reload" in declared.line(1) and daemon.bot("two")["state"] == "running"


# --- events -------------------------------------------------------------------------------------------------


def test_events_rise_without_loss_over_a_restart_of_the_supervisor(stable: Make) -> None:
    daemon = stable(config_text(bots=bot_text("one"))).start()
    daemon.wait_state("one", "running")
    since = daemon.ask("events", limit=1)["last"]
    follower = subprocess.Popen(
        [*COMMAND, "-c", str(daemon.config), "events", "-f", "--since", str(since), "--json"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert follower.stdout is not None
        daemon.ask("restart", bots=["one"], wait=20)
        heard = [json.loads(follower.stdout.readline())["seq"]]
        daemon.ask("restart", bots=["one"], wait=20)
        daemon.kill()
        daemon.start()
        daemon.wait_state("one", "running")
        daemon.ask("restart", bots=["one"], wait=20)
        last = daemon.ask("events", limit=1)["last"]
        while heard[-1] < last:
            line = follower.stdout.readline()
            assert line, follower.communicate()[1]
            heard.append(json.loads(line)["seq"])
    finally:
        follower.kill()
        follower.communicate()
    assert heard == list(range(since + 1, last + 1))
    page = stablehand(daemon.config, "events", "--since", str(since), "-n", "5", "--json").json()
    assert [event["seq"] for event in page] == heard[:5]
    assert all({"seq", "at", "type", "bot", "text", "data", "cause_id"} <= set(event) for event in page)


# --- the control protocol -----------------------------------------------------------------------------------


@pytest.fixture
def raw(daemon: Daemon) -> Iterator[Callable[..., dict[str, Any]]]:
    """Frames as a foreign client writes them."""
    context: zmq.Context[Any] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    dealer.connect(Endpoints.load(daemon.data_dir).control)

    def ask(request: Any, *, packed: bool = False) -> dict[str, Any]:
        dealer.send(request if packed else msgpack.packb(request))
        assert dealer.poll(10_000), f"no answer to {request!r}"
        answer: dict[str, Any] = msgpack.unpackb(dealer.recv_multipart()[-1])
        return answer

    yield ask
    context.destroy(linger=0)


def test_a_repeated_request_is_answered_from_memory(daemon: Daemon, raw: Callable[..., dict[str, Any]]) -> None:
    number = secrets.token_hex(8)
    request = {"v": 1, "id": number, "cmd": "restart", "args": {"bots": ["two"], "wait": 20}}
    epoch = daemon.bot("two")["epoch"]
    first = raw(request)
    assert first["ok"] and first["result"]["reached"] == ["two"]
    assert raw(request) == first and raw(request) == first
    assert daemon.bot("two")["epoch"] == epoch + 1
    other = raw({**request, "args": {"bots": ["one"]}})
    assert not other["ok"] and other["error"]["code"] == "conflict" and other["id"] == number
    failing = {"v": 1, "id": number + "x", "cmd": "start", "args": {"bots": ["nobody"]}}
    assert raw(failing) == raw(failing)


@pytest.mark.parametrize(
    "frame",
    [b"", b"\x00", b"\xc1", b"hello", msgpack.packb([1, 2]), msgpack.packb({"id": 1}), msgpack.packb({"cmd": "ping"}),
     msgpack.packb({"v": 1, "id": [], "cmd": "ping"}), msgpack.packb({"v": 1, "id": "a", "cmd": "ping", "args": [1]}),
     msgpack.packb({"v": 1, "id": "x" * 100_000, "cmd": "ping"}),
     msgpack.packb({"v": 1, "id": "long", "cmd": "x" * 500_000}), b"\x81" * 5000, random.Random(7).randbytes(900_000)],
    ids=lambda frame: f"{len(frame)} bytes {frame[:4].hex()}",
)  # fmt: skip
def test_a_frame_that_is_no_request_is_answered_and_counted(
    daemon: Daemon, raw: Callable[..., dict[str, Any]], frame: bytes
) -> None:
    before = daemon.ask("host")["bad_frames"]
    answer = raw(frame, packed=True)
    assert answer["ok"] is False and answer["error"]["code"] == "bad_request"
    assert daemon.ask("host")["bad_frames"] == before + 1


def test_wrong_arguments_are_refused_with_a_code(raw: Callable[..., dict[str, Any]]) -> None:
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("statsu", {}, "unknown_command"),
        ("start", {}, "invalid"),
        ("start", {"bots": []}, "invalid"),
        ("start", {"bots": ["x" * 900_000]}, "unknown_bot"),
        ("start", {"bots": [None, {}]}, "unknown_bot"),
        ("start", {"where": {}}, "invalid"),
        ("start", {"bots": ["one"], "wait": "long"}, "invalid"),
        ("stop", {"bots": ["one"], "mode": "gently"}, "invalid"),
        ("add", {"bots": "one"}, "invalid"),
        ("add", {"bots": [{}]}, "invalid"),
        ("add", {"bots": [{"name": {}, "market": 5, "strategy": None}]}, "invalid"),
        ("update", {"bots": ["one"], "set": {}}, "invalid"),
        ("update", {"updates": [{"name": "one", "set": 5}]}, "invalid"),
        ("update", {"updates": [5]}, "invalid"),
        ("events", {"since": -1}, "invalid"),
        ("events", {"since": 2**63}, "invalid"),
        ("events", {"limit": 0}, "invalid"),
        ("events", {"limit": True}, "invalid"),
        ("history", {"bot": "one", "limit": "x"}, "invalid"),
        ("show", {}, "unknown_bot"),
        ("analysis", {"bot": ["one"]}, "unknown_bot"),
        ("deals", {"account": 5}, "invalid"),
        ("equity", {"account": "mian"}, "invalid"),
        ("equity", {"since": -1}, "invalid"),
        ("equity", {"since": float("nan")}, "invalid"),
        ("equity", {"since": "24h"}, "invalid"),
        ("equity", {"limit": 0}, "invalid"),
    ]
    wrong = []
    for command, args, code in cases:
        answer = raw({"v": 1, "id": secrets.token_hex(8), "cmd": command, "args": args})
        if answer["ok"] or answer["error"]["code"] != code or "\n" in answer["error"]["message"]:
            wrong.append((command, str(args)[:80], str(answer)[:300]))
        assert len(str(answer["error"])) < 2000 if not answer["ok"] else True
    assert not wrong, wrong


def test_noise_on_every_socket_hurts_nobody(daemon: Daemon) -> None:
    before = {row["name"]: (row["pid"], row["epoch"]) for row in daemon.status()}
    bad = daemon.ask("host")["bad_frames"]
    endpoints = Endpoints.load(daemon.data_dir)
    context: zmq.Context[Any] = zmq.Context()
    try:
        for address in (endpoints.bus, endpoints.control):
            dealer = context.socket(zmq.DEALER)
            dealer.connect(address)
            for _ in range(1000):
                dealer.send(os.urandom(1024))
            dealer.send_multipart([b"a", b"b", b"", os.urandom(100)])
        for address in (endpoints.bus, endpoints.control, endpoints.events):
            with socket.socket(socket.AF_UNIX) as plain:  # not even ZeroMQ
                plain.settimeout(5)
                plain.connect(address.removeprefix("ipc://"))
                try:
                    plain.sendall(os.urandom(1_000_000))
                except OSError:
                    pass  # it hung up: all the better
        # Of random frames on the bus one in 256 looks like a stranger's heartbeat, which is no mistake.
        eventually(lambda: daemon.ask("host")["bad_frames"] >= bad + 1900, 30)
    finally:
        context.destroy(linger=0)
    cycles = daemon.bot("one")["cycles"]
    eventually(lambda: daemon.bot("one")["cycles"] > cycles, 10)
    assert {row["name"]: (row["pid"], row["epoch"]) for row in daemon.status()} == before
    warned = [
        line for line in (daemon.data_dir / "logs" / "supervisor.log").read_text().splitlines() if "dropped" in line
    ]
    assert 0 < len(warned) < 100


def test_a_start_is_not_run_into_a_removal(daemon: Daemon) -> None:
    daemon.ask("add", bots=[{"name": "going", "market": "EURUSD", "strategy": "mine:Holder"}])
    pid = daemon.wait_state("going", "running")["pid"]

    def keep_starting() -> str:
        from protocol.client import ControlClient

        until = time.monotonic() + 20
        with ControlClient(daemon.data_dir) as client:
            while time.monotonic() < until:
                try:
                    client.start(["going"])
                except StablehandError as error:
                    if error.code == "unknown_bot":
                        return "gone"
        return "still there"

    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(keep_starting)
        daemon.ask("remove", bots=["going"], positions="keep")
        assert starting.result() == "gone"
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    open_runs = sqlite3.connect(f"file:{daemon.data_dir / 'supervisor.db'}?mode=ro", uri=True).execute(
        "select count(*) from runs join bots on bots.id = bot_id where name = 'going' and ended_at is null"
    )
    assert open_runs.fetchone() == (0,)


def test_down_ends_everything_and_says_so(stable: Make) -> None:
    daemon = stable(config_text(bots=bot_text("one"))).start()
    daemon.wait_state("one", "running")
    told = stablehand(daemon.config, "down", "--json").json()
    assert told["gone"] is True and told["pid"] == daemon.pid
    assert daemon.process is not None and daemon.process.wait(5) == 0
    assert daemon.processes() == []
    assert "stablehand up" in stablehand(daemon.config, "status").line(3)
