"""A bar on which the position was not known is tried again, as long as it is young, and not in lockstep."""

from __future__ import annotations

import pytest

from botproc import secondtry
from botproc.secondtry import SecondTry
from botproc.strategy import Signal, Strategy
from protocol.messages import Call, CallResult, Command, Message, Order, OrderResult, Ready
from tests.playedgateway import SHORT, Other, attached, play

pytestmark = pytest.mark.posix


class Leaves(Strategy):
    """Wants to be flat on every bar."""

    lookback = 2

    def analyze(self, bars: object) -> Signal:
        """Closes what is held."""
        return Signal("EXIT", 1.1, "Enough.")


class Terminal:
    """Its reads fail at first; then there is a position, until it is closed."""

    def __init__(self, *, failures: int, reads: int = 1_000, pause: bool = False) -> None:
        self._failures = failures
        self._most = reads  # after so many the run is stopped
        self._pause = pause
        self.reads = 0
        self.orders: list[Order] = []

    def hear(self, other: Other, message: Message) -> list[Message]:
        """What the gateway answers."""
        if isinstance(message, Ready):
            other.publish()
        elif isinstance(message, Call):
            return [self._read(other, message)]
        elif isinstance(message, Order):
            self.orders.append(message)
            other.command(Command(id="9", verb="stop"))
            return [OrderResult(id=message.id, status="done", retcode=10009, deal=1, order=1, volume=0.3, price=1.1)]
        return []

    def _read(self, other: Other, call: Call) -> CallResult:
        if call.fn != "positions_get":
            return CallResult(id=call.id, value=[])
        self.reads += 1
        if self._pause and self.reads == 1:
            other.command(Command(id="8", verb="pause"))
        if self.reads == self._most:
            other.command(Command(id="9", verb="stop"))
        if self.reads <= self._failures:
            return CallResult(id=call.id, error=[-10005, "IPC timeout"])
        return CallResult(id=call.id, value=[] if self.orders else [SHORT])


LEAVES = {"strategy": f"{__name__}:Leaves", "check_interval_seconds": 60.0}


def test_an_exit_is_made_as_soon_as_the_position_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """One read that failed at the close of the candle: the next candle may be hours away."""
    monkeypatch.setattr(secondtry, "_EVERY", 0.05)
    terminal = Terminal(failures=3)
    play([attached(600, late=1e6, position=SHORT)], terminal.hear, **LEAVES)
    (order,) = terminal.orders
    assert (order.action, order.position, order.decision) == ("close", 7, f"EURUSD|H1|{600 * 3600}")


@pytest.mark.parametrize("why", ["lockstep", "old", "paused"])
def test_it_is_let_go(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In lockstep nothing depends on a clock; an old bar, and one of a pause, are not decided on."""
    monkeypatch.setattr(secondtry, "_EVERY", 0.05)
    terminal = Terminal(failures=12 if why == "old" else 1, reads=20, pause=why == "paused")
    play(
        [attached(600, late=1e6, position=SHORT, lockstep=why == "lockstep")],
        terminal.hear,
        **LEAVES | {"check_interval_seconds": 0.1, "order_ttl_seconds": 0.3 if why == "old" else 30.0},
    )
    assert terminal.reads >= 20 and terminal.orders == []


def test_a_bar_is_tried_once_a_second_while_it_is_young_and_the_last() -> None:
    now = [1000.0]
    second = SecondTry(3.0, clock=lambda: now[0])
    assert not second.due(3600)
    second.want(3600, closed=999.5)
    assert second.at == 1001.0 and not second.due(3600)
    now[0] = 1001.0
    assert second.due(3600)
    second.want(3600, closed=999.5)
    now[0] = 1002.0
    assert second.due(3600)
    second.want(3600, closed=999.5)  # the next try would be after 3 s
    assert not second.due(3600) and second.at == float("inf")
    second.want(3600, closed=1002.0)
    now[0] = 1003.0
    assert not second.due(7200) and second.at == float("inf"), "another bar has closed"
    second.want(7200, closed=1003.0)
    now[0] = 1007.0
    assert not second.due(7200) and second.at == float("inf"), "it was attaching meanwhile, and nothing spins"
    second.want(7200, closed=1006.0)
    second.forget()
    now[0] = 1008.0
    assert not second.due(7200)
