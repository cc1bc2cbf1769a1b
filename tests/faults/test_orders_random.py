"""Seeded rounds of faults: a few in the suite, 1,000 as a soak in several processes at once, and a table of them."""

from __future__ import annotations

import os
import time

import pytest

from tests.faults.parts import parts_of, played
from tests.faults.rounds import play
from tests.faults.table import table
from tests.scale import ORDER_ROUNDS, SOAK

pytestmark = [pytest.mark.posix, pytest.mark.acceptance]

#: STABLEHAND_SEED repeats a run that failed, or makes another.
SEED = int(os.environ.get("STABLEHAND_SEED", "1"))
#: Minutes after which no further round of a soak begins.
MINUTES = float(os.environ.get("STABLEHAND_SOAK_MINUTES", "60"))


@pytest.mark.timeout(0 if ORDER_ROUNDS > 30 else 240)
def test_random_faults(request: pytest.FixtureRequest) -> None:
    """Every kind of fault before any comes again, in an order that the seed gives."""
    parts = parts_of(SEED, ORDER_ROUNDS, soak=SOAK)
    until = time.monotonic() + 60.0 * MINUTES
    rounds = played(parts, until) if SOAK else [(parts[0], one) for one in play(SEED, ORDER_ROUNDS)]
    text = table(rounds, parts)
    print(text)
    path = request.config.getoption("--write-table")
    if path:
        path.write_text(text, "utf-8")
    failed = [one.failed for _, one in rounds if one.failed]
    assert not failed, "\n".join(failed)
    assert len(rounds) == ORDER_ROUNDS, f"{len(rounds)} of {ORDER_ROUNDS} rounds within {MINUTES:g} minutes"
