"""The terminal's deals, copied to the ledger as they come, and what each magic has realised."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from broker.api import Terminal
from store.database import Database
from store.deals import DealRow, add_deals, last_deal_ticket, realised_by_magic

#: Server time can be ahead of anything that we know: the end of the range is far enough away.
FAR: Final = 4_102_444_800  # 2100-01-01

log = logging.getLogger("stablehand.gateway")


class Deals:
    """For the terminal thread. `bot_of` tells whose a magic is, None for unattributed."""

    def __init__(self, terminal: Terminal, ledger: Database, bot_of: Callable[[int], int | None]) -> None:
        self._terminal = terminal
        self._bot_of = bot_of
        with ledger.read() as connection:
            self.last_deal = last_deal_ticket(connection)
            self.realised: dict[int, float] = realised_by_magic(connection)
        self.last_order = 0
        self.looked = False  # whether the terminal's deals have been read since it was connected to
        self._last_time = 0
        self.unbooked: list[DealRow] = []  # read from the terminal, not yet in the ledger

    def collect(self) -> int:
        """Read what is new from the terminal into `unbooked`; how many deals that were."""
        try:
            deals = self._terminal.history_deals_get(self._last_time, FAR)
        except Exception:  # this comes between an order and its result, which must not be lost with it
            log.exception("deals cannot be read; next try with the next step")
            return 0
        if deals is None:
            log.warning("deals cannot be read: %s; next try with the next step", self._terminal.last_error())
            return 0
        self.looked = True
        # Those of the last second come again with each call; only the first look has to see all of them.
        known = self.last_deal
        fresh = [deal for deal in deals if deal.ticket > known]
        for deal in fresh if self.last_order else deals:
            self.last_order = max(self.last_order, deal.order)
            self._last_time = max(self._last_time, deal.time)
        for deal in fresh:
            self.last_deal = max(self.last_deal, deal.ticket)
            self.unbooked.append(DealRow.of(deal._asdict(), self._bot_of(deal.magic)))
            money = deal.profit + deal.commission + deal.swap + deal.fee
            self.realised[deal.magic] = round(self.realised.get(deal.magic, 0.0) + money, 8)
        return len(fresh)

    def book(self, connection: Any) -> list[DealRow]:
        """Write what is unbooked within the caller's transaction; after its commit call `booked` with it."""
        rows = list(self.unbooked)
        add_deals(connection, rows)
        return rows

    def booked(self, rows: list[DealRow]) -> None:
        """These are committed."""
        done = {row.ticket for row in rows}
        self.unbooked = [row for row in self.unbooked if row.ticket not in done]
