"""The guards of one account: the rules of `broker.guards`, fed from the terminal, and what they latch."""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from broker.api import Terminal, TradePosition
from broker.gateway.calendars import Calendars
from broker.gateway.deals import FAR
from broker.guards import MINUTE, Done, Facts, Limits, Tally, refuses, trips
from protocol.halts import HaltState
from protocol.messages import Order, RosterEntry
from store import meta
from store.database import Database, open_database
from store.errors import StoreError

_PEAKS: Final = "guard_peaks"
_REMEMBER: Final = 5.0  # seconds between two writes of the peaks, at least
_RECENT: Final = 10_000
_ACCOUNT: Final = 0  # magic under which the account's own scope is kept; no bot has it

log = logging.getLogger("stablehand.gateway")


def passing_ledger(path: Path) -> Database:
    """A ledger for guards that nobody asks again afterwards, as those of a backtest. Close it at the end."""
    return open_database(path, "ledger", synchronous="OFF")


@dataclass(slots=True)
class _Scope:
    """A bot, or the account: its limits, and what its deals amount to."""

    name: str
    limits: Limits
    tally: Tally = field(default_factory=Tally)
    counted: int = 0
    recent: deque[int] = field(default_factory=lambda: deque(maxlen=_RECENT))


class Guarding:
    """For the terminal thread; `limit` and `limit_account` are for the service thread.

    `latch` halts; `holds` and `forgiven` tell of a halt whether it is in force, and whether somebody lifted it:
    before its time, or since `lifted` was last told.
    """

    def __init__(
        self,
        terminal: Terminal,
        ledger: Database,
        *,
        account: str,
        limits: Limits,
        folder: Path,
        roster: Callable[[], Mapping[int, RosterEntry]],
        now: Callable[[], int],
        latch: Callable[[HaltState], object],
        holds: Callable[[str], bool],
        forgiven: Callable[[str], bool],
    ) -> None:
        self._terminal = terminal
        self._ledger = ledger
        self._account = _Scope(f"account:{account}", limits)
        self._roster = roster
        self._now = now
        self._latch = latch
        self._holds = holds
        self._forgiven = forgiven
        self._limits: dict[int, Limits] = {}  # by bot id; replaced as a whole
        self._bots: dict[int, _Scope] = {}  # by magic
        self._deals: dict[int, list[Done]] = {_ACCOUNT: []}
        self._last_ticket = 0
        self._last_time = 0
        self._calendars = Calendars(folder)
        with ledger.read() as connection:
            text = meta.get(connection, _PEAKS)
        self._peaks: dict[str, float] = json.loads(text) if text else {}
        self._funded = self._peaks.pop("", 0.0)  # ticket of the last deposit or withdrawal that the peak knows
        self._changed_at: float | None = None

    def limit(self, bot_id: int, limits: Limits) -> None:
        """A bot's limits, as the supervisor told them with its fence."""
        self._limits = {**self._limits, bot_id: limits}

    def limit_account(self, limits: Limits) -> None:
        """The account's own limits, as the supervisor tells them with its roster."""
        if limits != self._account.limits:
            scope = _Scope(self._account.name, limits)
            scope.recent = self._account.recent
            self._account = scope  # its deals are counted anew with the next look

    # --- what is asked -------------------------------------------------------------------------------

    def entry(self, order: Order) -> str:
        """Why this entry is refused; empty when it is not. What it breaks is latched."""
        try:
            return self._entry(order)
        except Exception as error:  # a defect here must refuse, and must not look like an order that was sent
            log.exception("the guards failed")
            return f"the guards failed: {type(error).__name__}: {error}"

    def _entry(self, order: Order) -> str:
        account = self._account
        limits = self._limits.get(order.bot_id)
        if limits is None:
            return "the limits of this bot are not known yet: no fence since the gateway started"
        if not limits.any and not account.limits.any:
            return ""
        bot = self._bot(order.magic, order.bot_id, limits)
        held = self._terminal.positions_get()
        if held is None:
            return f"the guards cannot read the positions: {self._terminal.last_error()[1]}"
        if not self._collect(account):
            return f"the guards cannot read the deals: {self._terminal.last_error()[1]}"
        own = [one for one in held if one.magic == order.magic]
        for scope, magic, mine in ((account, _ACCOUNT, list(held)), (bot, order.magic, own)):
            if not scope.limits.any:
                continue
            facts = self._facts(scope, magic, mine)
            if facts is None:
                return f"the guards cannot read the account: {self._terminal.last_error()[1]}"
            reason = self._judge(scope, facts)
            if not reason:
                pauses = self._calendars.pauses(scope.limits.calendar)
                if isinstance(pauses, str):
                    return pauses
                reason = refuses(scope.limits, facts, order.symbol, order.volume, pauses)
            if reason:
                return f"guard of {scope.name.replace(':', ' ')}: {reason}"
        for scope in (account, bot):
            scope.recent.append(self._now())
        return ""

    def look(self) -> None:
        """After the market has moved: keep the highest points, and latch what is broken now."""
        account, roster = self._account, self._roster()
        watched: list[tuple[int, _Scope]] = [(_ACCOUNT, account)] if account.limits.watches else []
        for magic, entry in roster.items():
            limits = self._limits.get(entry.bot_id)
            if limits is not None and limits.watches:
                watched.append((magic, self._bot(magic, entry.bot_id, limits)))
        if not watched:
            return
        held = self._terminal.positions_get()
        if held is None or not self._collect(account):
            return
        by_magic: dict[int, list[TradePosition]] = {_ACCOUNT: list(held)}
        for position in held:
            by_magic.setdefault(position.magic, []).append(position)
        for magic, scope in watched:
            facts = self._facts(scope, magic, by_magic.get(magic, []))
            if facts is not None:
                self._judge(scope, facts)

    def lifted(self, halt: HaltState) -> None:
        """Somebody lifted it: a fall is measured from here on."""
        if halt.rule == "max_drawdown_percent":
            self._peaks.pop(halt.scope, None)
            self._changed_at = self._changed_at or time.monotonic()
            self.remember(force=True)

    def remember(self, *, force: bool = False) -> None:
        """Write the highest points, now and then: after a crash a fall is measured from the last one written."""
        if self._changed_at is None or (not force and time.monotonic() - self._changed_at < _REMEMBER):
            return
        text = json.dumps({**self._peaks, "": self._funded})
        try:
            with self._ledger.begin() as connection:
                meta.set(connection, _PEAKS, text)
        except StoreError as error:
            log.error("%s; the highest points are written later", error.message)
            self._changed_at = time.monotonic()
            return
        self._changed_at = None

    # --- how it is -----------------------------------------------------------------------------------

    def _judge(self, scope: _Scope, facts: Facts) -> str:
        for trip in trips(scope.limits, scope.tally, facts):
            halt = HaltState(
                scope=scope.name, rule=trip.rule, until=trip.until, reason=trip.reason, who="guard", at=time.time()
            )
            # In this order: one that is lifted between the two questions is forgiven before it is out of force.
            holds = self._holds(halt.key)
            if self._forgiven(halt.key):
                continue
            if not holds:
                self._latch(halt)
            return f"{trip.rule}: {trip.reason}"
        return ""

    def _recent(self, scope: _Scope, magic: int) -> tuple[int, ...]:
        """Times of entries in the last minute: those let through here, or the deals of before a restart."""
        if not scope.limits.max_orders_per_minute:
            return ()
        since = self._now() - MINUTE
        done = itertools.takewhile(lambda deal: deal.time > since, reversed(self._deals.get(magic, [])))
        entered = tuple(deal.time for deal in done if deal.entered)
        asked = tuple(scope.recent)
        return entered if len(entered) > sum(1 for moment in asked if moment > since) else asked

    def _facts(self, scope: _Scope, magic: int, held: Iterable[TradePosition]) -> Facts | None:
        mine = list(held)
        floating = sum(one.profit + one.swap for one in mine)
        worth = peak = base = 0.0
        if scope.limits.max_drawdown_percent:
            account = self._terminal.account_info()
            if account is None:
                return None
            worth = account.equity if magic == _ACCOUNT else scope.tally.total + floating
            before = self._peaks.get(scope.name)
            peak = worth if before is None else max(before, worth)
            if peak != before:
                self._peaks[scope.name] = peak
                self._changed_at = self._changed_at or time.monotonic()
            base = peak if magic == _ACCOUNT else account.balance
        return Facts(
            now=self._now(),
            positions=len(mine),
            lots=sum(one.volume for one in mine),
            floating=floating,
            worth=worth,
            peak=peak,
            base=base,
            recent=self._recent(scope, magic),
        )

    def _bot(self, magic: int, bot_id: int, limits: Limits) -> _Scope:
        known = self._bots.get(magic)
        if known is None or known.limits != limits:
            entry = self._roster().get(magic)
            recent = known.recent if known else None
            known = self._bots[magic] = _Scope(f"bot:{entry.name if entry else bot_id}", limits)
            if recent:
                known.recent = recent
            self._count(magic, known)
        return known

    def _collect(self, account: _Scope) -> bool:
        """Read the deals that are new, and count them. False when they cannot be read."""
        deals = self._terminal.history_deals_get(self._last_time, FAR)
        if deals is None:
            return False
        for deal in deals:
            if deal.ticket <= self._last_ticket:
                continue
            self._last_ticket = deal.ticket
            self._last_time = max(self._last_time, deal.time)
            done = Done.of(deal)
            if done is None:
                self._fund(deal.ticket, deal.profit)
                continue
            self._deals[_ACCOUNT].append(done)
            if deal.magic:
                self._deals.setdefault(deal.magic, []).append(done)
        self._count(_ACCOUNT, account)
        for magic, scope in self._bots.items():
            self._count(magic, scope)
        return True

    def _count(self, magic: int, scope: _Scope) -> None:
        deals = self._deals.get(magic, [])
        while scope.counted < len(deals):
            scope.tally = scope.tally.add(deals[scope.counted], scope.limits)
            scope.counted += 1

    def _fund(self, ticket: int, amount: float) -> None:
        """Money put in or taken out is neither a rise nor a fall."""
        if ticket <= self._funded:
            return
        self._funded = float(ticket)
        if self._account.name in self._peaks:
            self._peaks[self._account.name] += amount
        self._changed_at = self._changed_at or time.monotonic()
