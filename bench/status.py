"""What it takes to look at a stable: one bot, all of them, and the verb as a process; and what the supervisor holds."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import psutil

from bench.installation import installation
from bench.machine import ROOT
from bench.part import Figures, Part, Row, judged, judged_table, spread

_ONE: Final = 1000
_ALL: Final = 50
_PROCESSES: Final = 15
_SETTLE: Final = 2.0  # samples and first figures have come


def measure(folder: Path, count: int) -> dict[str, Any]:
    """Milliseconds until `status` of one bot and of all is answered through a client that stays connected, and
    until `stablehand status BOT` has run, beside a Python that does nothing. `pss_mb`: of the supervisor.
    """
    with installation(folder / "status", count) as running:
        running.start_all()
        running.wait_cycles()
        time.sleep(_SETTLE)
        request = running.client.request
        names = [row["name"] for row in request("status")]
        one = [
            _milliseconds(lambda name=names[turn % count]: request("status", {"bots": [name]})) for turn in range(_ONE)
        ]
        everyone = [_milliseconds(lambda: request("status")) for _ in range(_ALL)]
        rows = request("status")
        sampled = sum(row.get("cpu_percent") is not None and row.get("rss_bytes") is not None for row in rows)
        config = str(running.folder / "supervisor.toml")
        python, verb = [], []
        for turn in range(_PROCESSES):  # in turns, so that both meet the same machine
            python.append(_milliseconds(lambda: _run("-c", "pass")))
            name = names[turn % count]
            verb.append(_milliseconds(lambda name=name: _run("-m", "console", "-c", config, "status", name)))
        pss = psutil.Process(running.process.pid).memory_full_info().pss / 1e6
    return {
        "bots": count, "sampled": sampled, "one_ms": spread(one), "all_ms": spread(everyone),
        "verb_ms": spread(verb), "python_ms": spread(python), "pss_mb": pss,
    }  # fmt: skip


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)


def _milliseconds(action: Any) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def _milliseconds_row(what: str, value: float, most: float) -> Row:
    """As `judged`, with the digits that tell a tenth of a millisecond from another."""
    return what, f"{value:.2f} ms", f"<= {most:g} ms", "met" if value <= most else f"missed by {value - most:.2g} ms"


def show(figures: Figures) -> str:
    """The table."""
    bots, one = figures["bots"], figures["one_ms"]
    client = f"status of one bot through the client, {bots} bots live"
    return judged_table(
        [
            _milliseconds_row(f"{client}: median", one["median"], 0.30),
            _milliseconds_row(f"{client}: p99", one["p99"], 1.5),
            judged(f"status of all {bots}, with CPU and memory: median", figures["all_ms"]["median"], 10.0, "ms"),
            judged("`stablehand status BOT` as a process: median", figures["verb_ms"]["median"], 110.0, "ms"),
            judged("`python -c pass` beside it: median", figures["python_ms"]["median"], None, "ms"),
            judged(f"memory of the supervisor (PSS), {bots} bots", figures["pss_mb"], 80.0, "MB"),
        ]
    )


def _options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--status-bots", type=int, default=100, metavar="N", help="bots that live meanwhile")


PART: Final = Part(
    "status",
    "how long it takes to look at one bot, at all of them, and by the command",
    lambda folder, options: measure(folder, options.status_bots),
    show,
    options=_options,
)
