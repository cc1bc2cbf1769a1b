"""The paper account's money, and what executions do to its positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker import api
from broker.api import POSITION_TYPE_BUY, POSITION_TYPE_SELL, TradeDeal, TradeOrder
from broker.paper.calc import Calculator
from broker.paper.matching import Position
from broker.paper.records import Records
from broker.paper.series import Series
from broker.paper.trades import Booked, Costs, Totals, Trade, blank_order


class Account(Records):
    """Money of each deal is rounded when booked, so that the balance is the sum of all deals (profit + commission +

    swap + fee) at every moment.
    """

    def __init__(self, calc: Calculator, series: Mapping[str, Series], *, netting: bool, costs: Costs) -> None:
        super().__init__()
        self.calc = calc
        self.netting = netting
        self._series = series
        self._costs = costs

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

    # --- orders --------------------------------------------------------------------------------------

    def place(self, order: TradeOrder) -> None:
        """An order begins to wait, or goes on waiting with other terms."""
        self.pending[order.ticket] = order
        self.version += 1

    def retire(self, ticket: int, state: int, time_msc: int, **changes: Any) -> TradeOrder:
        """An order waits no longer: filled, cancelled, expired or rejected."""
        order = self.pending.pop(ticket)
        self.version += 1
        done = order._replace(state=state, time_done=time_msc // 1000, time_done_msc=time_msc, **changes)
        self.orders.append(done)
        return done

    # --- changes -------------------------------------------------------------------------------------

    def deposit(self, amount: float, time_msc: int) -> None:
        """Book the first money as a BALANCE deal."""
        self._book(
            time_msc, api.DEAL_TYPE_BALANCE, api.DEAL_ENTRY_IN, api.DEAL_REASON_CLIENT, profit=amount, comment="Deposit"
        )

    def execute(self, trade: Trade) -> Booked:
        """Open, add to, reduce, close or turn a position. The caller has checked that it may be done."""
        position = self._target(trade)
        order = trade.order or self.take_order()
        if position is not None and position.buy != trade.buy:
            return self._against(trade, position, order)
        identifier = position.identifier if position is not None else order
        deal = self._deal(trade, order, api.DEAL_ENTRY_IN, identifier)
        self._done(trade, order, identifier)
        if position is None:
            self._open(trade, order, identifier, trade.volume)
        else:
            self._add(trade, position)
        return Booked(order, deal)

    def modify(self, ticket: int, sl: float, tp: float, time_msc: int) -> None:
        """Set a position's stops."""
        position = self.positions[ticket]
        self.version += 1
        self.positions[ticket] = position._replace(sl=sl, tp=tp, time_update_msc=time_msc)

    def add_swap(self, ticket: int, value: float) -> None:
        """Gather swap, in the account's currency, on a position; booked with the deal that closes it."""
        position = self.positions[ticket]
        if value:
            self.positions[ticket] = position._replace(swap=self.calc.money(position.swap + value))

    def reopen(self, ticket: int, price_close: float, price_open: float, time_msc: int) -> None:
        """Close a position at one price and open it again at another, as a swap by reopening does."""
        position = self.positions[ticket]
        spec = self._series[position.symbol].spec
        profit = self.calc.profit(spec, position.buy, position.volume, position.price_open, price_close) or 0.0
        fields: dict[str, Any] = {
            "magic": position.magic, "position_id": position.identifier, "volume": position.volume,
            "symbol": position.symbol, "comment": "rollover",
        }  # fmt: skip
        sides = (api.DEAL_TYPE_BUY, api.DEAL_TYPE_SELL)
        into, out = sides if position.buy else sides[::-1]
        rollover = api.DEAL_REASON_ROLLOVER
        self._book(
            time_msc, out, api.DEAL_ENTRY_OUT, rollover, profit=profit, swap=position.swap, price=price_close, **fields
        )
        self._book(time_msc, into, api.DEAL_ENTRY_IN, rollover, price=price_open, **fields)
        self.positions[ticket] = position._replace(price_open=price_open, swap=0.0, time_update_msc=time_msc)

    def close_by(self, first: Position, other: Position, trade: Trade) -> Booked:
        """Close two opposite positions against each other, at the opening price of `other`: no spread is paid.

        The first position's deal bears the profit; the second's is 0.
        """
        volume = min(first.volume, other.volume)
        order = self.take_order()
        deals = []
        for position, profit in ((first, self._gain(first, volume, other.price_open)), (other, 0.0)):
            swap = self._reduce(position, volume, trade.time_msc)
            one = trade._replace(
                buy=not position.buy, volume=volume, price=other.price_open, magic=position.magic, order=order
            )
            entry = api.DEAL_ENTRY_OUT_BY
            deals.append(self._deal(one, order, entry, position.identifier, profit=profit, swap=swap, costs=False))
        done = trade._replace(volume=volume, price=other.price_open)
        self._done(
            done, order, first.identifier, type=api.ORDER_TYPE_CLOSE_BY, position_by_id=other.identifier
        )  # fmt: skip
        return Booked(order, deals[0])

    def position_on(self, symbol: str) -> Position | None:
        """The first position on a symbol; on a netting account the only one."""
        return next((each for each in self.positions.values() if each.symbol == symbol), None)

    def _target(self, trade: Trade) -> Position | None:
        if trade.position:
            return self.positions[trade.position]
        if self.netting:
            return self.position_on(trade.spec.name)
        # An order that is filled in parts fills one position.
        return self.positions.get(trade.order) if trade.order else None

    def _gain(self, position: Position, volume: float, price: float) -> float:
        spec = self._series[position.symbol].spec
        profit = self.calc.profit(spec, position.buy, volume, position.price_open, price)
        assert profit is not None  # it was opened because its profit can be converted; paths do not go away
        return profit

    def _reduce(self, position: Position, volume: float, time_msc: int) -> float:
        """Take `volume` off a position; its share of the swap, which is booked with it."""
        left = round(position.volume - volume, 8)
        self.version += 1
        if not left:
            del self.positions[position.ticket]
            return position.swap
        swap = self.calc.money(position.swap * volume / position.volume)
        rest = self.calc.money(position.swap - swap)
        self.positions[position.ticket] = position._replace(volume=left, swap=rest, time_update_msc=time_msc)
        return swap

    def _against(self, trade: Trade, position: Position, order: int) -> Booked:
        closed = min(trade.volume, position.volume)
        turned = round(trade.volume - closed, 8)
        profit = self._gain(position, closed, trade.price)
        swap = self._reduce(position, closed, trade.time_msc)
        entry = api.DEAL_ENTRY_INOUT if turned else api.DEAL_ENTRY_OUT
        deal = self._deal(trade, order, entry, position.identifier, profit=profit, swap=swap)
        self._done(trade, order, position.identifier)
        if turned:
            # The identifier stays for the life of the position; its ticket is that of the order that turned it.
            self._open(trade, order, position.identifier, turned)
        return Booked(order, deal)

    def _open(self, trade: Trade, ticket: int, identifier: int, volume: float) -> None:
        self.version += 1
        self.positions[ticket] = Position(
            ticket=ticket, identifier=identifier, symbol=trade.spec.name,
            type=POSITION_TYPE_BUY if trade.buy else POSITION_TYPE_SELL, volume=volume, price_open=trade.price,
            sl=trade.sl, tp=trade.tp, swap=0.0, time_msc=trade.time_msc, time_update_msc=trade.time_msc,
            magic=trade.magic, reason=trade.reason, comment=trade.comment,
        )  # fmt: skip
        if ticket < max(self.positions):
            # An old order that filled late: positions stay in the order of their tickets, as after a restart.
            self.positions = dict(sorted(self.positions.items()))

    def _add(self, trade: Trade, position: Position) -> None:
        self.version += 1
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
        self, trade: Trade, order: int, entry: int, position_id: int, *, profit: float = 0.0, swap: float = 0.0,
        costs: bool = True,
    ) -> TradeDeal:  # fmt: skip
        kind = api.DEAL_TYPE_BUY if trade.buy else api.DEAL_TYPE_SELL
        paid = self._costs if costs else Costs()
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
            commission=self.calc.money(-paid.commission * trade.volume),
            fee=self.calc.money(-paid.fee * trade.volume),
            swap=swap,
            profit=profit,
            symbol=trade.spec.name,
            comment=trade.comment,
        )

    def _book(self, time_msc: int, kind: int, entry: int, reason: int, **fields: Any) -> TradeDeal:
        values: dict[str, Any] = {
            "order": 0, "magic": 0, "position_id": 0, "volume": 0.0, "price": 0.0, "symbol": "", "comment": "",
            "commission": 0.0, "swap": 0.0, "profit": 0.0, "fee": 0.0,
        }  # fmt: skip
        deal = TradeDeal(
            ticket=self.take_deal(), time=time_msc // 1000, time_msc=time_msc, type=kind, entry=entry, reason=reason,
            external_id="", **(values | fields),
        )  # fmt: skip
        self.deals.append(deal)
        self.balance = self.calc.money(self.balance + deal.profit + deal.commission + deal.swap + deal.fee)
        return deal

    def _done(self, trade: Trade, ticket: int, position_id: int, **changes: Any) -> None:
        """The order of an execution at once is done with it; one that waited is retired by its owner."""
        if trade.order:
            return
        asked = trade.asked or trade.volume
        left = round(asked - trade.volume, 8)
        order = blank_order(
            ticket=ticket, time_msc=trade.time_msc, type=int(not trade.buy), type_filling=trade.filling,
            magic=trade.magic, position_id=position_id, reason=trade.reason, volume=asked, price_open=trade.price,
            sl=trade.sl, tp=trade.tp, symbol=trade.spec.name, comment=trade.comment,
        )  # fmt: skip
        self.orders.append(
            order._replace(
                time_done=order.time_setup,
                time_done_msc=trade.time_msc,
                state=api.ORDER_STATE_CANCELED if left else api.ORDER_STATE_FILLED,
                volume_current=left,
                **changes,
            )
        )
