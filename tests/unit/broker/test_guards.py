"""The guards' rules: what is broken, until when, and what one entry may still do."""

from __future__ import annotations

from typing import Any

import pytest

from broker import api
from broker.guards import DAY, Done, Facts, Limits, Tally, refuses, trips
from broker.structs import TradeDeal
from protocol.schedule import open_at, parse_calendar, parse_hours, pause_at

#: Monday 2024-01-01 00:00, server time.
MONDAY = 1_704_067_200
HOUR = 3600


def done(at: int, money: float, *, stopped: bool = False, left: bool = True) -> Done:
    return Done(time=at, money=money, entered=not left, left=left, stopped=stopped)


def tally(limits: Limits, *deals: Done) -> Tally:
    found = Tally()
    for deal in deals:
        found = found.add(deal, limits)
    return found


def broken(limits: Limits, found: Tally, **facts: Any) -> list[tuple[str, int]]:
    return [(trip.rule, trip.until) for trip in trips(limits, found, Facts(**facts))]


def deal_of(**changes: Any) -> TradeDeal:
    plain = dict.fromkeys(TradeDeal._fields, 0) | {"symbol": "EURUSD", "comment": "", "external_id": ""}
    return TradeDeal(**plain | changes)


def test_a_deal_is_kept_with_what_counts_and_a_deposit_is_none() -> None:
    assert Done.of(deal_of(type=api.DEAL_TYPE_BALANCE, profit=10_000.0)) is None
    stop = deal_of(
        type=api.DEAL_TYPE_SELL,
        entry=api.DEAL_ENTRY_OUT,
        reason=api.DEAL_REASON_SL,
        profit=-9.0,
        commission=-1.0,
        time=5,
    )
    assert Done.of(stop) == Done(time=5, money=-10.0, entered=False, left=True, stopped=True)
    fee = Done.of(deal_of(type=api.DEAL_TYPE_COMMISSION, profit=-3.0))
    assert fee is not None and (fee.money, fee.left) == (-3.0, False)


def test_the_daily_loss_counts_what_was_closed_today_and_what_is_open() -> None:
    limits = Limits(max_daily_loss=100.0)
    found = tally(limits, done(MONDAY - 60, -500.0), done(MONDAY + HOUR, -60.0))
    now = MONDAY + 2 * HOUR
    assert broken(limits, found, now=now, floating=-39.9) == []
    assert broken(limits, found, now=now, floating=-40.0) == [("max_daily_loss", MONDAY + DAY)]
    assert broken(limits, found, now=MONDAY + DAY, floating=-40.0) == []  # another server day
    assert broken(limits, found, now=MONDAY + DAY, floating=-100.0) == [("max_daily_loss", MONDAY + 2 * DAY)]


def test_the_drawdown_is_measured_from_the_highest_point_and_has_no_end_of_its_own() -> None:
    limits = Limits(max_drawdown_percent=5.0)
    assert broken(limits, Tally(), now=MONDAY, worth=9_501.0, peak=10_000.0, base=10_000.0) == []
    assert broken(limits, Tally(), now=MONDAY, worth=9_500.0, peak=10_000.0, base=10_000.0) == [
        ("max_drawdown_percent", 0)
    ]
    assert broken(limits, Tally(), now=MONDAY, worth=11_000.0, peak=11_000.0, base=11_000.0) == []
    assert broken(limits, Tally(), now=MONDAY, worth=-10.0, peak=0.0, base=0.0) == []  # nothing to measure by


def test_stop_losses_in_a_row_rest_and_then_count_anew() -> None:
    limits = Limits(max_consecutive_stop_losses=2, stop_loss_cooldown_minutes=30)
    first, second = done(MONDAY, -10.0, stopped=True), done(MONDAY + 60, -10.0, stopped=True)
    won = done(MONDAY + 30, 25.0)
    trailed = done(MONDAY + 30, 4.0, stopped=True)  # a stop that was trailed into profit is no loss
    assert tally(limits, first, won, second).rest_until == 0
    assert tally(limits, first, trailed, second).rest_until == 0
    resting = tally(limits, first, second)
    until = MONDAY + 60 + 30 * 60
    assert broken(limits, resting, now=MONDAY + 61) == [("max_consecutive_stop_losses", until)]
    assert broken(limits, resting, now=until) == []
    # What closes during the rest neither prolongs it nor counts for the next.
    later = resting.add(done(MONDAY + 90, -10.0, stopped=True), limits)
    assert (later.rest_until, later.streak) == (until, 0)
    assert later.add(done(until + 5, -10.0, stopped=True), limits).streak == 1
    assert (
        tally(limits, first, done(MONDAY + 1, -1.0, left=False), second).rest_until == until
    )  # entries do not break it


@pytest.mark.parametrize(
    ("limits", "facts", "reason"),
    [
        ({"max_open_positions": 2}, {"positions": 1}, ""),
        ({"max_open_positions": 2}, {"positions": 2}, "max_open_positions: 2 open; at most 2"),
        ({"max_lots": 0.3}, {"lots": 0.2}, ""),  # 0.2 + 0.1 is more than 0.3 in floats
        ({"max_lots": 0.3}, {"lots": 0.21}, "max_lots: 0.21 open and 0.1 more; at most 0.3"),
        ({"max_orders_per_minute": 2}, {"recent": (MONDAY - 60, MONDAY - 59)}, ""),
        (
            {"max_orders_per_minute": 2},
            {"recent": (MONDAY - 59, MONDAY)},
            "max_orders_per_minute: 2 in the last minute",
        ),
        ({"trading_hours": ["Mon 00:00-01:00"]}, {}, ""),
        ({"trading_hours": ["Tue-Fri 00:00-24:00"]}, {}, "trading_hours"),
        ({}, {"positions": 99, "lots": 99.0}, ""),
    ],
)
def test_one_entry(limits: dict[str, Any], facts: dict[str, Any], reason: str) -> None:
    found = refuses(Limits.of(limits), Facts(now=MONDAY, **facts), "EURUSD", 0.1)
    assert found.startswith(reason) and bool(found) == bool(reason)


def test_limits_travel_as_plain_values() -> None:
    assert not Limits.of({}).any
    assert not Limits.of({"stop_loss_cooldown_minutes": 60.0, "max_lots": None}).any
    assert Limits.of({"max_lots": 1.0, "unheard_of": 3}) == Limits(max_lots=1.0)
    assert Limits.of({"max_daily_loss": 5}).watches and not Limits.of({"max_lots": 1}).watches


@pytest.mark.parametrize(
    ("hours", "moment", "is_open"),
    [
        ("08:00-17:00", MONDAY + 8 * HOUR, True),
        ("08:00-17:00", MONDAY + 17 * HOUR, False),
        ("Mon-Fri 08:00-17:00", MONDAY + 5 * DAY + 9 * HOUR, False),  # Saturday
        ("Sun,Mon 22:00-02:00", MONDAY + DAY + HOUR, True),  # Tuesday 01:00, begun on Monday
        ("Sun,Mon 22:00-02:00", MONDAY + 2 * DAY + HOUR, False),
        ("Fri-Mon 00:00-24:00", MONDAY + 6 * DAY, True),  # over the end of the week
        ("Fri-Mon 00:00-24:00", MONDAY + DAY, False),
    ],
)
def test_trading_hours(hours: str, moment: int, is_open: bool) -> None:
    assert open_at(parse_hours([hours]), moment) is is_open
    assert open_at((), moment)


@pytest.mark.parametrize("text", ["8-17", "Mon-Fry 08:00-17:00", "08:00-25:00", "24:00-08:00", "08:60-09:00", ""])
def test_hours_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="08:00-17:00"):
        parse_hours([text])


def test_a_calendar() -> None:
    pauses = parse_calendar(
        "# news\nfrom,until,reason,symbols\n"
        "2024-01-05 13:00,2024-01-05 15:00,NFP,EURUSD USDJPY\n\n"
        '2024-01-01,2024-01-01,"New Year, all day"\n'
    )
    friday = MONDAY + 4 * DAY
    assert pause_at(pauses, "EURUSD", friday + 13 * HOUR) == pauses[0]
    assert pause_at(pauses, "XAUUSD", friday + 13 * HOUR) is None
    assert pause_at(pauses, "EURUSD", friday + 15 * HOUR) is None
    found = pause_at(pauses, "XAUUSD", MONDAY + DAY - 1)
    assert found is not None and found.reason == "New Year, all day"
    assert refuses(Limits(), Facts(now=MONDAY), "XAUUSD", 0.1, pauses) == "calendar: New Year, all day"


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("2024-01-05 13:00,2024-01-05 15:00", "line 2: a pause is"),
        ("tomorrow,2024-01-05 15:00,x", "line 2: 'tomorrow' is no time"),
        ("2024-01-05 15:00,2024-01-05 13:00,x", "line 2: it ends before"),
        ("2024-01-05T13:00+01:00,2024-01-05 15:00,x", "line 2: .* server time"),
    ],
)
def test_a_calendar_that_is_none(line: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        parse_calendar(f"from,until,reason\n{line}\n")
