"""Which moments of an account are kept: at most one a minute, and only those that differ from the one before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

#: Seconds between two samples of an account.
EVERY: Final = 60.0
_INFINITE: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Worth:
    """What an account is worth, in its currency."""

    balance: float
    equity: float
    margin: float


@dataclass(frozen=True, slots=True)
class Kept:
    """The sample that was kept last. `at`: monotonic seconds."""

    at: float
    worth: Worth


def worth_of(account: Mapping[str, Any], trouble: str = "") -> Worth | None:
    """The worth in MetaTrader's fields of an account; None where there is none, or the terminal is in `trouble`: what
    it says then is of before."""
    values = [account.get(name) for name in ("balance", "equity", "margin")]
    if trouble or not all(isinstance(one, int | float) and -_INFINITE < one < _INFINITE for one in values):
        return None
    return Worth(*(float(one) for one in values if one is not None))


def due(last: Kept | None, worth: Worth, now: float, every: float = EVERY) -> float | None:
    """Seconds until `worth` is to be kept: 0 at once, None not at all, for it is what was kept last.

    The first after a start (`last` is None) is kept in any case: it shows from when on somebody looked. What changes
    within the minute is not forgotten, only late: a market may close with it, and nothing come for days.
    """
    if last is None:
        return 0.0
    return None if worth == last.worth else max(0.0, last.at + every - now)
