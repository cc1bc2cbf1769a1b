"""The table of a run of the random rounds, in Markdown."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

from bench.machine import describe
from tests.soak.audit import Auditor
from tests.soak.faults import FAULTS

_HEAD = """# The soak

`make soak MINUTES=60` plays random faults on a whole stable (a real supervisor, launcher and gateway, bots of which a
quarter trades on every bar of a moving market, and programs), then the fault cases of `tests/acceptance` and
`tests/faults` at their full sizes, and the fuzzer of everything that is decoded. After each round it is looked whether

- each running bot is exactly one process that holds its lock, and nobody else is there (no copy, no orphan, no stray),
- epochs have only risen, and no run ended that nobody touched (so: no healthy bot judged hung),
- the journal's numbers and each run's history are without a gap, and so is what a client that followed throughout got,
- no order is left without an outcome, none was entered twice, and no old epoch traded,
- no log has a traceback.

At the end: no process and no lock is left, no run without an end, the databases are whole, the ledger has every deal of
the terminal, the deals come to the balance, and neither descriptors nor memory of what lives long have grown.
"""


@dataclass
class Tally:
    """What was played."""

    seed: int
    bots: int
    programs: int
    began: float = field(default_factory=time.time)
    played: dict[str, int] = field(default_factory=dict)
    recovered: dict[str, list[float]] = field(default_factory=dict)
    rounds: int = 0
    together: int = 0
    loads: list[float] = field(default_factory=list)

    def add(self, name: str, seconds: float | None) -> None:
        """One fault was played; `seconds` that its recovery took, where it was alone."""
        self.played[name] = self.played.get(name, 0) + 1
        if seconds is not None:
            self.recovered.setdefault(name, []).append(seconds)


def table(tally: Tally, auditor: Auditor, figures: dict[str, Any]) -> str:
    """The page."""
    machine = describe(auditor.yard.daemon.folder)
    minutes = (time.time() - tally.began) / 60
    lines = [
        _HEAD,
        f"## A run of {minutes:.0f} minutes",
        "",
        f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(tally.began))}: {tally.bots} bots and {tally.programs} "
        f"programs, seed {tally.seed}, {tally.rounds} rounds ({tally.together} with two faults at once). "
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']} GB, {machine['kernel']}, "
        f"{machine['python']}, data on {machine['disk']}; niceness {os.nice(0)}; load from {min(tally.loads):.0f} to "
        f"{max(tally.loads):.0f}, median {statistics.median(tally.loads):.0f}: the machine was busy with other work "
        "too. Recovery is the time until what the second column says was so, seen from outside; rounds with two "
        "faults are not in it.",
        "",
        "| fault | what was asserted, beside the audit | times | recovery p50 | max |",
        "|---|---|---|---|---|",
    ]
    for fault in FAULTS:
        if count := tally.played.get(fault.name):
            times = tally.recovered.get(fault.name, [])
            shown = f"{statistics.median(times):.2f} s | {max(times):.2f} s" if times else "- | -"
            lines.append(f"| {fault.name} | {fault.asserted} | {count} | {shown} |")
    causes = ", ".join(f"{count} {cause}" for cause, count in sorted(figures["causes"].items()))
    lines += [
        "",
        f"At the end: {figures['runs']} runs, each with its end ({causes}); {figures['journal']} numbers in the "
        f"journal, all of which the follower got; {figures['deals']} deals of {figures['orders']} orders in the "
        f"ledger, which come to the balance of {figures['balance']:.2f} to the cent.",
        "",
        "| lives long | descriptors at first | at the end | private memory at first | at the end |",
        "|---|---|---|---|---|",
    ]
    for role, (files, size, files_now, size_now) in auditor.grown().items():
        lines.append(f"| {role} | {files} | {files_now} | {size / 1e6:.1f} MB | {size_now / 1e6:.1f} MB |")
    if auditor.lags:
        late, own = (sorted(values) for values in zip(*auditor.lags, strict=True))
        lines += [
            "",
            "The supervisor's own loop, 99th percentile of its lag in the last minute, as it tells it after each "
            f"round: median {statistics.median(late):.1f} ms, largest {late[-1]:.1f} ms. Of this it computed itself "
            f"(the rest it waited for its turn on the machine): median {statistics.median(own):.1f} ms, largest "
            f"{own[-1]:.1f} ms.",
        ]
    return "\n".join(lines) + "\n"
