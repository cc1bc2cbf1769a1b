"""`make bench`: python -m bench [PART ...] [--rounds N] [--json FILE] [--write-docs] and what the parts ask."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench import report
from bench.machine import describe, scratch
from bench.part import Figures, Part, say
from bench.registry import PARTS

_ALL: Final = "all"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write where asked; 1 when a part could not be measured."""
    options = parser().parse_args(arguments)
    known = {part.name: part for part in PARTS}
    if wrong := set(options.parts) - set(known) - {_ALL}:
        parser().error(f"unknown part {', '.join(sorted(wrong))}; known: {', '.join(known)}, {_ALL}")
    if sys.platform == "win32":
        parser().error("the figures are about fork: there is none here")
    chosen = [part for part in PARTS if _is_chosen(part, options.parts)]
    with scratch() as folder:
        machine = describe(folder) | {
            "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "rounds": options.rounds,
        }
        figures: dict[str, Any] = {"machine": machine}
        for part in chosen:
            figures[part.name] = _measured(part, folder, options)
    print(report.text(chosen, figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    if options.write_docs:
        for path in report.write_docs(chosen, figures):
            say(f"written: {path}")
    return 1 if any("error" in figures[part.name] for part in chosen) else 0


def parser() -> argparse.ArgumentParser:
    """The command line: what all parts share, and what each adds."""
    found = argparse.ArgumentParser(prog="python -m bench", description="Measures, beside peers and limits.")
    names = ", ".join(part.name if part.by_default else f"{part.name} (only when named)" for part in PARTS)
    found.add_argument("parts", nargs="*", metavar="PART", help=f"of {names}, or {_ALL}")
    found.add_argument("--rounds", type=int, default=3, help="interleaved rounds; the median counts")
    found.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    found.add_argument("--write-docs", action="store_true", help="put the tables into the docs")
    for part in PARTS:
        if part.options:
            part.options(found.add_argument_group(part.name, part.about))
    return found


def _is_chosen(part: Part, names: Sequence[str]) -> bool:
    return part.by_default if not names else part.name in names or _ALL in names


def _measured(part: Part, folder: Path, options: argparse.Namespace) -> Figures:
    """The figures of a part; a failure is reported and does not take the other parts with it."""
    say(f"{part.name}: {part.about}")
    began = time.monotonic()
    try:
        figures = part.measure(folder, options)
    except Exception as error:
        say(f"{part.name} failed: {type(error).__name__}: {error}")
        return {"error": f"{type(error).__name__}: {error}"}
    figures["took_seconds"] = round(time.monotonic() - began, 1)
    return figures


if __name__ == "__main__":
    # Both end it with everything that it has started, also where a shell has set interrupts aside.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main())
