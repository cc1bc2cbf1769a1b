"""A closed bar in a whole stable: from its publication until the last of N bots has it, and has decided on it.

Every bot is a process of its own with a real indicator strategy, as shipped. What a bot saw of its last bar stands in
its heartbeats (and so in `status`): when its receiving thread had the bar, and when its strategy had decided. Beside
it, in the same run, the limit: as many bare processes that receive and stamp (`bench.rawpub`).

    python -m bench.candle [--bots 500] [--bars 12] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from bench import rawpub
from bench.installation import Installation, installation
from bench.machine import describe, scratch

#: Milliseconds until the last of 500 bots has a bar: median and 99th; and until the last has decided.
RECEIVED: Final = (30.0, 50.0)
DECIDED: Final = 1000.0
_SPEED: Final = 0.2  # bars a second of each symbol; all symbols close together
_LOOK: Final = 0.5
#: These hourly bars close every five seconds; on a busy machine the throttle would thin them out.
_NO_THINNING: Final = "throttle = false"
_SETTLE: Final = 8.0  # seconds after the start, in which first analyses are done


def measure(folder: Path, bots: int, bars: int) -> dict[str, Any]:
    """One round: the limit, then the stable. Milliseconds; a moment counts when every bot has told of it."""
    raw = rawpub.measure(bots, bars)
    with installation(folder, bots, bars_per_second=_SPEED, extra=_NO_THINNING) as running:
        seconds = running.start_all()
        time.sleep(_SETTLE)
        market_of = {row["name"]: row["market"] for row in running.client.request("status")}
        seen = _watch(running, bars)
        load = os.getloadavg()[0]
    whole = [list(rows.values()) for rows in seen.values() if rows.keys() == _concerned(rows, market_of)]
    received = [max(row[0] for row in rows) for rows in whole]
    decided = [max(row[1] for row in rows) for rows in whole]
    return {
        "bots": bots, "bars": len(whole), "not_by_all": len(seen) - len(whole), "load": round(load, 1),
        "start_seconds": round(seconds, 2), "raw": _spread(raw), "received": _spread(received),
        "decided": _spread(decided),
    }  # fmt: skip


def _watch(running: Installation, bars: int) -> dict[float, dict[str, tuple[float, float]]]:
    """Moment of publication -> bot -> (received, decided), as the bots tell it."""
    seen: dict[float, dict[str, tuple[float, float]]] = {}
    until = time.monotonic() + (bars + 2) / _SPEED
    while time.monotonic() < until:
        for row in running.client.request("status"):
            if row["last_bar"] is not None:
                told = seen.setdefault(row["bar_published"], {})
                told.setdefault(row["name"], (row["bar_received_ms"], row["bar_decided_ms"]))
        time.sleep(_LOOK)
    # The first may have been published before all had come up, the last was still on its way.
    for moment in sorted(seen)[:1] + sorted(seen)[-1:]:
        del seen[moment]
    return seen


def _concerned(rows: Iterable[str], market_of: dict[str, str]) -> set[str]:
    """The bots of all markets that had a bar at a moment: of those that sleep there is none."""
    markets = {market_of[name] for name in rows}
    return {name for name, market in market_of.items() if market in markets}


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values) or [float("nan")]
    return {
        "median": round(statistics.median(ordered), 1),
        "p99": round(ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))], 1),
        "max": round(ordered[-1], 1),
    }


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The medians of the rounds, and whether they are within the limits."""

    def middle(what: str, key: str) -> float:
        return float(round(statistics.median(one[what][key] for one in rounds), 1))

    found = {f"{what}_{key}": middle(what, key) for what in ("raw", "received", "decided") for key in ("median", "p99")}
    met = (
        found["received_median"] <= RECEIVED[0],
        found["received_p99"] <= RECEIVED[1],
        found["decided_p99"] <= DECIDED,
    )
    return {**found, "met": all(met), "met_each": met}


def main() -> int:
    """Measure and print; 0 when the limits are met."""
    parser = argparse.ArgumentParser(prog="python -m bench.candle", description="A bar until the last bot has it.")
    parser.add_argument("--bots", type=int, default=500)
    parser.add_argument("--bars", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with scratch() as folder:
        machine = describe(folder)
        rounds = []
        for number in range(options.rounds):
            rounds.append(measure(folder / f"round-{number}", options.bots, options.bars))
            print(json.dumps(rounds[-1]), file=sys.stderr, flush=True)
    total = summary(rounds)
    print(json.dumps({"machine": machine, "rounds": rounds, "summary": total}, indent=2))
    print(
        f"bar to the last of {options.bots} bots: received p50 {total['received_median']} ms, p99 "
        f"{total['received_p99']} ms (at most {RECEIVED[0]:g} and {RECEIVED[1]:g}; bare processes "
        f"{total['raw_median']} and {total['raw_p99']}); decided p99 {total['decided_p99']} ms (at most {DECIDED:g}): "
        f"{'met' if total['met'] else 'missed'}"
    )
    return 0 if total["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
