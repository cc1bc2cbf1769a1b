"""The paper account: balance, positions, deals and orders, and what of them is not in the database yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection

from broker.api import (
    DEAL_ENTRY_IN,
    DEAL_ENTRY_INOUT,
    DEAL_ENTRY_OUT,
    DEAL_REASON_CLIENT,
    DEAL_TYPE_BALANCE,
    DEAL_TYPE_BUY,
    DEAL_TYPE_SELL,
    ORDER_FILLING_FOK,
    ORDER_STATE_FILLED,
    POSITION_TYPE_BUY,
    POSITION_TYPE_SELL,
    TradeDeal,
    TradeOrder,
)
from broker.paper.calc import Calculator
from broker.paper.matching import Position
from broker.paper.series import Series
from broker.symbols import SymbolSpec
from store import paper as tables

_FIRST_TICKET = 1_000_001
_WRAP = 1 << 64


class Trade(NamedTuple):
    """One execution: what a market order, a stop or a stop-out does at a price."""

    spec: SymbolSpec
    buy: bool  # side of the deal, not of the position
    volume: float
    price: float
    time_msc: int
    reason: int
    magic: int = 0
    comment: str = ""
    sl: float = 0.0
    tp: float = 0.0
    filling: int = ORDER_FILLING_FOK
    position: int = 0  # ticket to close; 0: open, or in netting whatever the symbol's position needs


class Booked(NamedTuple):
    """Tickets of an execution."""

    order: int
    deal: TradeDeal


class Totals(NamedTuple):
    """The account's money now."""

    floating: float
    equity: float
    margin: float

    @property
    def level(self) -> float:
        """Equity over margin in percent; 0 without margin."""
        return self.equity / self.margin * 100.0 if self.margin else 0.0


class Account:
    """State in memory and, after `flush` in a transaction, on disk. Money of each deal is rounded when booked,

    so that the balance is the sum of all deals (profit + commission + swap + fee) at every moment.
    """

    def __init__(self, calc: Calculator, series: Mapping[str, Series], *, netting: bool, commission: float) -> None:
        self.calc = calc
        self.netting = netting
        self.balance = 0.0
        self.positions: dict[int, Position] = {}
        self.deals: list[TradeDeal] = []
        self.orders: list[TradeOrder] = []
        self._series = series
        self._commission = commission
        self._next_order = self._next_deal = _FIRST_TICKET
        self._saved_deals = self._saved_orders = 0
        self._saved: dict[int, Position] = {}
        self._before: tuple[Any, ...] = ()

    # --- memory and disk -----------------------------------------------------------------------------

    def load(self, conn: Connection, row: tables.Row) -> None:
        """Take the state of the database."""
        self.balance = row["balance"]
        self._next_order, self._next_deal = row["next_order"], row["next_deal"]
        positions = [Position(**_unsigned(each)) for each in tables.load_positions(conn)]
        self.positions = {each.ticket: each for each in positions}
        self.deals = [TradeDeal(**_unsigned(each)) for each in tables.load_deals(conn)]
        self.orders = [TradeOrder(**_unsigned(each)) for each in tables.load_orders(conn)]
        self._mark_saved()

    @property
    def changed(self) -> bool:
        """Whether something is not in the database yet."""
        return (
            len(self.deals) != self._saved_deals
            or len(self.orders) != self._saved_orders
            or self.positions != self._saved
        )

    def flush(self, conn: Connection, now: int) -> None:
        """Write what changed. `committed` follows when the transaction is through."""
        tables.add_deals(conn, [_signed(deal._asdict()) for deal in self.deals[self._saved_deals :]])
        tables.add_orders(conn, [_signed(order._asdict()) for order in self.orders[self._saved_orders :]])
        new = [each for each in self.positions.values() if self._saved.get(each.ticket) is not each]
        old = [each.ticket for each in self._saved.values() if self.positions.get(each.ticket) is not each]
        tables.replace_positions(conn, old, [_signed(each._asdict()) for each in new])
        tables.set_account(conn, balance=self.balance, now=now, next_order=self._next_order, next_deal=self._next_deal)

    def committed(self) -> None:
        """What was flushed is durable."""
        self._mark_saved()

    def undo(self) -> None:
        """Back to what is durable: the change never happened."""
        self.balance, self._next_order, self._next_deal = self._before
        del self.deals[self._saved_deals :], self.orders[self._saved_orders :]
        self.positions = dict(self._saved)

    def _mark_saved(self) -> None:
        self._saved_deals, self._saved_orders = len(self.deals), len(self.orders)
        self._saved = dict(self.positions)
        self._before = (self.balance, self._next_order, self._next_deal)

    # --- money ---------------------------------------------------------------------------------------

    def profit_of(self, position: Position) -> float:
        """Floating profit at the present quote, without swap."""
        series = self._series[position.symbol]
        price = series.bid if position.buy else series.ask
        profit = self.calc.profit(series.spec, position.buy, position.volume, position.price_open, price)
        return profit if profit is not None else 0.0

    def totals(self) -> Totals:
        """Floating profit (with swap), equity and margin. Each position pays its own margin, hedged or not."""
        floating = margin = 0.0
        for position in self.positions.values():
            floating += self.profit_of(position) + position.swap
            spec = self._series[position.symbol].spec
            margin += self.calc.margin(spec, position.volume, position.price_open) or 0.0
        money = self.calc.money
        return Totals(money(floating), money(self.balance + floating), money(margin))

    # --- changes -------------------------------------------------------------------------------------

    def deposit(self, amount: float, time_msc: int) -> None:
        """Book the first money as a BALANCE deal."""
        self._book(time_msc, DEAL_TYPE_BALANCE, DEAL_ENTRY_IN, DEAL_REASON_CLIENT, profit=amount, comment="Deposit")

    def execute(self, trade: Trade) -> Booked:
        """Open, add to, reduce, close or turn a position. The caller has checked that it may be done."""
        position = self._target(trade)
        if position is not None and position.buy != trade.buy:
            return self._against(trade, position)
        order = self._next_order
        identifier = position.identifier if position is not None else order
        deal = self._deal(trade, order, DEAL_ENTRY_IN, identifier)
        self._order(trade, order, identifier)
        if position is None:
            self._open(trade, order, identifier, trade.volume)
        else:
            self._add(trade, position)
        return Booked(order, deal)

    def modify(self, ticket: int, sl: float, tp: float, time_msc: int) -> None:
        """Set a position's stops."""
        position = self.positions[ticket]
        self.positions[ticket] = position._replace(sl=sl, tp=tp, time_update_msc=time_msc)

    def add_swap(self, ticket: int, points: float) -> None:
        """Gather `points` of swap on a position; booked with the deal that closes it."""
        position = self.positions[ticket]
        spec = self._series[position.symbol].spec
        value = self.calc.convert(points * spec.point * spec.contract * position.volume, spec.profit)
        if value:
            self.positions[ticket] = position._replace(swap=self.calc.money(position.swap + value))

    def _target(self, trade: Trade) -> Position | None:
        if trade.position:
            return self.positions[trade.position]
        return self.position_on(trade.spec.name) if self.netting else None

    def position_on(self, symbol: str) -> Position | None:
        """The first position on a symbol; on a netting account the only one."""
        return next((each for each in self.positions.values() if each.symbol == symbol), None)

    def _against(self, trade: Trade, position: Position) -> Booked:
        closed = min(trade.volume, position.volume)
        left = round(position.volume - closed, 8)
        turned = round(trade.volume - closed, 8)
        profit = self.calc.profit(trade.spec, position.buy, closed, position.price_open, trade.price)
        assert profit is not None  # it was opened because its profit can be converted; paths do not go away
        swap = self.calc.money(position.swap * closed / position.volume) if left else position.swap
        order = self._next_order
        entry = DEAL_ENTRY_INOUT if turned else DEAL_ENTRY_OUT
        deal = self._deal(trade, order, entry, position.identifier, profit=profit, swap=swap)
        self._order(trade, order, position.identifier)
        if left:
            rest = self.calc.money(position.swap - swap)
            self.positions[position.ticket] = position._replace(volume=left, swap=rest, time_update_msc=trade.time_msc)
        else:
            del self.positions[position.ticket]
        if turned:
            # The identifier stays for the life of the position; its ticket is that of the order that turned it.
            self._open(trade, order, position.identifier, turned)
        return Booked(order, deal)

    def _open(self, trade: Trade, ticket: int, identifier: int, volume: float) -> None:
        self.positions[ticket] = Position(
            ticket=ticket,
            identifier=identifier,
            symbol=trade.spec.name,
            type=POSITION_TYPE_BUY if trade.buy else POSITION_TYPE_SELL,
            volume=volume,
            price_open=trade.price,
            sl=trade.sl,
            tp=trade.tp,
            swap=0.0,
            time_msc=trade.time_msc,
            time_update_msc=trade.time_msc,
            magic=trade.magic,
            reason=trade.reason,
            comment=trade.comment,
        )

    def _add(self, trade: Trade, position: Position) -> None:
        volume = round(position.volume + trade.volume, 8)
        price = (position.price_open * position.volume + trade.price * trade.volume) / volume
        self.positions[position.ticket] = position._replace(
            volume=volume,
            price_open=round(price, trade.spec.digits + 3),
            sl=trade.sl or position.sl,
            tp=trade.tp or position.tp,
            time_update_msc=trade.time_msc,
        )

    def _deal(
        self, trade: Trade, order: int, entry: int, position_id: int, *, profit: float = 0.0, swap: float = 0.0
    ) -> TradeDeal:
        kind = DEAL_TYPE_BUY if trade.buy else DEAL_TYPE_SELL
        return self._book(
            trade.time_msc,
            kind,
            entry,
            trade.reason,
            order=order,
            magic=trade.magic,
            position_id=position_id,
            volume=trade.volume,
            price=trade.price,
            commission=self.calc.money(-self._commission * trade.volume),
            swap=swap,
            profit=profit,
            symbol=trade.spec.name,
            comment=trade.comment,
        )

    def _book(self, time_msc: int, kind: int, entry: int, reason: int, **fields: Any) -> TradeDeal:
        blank: dict[str, Any] = {
            "order": 0,
            "magic": 0,
            "position_id": 0,
            "volume": 0.0,
            "price": 0.0,
            "symbol": "",
            "comment": "",
        }
        money: dict[str, Any] = {"commission": 0.0, "swap": 0.0, "profit": 0.0, "fee": 0.0}
        values = blank | money | fields
        deal = TradeDeal(
            ticket=self._next_deal, time=time_msc // 1000, time_msc=time_msc, type=kind, entry=entry, reason=reason,
            external_id="", **values,
        )  # fmt: skip
        self._next_deal += 1
        self.deals.append(deal)
        self.balance = self.calc.money(self.balance + deal.profit + deal.commission + deal.swap + deal.fee)
        return deal

    def _order(self, trade: Trade, ticket: int, position_id: int) -> None:
        seconds = trade.time_msc // 1000
        self._next_order += 1
        self.orders.append(
            TradeOrder(
                ticket=ticket, time_setup=seconds, time_setup_msc=trade.time_msc, time_done=seconds,
                time_done_msc=trade.time_msc, time_expiration=0, type=int(not trade.buy), type_time=0,
                type_filling=trade.filling, state=ORDER_STATE_FILLED, magic=trade.magic, position_id=position_id,
                position_by_id=0, reason=trade.reason, volume_initial=trade.volume, volume_current=0.0,
                price_open=trade.price, sl=trade.sl, tp=trade.tp, price_current=trade.price, price_stoplimit=0.0,
                symbol=trade.spec.name, comment=trade.comment, external_id="",
            )
        )  # fmt: skip


def _signed(row: dict[str, Any]) -> dict[str, Any]:
    """Magic is unsigned in MetaTrader, 64 bits signed in a database."""
    if row["magic"] >= _WRAP >> 1:
        row["magic"] -= _WRAP
    return row


def _unsigned(row: tables.Row) -> dict[str, Any]:
    if row["magic"] < 0:
        row["magic"] += _WRAP
    return row
