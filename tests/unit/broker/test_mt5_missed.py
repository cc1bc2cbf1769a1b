"""Bars that nobody could be told in time: they are no news, and whoever follows them reads his history anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker.feed import Follower
from broker.gateway.hub import Hub
from broker.mt5.polling import Polled
from broker.paper.moments import ClosedBar
from protocol.codec import decode
from protocol.messages import Attached, Bar
from tests.clockmarket import HOUR, Watched
from tests.unit.broker.test_mt5_parts import Market, told

TOPIC = ("EURUSD", "H1")


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """It is ten minutes to the end of the bar of 12."""
    monkeypatch.setenv("STABLEHAND_WATCHED", "s3cret")
    made = Watched(tmp_path)
    assert made.steps(34, 60.0) == [] and made.steps(57, 1.0) == []
    assert made.module.server % HOUR == 50 * 60
    return made


def goes_on(watched: Watched) -> None:
    """The next bars are told as ever, step by step."""
    for hour in (13, 14):
        found: list[int] = []
        while not found:
            found = watched.steps(1, 5.0)
        assert (found, watched.missed) == ([hour], 0)


@pytest.mark.parametrize("what", ["process", "blind", "account", "tick"])
def test_a_bar_that_ended_while_nothing_could_be_read_is_late(watched: Watched, what: str) -> None:
    module = watched.module
    module.offered = module.selected = what != "tick"
    module.refuses, module.blind = what == "process", what == "blind"
    module.login = 42 if what == "account" else 7
    watched.terminal.tend()
    assert watched.steps(41 * 60, 1.0) == []
    module.refuses, module.blind, module.login, module.offered, module.selected = False, False, 7, True, True
    watched.terminal.tend()
    assert (watched.steps(40), watched.missed) == ([12], 1)
    goes_on(watched)


def test_a_bar_that_ends_after_a_break_has_the_history_read_anew(watched: Watched) -> None:
    """What was told before it may have been told before the terminal noticed that it was offline."""
    watched.module.cut()
    watched.terminal.tend()
    watched.module.go(60.0)
    watched.module.mend()
    assert watched.steps(40) == []
    assert watched.steps(600, 1.0) == [12] and watched.missed == 1
    goes_on(watched)


@pytest.mark.parametrize("ticking", [True, False], ids=["its clock goes on", "its clock stands"])
def test_a_bar_that_ended_while_the_host_slept_is_late(watched: Watched, ticking: bool) -> None:
    watched.module.utc += 41 * 60.0
    watched.module.mono += 41 * 60.0 if ticking else 0.0
    assert watched.steps(12) == [], "the terminal has been asleep as well"
    assert (watched.steps(12), watched.missed) == ([12], 1)
    goes_on(watched)


def test_a_moment_without_an_answer_makes_no_bar_late(watched: Watched) -> None:
    assert watched.steps(595, 1.0) == []
    watched.module.blind = True
    assert watched.steps(6, 1.0) == []
    watched.module.blind = False
    assert (watched.steps(1), watched.missed) == ([12], 0)


def test_the_last_bar_of_a_week_counts_when_the_market_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that was started on a weekend does not know the server's clock: no bar ends by it."""
    monkeypatch.setenv("STABLEHAND_WATCHED", "s3cret")
    made = Watched(tmp_path, shut=True)
    assert made.steps(49 * 60, 60.0) == []
    assert made.steps(1) == []
    made.module.reopen()
    assert (made.steps(1), made.missed) == ([12], 0)


def test_bars_of_which_some_are_not_told_are_missed() -> None:
    market = Market()
    feed = Polled(market.rates, market.tick)
    feed.watch("EURUSD", "M1", 605)
    market.forming = market.stamp = 600 + 60 * 298
    assert told(feed, market.stamp)[0] == 600 and not feed.missed, "all of them"
    before = market.forming
    market.forming = market.stamp = before + 60 * 300
    assert told(feed, market.stamp)[0] > before and feed.missed == (("EURUSD", "M1"),)
    market.forming = market.stamp = market.forming + 60
    assert len(told(feed, market.stamp)) == 1 and not feed.missed


class Wire:
    """Takes what is published."""

    def __init__(self) -> None:
        self.bars: list[Bar] = []

    def send_multipart(self, frames: list[bytes]) -> None:
        bar = decode(frames[-1])
        assert isinstance(bar, Bar)
        self.bars.append(bar)


def test_who_follows_missed_bars_attaches_again() -> None:
    wire: Any = Wire()
    hub = Hub(wire, "boot", 0.0)
    bar, other = ClosedBar(*TOPIC, b"x" * 60, 1.0, 1.1), ClosedBar("USDJPY", "H1", b"x" * 60, 1.0, 1.1)
    hub.publish(0, (bar,))
    follower = Follower(Attached.model_construct(gateway_boot="boot", bar_seq=0))
    assert follower.judge(wire.bars[0]) == "next"
    assert hub.publish(0, (bar, bar, other), (TOPIC,)) == {TOPIC: 4, ("USDJPY", "H1"): 1}
    assert follower.judge(wire.bars[1]) == "gap"
    again = Follower(Attached.model_construct(gateway_boot="boot", bar_seq=hub.numbers[TOPIC]))
    assert [again.judge(one) for one in wire.bars[1:3]] == ["old", "old"], "they are in the history that it was told"
    hub.publish(0, (bar,))
    assert again.judge(wire.bars[-1]) == "next"
