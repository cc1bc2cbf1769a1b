"""Lockstep: who still owes an answer to which bar, and what comes next. Pure.

A bar is answered in rounds: every bot that owes sends one message (an order, or BarDone), then the orders
of the round are executed in the order of bot ids, and the round repeats until all have said BarDone. Then
the feed makes its next step. So the deals do not depend on which process was quicker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from protocol.messages import Order, RosterEntry


@dataclass(frozen=True, slots=True)
class Seat:
    """An attached run and the bars that it follows."""

    epoch: int
    symbol: str
    timeframe: str


class Turn(Enum):
    """What happens next."""

    WAIT = "wait"  # for an answer, for a bot to attach, or for the terminal
    EXECUTE = "execute"
    STEP = "step"


class Lockstep:
    """The state of one account's lockstep. Ask `next` after each change, until it says WAIT."""

    def __init__(self) -> None:
        self._expected: set[int] = set()
        self._seats: dict[int, Seat] = {}
        self._excused: set[int] = set()  # detached or fenced off: not waited for until they attach again
        self._owing: dict[int, int] = {}  # bot id -> number of the bar that it owes an answer for
        self._orders: dict[int, list[Order]] = {}  # of this round
        self._busy = False  # the terminal executes a round or makes a step

    # --- who takes part --------------------------------------------------------------------------

    def roster(self, bots: Iterable[RosterEntry]) -> list[Order]:
        """The bots that are expected; orders of bots that are not expected any more come back, unexecuted."""
        self._expected = {bot.bot_id for bot in bots if bot.running}
        gone = [bot_id for bot_id in self._owing if bot_id not in self._expected]
        return [order for bot_id in gone for order in self._forgive(bot_id)]

    def attach(self, bot_id: int, epoch: int, symbol: str, timeframe: str) -> list[Order]:
        """A run takes its seat; what was published before is in its history, so it owes nothing for it."""
        dropped = self._forgive(bot_id)
        self._seats[bot_id] = Seat(epoch, symbol, timeframe)
        self._excused.discard(bot_id)
        return dropped

    def leave(self, bot_id: int, epoch: int) -> list[Order]:
        """A run detaches (paused, ended): nobody waits for it. Its unexecuted orders come back."""
        seat = self._seats.get(bot_id)
        if seat is None or seat.epoch != epoch:
            return []
        del self._seats[bot_id]
        self._excused.add(bot_id)
        return self._forgive(bot_id)

    def fenced(self, bot_id: int, epoch: int, alive: bool) -> list[Order]:
        """Only `epoch` trades now, or none: another run's seat is empty. Its unexecuted orders come back."""
        seat = self._seats.get(bot_id)
        if alive:
            self._excused.discard(bot_id)
            if seat is None or seat.epoch == epoch:
                return []
        else:
            self._excused.add(bot_id)
        self._seats.pop(bot_id, None)
        return self._forgive(bot_id)

    def _forgive(self, bot_id: int) -> list[Order]:
        self._owing.pop(bot_id, None)
        return self._orders.pop(bot_id, [])

    # --- what they say ---------------------------------------------------------------------------

    def order(self, order: Order) -> None:
        """An order waits for its round."""
        self._orders.setdefault(order.bot_id, []).append(order)

    def bar_done(self, bot_id: int, epoch: int, bar_seq: int) -> None:
        """A bot has no (further) order for this bar. A word about an earlier bar says nothing."""
        seat = self._seats.get(bot_id)
        if seat is not None and seat.epoch == epoch and bar_seq >= self._owing.get(bot_id, bar_seq + 1):
            del self._owing[bot_id]

    # --- what the terminal did -------------------------------------------------------------------

    def stepped(self, published: Mapping[tuple[str, str], int]) -> None:
        """The feed made its step; `published` tells the number of each bar that closed in it."""
        self._busy = False
        for bot_id, seat in self._seats.items():
            number = published.get((seat.symbol, seat.timeframe))
            if number is not None and bot_id in self._expected:
                self._owing[bot_id] = number

    def executed(self) -> None:
        """The round's orders have their results."""
        self._busy = False

    # --- what comes next -------------------------------------------------------------------------

    def waiting_for(self) -> list[int]:
        """Ids of the bots whose word is missing: not attached yet, or still owing an answer."""
        absent = self._expected - self._excused - self._seats.keys()
        silent = {bot_id for bot_id in self._owing if bot_id not in self._orders}
        return sorted(absent | silent)

    def next(self) -> tuple[Turn, list[Order]]:
        """The next turn, and for EXECUTE the orders in the order of execution."""
        if self._busy or any(bot_id not in self._orders for bot_id in self._owing):
            return Turn.WAIT, []
        if self._orders:
            orders = [order for bot_id in sorted(self._orders) for order in self._orders[bot_id]]
            self._orders = {}
            self._busy = True
            return Turn.EXECUTE, orders
        # With nobody to answer the feed holds: time passes only when somebody trades.
        present = self._expected & self._seats.keys()
        if not present or self._expected - self._excused - self._seats.keys():
            return Turn.WAIT, []
        self._busy = True
        return Turn.STEP, []
