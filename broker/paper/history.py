"""What is open, and what was: positions, deals, orders."""

from __future__ import annotations

from typing import Any

from broker.api import RES_E_INVALID_PARAMS, TradeDeal, TradeOrder, TradePosition, When
from broker.functions import in_group
from broker.paper.answers import Failed, answers
from broker.paper.bars import seconds
from broker.paper.core import Core
from broker.paper.matching import BUYING, Position
from broker.paper.past import Past, Record


def _number(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise Failed(RES_E_INVALID_PARAMS, f'Invalid "{name}" argument')
    return int(value.__index__())


def _text(name: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise Failed(RES_E_INVALID_PARAMS, f'Invalid "{name}" argument')
    return value


def _named_only(args: tuple[object, ...]) -> None:
    if args:
        raise Failed(RES_E_INVALID_PARAMS, "Unnamed arguments not allowed")


class History(Core):
    """positions_*, orders_*, history_*. Filters are `symbol=`, `ticket=` or `group=`; without one: everything."""

    @answers
    def positions_total(self) -> int:
        """How many positions are open."""
        return len(self.account.positions)

    @answers
    def positions_get(
        self, *args: object, symbol: str | None = None, ticket: int | None = None, group: str | None = None
    ) -> tuple[TradePosition, ...]:
        """Open positions by ticket; an empty tuple where there is none."""
        _named_only(args)
        name, number, mask = _text("symbol", symbol), _number("ticket", ticket), _text("group", group)
        return tuple(
            self._shown(each)
            for each in self.account.positions.values()
            if (name is None or each.symbol == name)
            and (number is None or each.ticket == number)
            and (mask is None or in_group(each.symbol, mask))
        )

    @answers
    def orders_total(self) -> int:
        """How many orders wait."""
        return len(self.account.pending)

    @answers
    def orders_get(
        self, *args: object, symbol: str | None = None, ticket: int | None = None, group: str | None = None
    ) -> tuple[TradeOrder, ...]:
        """Orders that wait, by ticket; an empty tuple where there is none."""
        _named_only(args)
        name, number, mask = _text("symbol", symbol), _number("ticket", ticket), _text("group", group)
        return tuple(
            self._waits(each)
            for each in self.account.pending.values()
            if (name is None or each.symbol == name)
            and (number is None or each.ticket == number)
            and (mask is None or in_group(each.symbol, mask))
        )

    def _waits(self, order: TradeOrder) -> TradeOrder:
        series = self.series[order.symbol]
        return order._replace(price_current=series.ask if order.type in BUYING else series.bid)

    @answers
    def history_deals_total(self, date_from: When, date_to: When) -> int:
        """How many deals from `date_from` to `date_to`, both included."""
        return len(_between(self.account.deals, date_from, date_to))

    @answers
    def history_deals_get(
        self, *args: Any, group: str | None = None, ticket: int | None = None, position: int | None = None,
        date_from: When | None = None, date_to: When | None = None,
    ) -> tuple[TradeDeal, ...]:  # fmt: skip
        """Deals, oldest first: `(from, to[, group=])`, `ticket=` of their order, or `position=` their identifier."""
        number, identifier = _number("ticket", ticket), _number("position", position)
        if number is not None:
            return self.account.deals.numbered(number)
        return _history(self.account.deals, identifier, _range(args, date_from, date_to), group)

    @answers
    def history_orders_total(self, date_from: When, date_to: When) -> int:
        """How many orders that are done, from `date_from` to `date_to`, both included."""
        return len(_between(self.account.orders, date_from, date_to))

    @answers
    def history_orders_get(
        self, *args: Any, group: str | None = None, ticket: int | None = None, position: int | None = None,
        date_from: When | None = None, date_to: When | None = None,
    ) -> tuple[TradeOrder, ...]:  # fmt: skip
        """Orders that are done, oldest first: `(from, to[, group=])`, or `ticket=`, or `position=`."""
        number, identifier = _number("ticket", ticket), _number("position", position)
        if number is not None:
            return self.account.orders.numbered(number)
        return _history(self.account.orders, identifier, _range(args, date_from, date_to), group)

    def _shown(self, position: Position) -> TradePosition:
        series = self.series[position.symbol]
        return TradePosition(
            ticket=position.ticket,
            time=position.time_msc // 1000,
            time_msc=position.time_msc,
            time_update=position.time_update_msc // 1000,
            time_update_msc=position.time_update_msc,
            type=position.type,
            magic=position.magic,
            identifier=position.identifier,
            reason=position.reason,
            volume=position.volume,
            price_open=position.price_open,
            sl=position.sl,
            tp=position.tp,
            price_current=series.bid if position.buy else series.ask,
            swap=position.swap,
            profit=self.account.profit_of(position),
            symbol=position.symbol,
            comment=position.comment,
            external_id="",
        )


def _range(args: tuple[Any, ...], date_from: When | None, date_to: When | None) -> tuple[When, When] | None:
    values = (*args, *(each for each in (date_from, date_to) if each is not None))
    if not values:
        return None
    if len(values) != 2:
        raise Failed(RES_E_INVALID_PARAMS, "Invalid arguments")
    return values[0], values[1]


def _between(records: Past[Record], date_from: object, date_to: object) -> range:
    # The end is a whole second, as in MetaTrader: everything within it is in.
    return records.between(seconds(date_from, "date_from") * 1000, seconds(date_to, "date_to") * 1000 + 999)


def _history(
    records: Past[Record], identifier: int | None, span: tuple[When, When] | None, group: str | None
) -> tuple[Record, ...]:
    mask = _text("group", group)
    if identifier is not None:
        return records.of_position(identifier)
    if span is None:
        raise Failed(RES_E_INVALID_PARAMS)
    inside = _between(records, *span)
    found = records[inside.start : inside.stop]
    return tuple(each for each in found if mask is None or in_group(each.symbol, mask))
