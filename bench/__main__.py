"""`make bench`: python -m bench [PART ...] [--bots N,N] [--rounds N] [--json FILE] [--write-docs]."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench import heartbeats, parts, report, status
from bench.machine import describe, scratch

PARTS: Final = ("start", "memory", "recovery", "idle", "status", "heartbeats")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write it where asked."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures, beside peers and limits.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--bots", default="20,100,500", metavar="N,N", help="sizes for `start`")
    parser.add_argument(
        "--plain", default="100", metavar="N,N", help="of these, with subprocesses beside; may be empty"
    )
    parser.add_argument("--idle", type=int, default=100, metavar="N", help="bots for `idle` and `status`")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds of `start`; the median counts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args(arguments)
    chosen = options.parts or list(PARTS)
    if wrong := set(chosen) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(wrong))}; known: {', '.join(PARTS)}")
    sizes = [int(one) for one in options.bots.split(",")]
    plain = [int(one) for one in options.plain.split(",") if one]
    if sys.platform == "win32":
        parser.error("the figures are about fork: there is none here")
    with scratch() as folder:
        machine = describe(folder) | {
            "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "rounds": options.rounds,
        }
        figures: dict[str, Any] = {"machine": machine}
        if "start" in chosen:
            figures["start"] = parts.start(folder, sizes, plain, options.rounds)
        if "memory" in chosen:
            figures["memory"] = parts.memory(folder, 100)
        if "recovery" in chosen:
            figures["recovery"] = parts.recovery(folder, 20)
        if "idle" in chosen:
            figures["idle"] = parts.idle(folder, options.idle)
        if "status" in chosen:
            figures["status"] = status.measure(folder, options.idle)
        if "heartbeats" in chosen:
            figures["heartbeats"] = heartbeats.measure()
    print(report.table(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    if options.write_docs:
        report.write_page(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
