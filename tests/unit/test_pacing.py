"""When a bot begins its analysis of a closed bar: nobody waits among few, many spread evenly, always alike."""

from __future__ import annotations

from protocol.pacing import FEWEST, RECEIVING, share, spread


def test_few_begin_at_once_and_many_within_half_a_second() -> None:
    assert spread(FEWEST - 1, 0.5) == 0.0
    assert spread(FEWEST, 0.5) == 0.05
    assert spread(500, 0.5) == spread(2_000, 0.5) == 0.5
    assert spread(2_000, 0.0) == 0.0


def test_a_bot_keeps_its_place_and_the_places_are_spread() -> None:
    names = [f"bot-{number:04}" for number in range(500)]
    places = [share(name) for name in names]
    assert places == [share(name) for name in names]
    assert all(RECEIVING <= one < 1.0 for one in places)
    tenths = [sum(int(one * 10) == tenth for one in places) for tenth in range(10)]
    assert tenths[0] == 0 and max(tenths) <= 100, tenths
