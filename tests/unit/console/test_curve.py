"""Falls below the highest so far, and few points that show the same curve."""

from __future__ import annotations

import pytest

from console import curve


def test_falls_are_from_the_highest_so_far() -> None:
    assert curve.falls([100.0, 90.0, 120.0, 60.0, 120.0]) == [0.0, 10.0, 0.0, 50.0, 0.0]
    assert curve.falls([0.0, -5.0, 10.0, -5.0]) == [None, None, 0.0, 150.0]
    assert curve.falls([]) == []


@pytest.mark.parametrize("count", [0, 1, 50, 51, 52, 99, 1_440, 43_200])
def test_thin_keeps_the_ends_and_the_extremes(count: int) -> None:
    values = [float((number * 7_919) % 1_009) for number in range(count)]
    kept = curve.thin(values, 50)
    assert len(kept) <= 50 and kept == sorted(set(kept))
    assert len(kept) == count if count <= 50 else len(kept) > 25
    if values:
        shown = [values[index] for index in kept]
        assert (kept[0], kept[-1]) == (0, count - 1)
        assert (min(shown), max(shown)) == (min(values), max(values))
