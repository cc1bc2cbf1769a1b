"""Chance that repeats: the same seed and the same occasion give the same number, also after a restart."""

from __future__ import annotations

import hashlib


def draw(seed: int, *occasion: object) -> float:
    """A number from 0 (included) to 1 (not included), evenly spread, that depends on nothing but the arguments."""
    text = "/".join(map(str, (seed, *occasion)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big") / (1 << 56)


def draw_points(seed: int, most: int, *occasion: object) -> int:
    """A whole number from 0 to `most`."""
    return int(draw(seed, *occasion) * (most + 1)) if most else 0
