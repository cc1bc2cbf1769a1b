"""The desk of a living bot: its symbol and its position, through the gateway."""

from __future__ import annotations

from typing import Any, Final

from botproc.desk import OrderDraft, Side
from broker.api import ORDER_TYPE_BUY, ORDER_TYPE_SELL
from broker.client import GatewayClient, GatewayDown
from protocol.messages import Attached, OrderResult, Phase
from protocol.progress import Progress

#: Seconds for a read, for an order, and for an order in lockstep, which waits for the other bots' answers.
_READ: Final = 5.0
_ORDER: Final = 10.0
_ORDER_LOCKSTEP: Final = 60.0


class LiveDesk:
    """A `botproc.desk.Desk` over the gateway. `down` is set when the gateway did not answer: attach again."""

    def __init__(self, client: GatewayClient, attached: Attached, magic: int, progress: Progress) -> None:
        self._client = client
        self._magic = magic
        self._progress = progress
        self.down = False
        self.take(attached)

    def take(self, attached: Attached) -> None:
        """The gateway was attached to (again)."""
        self._symbol = attached.symbol
        self._order_timeout = _ORDER_LOCKSTEP if attached.lockstep else _ORDER
        self.down = False

    def symbol_info(self) -> dict[str, Any]:
        """SymbolInfo, as it is now: brokers change it."""
        return dict(self._call("symbol_info", self._symbol))

    def tick(self) -> dict[str, Any]:
        """The last quote."""
        return dict(self._call("symbol_info_tick", self._symbol))

    def account_info(self) -> dict[str, Any]:
        """AccountInfo."""
        return dict(self._call("account_info"))

    def position(self) -> dict[str, Any] | None:
        """The open position with this bot's magic on its symbol; None when there is none."""
        mine = [p for p in self._call("positions_get", symbol=self._symbol) if p["magic"] == self._magic]
        return dict(mine[-1]) if mine else None

    def last_deal(self, position_id: int) -> dict[str, Any] | None:
        """The newest deal of a position."""
        deals = self._call("history_deals_get", position=position_id)
        return dict(deals[-1]) if deals else None

    def calc_profit(self, side: Side, volume: float, price_open: float, price_close: float) -> float:
        """Profit in account currency."""
        return float(self._call("order_calc_profit", _type(side), self._symbol, volume, price_open, price_close))

    def calc_margin(self, side: Side, volume: float, price: float) -> float:
        """Margin in account currency."""
        return float(self._call("order_calc_margin", _type(side), self._symbol, volume, price))

    def send(self, draft: OrderDraft) -> OrderResult:
        """Send the order once, stamped with the next number of this run."""
        self._progress.move(Phase.TRADE, self._order_timeout + _READ)
        order = self._client.new_order(
            draft.action,
            symbol=self._symbol,
            decision=draft.decision,
            bar_time=draft.bar_time,
            side=draft.side,
            volume=draft.volume,
            sl=draft.sl,
            tp=draft.tp,
            position=draft.position,
            deviation=draft.deviation,
            comment=draft.comment,
        )
        result = self._client.send(order, self._order_timeout)
        self._progress.touch()
        return result

    def resolve(self, order_id: str) -> OrderResult:
        """Ask what became of an order."""
        return self._client.resolve(order_id, _READ)

    def _call(self, fn: str, *args: Any, **kwargs: Any) -> Any:
        self._progress.touch()
        try:
            return self._client.call(fn, *args, timeout=_READ, **kwargs)
        except GatewayDown:
            self.down = True
            raise


def _type(side: Side) -> int:
    return ORDER_TYPE_BUY if side == "buy" else ORDER_TYPE_SELL
