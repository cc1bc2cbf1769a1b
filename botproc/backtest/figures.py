"""How a report writes its figures. Nothing known is a dash."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence


def money(value: float | None) -> str:
    """An amount."""
    return "-" if value is None else f"{value:,.2f}"


def signed(value: float | None) -> str:
    """An amount with its sign."""
    return "-" if value is None else f"{value:+,.2f}"


def short(value: float) -> str:
    """An amount on an axis: 950, 12,500, 1.2M."""
    return f"{value:,.10g}" if abs(value) < 1_000_000 else f"{value / 1_000_000:,.4g}M"


def alike(values: Sequence[float]) -> Callable[[float], str]:
    """Labels of an axis with as many decimals as the one of these values that needs most."""
    decimals = max((len(f"{value:.10f}".rstrip("0").partition(".")[2]) for value in values), default=0)
    return lambda value: f"{value:,.{decimals}f}"


def plain(value: float | None) -> str:
    """A ratio."""
    return "-" if value is None else f"{value:.2f}"


def percent(value: float | None) -> str:
    """A share that is in percent already."""
    return "-" if value is None else f"{value:.1f} %"


def colour(value: float | None) -> str:
    """The class of a gain or a loss."""
    return "" if not value else "good" if value > 0 else "bad"


def day(moment: int | None) -> str:
    """A day of the server's clock."""
    return "-" if moment is None else dt.datetime.fromtimestamp(moment, dt.UTC).strftime("%Y-%m-%d")


def minute(moment: int) -> str:
    """A minute of the server's clock."""
    return dt.datetime.fromtimestamp(moment, dt.UTC).strftime("%Y-%m-%d %H:%M")
