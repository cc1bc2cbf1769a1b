"""A terminal that has lost its broker, or its own process: no bar is told that is not known to its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clockmarket import HOUR, Watched

WHOLE = float(HOUR)


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """It is half a minute to the end of the bar of 12."""
    monkeypatch.setenv("STABLEHAND_WATCHED", "s3cret")
    made = Watched(tmp_path)
    assert made.steps(44, 60.0) == [] and made.steps(27, 1.0) == []
    assert HOUR - made.module.server % HOUR == 30
    return made


def test_a_bar_that_ends_while_the_terminal_is_offline_is_told_when_it_is_known(watched: Watched) -> None:
    watched.module.cut()
    watched.terminal.tend()
    assert watched.terminal.held().startswith("the terminal has no connection to the broker's server")
    assert watched.bars(20 * 60, 1.0) == [], "by the clock it is over, and half a minute of it is missing"
    watched.module.mend()
    assert watched.bars(60) == [(12, WHOLE)]
    assert watched.bars(2 * 60, 60.0) == [(13, WHOLE), (14, WHOLE)]
    assert [line[:9] for line in watched.told] == ["the termi", "over afte"]


def test_a_bar_is_not_told_by_a_step_that_is_the_first_to_see_it(watched: Watched) -> None:
    """Nobody has looked since the line broke."""
    watched.module.cut()
    assert watched.bars(40 * 4) == []
    assert watched.terminal.held().startswith("the terminal has no connection to the broker's server")


@pytest.mark.parametrize("what", ["broker", "process"])
def test_what_a_terminal_has_missed_is_loaded_before_a_bar_is_told(watched: Watched, what: str) -> None:
    watched.module.cut()
    watched.terminal.tend()
    if what == "process":
        watched.module.refuses = True
        watched.terminal.tend()
    assert watched.bars(20 * 60, 1.0) == []
    watched.module.mend(loading=True)
    watched.module.refuses = False
    watched.terminal.tend()
    assert not watched.terminal.held(), watched.terminal.held()
    assert watched.bars(12) == [], "a newer bar is there, and the one before it has a hole"
    watched.module.unloaded = None
    assert watched.bars(12) == [(12, WHOLE)]


def test_nothing_is_followed_before_it_is_loaded(watched: Watched) -> None:
    watched.module.cut()
    watched.terminal.tend()
    watched.terminal.follow("EURUSD", "H4")
    assert watched.terminal.last_closed("EURUSD", "H4") is None
    watched.module.mend(loading=True)
    watched.terminal.tend()
    watched.terminal.follow("EURUSD", "H4")
    assert watched.terminal.last_closed("EURUSD", "H4") is None
    watched.module.go(5.0)
    watched.terminal.follow("EURUSD", "H4")
    assert watched.terminal.last_closed("EURUSD", "H4") is not None
