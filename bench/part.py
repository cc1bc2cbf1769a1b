"""A part of the bench: what it measures, what it shows, and where its table stands in the docs."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.machine import ROOT

#: (what, measured, target, verdict)
Row = tuple[str, str, str, str]
Figures = dict[str, Any]
PERFORMANCE: Final = ROOT / "docs" / "performance.md"


@dataclass(frozen=True, slots=True)
class Part:
    """One selectable part. `measure` gets a folder on disk and the options, and returns what JSON can hold.

    `show` makes Markdown of those figures. `pictures` names files (beside `page`) and their text. `options` adds
    what only this part asks for to the parser. Parts with `by_default` run when none is named.
    """

    name: str
    about: str
    measure: Callable[[Path, argparse.Namespace], Figures]
    show: Callable[[Figures], str]
    by_default: bool = True
    #: Measured in rounds that take turns, as `--rounds` says.
    turns: bool = False
    page: Path = PERFORMANCE
    options: Callable[[argparse._ArgumentGroup], None] | None = None
    pictures: Callable[[Figures], Mapping[str, str]] | None = None


def say(text: str) -> None:
    """Progress, beside the figures."""
    print(text, file=sys.stderr, flush=True)


def numbers(text: str) -> list[int]:
    """`20,100` as numbers; empty for an empty text. Raises ValueError (argparse says which option)."""
    return [int(one) for one in text.split(",") if one]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and largest. Raises ValueError for no values."""
    if not values:
        raise ValueError("no values were measured")
    ordered = sorted(values)
    last = len(ordered) - 1
    return {
        "median": statistics.median(ordered),
        "p99": ordered[min(last, round(0.99 * last))],
        "max": ordered[-1],
    }


def judged(what: str, value: float, most: float | None, unit: str) -> Row:
    """A row with a target that is an upper bound."""
    shown = f"{value:.2f} {unit}" if unit == "x" else f"{value:.1f} {unit}"
    if most is None:
        return what, shown, "", ""
    verdict = "met" if value <= most else f"missed by {value - most:.2g} {unit}"
    return what, shown, f"<= {most:g} {unit}", verdict


def judged_table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table."""
    return markdown(("what", "measured", "target", ""), rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
