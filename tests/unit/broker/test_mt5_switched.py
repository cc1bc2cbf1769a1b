"""Somebody logs the terminal in to another account, between two looks or inside a step: only our market is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clockmarket import HOUR, OURS, THEIRS, Watched
from tests.papermarket import MONDAY


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setenv("STABLEHAND_WATCHED", "s3cret")
    return Watched(tmp_path)


def is_as_before(watched: Watched) -> None:
    """The clock is ours, and bars go on where they stopped, each once."""
    assert watched.terminal.now == watched.module.server
    assert watched.terminal.last_closed("EURUSD", "H1") == MONDAY + 11 * HOUR
    assert watched.steps(180, 60.0) == [12, 13, 14]
    assert watched.terminal.now == watched.module.server


def test_a_switch_between_two_looks_tells_no_bar_and_moves_no_clock(watched: Watched) -> None:
    watched.module.switch(42, THEIRS)
    assert watched.steps(1) == []
    assert watched.terminal.held().startswith("the terminal is logged in to 42, not to 7"), "the step has seen it"
    assert watched.steps(4) == [] and watched.terminal.now == int(watched.module.utc + OURS)
    watched.module.switch(7, OURS)
    watched.module.go(1.0)
    assert watched.terminal.tend(), "what happened meanwhile is read"
    is_as_before(watched)
    assert len(watched.told) == 2 and watched.told[1].startswith("over after"), watched.told


@pytest.mark.parametrize("moment", ["symbol_info_tick", "copy_rates_from_pos"])
def test_a_switch_inside_a_step_moves_nothing(watched: Watched, moment: str) -> None:
    if moment == "copy_rates_from_pos":  # asked for when a bar is over
        assert watched.steps(44, 60.0) == []
        watched.module.go(60.0 - watched.module.utc % 60.0)
    watched.module.meanwhile[moment] = lambda: watched.module.switch(42, THEIRS)
    before = watched.terminal.last_closed("EURUSD", "H1")
    for _ in range(5):
        assert watched.steps(1) == []
    assert not watched.module.meanwhile and watched.terminal.held()
    assert watched.terminal.last_closed("EURUSD", "H1") == before
    watched.module.switch(7, OURS)
    watched.terminal.tend()
    if moment == "copy_rates_from_pos":
        assert watched.steps(1) == [12], "the bar that was over is not lost"
    else:
        is_as_before(watched)
    assert watched.terminal.now == watched.module.server


def test_what_a_new_bot_follows_begins_in_our_market(watched: Watched) -> None:
    watched.module.switch(42, THEIRS)
    watched.terminal.follow("EURUSD", "H4")
    assert watched.terminal.last_closed("EURUSD", "H4") is None
    watched.module.switch(7, OURS)
    watched.terminal.tend()
    watched.module.meanwhile["copy_rates_from_pos"] = lambda: watched.module.switch(42, THEIRS)
    watched.terminal.follow("EURUSD", "H4")
    assert watched.terminal.last_closed("EURUSD", "H4") is None
    watched.module.switch(7, OURS)
    watched.terminal.tend()
    is_as_before(watched)


def test_a_terminal_that_fails_while_another_account_is_there_tells_no_bar(watched: Watched) -> None:
    watched.module.switch(42, THEIRS)
    watched.terminal.tend()
    watched.module.blind = True
    for _ in range(5):
        watched.module.go(0.5)
        watched.terminal.tend()
    assert watched.terminal.held().startswith("the terminal is logged in to 42, not to 7")
    watched.module.blind = False
    assert watched.steps(3, 1.0) == []


def test_a_terminal_that_does_not_say_whose_account_it_has_tells_no_bar(watched: Watched) -> None:
    watched.module.blind = True
    assert watched.steps(60, 60.0) == []
    watched.module.blind = False
    assert watched.steps(1) == [12], "nothing is lost"
