"""`python -m bench memory`: what a bot takes, when it has begun, after fifty cycles, and (when asked) after an hour."""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Final

from bench.installation import Installation
from bench.memgroup import Taken, counted
from bench.part import Figures, Part, Row, judged, judged_table, say, spread
from bench.peers.measure import pss
from bench.peers.stable import parts_of

_BOTS: Final = 100
_CYCLES: Final = 51
_SETTLE: Final = 2.0
#: A bar in ten seconds: as many analyses in an hour as an hourly strategy does in two weeks.
_SLOW_BARS: Final = 0.1
_LOOK_SECONDS: Final = 600.0


def measure(folder: Path, count: int, minutes: float) -> Figures:
    """Per bot, in MB: what is taken and shares (PSS), both with everything that is not a bot, and USS.

    `idle`: on a quiet market, after the first cycle. `after_cycles`: after fifty more, two bars a second. `long`:
    after so many minutes of a bar in ten seconds, with a look every ten minutes; left out for 0 minutes.
    """
    found: Figures = {"bots": count, "minutes": minutes}
    with counted(folder / "memory-idle", count) as (running, taken):
        running.start_all()
        running.wait_cycles()
        time.sleep(_SETTLE)
        found["idle"] = _looked_at(running, taken)
    few = min(count, 20)
    with counted(folder / "memory-moving", few, bars_per_second=2.0) as (running, taken):
        running.start_all()
        running.wait_cycles(_CYCLES)
        found["after_cycles"] = _looked_at(running, taken)
    if minutes:
        found["long"] = _long(folder / "memory-long", count, minutes)
    return found


def _long(folder: Path, count: int, minutes: float) -> Figures:
    with counted(folder, count, bars_per_second=_SLOW_BARS) as (running, taken):
        running.start_all()
        running.wait_cycles()
        began = time.monotonic()
        looks: list[Figures] = []
        while (left := began + minutes * 60 - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_SECONDS))
            look = _looked_at(running, taken)
            looks.append({"minutes": (time.monotonic() - began) / 60, "uss": look["uss"]["median"]})
            say(f"after {looks[-1]['minutes']:.0f} minutes: USS {looks[-1]['uss']:.2f} MB")
        return look | {"looks": looks}


def _looked_at(running: Installation, taken: Taken) -> Figures:
    bots = running.bots()
    parts = list(parts_of(running).values())
    rows = running.client.request("status")
    return {
        "taken": taken.mb() / len(bots),
        "by": taken.by,
        "shares": pss([*(one.pid for one in bots), *parts]) / len(bots),
        "uss": spread([one.memory_full_info().uss / 1e6 for one in bots]),
        "cycles": statistics.median(row["cycles"] for row in rows),
        "restarts": sum(row["restarts"] for row in rows),
    }


def _show(figures: Figures) -> str:
    when = [("idle", f"{figures['bots']} bots after their first cycle")]
    when.append(("after_cycles", f"20 bots after {_CYCLES} cycles, two bars a second"))
    if "long" in figures:
        minutes = f"{figures['minutes']:g} minutes, {figures['long']['cycles']:.0f} cycles"
        when.append(("long", f"{figures['bots']} bots after {minutes}"))
    found: list[Row] = []
    for key, what in when:
        value = figures[key]
        most = None if key == "after_cycles" else 10.0  # twenty bots bear all that is not a bot: no measure of one
        found.append(judged(f"{what}: taken / bots ({value['by']}), all included", value["taken"], most, "MB"))
        found.append((f"{what}: the same by shares (PSS)", f"{value['shares']:.1f} MB", "", ""))
        found.append(judged(f"{what}: private memory (USS), median", value["uss"]["median"], 7.0, "MB"))
        found.append((f"{what}: private memory (USS), largest", f"{value['uss']['max']:.1f} MB", "", ""))
    text = judged_table(found)
    if "long" in figures:
        looks = ", ".join(f"{one['uss']:.2f} after {one['minutes']:.0f}" for one in figures["long"]["looks"])
        text += f"\nMedian USS in MB after minutes: {looks}; restarts meanwhile: {figures['long']['restarts']}.\n"
    return text


def _add_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--memory-minutes", type=float, default=0.0, metavar="M", help="watch 100 bots so long as well (default: not)"
    )


PART: Final = Part(
    "memory",
    "memory of a bot: as the machine sees it, and private",
    lambda folder, options: measure(folder, _BOTS, options.memory_minutes),
    _show,
    options=_add_options,
)
