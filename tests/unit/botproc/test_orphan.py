"""A bot without a supervisor: what its policy says, and that one which closes ends only once it is flat."""

from __future__ import annotations

import pytest

from botproc.orders import Outcome
from botproc.orphan import Orphan, Step, is_flat


def steps(orphan: Orphan, *alone_for: float) -> list[Step]:
    return [orphan.step(seconds) for seconds in alone_for]


@pytest.mark.parametrize(
    ("policy", "said", "entries"), [("continue", "trading on", True), ("drain", "only closing", False)]
)
def test_what_holds_is_said_once_and_again_only_after_it_was_over(policy: str, said: str, entries: bool) -> None:
    orphan = Orphan(policy, 60.0, 5.0)  # type: ignore[arg-type]
    assert steps(orphan, 0.0, 59.0) == ["", ""] and orphan.entries
    assert steps(orphan, 60.0, 61.0, 600.0) == [said, "", ""] and orphan.entries == entries
    assert steps(orphan, 0.0, 0.0, 61.0) == ["back", "", said]


def test_a_close_is_tried_again_at_each_interval_until_a_supervisor_is_back() -> None:
    orphan = Orphan("close", 60.0, 5.0)
    assert steps(orphan, 60.0, 61.0, 64.9, 65.0, 66.0, 80.0, 84.0, 85.0) == [
        "close", "", "", "again", "", "again", "", "again",
    ]  # fmt: skip
    assert not orphan.entries
    assert steps(orphan, 0.0, 5.0) == ["back", ""] and orphan.entries
    assert steps(orphan, 60.0, 65.0) == ["close", "again"]


@pytest.mark.parametrize(
    ("outcome", "flat"),
    [
        (Outcome("closed"), True),
        (Outcome("none"), True),
        (Outcome("none", volume=0.1), False),
        (Outcome("refused", volume=0.1), False),
        (Outcome("held"), False),
        (Outcome("failed"), False),
    ],
)
def test_only_a_bot_that_is_known_to_hold_nothing_is_flat(outcome: Outcome, flat: bool) -> None:
    assert is_flat(outcome) == flat


def test_what_stays_open_is_told_once_and_anew_where_it_is_another() -> None:
    orphan = Orphan("close", 60.0, 5.0)
    closed = Outcome("refused", "close of sell 0.2 EURUSD refused: market closed (10018)", -0.2)
    assert orphan.stays_open(closed, "EURUSD") == (
        "without a supervisor: sell 0.2 EURUSD stays open, tried again every 5 s"
        " (close of sell 0.2 EURUSD refused: market closed (10018))"
    )
    assert orphan.stays_open(closed, "EURUSD") == ""
    part = Outcome("refused", "less is open", -0.1)
    assert "sell 0.1 EURUSD stays open" in orphan.stays_open(part, "EURUSD")
    lost = Outcome("failed", "position not known, nothing is done: IPC timeout")
    assert "what it holds in EURUSD is not known" in orphan.stays_open(lost, "EURUSD")
    assert orphan.stays_open(closed, "EURUSD")
    orphan.step(60.0), orphan.step(0.0)
    assert orphan.stays_open(closed, "EURUSD"), "another time without one"
