"""What it takes to look at a stable: one bot, all of them, and the verb as a process; and what the supervisor holds."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import psutil

from bench.installation import installation
from bench.machine import ROOT

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
        "bots": count, "sampled": sampled, "one_ms": _spread(one), "all_ms": _spread(everyone),
        "verb_ms": _spread(verb), "python_ms": _spread(python), "pss_mb": pss,
    }  # fmt: skip


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)


def _milliseconds(action: Any) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    last = len(ordered) - 1
    return {"median": ordered[last // 2], "p99": ordered[round(0.99 * last)], "max": ordered[-1]}
