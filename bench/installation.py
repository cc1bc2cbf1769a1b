"""An installation to measure: the shipped kind of configuration with N bots, and its processes."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from bench.machine import ROOT
from protocol.client import ControlClient

_SYMBOLS: Final = ("EURUSD", "GBPUSD", "USDJPY", "XAUUSD", "BTCUSD", "US500")
_STRATEGIES: Final = ("MA_CROSSOVER", "RSI_CROSSOVER", "BOLLINGER_REVERSION")
#: Bars a second of a market in which nothing closes while it is measured: as hourly bars in real time.
QUIET: Final = 0.001


def config_text(count: int, bars_per_second: float, extra: str = "") -> str:
    """`count` bots, declared stopped, on one account of the embedded market; everything else as shipped."""
    lines = [
        '[supervisor]\ndata_dir = "var"',
        f'[accounts.main]\nkind = "paper"\nfeed = "synthetic"\nbars_per_second = {bars_per_second}',
        f'[bot_defaults]\nwanted = "stopped"\n{extra}',
    ]
    for number in range(count):
        symbol, strategy = _SYMBOLS[number % 6], _STRATEGIES[number % 3]
        lines.append(f'[[bots]]\nname = "bot-{number:04}"\nmarket = "{symbol}"\nstrategy = "{strategy}"')
    return "\n\n".join(lines) + "\n"


class Installation:
    """A running supervisor with its gateway up and its bots stopped."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self.folder = folder
        self.process = process
        self.client = ControlClient(folder / "var", timeout=60.0)

    def wait_gateway(self, timeout: float = 60.0) -> None:
        """Until the account's gateway is ready. Raises TimeoutError."""
        until = time.monotonic() + timeout
        while self.client.request("accounts")[0]["state"] != "running":
            if time.monotonic() > until:
                raise TimeoutError("the gateway did not come up")
            time.sleep(0.02)

    def start_all(self, timeout: float = 300.0) -> float:
        """Seconds from `start --all` until every bot is running. Raises RuntimeError when one is not."""
        started = time.perf_counter()
        answer = self.client.request("start", {"all": True, "wait": timeout})
        seconds = time.perf_counter() - started
        if answer["missed"] or answer["failed"]:
            raise RuntimeError(f"not all bots came up: {answer['missed'] or answer['failed']}")
        return seconds

    def wait_cycles(self, cycles: int = 1, timeout: float = 120.0) -> None:
        """Until every bot has done so many analyses. Raises TimeoutError."""
        until = time.monotonic() + timeout
        while min(row["cycles"] for row in self.client.request("status")) < cycles:
            if time.monotonic() > until:
                raise TimeoutError(f"not every bot did {cycles} cycles within {timeout:g} s")
            time.sleep(0.1)

    def bots(self) -> list[psutil.Process]:
        """The bots' processes."""
        return [psutil.Process(row["pid"]) for row in self.client.request("status") if row["pid"]]

    def launcher(self) -> psutil.Process:
        """The parent of the bots."""
        parent = self.bots()[0].parent()
        assert parent is not None
        return parent


@contextmanager
def installation(folder: Path, count: int, bars_per_second: float = QUIET, extra: str = "") -> Iterator[Installation]:
    """Start one in `folder`, and stop it and all its processes at the end."""
    folder.mkdir()
    (folder / "supervisor.toml").write_text(config_text(count, bars_per_second, extra), "utf-8")
    command = [sys.executable, "-m", "supervisor", "--config", str(folder / "supervisor.toml")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True)
    assert process.stdout is not None
    known: list[psutil.Process] = []
    try:
        if "ready" not in process.stdout.readline():
            raise RuntimeError("the supervisor did not come up")
        running = Installation(folder, process)
        running.wait_gateway()
        yield running
        known = psutil.Process(process.pid).children(recursive=True)
        running.client.close()
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for one in known:
            with contextlib.suppress(psutil.Error):
                one.kill()
        process.stdout.close()


def cpu_seconds(*processes: psutil.Process) -> float:
    """CPU time that these processes have used so far."""
    return sum(times.user + times.system for times in (one.cpu_times() for one in processes))


def describe_state(rows: list[dict[str, Any]]) -> dict[str, int]:
    """How many bots are in which state."""
    found: dict[str, int] = {}
    for row in rows:
        found[row["state"]] = found.get(row["state"], 0) + 1
    return found
