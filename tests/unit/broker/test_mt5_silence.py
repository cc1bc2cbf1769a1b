"""A symbol that is followed and not quoted: it is selected again, and where that does not help people hear of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.mt5.silence import SELECT_EVERY, TOLD_AFTER, Silence
from tests.clockmarket import Watched


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setenv("STABLEHAND_WATCHED", "s3cret")
    return Watched(tmp_path)


def test_a_symbol_that_was_taken_out_of_the_market_watch_is_selected_again(watched: Watched) -> None:
    watched.module.selected = False
    assert watched.steps(2) == [] and watched.module.selected
    assert watched.steps(60, 60.0) == [12]
    assert watched.told == []


def test_a_symbol_that_cannot_be_selected_is_told_once_and_when_it_is_over(watched: Watched) -> None:
    watched.module.offered = watched.module.selected = False
    asked = watched.module.asked_to_select
    assert watched.steps(29, 1.0) == [] and watched.told == []
    assert 5 <= watched.module.asked_to_select - asked <= 6, "once in a while"
    assert watched.steps(300, 1.0) == []
    assert len(watched.told) == 1 and watched.told[0].startswith("the terminal shows no quote of EURUSD")
    watched.module.offered = True
    assert watched.steps(8, 1.0) == []
    assert len(watched.told) == 2 and watched.told[1].startswith("over after 3")
    assert watched.steps(60, 60.0) == [12]


def test_a_terminal_that_is_offline_is_not_told_of_for_each_symbol(watched: Watched) -> None:
    watched.module.cut()
    watched.terminal.tend()
    watched.module.offered = watched.module.selected = False
    assert watched.steps(100, 1.0) == []
    assert len(watched.told) == 1 and watched.told[0].startswith("the terminal has no connection")


def test_each_symbol_is_counted_from_its_own_silence() -> None:
    asked: list[str] = []
    silence = Silence(asked.append)
    assert silence.look({"A": False, "B": True}, 0.0) == [] and asked == ["A"]
    assert silence.look({"A": True, "B": False}, SELECT_EVERY) == [] and asked == ["A", "B"]
    assert silence.look({"A": False, "B": False}, SELECT_EVERY + 1.0) == [] and asked == ["A", "B", "A"]
    (told,) = silence.look({"A": False, "B": False}, SELECT_EVERY + TOLD_AFTER)
    assert "no quote of B," in told[0] and told[1]
    (told,) = silence.look({"A": False, "B": True}, SELECT_EVERY + TOLD_AFTER + 0.5)
    assert told[0].startswith("over after 30 s: the terminal shows no quote of B,") and not told[1]
