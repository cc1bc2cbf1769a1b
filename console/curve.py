"""A curve of money for a person: how far it fell, and few points that show the same."""

from __future__ import annotations

from collections.abc import Sequence


def falls(values: Sequence[float]) -> list[float | None]:
    """How far each value lies below the highest up to it, in percent of that; None while that is not above 0."""
    found: list[float | None] = []
    highest = 0.0
    for value in values:
        highest = max(highest, value)
        found.append(100.0 * (highest - value) / highest if highest > 0 else None)
    return found


def thin(values: Sequence[float], most: int) -> list[int]:
    """Indices of at most `most` (4 or more) values: the first, the last, and of each stretch the lowest and highest."""
    count = len(values)
    if count <= most:
        return list(range(count))
    kept = {0, count - 1}
    parts = (most - 2) // 2
    for part in range(parts):
        stretch = range(count * part // parts, count * (part + 1) // parts)
        kept.add(min(stretch, key=values.__getitem__))
        kept.add(max(stretch, key=values.__getitem__))
    return sorted(kept)
