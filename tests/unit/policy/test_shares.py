"""What the kernel is told of a bot: weights by importance, bounds from its limits."""

from __future__ import annotations

from itertools import pairwise

from supervisor.policy import shares


def test_weights_rise_with_importance_and_fall_with_nice() -> None:
    weights = [shares.weight(priority) for priority in range(10)]
    assert all(a < b for a, b in pairwise(weights))
    assert shares.weight(5) == 100 and shares.weight(9) == 400 and shares.weight(0) == 18
    assert shares.weight(5, 10) == 11 and shares.weight(0, 19) == 1
    assert shares.weight(100) == 10_000


def test_bounds_come_from_the_limits() -> None:
    assert shares.memory_max(0) == "max" and shares.memory_max(100_000_000) == "200000000"
    assert shares.cpu_max(0) == "max 100000" and shares.cpu_max(50) == "50000 100000"
    assert shares.cpu_max(250) == "250000 100000" and shares.cpu_max(0.1) == "1000 100000"
