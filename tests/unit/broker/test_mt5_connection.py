"""What becomes of the connection to a terminal: events in, actions out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.mt5.connection import (
    Answered,
    CallFailed,
    Connection,
    Do,
    Due,
    Event,
    Looked,
    LookFailed,
    Opened,
    OpenFailed,
    StoodStill,
    Tell,
    decide,
)
from broker.mt5.troubles import Account, Kind

ME = Account(login=7, server="Broker-Live", path="C:/MT5/terminal64.exe", first_wait=1.0, longest_wait=8.0)
GOOD = Looked(7, True, True, False, True, True)


def after(*steps: tuple[float, Event]) -> tuple[Connection, list[str]]:
    """The state, and what was told, after these events."""
    state, told = Connection(), []
    for now, event in steps:
        state, actions = decide(state, event, now, ME)
        told += [one.line for one in actions if isinstance(one, Tell)]
    return state, told


OPEN: tuple[tuple[float, Event], ...] = ((0.0, Opened()), (0.0, GOOD))


def test_it_opens_at_once_and_looks_ever_after() -> None:
    state, actions = decide(Connection(), Due(), 0.0, ME)
    assert actions == [Do.OPEN] and state.holding and state.barring and not state.readable
    state, actions = decide(state, Opened(), 0.1, ME)
    assert actions == [Do.LOOK]
    state, actions = decide(state, GOOD, 0.1, ME)
    assert actions == [] and not state.holding and not state.barring and state.readable
    assert decide(state, Due(), 5.0, ME) == (state, [Do.LOOK])


def test_waits_double_and_end_at_the_longest() -> None:
    state, now, waits = Connection(), 0.0, []
    for _ in range(6):
        state, _ = decide(state, OpenFailed(-10003, "IPC initialize failed"), now, ME)
        assert decide(state, Due(), state.next_try - 0.01, ME)[1] == []
        assert decide(state, Due(), state.next_try, ME)[1] == [Do.OPEN]
        waits.append(state.next_try - now)
        now = state.next_try
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_an_account_that_another_holds_is_asked_for_again_within_seconds() -> None:
    state, now, waits = Connection(), 0.0, []
    for _ in range(5):
        state, actions = decide(state, OpenFailed(-1, "it is taken", Kind.TAKEN), now, replace(ME, longest_wait=60.0))
        assert actions == ([Tell("it is taken", bad=True)] if now == 0.0 else [])
        waits.append(state.next_try - now)
        now = state.next_try
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0] and state.holding == "it is taken"
    state, actions = decide(state, OpenFailed(-1, "it was taken", Kind.TAKEN), now, ME)
    assert actions == [] and state.holding == "it was taken", "what is shown is true now, and told once"
    state, _ = decide(state, OpenFailed(-10003, "IPC initialize failed"), 40.0, ME)
    assert state.next_try == 41.0, "it was not the terminal that failed"


def test_a_refused_login_is_tried_seldom() -> None:
    state, _ = decide(Connection(), OpenFailed(-6, "Authorization failed"), 0.0, ME)
    assert state.next_try == 10.0 and state.trouble is not None and state.trouble.kind is Kind.LOGIN


@pytest.mark.parametrize("code", [-10000, -10001, -10002, -10003, -10004, -10005])
def test_a_lost_connection_is_opened_again_at_once_and_told_once(code: int) -> None:
    state, told = after(*OPEN, (9.0, CallFailed(code, "IPC")), (9.0, CallFailed(code, "IPC")))
    assert decide(state, Due(), 9.0, ME)[1] == [Do.OPEN]
    assert len(told) == 1 and str(code) in told[0]
    state, told = after(
        *OPEN, (9.0, CallFailed(code, "IPC")), (9.5, OpenFailed(code, "x")), (12.0, Opened()), (12.0, GOOD)
    )
    assert len(told) == 2 and told[1].startswith("over after 3 s:") and not state.barring


@pytest.mark.parametrize("code", [-1, -2, -3, -4, -7])
def test_other_failures_say_nothing_of_the_connection(code: int) -> None:
    state, told = after(*OPEN, (9.0, CallFailed(code, "Call failed")))
    assert not state.barring and told == []


@pytest.mark.parametrize("code", [-1, -2, -3, -4, -7])
def test_a_terminal_that_does_not_say_whose_account_it_has_is_told_once_it_lasts(code: int) -> None:
    state, told = after(*OPEN, (9.0, LookFailed(code, "Call failed")), (9.9, LookFailed(code, "Call failed")))
    assert not state.barring and told == []
    state, told = after(*OPEN, *((9.0 + n, LookFailed(code, "Call failed")) for n in range(4)))
    assert state.holding == state.barring == told[0] and len(told) == 1 and f"({code}: Call failed)" in told[0]
    assert decide(state, Due(), 13.0, ME)[1] == [Do.LOOK], "it is connected to: it is asked, not opened"
    state, actions = decide(state, GOOD, 14.0, ME)
    assert not state.barring and len(actions) == 1
    assert decide(state, LookFailed(code, "x"), 15.0, ME)[1] == [], "counted from its own beginning"


@pytest.mark.parametrize(
    ("seen", "kind", "holds"),
    [
        (Looked(8, True, True, False, True, True), Kind.OTHER_ACCOUNT, True),
        (Looked(7, True, True, True, True, True), Kind.API_OFF, True),
        (Looked(7, False, True, False, True, True), Kind.OFFLINE, True),
        (Looked(7, True, False, False, True, True), Kind.BUTTON_OFF, False),
        (Looked(7, True, True, False, False, True), Kind.READ_ONLY, False),
        (Looked(7, True, True, False, True, False), Kind.EXPERTS_OFF, False),
    ],
)
def test_what_is_seen_bars_orders_until_it_is_over(seen: Looked, kind: Kind, holds: bool) -> None:
    state, told = after(*OPEN, (1.0, seen), (2.0, seen))
    assert state.trouble is not None and state.trouble.kind is kind and len(told) == 1
    assert bool(state.holding) is holds and state.barring
    assert state.readable is (kind is not Kind.OTHER_ACCOUNT)
    state, actions = decide(state, GOOD, 3.0, ME)
    assert not state.barring and len(actions) == 1


def test_another_account_is_named_and_one_trouble_follows_another() -> None:
    _, told = after(
        *OPEN, (1.0, Looked(8, True, True, False, True, True)), (2.0, Looked(7, False, True, False, True, True))
    )
    assert told[0].startswith("the terminal is logged in to 8, not to 7") and len(told) == 2


@pytest.mark.parametrize(
    "seen",
    [
        Looked(8, True, True, False, True, True),
        Looked(7, True, True, True, True, True),
        Looked(7, False, True, False, True, True),
    ],
    ids=["another account", "shut out", "offline"],
)
def test_looks_that_fail_say_nothing_of_what_one_has_found(seen: Looked) -> None:
    found, _ = after(*OPEN, (1.0, seen))
    state, told = after(*OPEN, (1.0, seen), *((2.0 + n, LookFailed(-1, "Call failed")) for n in range(4)))
    assert state.trouble == found.trouble and state.readable is found.readable and len(told) == 1
    state, actions = decide(state, GOOD, 9.0, ME)
    assert not state.barring and state.readable and len(actions) == 1


@pytest.mark.parametrize(("retcode", "kind"), [(10027, Kind.BUTTON_OFF), (10026, Kind.EXPERTS_OFF)])
def test_an_answer_bars_for_a_while_whatever_is_seen(retcode: int, kind: Kind) -> None:
    state, told = after(*OPEN, (1.0, Answered(retcode)), (2.0, GOOD))
    assert state.trouble is not None and state.trouble.kind is kind and len(told) == 1
    state, _ = decide(state, GOOD, 6.5, ME)
    assert state.trouble is None


@pytest.mark.parametrize("retcode", [10009, 10018, 10004, 10031])
def test_other_answers_say_nothing(retcode: int) -> None:
    state, told = after(*OPEN, (1.0, Answered(retcode)))
    assert not state.barring and told == []


def test_a_known_reason_stands_in_the_line() -> None:
    _, told = after((0.0, OpenFailed(-4, "", Kind.MISSING)))
    assert told == ["there is no terminal at C:/MT5/terminal64.exe; install it there, or mend `path`"]
    _, told = after((0.0, OpenFailed(-6, "the password cannot be read: NAME is not set", Kind.SECRET)))
    assert told == ["the password cannot be read: NAME is not set"]


@pytest.mark.parametrize(("first_wait", "seconds"), [(1.0, 5.0), (0.2, 1.0), (60.0, 10.0)])
def test_after_a_break_no_bar_is_told_before_what_was_missed_is_loaded(first_wait: float, seconds: float) -> None:
    account = replace(ME, first_wait=first_wait)
    offline, _ = after(*OPEN, (1.0, Looked(7, False, True, False, True, True)))
    assert offline.holds_back(1.0) == offline.holding
    for seen in (GOOD, Looked(7, True, False, False, True, True)):  # it may be over, or something else be wrong
        state, _ = decide(offline, seen, 3.0, account)
        assert not state.holding and state.holds_back(3.0 + seconds - 0.1) and not state.holds_back(3.0 + seconds)
    slept, _ = decide(after(*OPEN)[0], StoodStill(), 3.0, account)
    assert slept.holds_back(3.0 + seconds - 0.1) and not slept.holds_back(3.0 + seconds)
    pressed, _ = after(*OPEN, (1.0, Looked(7, True, False, False, True, True)), (2.0, GOOD))
    assert not pressed.holds_back(2.0), "it was connected all the time"
