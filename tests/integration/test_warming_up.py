"""A run that has too few bars: what it asks for, and with what it begins."""

from __future__ import annotations

import pytest

from botproc import attaching
from botproc.attaching import Patience
from protocol.messages import Call, Command, Message, Ready
from tests.playedgateway import HOUR, SHORT, Other, attached, play

pytestmark = pytest.mark.posix


def stopped_when_ready(_other: Other, message: Message) -> list[Message]:
    """After its first turn."""
    return [Command(id="1", verb="stop")] if isinstance(message, Ready) else []


def test_a_run_begins_with_what_the_last_attach_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its position, and how late it is: a bar that closed hours ago is not decided on."""
    monkeypatch.setattr(attaching, "_FIRST", 0.05)
    words = [attached(20, late=1.0, position=None), attached(600, late=5 * HOUR, position=SHORT)]
    other = play(words, stopped_when_ready)
    assert [ready.position for ready in other.all(Ready)] == [SHORT]
    assert not other.all(Call), "it has looked at nothing, since it has decided on nothing"


def test_a_bar_that_closed_a_moment_ago_is_decided_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attaching, "_FIRST", 0.05)
    words = [attached(20, late=5 * HOUR, position=None), attached(600, late=1.0, position=SHORT)]
    other = play(words, stopped_when_ready)
    assert [ready.position for ready in other.all(Ready)] == [SHORT]
    assert other.all(Call)


def test_it_asks_soon_at_first_and_once_a_minute_at_last() -> None:
    now = [100.0]
    patience = Patience(endless=False, clock=lambda: now[0])
    pauses = []
    for _ in range(8):
        pauses.append(patience.left)
        now[0] += patience.left
        assert patience.left == 0.0
        patience.asked()
    assert pauses == [3.0, 6.0, 12.0, 24.0, 48.0, 60.0, 60.0, 60.0]
    assert Patience(endless=True).left > 1e9, "in lockstep nothing depends on a clock"
