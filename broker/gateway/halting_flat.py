"""Flattening: pending orders cancelled and positions closed by magic, again and again until nothing is left."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker import api
from broker.api import Terminal, TradeOrder, TradePosition
from broker.gateway.execution import Executor
from broker.gateway.memory import Pending
from protocol.halts import FLAT, HaltState
from protocol.messages import Order, OrderResult, RosterEntry

_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 30.0

log = logging.getLogger("stablehand.gateway")


@dataclass(slots=True)
class _Try:
    """A position or order that would not go: when to try again, and what was said."""

    count: int = 0
    due: float = 0.0
    why: str = ""


class Flattener:
    """For the terminal thread. `halts` are those that flatten, `tell(key, text)` hears how far each has come.

    While such a halt holds, whatever appears in its scope is closed, also what an order brought that was on its
    way when the halt came. Positions of no bot's magic are not touched.
    """

    def __init__(
        self,
        terminal: Terminal,
        executor: Executor,
        *,
        account: str,
        installation: str,
        boot: str,
        roster: Callable[[], Mapping[int, RosterEntry]],
        halts: Callable[[], tuple[HaltState, ...]],
        tell: Callable[[str, str], None],
    ) -> None:
        self._terminal = terminal
        self._executor = executor
        self._account = account
        self._installation = installation
        self._boot = boot
        self._roster = roster
        self._halts = halts
        self._tell = tell
        self._numbers = itertools.count(1)
        self._tries: dict[int, _Try] = {}

    def look(self) -> bool:
        """Do what can be done now. Whether anything was sent."""
        halts = self._halts()
        if not halts:
            self._tries.clear()
            return False
        roster = self._roster()
        wanted = {magic for magic, bot in roster.items() if any(h.covers(self._account, bot.name) for h in halts)}
        sent = self._cancel(wanted)
        sent = self._close(wanted) or sent
        self._confirm(halts, roster)
        return sent

    def _cancel(self, magics: set[int]) -> bool:
        """Pending orders first: a market that opens must not fill them while positions are closed."""
        sent = False
        for order in self._terminal.orders_get() or ():
            if order.magic not in magics or not self._is_due(order.ticket, order.symbol):
                continue
            sent = True
            answer = self._terminal.order_send({"action": api.TRADE_ACTION_REMOVE, "order": order.ticket})
            done = answer is not None and answer.retcode == api.TRADE_RETCODE_DONE
            why = str(self._terminal.last_error()[1]) if answer is None else str(answer.comment)
            self._note(order.ticket, "" if done else why or "refused")
        return sent

    def _close(self, magics: set[int]) -> bool:
        if self._executor.unresolved:
            return False  # an order is on its way: what it brings is closed once it is known
        group = [
            self._order(position, self._roster()[position.magic])
            for position in self._terminal.positions_get() or ()
            if position.magic in magics and self._is_due(position.ticket, position.symbol)
        ]
        results: dict[str, OrderResult] = {}
        if group:
            self._executor.execute(group, lambda pending, result: results.update({pending.id: result}))
        for one in group:
            result = results[one.id]
            self._note(one.order.position, "" if result.status == "done" else result.reason or f"{result.retcode}")
        return bool(group)

    def _order(self, position: TradePosition, bot: RosterEntry) -> Pending:
        number = next(self._numbers)
        order = Order(
            installation=self._installation,
            bot_id=bot.bot_id,
            epoch=0,
            seq=number,
            gateway_boot=self._boot,
            decision=f"halt|{self._boot}",
            bar_time=0,
            decided_at=time.time(),
            decided_mono=time.monotonic(),
            action="close",
            symbol=position.symbol,
            side="buy" if position.type == api.POSITION_TYPE_BUY else "sell",
            volume=position.volume,
            position=position.ticket,
            magic=position.magic,
            comment="halt",
        )
        return Pending(order, f"{self._installation}:{bot.bot_id}:halt:{self._boot}:{number}", "halt", 0.0, True)

    def _confirm(self, halts: Iterable[HaltState], roster: Mapping[int, RosterEntry]) -> None:
        """Tell each halt what is left in its scope: nothing is flat, and only what the terminal says is nothing."""
        positions, orders = self._terminal.positions_get(), self._terminal.orders_get()
        for halt in halts:
            if positions is None or orders is None:
                self._tell(halt.key, f"the terminal does not answer: {self._terminal.last_error()[1]}; trying again")
                continue
            present: list[TradePosition | TradeOrder] = [*positions, *orders]
            left = [
                one for one in present if one.magic in roster and halt.covers(self._account, roster[one.magic].name)
            ]
            if self._executor.unresolved:
                self._tell(halt.key, f"the outcome of order {self._executor.unresolved[0].id} is not known yet")
            else:
                self._tell(halt.key, self._left(left) if left else FLAT)

    def _left(self, left: list[Any]) -> str:
        shown = []
        for one in left[:3]:
            entry = self._tries.get(one.ticket)
            why = (entry.why if entry else "") or ("market closed" if not self._is_open(one.symbol) else "")
            shown.append(f"{one.symbol} {one.ticket}" + (f": {why}" if why else ""))
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        return f"{len(left)} left ({', '.join(shown)}{more}); trying again"

    def _is_open(self, symbol: str) -> bool:
        is_open = getattr(self._terminal, "is_open", None)  # of the paper terminal; MetaTrader cannot tell
        return bool(is_open(symbol)) if is_open else True

    def _is_due(self, ticket: int, symbol: str) -> bool:
        entry = self._tries.get(ticket)
        return self._is_open(symbol) and (entry is None or time.monotonic() >= entry.due)

    def _note(self, ticket: int, why: str) -> None:
        """It is gone (`why` is empty), or it is tried again, later each time."""
        if not why:
            self._tries.pop(ticket, None)
            return
        entry = self._tries.setdefault(ticket, _Try())
        entry.due = time.monotonic() + min(_LONGEST_WAIT, _FIRST_WAIT * 2**entry.count)
        entry.count, entry.why = min(entry.count + 1, 16), why
        log.warning("%d could not be closed: %s; trying again", ticket, why)
