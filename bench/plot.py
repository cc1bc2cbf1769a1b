"""Growth as a drawing: both axes logarithmic, so that what grows linearly is a line of one slope. No library."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Final

Points = Sequence[tuple[float, float]]
_WIDTH: Final = 640
_HEIGHT: Final = 360
_LEFT: Final = 70
_RIGHT: Final = 120
_TOP: Final = 44
_BOTTOM: Final = 46
_COLOURS: Final = ("#1f6fb2", "#c2570c", "#2f8f4e", "#7a3fb0")
_LINEAR: Final = "#8a8a8a"


def loglog(title: str, across: str, unit: str, series: Mapping[str, Points], *, linear: bool = True) -> str:
    """An SVG of each series of (number, value), both above 0. `linear`: a dashed line of what growing linearly from
    the first point of the first series would be. Raises ValueError where there is nothing to draw."""
    drawn = {name: [(x, y) for x, y in points if x > 0 and y > 0] for name, points in series.items()}
    drawn = {name: points for name, points in drawn.items() if points}
    if not drawn:
        raise ValueError(f"{title}: no points to draw")
    xs = [x for points in drawn.values() for x, _ in points]
    first = next(iter(drawn.values()))[0]
    reference = [(x, first[1] * x / first[0]) for x in (min(xs), max(xs))] if linear else []
    ys = [y for points in (*drawn.values(), reference) for _, y in points]
    x_of = _scale(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT)
    y_of = _scale(_below(min(ys)), _above(max(ys)), _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img"'
        f' aria-label="{escape(title, quote=True)}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="22" font-size="15" fill="#222">{escape(title)}</text>',
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 8}" text-anchor="middle" fill="#444">'
        f"{escape(across)}</text>",
        f'<text x="{_LEFT}" y="38" fill="#444">{escape(unit)}</text>',
    ]
    for value in decades(_below(min(ys)), _above(max(ys))):
        y = y_of(value)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#e2e2e2"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#444">{value:g}</text>')
    for value in sorted(set(xs)):
        x = x_of(value)
        parts.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{_HEIGHT - _BOTTOM}" stroke="#eeeeee"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 17}" text-anchor="middle" fill="#444">{value:g}</text>'
        )
    if reference:
        parts.append(_line([(x_of(x), y_of(y)) for x, y in reference], _LINEAR, "linear", dashed=True))
    ends: list[float] = [y_of(reference[-1][1])] if reference else []
    for number, (name, points) in enumerate(drawn.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        placed = [(x_of(x), y_of(y)) for x, y in points]
        parts.append(_line(placed, colour, name, label_y=_free(placed[-1][1], ends)))
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"><title>{escape(name)}, {n:g}: {value:.4g} '
            f"{escape(unit)}</title></circle>"
            for (x, y), (n, value) in zip(placed, points, strict=True)
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two values; only the powers where there are many."""
    found = [
        factor * 10.0**power
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for factor in (1, 2, 5)
    ]
    inside = [round(value, 12) for value in found if low * 0.999 <= value <= high * 1.001]
    powers = [value for value in inside if math.isclose(math.log10(value) % 1, 0, abs_tol=1e-9)]
    return powers if len(inside) > 9 and len(powers) > 1 else inside


def _line(points: Points, colour: str, name: str, *, dashed: bool = False, label_y: float | None = None) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    style = ' stroke-dasharray="5 4"' if dashed else ""
    x, y = points[-1]
    label = y if label_y is None else label_y
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{style}/>'
        f'<text x="{x + 9:.1f}" y="{label + 4:.1f}" fill="{colour}">{escape(name)}</text>'
    )


def _free(wanted: float, taken: list[float]) -> float:
    """A height for a label that no other has; told to `taken`."""
    place = wanted
    while any(abs(place - other) < 14 for other in taken):
        place += 3.0
    taken.append(place)
    return place


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    first, span = math.log10(low), math.log10(max(high, low * 1.01)) - math.log10(low)
    return lambda value: start + (end - start) * (math.log10(value) - first) / span


def _below(value: float) -> float:
    return max(one for one in _steps(value) if one <= value * 1.0001)


def _above(value: float) -> float:
    return min(one for one in _steps(value) if one >= value * 0.9999)


def _steps(value: float) -> list[float]:
    power = math.floor(math.log10(value))
    return [factor * 10.0**exponent for exponent in (power - 1, power, power + 1) for factor in (1, 2, 5)]
