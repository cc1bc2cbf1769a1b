"""What many rounds came to, as a page."""

from __future__ import annotations

import os
import platform
import statistics
import time

from tests.faults.crossing import POLICIES
from tests.faults.parts import Part
from tests.faults.rounds import FAULTS, Round

_HEAD = """# A soak of the order path

Written by the run itself: `make soak-orders`. What each fault is stands in
[tests/faults](../tests/faults/rounds.py), what is looked at after every round in [Orders](orders.md).

"""


def table(rounds: list[tuple[Part, Round]], parts: list[Part]) -> str:
    """A page in Markdown: fault by fault, how many rounds were played, and how they ended."""
    failed = [one for _, one in rounds if one.failed]
    named = [one for part, one in rounds if part.named]
    asked = sum(part.rounds for part in parts)
    text = _HEAD + (
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, {platform.system()} {platform.release()}, {os.cpu_count()} cores,"
        f" load {os.getloadavg()[1]:.1f} at the end: **{len(rounds)} of {asked} rounds played, {len(failed)} failed**;"
        f" seeds {parts[0].seed} to {parts[-1].seed}, on {len(parts)} stages. {len(named)} of the rounds had the times"
        f" that the guarantees name (fills 10 s late, orders 5 s in flight, 8 s for the terminal), the others shorter"
        f" ones (1 s each).\n\n"
    )
    columns = ["fault", "rounds", *(f"comments {policy}" for policy in POLICIES), "named times", "median s", "result"]
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 2) + ["---"]]
    for kind in [*FAULTS, *sorted({one.kind for _, one in rounds} - set(FAULTS))]:
        mine = [(part, one) for part, one in rounds if one.kind == kind]
        if not mine:
            continue
        broken = sum(bool(one.failed) for _, one in mine)
        lines.append(
            [
                f"`{kind}`",
                str(len(mine)),
                *(str(sum(one.policy == policy for _, one in mine)) for policy in POLICIES),
                str(sum(part.named for part, _ in mine)),
                f"{statistics.median(one.seconds for _, one in mine):.1f}",
                f"{broken} failed" if broken else "all held",
            ]
        )
    text += "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
    if failed:
        text += "\n## What failed\n\n" + "\n".join(f"- {one.kind}: {one.failed}" for one in failed) + "\n"
    return text
