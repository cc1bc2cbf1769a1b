"""Many rounds as parts that run beside each other, each in a process and on a stage of its own.

Most parts have the suite's short times, so that a thousand rounds take minutes; a stated share has the times that
the guarantees name: ten seconds for a late fill, five for an order in flight, eight for the terminal's answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

from tests.faults.rounds import Round

#: Rounds on one stage: with more its history grows, and each audit reads all of it.
_MOST = 50
#: One part in so many has the named times; with 1 all have, as is best where the machine is busy.
_NAMED = int(os.environ.get("STABLEHAND_NAMED", "10"))
#: Parts at once; most of a round is waiting.
AT_ONCE = int(os.environ.get("STABLEHAND_PARTS", "4"))


@dataclass(frozen=True)
class Part:
    """Some rounds on one stage. `named`: with the times that the guarantees name."""

    seed: int
    rounds: int
    named: bool


def parts_of(seed: int, rounds: int, *, soak: bool) -> list[Part]:
    """Parts with consecutive seeds; the first of every ten (see above) has the named times, and begins first."""
    counts = [min(_MOST, rounds - done) for done in range(0, rounds, _MOST)]
    return [Part(seed + number, count, soak and number % _NAMED == 0) for number, count in enumerate(counts)]


def played(parts: list[Part], until: float) -> list[tuple[Part, Round]]:
    """All rounds that begin before `until` (CLOCK_MONOTONIC). What a part says besides goes to stderr."""
    slowest_first = sorted(parts, key=lambda part: not part.named)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [one for each in pool.map(_play, slowest_first, repeat(until)) for one in each]


def _play(part: Part, until: float) -> list[tuple[Part, Round]]:
    environment = os.environ | {"STABLEHAND_SCALE": "soak" if part.named else "", "STABLEHAND_ROUNDS": "1000"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.rounds", str(part.seed), str(part.rounds), str(until)],
        stdout=subprocess.PIPE, env=environment, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    found: list[tuple[Part, Round]] = []
    with process.stdout:
        for line in process.stdout:
            one = Round(**json.loads(line))
            found.append((part, one))
            verdict = one.failed or "held"
            print(
                f"seed {part.seed} round {len(found)}: {one.kind}, {one.policy}, {one.seconds:.1f} s: {verdict}",
                flush=True,
            )
    if process.wait():
        found.append((part, Round("the part itself", "keep", 0.0, f"{part} ended with {process.returncode}")))
    return found
