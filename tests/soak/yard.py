"""The installation that the random rounds are played on, and what is known of it: who should be there, and why not."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import psutil

from protocol.client import CommandFailed, ControlClient
from protocol.errors import INTERNAL, StablehandError
from tests.daemon import Daemon
from tests.scale import SOAK, SOAK_FAULT
from tests.support import eventually

T = TypeVar("T")

#: Seconds that anything may take to be as it should again, on a machine that is busy.
PATIENCE = 180.0 if SOAK else 40.0
SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "XAUUSD", "BTCUSD", "US500")
_STRATEGIES = ("MA_CROSSOVER", "RSI_CROSSOVER", "BOLLINGER_REVERSION")
#: Trades the smallest volume on every bar.
FLIPPER = Path(__file__).with_name("flipper.py").read_text("utf-8")
#: A program with a child in a session of its own.
_PROGRAM = (
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1e6)',"
    " sys.argv[1]], start_new_session=True); time.sleep(1e6)"
)


def config_text(bots: int, programs: int, folder: Path) -> str:
    """`bots` bots on a market that moves, a quarter of which turn their position on every bar, and programs."""
    beat, patience = (1.0, 10.0) if SOAK else (0.3, 4.0)
    lines = [
        "[supervisor]", 'data_dir = "var"', 'strategy_path = ["s"]', "throttle.enabled = false",
        f"heartbeat_interval_seconds = {beat}", f"heartbeat_timeout_seconds = {patience}",
        f"max_suspension_seconds = {2 * patience}", f"orphan_after_seconds = {30 if SOAK else 5}",
        "[accounts.main]", 'kind = "paper"', 'feed = "synthetic"', f"bars_per_second = {0.5 if SOAK else 4}",
        "balance = 1000000", "terminal_timeout_seconds = 3",
        "[bot_defaults]", "intensity = 6", "backoff_initial_seconds = 0.1", "backoff_max_seconds = 1.0",
        f"stop_timeout_seconds = {20 if SOAK else 8}",
    ]  # fmt: skip
    for number in range(bots):
        strategy = "flipper:Flipper" if number % 4 == 0 else _STRATEGIES[number % 3]
        lines += ["[[bots]]", f'name = "b{number:03}"', f'market = "{SYMBOLS[number % 6]}"', f'strategy = "{strategy}"',
                  "risk_percent = 0.01", "min_lot = 'accept'", "sl_atr_multiplier = 20",
                  "tp_atr_multiplier = 0"]  # fmt: skip
    for number in range(programs):
        command = [sys.executable, "-c", _PROGRAM, str(folder)]
        lines += ["[[programs]]", f'name = "p{number}"', f"command = {command!r}", "stop_timeout_seconds = 5"]
    return "\n".join(lines) + "\n"


class Yard:
    """The running installation. `excused`: runs (name, epoch) of which it is known why they end."""

    def __init__(self, daemon: Daemon, seed: int) -> None:
        self.daemon = daemon
        self.random = random.Random(seed)
        self.epochs: dict[str, int] = {}
        self.excused: dict[tuple[str, int], set[str]] = {}
        self.taken: set[str] = set()
        self.scars: set[str] = set()  # names whose processes may have died in any way in this round
        self.trouble: list[str] = []  # what may never be, found beside the rounds
        self.gateway_hangs = 0
        self.complaints: list[str] = []  # what a supervisor that died left on its stderr
        (daemon.folder / "s").mkdir()
        (daemon.folder / "s" / "flipper.py").write_text(FLIPPER, "utf-8")
        self.start()

    # --- the supervisor ------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a supervisor, where the last one is dead."""
        self.hear()
        self.daemon.start()

    def hear(self) -> None:
        """What a dead supervisor said at last; its pipes are closed."""
        process = self.daemon.process
        if process is None or process.stderr is None or process.stdout is None or process.stderr.closed:
            return
        os.set_blocking(process.stderr.fileno(), False)  # a child that lives on may hold its other end
        text = os.read(process.stderr.fileno(), 1 << 16).decode("utf-8", "replace") if _readable(process.stderr) else ""
        if text.strip():
            self.complaints.append(text)
        process.stderr.close()
        process.stdout.close()

    @property
    def gateway(self) -> dict[str, Any]:
        """The account's row."""
        row: dict[str, Any] = self.daemon.ask("accounts")[0]
        return row

    def launcher(self) -> psutil.Process:
        """The launcher that new runs come from: the youngest one."""
        return max(self.launchers(), key=lambda one: one.create_time())

    def launchers(self) -> list[psutil.Process]:
        """All of them: those whose parent is none."""
        found = {one.pid: one for one in self.daemon.processes() if "botproc.launcher" in line_of(one)}
        # A child that ends while it is looked at has no parent any more, and no lock, but is no launcher.
        return [one for one in found.values() if parent_of(one) not in {0, *found} and not locks_of(one.pid)]

    # --- bots ----------------------------------------------------------------------------------------

    def rows(self) -> dict[str, dict[str, Any]]:
        """Rows of status by name."""
        return {row["name"]: row for row in self.daemon.status()}

    def pick(self, count: int, *, programs: bool = False) -> list[dict[str, Any]]:
        """Rows of running bots that no other fault of this round has."""
        free = [row for row in self.daemon.status() if row["state"] == "running" and row["name"] not in self.taken]
        rows = [row for row in free if (row["strategy"] == "program") == programs]
        chosen = self.random.sample(rows, min(count, len(rows)))
        self.taken.update(row["name"] for row in chosen)
        return chosen

    def excuse(self, rows: Iterable[dict[str, Any]], *causes: str) -> None:
        """These runs end, and for no other reason than these."""
        for row in rows:
            self.excused.setdefault((row["name"], row["epoch"]), set()).update(causes)

    def renewed(self, rows: list[dict[str, Any]], state: str = "running") -> None:
        """Wait until each of these has another run, which is in that state."""
        before = {row["name"]: row["epoch"] for row in rows}

        def all_new() -> bool:
            now = self.daemon.status(*before)
            return all(row["state"] == state and row["epoch"] > before[row["name"]] for row in now)

        if before:
            eventually(all_new, PATIENCE, every=0.02, what=f"new runs of {', '.join(before)}: {self.short(before)}")

    def same(self, before: dict[str, dict[str, Any]]) -> None:
        """Wait until all but those that another fault of this round has run as they did: same processes and epochs."""

        def others(rows: dict[str, dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
            return {
                name: (row["pid"], row["epoch"], row["state"]) for name, row in rows.items() if name not in self.taken
            }

        wanted = others(before)

        def unchanged() -> bool:
            return others(self.rows()) == wanted

        def differences() -> str:
            now = {name: (row["pid"], row["epoch"], row["state"], row["reason"]) for name, row in self.rows().items()}
            return str({name: (old, now.get(name)) for name, old in wanted.items() if now.get(name, ())[:3] != old})

        try:
            eventually(unchanged, PATIENCE, every=0.05)
        except AssertionError:
            raise AssertionError(f"not as before: {differences()}") from None

    def settled(self) -> None:
        """Wait until all are in the state that is wanted, and the gateway serves."""

        def all_there() -> bool:
            return self.gateway["state"] == "running" and not self.unsettled()

        try:
            eventually(all_there, PATIENCE, every=0.1)
        except AssertionError:
            raise AssertionError(f"not settled: {self.unsettled() or self.gateway}") from None

    def unsettled(self) -> list[str]:
        """Who is not in the state that is wanted."""
        return [
            f"{row['name']} {row['state']} ({row['reason']}), wanted {row['wanted']}"
            for row in self.daemon.status() if row["state"] != row["wanted"]
        ]  # fmt: skip

    def short(self, names: Iterable[str]) -> str:
        """State and reason of these, for a message."""
        return "; ".join(f"{r['name']} {r['state']} {r['epoch']} {r['reason']}" for r in self.daemon.status(*names))

    def ask(self, command: str, timeout: float = PATIENCE, **args: Any) -> Any:
        """One command."""
        return self.daemon.ask(command, timeout, **args)


class Beside(threading.Thread):
    """Something that goes on beside the rounds, with clients of its own, through every death of the supervisor."""

    def __init__(self, yard: Yard, work: Callable[[ControlClient, Beside], None], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._yard = yard
        self._work = work
        self.over = threading.Event()

    def run(self) -> None:
        """Until it is over."""
        while not self.over.is_set():
            try:
                with ControlClient(self._yard.daemon.data_dir) as client:
                    self._work(client, self)
            except CommandFailed as error:
                if error.code == INTERNAL:
                    self._yard.trouble.append(f"{self.name}: {error}")
            except StablehandError:
                self.over.wait(0.1)  # nobody answers: a fault is being played
            except Exception as error:  # the rounds must not go on as if somebody watched
                self._yard.trouble.append(f"{self.name}: {type(error).__name__}: {error}")
                return

    def stop(self) -> None:
        """End it."""
        self.over.set()
        self.join(20.0)


def chatter(client: ControlClient, beside: Beside) -> None:
    """Ask everything that can be asked, a few times a second."""
    words = ("status", "host", "accounts", "positions", "events", "halts", "samples", "ping", "deals")
    while not beside.over.wait(0.3):
        number = int(time.monotonic() * 1000)
        command = words[number % len(words)]
        client.request(command, {"limit": 50} if command == "events" else {})


class Follower:
    """Follows the journal as a client does; keeps every number that it got."""

    def __init__(self) -> None:
        self.last = 0
        self.gaps: list[str] = []

    def __call__(self, client: ControlClient, beside: Beside) -> None:
        """One connection's worth."""
        for event in client.follow(since=self.last, stop=beside.over.is_set):
            if event["seq"] != self.last + 1:
                self.gaps.append(f"{event['seq']} after {self.last}")
            self.last = event["seq"]


def burn(seconds: float = SOAK_FAULT, processes: int | None = None) -> list[psutil.Popen]:
    """Keep the machine busy with processes that end by themselves."""
    code = f"import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
    count = processes or 2 * (os.cpu_count() or 2)
    return [psutil.Popen([sys.executable, "-c", code]) for _ in range(count)]


def _readable(stream: Any) -> bool:
    import select

    return bool(select.select([stream], [], [], 0)[0])


def line_of(process: psutil.Process) -> str:
    """Its command line; empty when it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def parent_of(process: psutil.Process) -> int:
    """Its parent; 0 when it has ended."""
    try:
        return process.ppid()
    except psutil.Error:
        return 0


def locks_of(pid: int) -> list[str]:
    """Names of the lock files that a process has open."""
    found = []
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            target = str(entry.readlink())
            if "/locks/" in target:
                found.append(Path(target).name)
    except OSError:
        return found  # it has ended
    return found
