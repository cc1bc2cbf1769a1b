"""How long each strategy takes for a backtest: seconds of the processor for a file of bars, and for 35,000 of them.

    python -m bench.backtest [EURUSD_H1.csv ..] [--rounds N] [--strategies ID,ID] [--json FILE]
    python -m bench backtest [--backtest-file EURUSD_H1.csv] [--write-docs]

Without a file 35,000 hours are made from a seed.

Each backtest is the process that `stablehand backtest` starts, from its first import to its report. Seconds of the
processor are counted, since a busy machine's clock would measure its other work; beside each round a loop of plain
Python is timed, so that figures of two machines, or of two hours, can be laid side by side.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.machine import ROOT, scratch
from bench.part import Figures, Part, markdown
from botproc.loader import known

#: Bars, and the seconds that they may take.
BARS: Final = 35_000
MOST: Final = 10.0
_LOOP: Final = 2_000_000


def made(folder: Path) -> Path:
    """A file of 35,000 hours from a seed: a walk with the size and the spread of a currency pair's."""
    random = np.random.default_rng(1)
    closes = np.round(1.1 * np.exp(np.cumsum(random.normal(0, 0.0011, BARS))), 5)
    opens = np.concatenate(([1.1], closes[:-1]))
    reach = np.abs(random.normal(0, 0.0006, (2, BARS)))
    highs = np.round(np.maximum(opens, closes) + reach[0], 5)
    lows = np.round(np.minimum(opens, closes) - reach[1], 5)
    ticks = random.integers(200, 4000, BARS)
    begin = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    lines = ["time,open,high,low,close,tick_volume,spread,real_volume"]
    for number in range(BARS):
        at = (begin + dt.timedelta(hours=number)).strftime("%Y-%m-%d %H:%M:%S")
        prices = f"{opens[number]:.5f},{highs[number]:.5f},{lows[number]:.5f},{closes[number]:.5f}"
        lines.append(f"{at},{prices},{ticks[number]},{8 + number % 5},0")
    file = folder / "EURUSD_H1.csv"
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


def play(file: Path, strategy: str) -> tuple[float, dict[str, Any]]:
    """Seconds of the processor, and the report."""
    job = json.dumps({"bots": [{"name": "one", "strategy": strategy}], "data": str(file.resolve())})
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "botproc.backtest"], input=job, capture_output=True, text=True, check=False, cwd=ROOT
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"bench.backtest: {strategy} on {file}: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, found


def loop() -> float:
    """Seconds of the processor that a loop of plain Python takes here and now."""
    began, total = time.process_time(), 0
    for number in range(_LOOP):
        total += number & 7
    return time.process_time() - began


def measure(files: Sequence[Path], strategies: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """The median of the rounds for each file and strategy; rounds take turns, so that all see the same machine."""
    spent: dict[tuple[Path, str], list[float]] = {(file, one): [] for file in files for one in strategies}
    loops: list[float] = []
    facts: dict[tuple[Path, str], dict[str, Any]] = {}
    for _ in range(rounds):
        for file, strategy in spent:
            loops.append(loop())
            seconds, facts[file, strategy] = play(file, strategy)
            spent[file, strategy].append(seconds)
    unit = statistics.median(loops)
    rows = []
    for (file, strategy), each in spent.items():
        found = facts[file, strategy]
        bars, seconds = found["period"]["bars"], statistics.median(each)
        rows.append(
            {
                "file": file.name, "strategy": strategy, "bars": bars, "seconds": round(seconds, 2),
                "seconds_35000": round(seconds * BARS / bars, 2), "loops_35000": round(seconds * BARS / bars / unit, 1),
                "trades": found["result"]["trades"],
            }
        )  # fmt: skip
    return rows


def add_options(group: argparse._ArgumentGroup) -> None:
    """The file."""
    text = "bars, as SYMBOL_TIMEFRAME.csv; 35,000 made hours by default"
    group.add_argument("--backtest-file", type=Path, metavar="FILE", help=text)


def run(folder: Path, options: argparse.Namespace) -> Figures:
    """Every strategy on the file."""
    file = options.backtest_file or made(folder)
    strategies = known()
    return {"strategies": len(strategies), "rows": measure([file], strategies, options.rounds)}


def show(figures: Figures) -> str:
    """A row for each strategy."""
    rows: list[dict[str, Any]] = figures["rows"]
    head = ("strategy", "bars", "seconds of a processor for 35,000", "trades", f"<= {MOST:g} s")
    table = [
        (row["strategy"], f"{row['bars']:,}", f"{row['seconds_35000']:.2f}", f"{row['trades']:,}",
         "met" if row["seconds_35000"] <= MOST else f"missed by {row['seconds_35000'] - MOST:.1f} s")
        for row in rows
    ]  # fmt: skip
    return markdown(head, table)


PART: Final = Part(
    "backtest",
    "seconds of a processor for a backtest of each strategy, from its first import to its report",
    run,
    show,
    by_default=False,
    turns=True,
    page=ROOT / "docs" / "backtest.md",
    options=add_options,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 where a strategy takes longer than it may."""
    parser = argparse.ArgumentParser(prog="python -m bench.backtest", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="bars, as SYMBOL_TIMEFRAME.csv")
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many counts")
    parser.add_argument("--strategies", default="", metavar="ID,ID", help="these alone; all by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args(arguments)
    chosen = [one for one in options.strategies.split(",") if one] or known()
    load = os.getloadavg()[0]
    with scratch() as folder:
        rows = measure(options.files or [made(folder)], chosen, options.rounds)
    print(
        f"load {load:.1f} before and {os.getloadavg()[0]:.1f} after, on {os.cpu_count()} cores; {options.rounds} rounds"
    )
    print(f"{'STRATEGY':<22}{'FILE':<16}{'BARS':>7}{'CPU s':>8}{'35,000':>8}{'LOOPS':>8}{'TRADES':>8}")
    for row in rows:
        print(
            f"{row['strategy']:<22}{row['file']:<16}{row['bars']:>7}{row['seconds']:>8.2f}{row['seconds_35000']:>8.2f}"
            f"{row['loops_35000']:>8.1f}{row['trades']:>8}"
        )
    slow = [row for row in rows if row["seconds_35000"] > MOST]
    print(f"{BARS:,} bars in at most {MOST:g} s: " + ("met by all" if not slow else f"missed by {len(slow)}"))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
