"""When an instrument trades: weekly sessions in the exchange's own time zone, daylight saving time included.

    fx           Sunday 17:00 to Friday 17:00, New York
    metal        Sunday 18:00 to Friday 17:00, New York, with a daily break 17:00 to 18:00
    index        the same (the hours of the US index futures)
    us-exchange  Monday to Friday 9:30 to 16:00, New York, without the holidays of the NYSE
    xetra        Monday to Friday 9:00 to 17:30, Berlin, without the holidays of Xetra
    always       always

Holidays follow their rules (days that an exchange closes for a reason of the moment are not known here).
"""

from __future__ import annotations

import datetime as dt
from functools import cache
from typing import TYPE_CHECKING, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt

from protocol.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

Session = Literal["fx", "metal", "index", "always", "us-exchange", "xetra"]
Times = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_DAY: Final = 1440  # minutes
_FRIDAY_END: Final = 4 * _DAY + 17 * 60
_SUNDAY: Final = 6 * _DAY
_NEW_YORK: Final = "America/New_York"
_ZONES: Final[dict[Session, str]] = {
    "fx": _NEW_YORK,
    "metal": _NEW_YORK,
    "index": _NEW_YORK,
    "us-exchange": _NEW_YORK,
    "xetra": "Europe/Berlin",
    "always": "UTC",
}
#: Minutes of the day from opening to closing.
_HOURS: Final[dict[Session, tuple[int, int]]] = {
    "us-exchange": (9 * 60 + 30, 16 * 60),
    "xetra": (9 * 60, 17 * 60 + 30),
}


def check_zone(name: str) -> str:
    """The time zone's name. Raises InvalidInput for one that there is not."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInput(f"server_timezone {name}: no such time zone", hint="a name like Europe/Athens") from None
    return name


def is_open(times: Times, session: Session, zone: str = "UTC") -> Mask:
    """Whether the instrument trades at `times`: seconds of the server's clock, which shows the time of `zone`."""
    if session == "always":
        return np.ones(len(times), np.bool_)
    local = _local(times, zone, _ZONES[session])
    day = np.asarray(local.day_of_week)
    minute = np.asarray(local.hour * 60 + local.minute)
    if session in _HOURS:
        opens, closes = _HOURS[session]
        inside = (day < 5) & (minute >= opens) & (minute < closes)
        return np.asarray(inside & ~_holidays(local, session))
    of_week = day * _DAY + minute
    if session == "fx":
        return np.asarray((of_week < _FRIDAY_END) | (of_week >= _SUNDAY + 17 * 60))
    awake = (of_week < _FRIDAY_END) | (of_week >= _SUNDAY + 18 * 60)
    return np.asarray(awake & (minute // 60 != 17))


def is_open_at(time: int, session: Session, zone: str = "UTC") -> bool:
    """The same for one moment."""
    return bool(is_open(np.array([time], np.int64), session, zone)[0])


def _local(times: Times, zone: str, target: str) -> pd.DatetimeIndex:
    import pandas as pd  # here: half a second, and most who import this module need none of it

    stamps = pd.DatetimeIndex(times.astype("datetime64[s]"))
    if zone == "UTC":
        stamps = stamps.tz_localize("UTC")
    else:
        # The hour that autumn has twice is taken as the second one; the one that spring skips, as the next.
        twice = np.zeros(len(stamps), np.bool_)
        stamps = stamps.tz_localize(zone, ambiguous=twice, nonexistent="shift_forward")
    return stamps.tz_convert(target)


def _holidays(local: pd.DatetimeIndex, session: Session) -> Mask:
    days = np.asarray(local.tz_localize(None).to_numpy("datetime64[D]"))
    closed: set[np.datetime64] = set()
    for year in {int(each) for each in local.year}:
        closed |= {
            np.datetime64(day) for day in (us_holidays(year) if session == "us-exchange" else xetra_holidays(year))
        }
    return np.isin(days, np.array(sorted(closed), "datetime64[D]"))


@cache
def easter(year: int) -> dt.date:
    """Easter Sunday, by the anonymous Gregorian algorithm."""
    a, b, c = year % 19, year // 100, year % 100
    d, e = divmod(b, 4)
    g = (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    weekday = (32 + 2 * e + 2 * i - h - k) % 7
    m = (a + 11 * h + 22 * weekday) // 451
    month, day = divmod(h + weekday - 7 * m + 114, 31)
    return dt.date(year, month, day + 1)


@cache
def us_holidays(year: int) -> frozenset[dt.date]:
    """Days on which the NYSE is closed, by its rule 7.2."""
    fixed = [dt.date(year, 7, 4), dt.date(year, 12, 25)]
    if year >= 2022:
        fixed.append(dt.date(year, 6, 19))
    days = {_observed(day) for day in fixed}
    new_year = dt.date(year, 1, 1)
    if new_year.weekday() != 5:  # a New Year on a Saturday is not made up for on the old year's last day
        days.add(_observed(new_year))
    days |= {_nth(year, 1, 0, 3), _nth(year, 2, 0, 3), _nth(year, 9, 0, 1), _nth(year, 11, 3, 4)}
    last_may = dt.date(year, 5, 31)
    days.add(last_may - dt.timedelta(days=last_may.weekday()))
    days.add(easter(year) - dt.timedelta(days=2))
    return frozenset(days)


@cache
def xetra_holidays(year: int) -> frozenset[dt.date]:
    """Days on which Xetra is closed."""
    sunday = easter(year)
    return frozenset(
        {
            dt.date(year, 1, 1), sunday - dt.timedelta(days=2), sunday + dt.timedelta(days=1), dt.date(year, 5, 1),
            dt.date(year, 12, 24), dt.date(year, 12, 25), dt.date(year, 12, 26), dt.date(year, 12, 31),
        }
    )  # fmt: skip


def _observed(day: dt.date) -> dt.date:
    """Friday for a Saturday, Monday for a Sunday."""
    return day + dt.timedelta(days={5: -1, 6: 1}.get(day.weekday(), 0))


def _nth(year: int, month: int, weekday: int, number: int) -> dt.date:
    """The `number`-th weekday (Monday 0) of a month."""
    first = dt.date(year, month, 1)
    return first + dt.timedelta(days=(weekday - first.weekday()) % 7 + 7 * (number - 1))
