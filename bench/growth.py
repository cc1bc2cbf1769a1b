"""`python -m bench growth`: start, memory, CPU and answers from 50 to 2,000 bots, beside raw forks in the same run."""

from __future__ import annotations

import argparse
import mmap
import time
from pathlib import Path
from typing import Any, Final

from bench import rawfork
from bench.installation import Installation
from bench.memgroup import counted
from bench.part import Figures, Part, markdown, numbers, say
from bench.peers.measure import available, summary
from bench.peers.stable import looked_at
from bench.plot import Points, loglog
from bench.touch import microseconds_a_page

#: What a size may need, in MB: each bot, and the rest of the machine. Without it a size is left out, and said so.
BOT_MB: Final = 9.0
SPARE_MB: Final = 1500.0
_SETTLE: Final = 5.0


def add_options(group: argparse._ArgumentGroup) -> None:
    """The sizes."""
    group.add_argument("--growth-bots", type=numbers, default="50,100,200,500,1000,2000", metavar="N,N", help="sizes")


def run(folder: Path, options: argparse.Namespace) -> Figures:
    """All rounds of all sizes; a size that the memory does not bear, or that fails, is told and left out."""
    sizes: list[int] = options.growth_bots
    say(f"about {options.rounds * sum(45 + 0.06 * size for size in sizes) / 60:.0f} minutes on two quiet cores")
    rounds: dict[str, list[Figures]] = {str(size): [] for size in sizes}
    skipped: dict[str, str] = {}
    borne = max((size for size in sizes if _too_big(size) is None), default=0)
    touch = microseconds_a_page(round(borne * BOT_MB / 1000))
    for turn in range(options.rounds):
        for size in sizes:
            if (reason := _too_big(size)) is not None:
                skipped[f"{size} bots, round {turn + 1}"] = reason
                say(f"{size} bots left out: {reason}")
                continue
            try:
                found = _one(folder / f"growth-{size}-{turn}", size)
            except Exception as error:
                skipped[f"{size} bots, round {turn + 1}"] = f"{type(error).__name__}: {error}"
                say(f"{size} bots failed: {type(error).__name__}: {error}")
                continue
            rounds[str(size)].append(found)
            say(f"{size} bots, round {turn + 1}: start {found['start']:.2f} s, raw fork {found['raw_fork']:.2f} s")
    of = {size: summary(found) for size, found in rounds.items() if found}
    if not of:
        raise RuntimeError(f"no size could be measured: {skipped}")
    return {"of": of, "rounds": rounds, "skipped": skipped, "touch": touch}


def _too_big(size: int) -> str | None:
    """Why so many bots must not be started now."""
    has, needs = available(), size * BOT_MB + SPARE_MB
    return None if has >= needs else f"it may need {needs / 1000:.1f} GB, and {has / 1000:.1f} GB are available"


def _one(folder: Path, size: int) -> Figures:
    patience = 60.0 + 0.2 * size
    found: dict[str, Any] = {
        "raw_fork": rawfork.measure(size, patience), "ticking_fork": rawfork.measure(size, patience, ticking=True)
    }  # fmt: skip
    with counted(folder, size) as (running, taken):
        found["start"] = running.start_all(timeout=120.0 + 0.3 * size)
        running.wait_cycles(timeout=120.0 + 0.2 * size)
        time.sleep(_SETTLE)
        found["taken_gb"] = taken.mb() / 1000
        found |= {key: value for key, value in looked_at(running, size).items() if key != "verb"}
        found["failed_starts"] = _failed(running)
    return found


def _failed(running: Installation) -> int:
    """Bots that are not in their first run."""
    return sum(row["epoch"] > 1 or row["restarts"] > 0 for row in running.client.request("status"))


def show(figures: Figures) -> str:
    """A row for each size, and how each figure grew from the least to the most bots."""
    of = figures["of"]
    rows = [
        (
            size, f"{one['start']:.2f} s", f"{one['raw_fork']:.2f} s", f"{one['start'] / one['raw_fork']:.2f} x",
            f"{one['ticking_fork']:.2f} s",
            f"{one['failed_starts']:.0f}", f"{one['taken_gb']:.2f} GB",
            f"{1000 * one['taken_gb'] / float(size):.1f} MB",
            f"{one['uss']:.1f} MB", f"{one['manager_pss']:.0f} MB", f"{one['cpu']:.1f} %",
            f"{one['one']['median']:.2f} / {one['one']['p99']:.2f} ms",
            f"{one['all']['median']:.1f} / {one['all']['p99']:.1f} ms",
        )
        for size, one in of.items()
    ]  # fmt: skip
    head = (
        "bots", "start", "raw fork", "ratio", "raw fork that ticks", "failed starts", "memory taken", "a bot",
        "USS of a bot", "supervisor (PSS)", "CPU of supervisor and launcher", "status of one, p50 / p99",
        "status of all, p50 / p99",
    )  # fmt: skip
    lines = [markdown(head, rows)]
    sizes = list(of)
    if len(sizes) > 1:
        lines.append(markdown((f"from {sizes[0]} to {sizes[-1]} bots", "grew", "may grow", ""), _grown(of)))
    if len(touch := figures.get("touch", [])) > 1:
        each = ", ".join(f"{one:.1f}" for one in touch)
        pages = of[sizes[-1]]["taken_gb"] * 1e9 / float(sizes[-1]) / mmap.PAGESIZE
        lines.append(
            f"- A page that is touched first costs {touch[0]:.1f} us in the first gigabyte, {touch[-1]:.1f} us "
            f"in gigabyte {len(touch)} ({each}); a bot of {sizes[-1]} has taken {pages:,.0f}.\n"
        )
    lines += [f"- {what} left out: {reason}.\n" for what, reason in figures["skipped"].items()]
    return "\n".join(lines)


def _grown(of: dict[str, Figures]) -> list[tuple[str, str, str, str]]:
    """How many times larger each figure is at the largest size: start beside the raw fork, the rest beside linear."""
    first, last = (list(of.values())[at] for at in (0, -1))
    linear = float(list(of)[-1]) / float(next(iter(of)))
    raw = last["raw_fork"] / first["raw_fork"]

    def row(what: str, low: float, high: float, most: float, why: str) -> tuple[str, str, str, str]:
        grew = high / max(low, 1e-9)
        verdict = "met" if grew <= most else f"missed: {grew / most:.2f} times as much"
        return what, f"{grew:.1f} x", f"{most:.1f} x ({why})", verdict

    return [
        row("start", first["start"], last["start"], raw, "the raw fork"),
        row("memory taken", first["taken_gb"], last["taken_gb"], linear, "linear"),
        row("memory of the supervisor", first["manager_pss"], last["manager_pss"], linear, "linear"),
        row("CPU of supervisor and launcher", first["cpu"], last["cpu"], linear, "linear"),
        row("status of one, median", first["one"]["median"], last["one"]["median"], linear, "linear"),
        row("status of all, median", first["all"]["median"], last["all"]["median"], linear, "linear"),
    ]


def pictures(figures: Figures) -> dict[str, str]:
    """A drawing for each of the four questions."""
    of: dict[str, Figures] = figures["of"]

    def points(key: str, inner: str | None = None) -> Points:
        return [(float(size), float(one[key][inner] if inner else one[key])) for size, one in of.items()]

    drawings = {
        "start": loglog(
            "Start until all are ready", "bots", "seconds",
            {
                "Stablehand": points("start"), "raw fork": points("raw_fork"),
                "raw fork that ticks": points("ticking_fork"),
            },
        ),
        "memory": loglog("Memory taken, all included", "bots", "GB", {"Stablehand": points("taken_gb")}),
        "cpu": loglog(
            "CPU at a heartbeat a second", "bots", "percent of a core",
            {"supervisor": points("cpu"), "all parts": points("cpu_all_parts")},
        ),
        "status": loglog(
            "Answers, median", "bots", "milliseconds",
            {"status of all": points("all", "median"), "status of one": points("one", "median")},
        ),
    }  # fmt: skip
    return {f"img/growth-{name}.svg": drawing for name, drawing in drawings.items()}


PART: Final = Part(
    "growth",
    "start, memory, CPU and answers from 50 to 2,000 bots, beside raw forks",
    run,
    show,
    by_default=False,
    turns=True,
    options=add_options,
    pictures=pictures,
)
