"""Deals as the terminal told them, kept in the gateway's ledger: MetaTrader's fields, and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, func, select

from store.database import insert_for
from store.magic import signed, unsigned
from store.prepared import Prepared
from store.tables import ledger_deals


@dataclass(frozen=True, slots=True)
class DealRow:
    """One deal; money in the account's currency. `bot_id` None: unattributed (deposits, manual trades)."""

    ticket: int
    order: int
    time: int
    time_msc: int
    type: int
    entry: int
    magic: int
    position_id: int
    reason: int
    volume: float
    price: float
    commission: float
    swap: float
    profit: float
    fee: float
    symbol: str
    comment: str
    external_id: str
    bot_id: int | None = None

    @staticmethod
    def of(deal: dict[str, Any], bot_id: int | None) -> DealRow:
        """From the fields of a TradeDeal."""
        return DealRow(**{name: deal[name] for name in _FIELDS}, bot_id=bot_id)


_FIELDS: Final = tuple(name for name in DealRow.__dataclass_fields__ if name != "bot_id")
_ADD: Final = Prepared(lambda conn: insert_for(conn, ledger_deals).on_conflict_do_nothing(index_elements=["ticket"]))


def add_deals(conn: Connection, deals: Sequence[DealRow]) -> None:
    """Remember deals; one whose ticket is known is left alone."""
    _ADD.run(conn, [_values(deal) for deal in deals])


def all_deals(conn: Connection, *, bot_id: int | None = None) -> list[DealRow]:
    """Deals in the order of their tickets; of one bot only, when it is named."""
    query = select(ledger_deals).order_by(ledger_deals.c.ticket)
    if bot_id is not None:
        query = query.where(ledger_deals.c.bot_id == bot_id)
    return [DealRow(**{**row._mapping, "magic": unsigned(row.magic)}) for row in conn.execute(query)]


def last_deal_ticket(conn: Connection) -> int:
    """The highest ticket that is booked; 0 for none."""
    return int(conn.execute(select(func.max(ledger_deals.c.ticket))).scalar() or 0)


def realised_by_magic(conn: Connection) -> dict[int, float]:
    """Money made by each magic number: the sum of profit, commission, swap and fee, rounded to 8 digits."""
    columns = ledger_deals.c
    money = func.sum(columns.profit + columns.commission + columns.swap + columns.fee)
    query = select(columns.magic, money).group_by(columns.magic)
    return {unsigned(int(magic)): round(float(total), 8) for magic, total in conn.execute(query)}


def _values(deal: DealRow) -> dict[str, Any]:
    return {name: getattr(deal, name) for name in DealRow.__dataclass_fields__} | {"magic": signed(deal.magic)}
