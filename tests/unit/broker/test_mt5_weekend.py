"""A weekend at whose end the server is in another zone: no bar ends sooner than it does, and each is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clockmarket import HOUR, OURS, Watched
from tests.papermarket import MONDAY

OPENING = MONDAY + 60 * HOUR  # by the server's clock


@pytest.fixture
def weekend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """The market is shut, its last bar was told, and it is about to open."""
    monkeypatch.setenv("STABLEHAND_WATCHED", "s3cret")
    made = Watched(tmp_path)
    assert made.steps(20, 60.0) == []
    made.module.shut()
    assert made.steps(60, 60.0) == [12], "by the clock"
    return made


def sleep_until_opening(weekend: Watched, zone: int) -> None:
    """One look a minute, until half a second before the opening; the server is in that zone then."""
    module = weekend.module
    module.ahead = zone
    while OPENING - module.utc - zone > 60.5:
        assert weekend.steps(1, 60.0) == []
    module.go(OPENING - module.utc - zone - 0.5)
    assert weekend.steps(1, 0.0) == [] and weekend.terminal.now == int(module.utc + OURS)


@pytest.mark.parametrize("change", [-HOUR, 0, HOUR])
def test_the_first_bar_ends_when_it_does(weekend: Watched, change: int) -> None:
    sleep_until_opening(weekend, OURS + change)
    weekend.module.go(0.5)
    weekend.module.reopen()
    assert weekend.steps(120) == [], "the first half minute"
    assert weekend.told == ([f"the server's time is UTC+{2 + change // HOUR} now; it was UTC+2"] if change else [])
    assert weekend.terminal.now == weekend.module.server
    assert weekend.steps(3 * 60, 60.0) == [60, 61, 62]


def test_a_bar_that_begins_after_its_tick_was_read_is_not_over(weekend: Watched) -> None:
    """The market opens between the two questions of one look."""
    sleep_until_opening(weekend, OURS - HOUR)
    weekend.module.go(0.5 + 2.0)  # past what the last moment's ticks are waited for
    weekend.module.meanwhile["copy_rates_from_pos"] = weekend.module.reopen
    for _ in range(40):
        assert weekend.steps(1) == []
    assert not weekend.module.meanwhile
    assert weekend.steps(80) == []
    assert weekend.steps(2 * 60, 60.0) == [60, 61]


def test_one_odd_tick_at_the_end_of_a_week_keeps_its_last_bar_open_for_no_longer_than_it_is_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STABLEHAND_WATCHED", "s3cret")
    week = Watched(tmp_path)
    assert week.steps(20, 60.0) == []
    week.module.ahead -= 900
    week.module.go(901.0)  # a new tick, a quarter hour late
    assert week.steps(1, 0.0) == []
    week.module.shut()
    week.module.ahead += 900
    until_over = MONDAY + 13 * HOUR - week.module.server
    assert week.steps(until_over // 60 + 14, 60.0) == [] and week.steps(3, 60.0) == [12]
