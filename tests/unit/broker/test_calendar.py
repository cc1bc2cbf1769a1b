"""Sessions by the exchange's own clock: over both changes of daylight saving time, and over holidays."""

from __future__ import annotations

import datetime as dt

import pytest

from broker.calendar import Session, check_zone, easter, is_open_at, us_holidays, xetra_holidays
from protocol.errors import InvalidInput

CASES: list[tuple[Session, str, bool]] = [
    # New York is UTC-5 in winter and UTC-4 from 2024-03-10 to 2024-11-03.
    ("fx", "2024-01-05 21:59", True),
    ("fx", "2024-01-05 22:00", False),
    ("fx", "2024-01-07 21:59", False),
    ("fx", "2024-01-07 22:00", True),
    ("fx", "2024-07-05 20:59", True),
    ("fx", "2024-07-05 21:00", False),
    ("fx", "2024-07-07 21:00", True),
    ("fx", "2024-03-08 21:30", True),  # the Friday before the change
    ("fx", "2024-03-10 21:30", True),  # the Sunday of the change: 17:30 in New York
    ("fx", "2024-11-03 21:30", False),  # and of the change back: 16:30
    ("metal", "2024-01-03 21:59", True),
    ("metal", "2024-01-03 22:30", False),
    ("metal", "2024-01-03 23:00", True),
    ("metal", "2024-07-03 21:30", False),
    ("metal", "2024-07-03 22:00", True),
    ("index", "2024-01-07 22:30", False),
    ("index", "2024-01-07 23:00", True),
    ("always", "2024-01-06 12:00", True),
    ("us-exchange", "2024-01-03 14:29", False),
    ("us-exchange", "2024-01-03 14:30", True),
    ("us-exchange", "2024-01-03 21:00", False),
    ("us-exchange", "2024-07-03 13:30", True),
    ("us-exchange", "2024-03-29 15:00", False),  # Good Friday
    ("us-exchange", "2024-11-28 15:00", False),  # Thanksgiving
    ("us-exchange", "2021-06-18 15:00", True),  # Juneteenth came in 2022
    ("us-exchange", "2022-06-20 15:00", False),
    ("us-exchange", "2021-12-31 15:00", True),  # New Year's Saturday is not made up for
    ("xetra", "2024-01-03 08:00", True),
    ("xetra", "2024-01-03 16:30", False),
    ("xetra", "2024-07-03 07:00", True),
    ("xetra", "2024-07-03 15:30", False),
    ("xetra", "2024-05-01 10:00", False),
    ("xetra", "2024-04-01 10:00", False),  # Easter Monday
]


@pytest.mark.parametrize(("session", "moment", "expected"), CASES)
def test_open_or_closed(session: Session, moment: str, expected: bool) -> None:
    time = int(dt.datetime.fromisoformat(moment).replace(tzinfo=dt.UTC).timestamp())
    assert is_open_at(time, session) is expected


def test_the_servers_clock_may_be_anothers() -> None:
    # A server in Athens' time shows 23:59 when New York has 16:59, in winter and in summer.
    for day in ("2024-01-05", "2024-07-05"):
        for hour, expected in (("23:59", True), ("00:00", False)):
            moment = dt.datetime.fromisoformat(f"{day} {hour}").replace(tzinfo=dt.UTC)
            moment += dt.timedelta(days=hour == "00:00")
            assert is_open_at(int(moment.timestamp()), "fx", "Europe/Athens") is expected
    with pytest.raises(InvalidInput, match="server_timezone Mars/Olympus: no such time zone"):
        check_zone("Mars/Olympus")


def test_holidays_of_known_years() -> None:
    assert [easter(year).isoformat() for year in (2019, 2024, 2025)] == ["2019-04-21", "2024-03-31", "2025-04-20"]
    assert sorted(day.isoformat() for day in us_holidays(2024)) == [
        "2024-01-01", "2024-01-15", "2024-02-19", "2024-03-29", "2024-05-27", "2024-06-19", "2024-07-04",
        "2024-09-02", "2024-11-28", "2024-12-25",
    ]  # fmt: skip
    assert dt.date(2023, 1, 2) in us_holidays(2023) and dt.date(2021, 12, 24) in us_holidays(2021)
    assert len(xetra_holidays(2024)) == 8
