"""How figures are written: short, and always in the same way. Nothing known is a dash."""

from __future__ import annotations

import time
from typing import Any, Final

DASH: Final = "-"


def span(seconds: float | None) -> str:
    """A duration in at most six characters: 0.4s, 12s, 3m05s, 1h02m, 4d07h."""
    if seconds is None:
        return DASH
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02}h"


def size(count: float | None) -> str:
    """Bytes, in units of 1024: 56M, 1.2G."""
    if count is None:
        return DASH
    for unit in ("B", "K", "M"):
        if count < 1024:
            return f"{count:.0f}{unit}"
        count /= 1024
    return f"{count:.1f}G"


def number(value: float | None) -> str:
    """A count, short from ten thousand on: 1204, 12k, 3.4M."""
    if value is None:
        return DASH
    if value < 10_000:
        return f"{value:.0f}"
    return f"{value / 1000:.0f}k" if value < 1_000_000 else f"{value / 1_000_000:.1f}M"


def percent(value: float | None) -> str:
    """A share, with a digit after the point below ten."""
    return DASH if value is None else f"{value:.1f}%" if value < 9.95 else f"{value:.0f}%"


def money(value: float | None) -> str:
    """An amount in the account's currency."""
    return DASH if value is None else f"{value:,.2f}"


def price(value: float | None, digits: int | None = None) -> str:
    """A price; where its digits are not known, as many as it has, at most eight."""
    if value is None:
        return DASH
    return f"{value:.{digits}f}" if digits is not None else f"{value:.8f}".rstrip("0").rstrip(".")


def position(held: dict[str, Any] | None) -> str:
    """A bot's position: signed volume and open price, `+0.10 @ 1.0852`."""
    if not held:
        return DASH
    sign = "-" if held["side"] == "sell" else "+"
    return f"{sign}{held['volume']:.2f} @ {price(held['price'])}"


def moment(at: float | None) -> str:
    """A time of the market or the journal, in UTC."""
    return DASH if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))


def clock(at: float) -> str:
    """The time of day where the reader sits."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def plain(value: Any) -> str:
    """A value as it would stand in the configuration file, nearly."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {plain(each)}" for key, each in value.items()) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(plain(each) for each in value) + "]"
    return DASH if value is None or value == "" else str(value)
