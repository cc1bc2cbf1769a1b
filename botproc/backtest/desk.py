"""The desk of a bot in a backtest: the paper terminal itself, without a gateway between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from botproc.desk import OrderDraft, Side
from broker.api import ORDER_TYPE_BUY, ORDER_TYPE_SELL, TRADE_RETCODE_POSITION_CLOSED
from broker.desk import TerminalFailed
from broker.gateway.requests import filling_of, mismatch, request_of, status_of
from broker.paper.terminal import PaperTerminal
from protocol.messages import Order, OrderResult

#: Carries an order out, and answers with what became of it.
Route = Callable[[Order], OrderResult]

_EPOCH: Final = 1


class PaperDesk:
    """A `botproc.desk.Desk`. Orders go through `route`, which an engine with several bots sets for each bar."""

    def __init__(self, terminal: PaperTerminal, *, bot_id: int, magic: int, symbol: str) -> None:
        self._terminal = terminal
        self._bot_id = bot_id
        self._magic = magic
        self._symbol = symbol
        self._sent = 0
        self.route: Route = self.execute
        #: Why an entry is refused before it reaches the market; empty when it is not. An engine with guards sets it.
        self.guard: Callable[[Order], str] = lambda _order: ""

    def symbol_info(self) -> dict[str, Any]:
        """SymbolInfo."""
        return dict(self._known(self._terminal.symbol_info(self._symbol))._asdict())

    def tick(self) -> dict[str, Any]:
        """The last quote."""
        return dict(self._known(self._terminal.symbol_info_tick(self._symbol))._asdict())

    def account_info(self) -> dict[str, Any]:
        """AccountInfo."""
        return dict(self._known(self._terminal.account_info())._asdict())

    def position(self) -> dict[str, Any] | None:
        """The open position with this bot's magic on its symbol; None when there is none."""
        if not self._terminal.account.positions:
            return None  # what the next line says too, sooner: most bars of most backtests are flat
        held = self._known(self._terminal.positions_get(symbol=self._symbol))
        mine = [position for position in held if position.magic == self._magic]
        return dict(mine[-1]._asdict()) if mine else None

    def last_deal(self, position_id: int) -> dict[str, Any] | None:
        """The newest deal of a position."""
        # From the end: `history_deals_get` looks at all of them, and a backtest makes thousands.
        deals = reversed(self._terminal.account.deals)
        found = next((deal for deal in deals if deal.position_id == position_id), None)
        return dict(found._asdict()) if found is not None else None

    def calc_profit(self, side: Side, volume: float, price_open: float, price_close: float) -> float:
        """Profit in account currency."""
        kind = ORDER_TYPE_BUY if side == "buy" else ORDER_TYPE_SELL
        return float(self._known(self._terminal.order_calc_profit(kind, self._symbol, volume, price_open, price_close)))

    def calc_margin(self, side: Side, volume: float, price: float) -> float:
        """Margin in account currency."""
        kind = ORDER_TYPE_BUY if side == "buy" else ORDER_TYPE_SELL
        return float(self._known(self._terminal.order_calc_margin(kind, self._symbol, volume, price)))

    def send(self, draft: OrderDraft) -> OrderResult:
        """Hand the order to the route."""
        self._sent += 1
        return self.route(
            Order(
                installation="backtest",
                bot_id=self._bot_id,
                epoch=_EPOCH,
                seq=self._sent,
                gateway_boot="backtest",
                decided_at=0.0,
                decided_mono=0.0,
                decision=draft.decision,
                bar_time=draft.bar_time,
                action=draft.action,
                symbol=self._symbol,
                side=draft.side,
                volume=draft.volume,
                sl=draft.sl,
                tp=draft.tp,
                position=draft.position,
                deviation=draft.deviation,
                comment=draft.comment,
                magic=self._magic,
            )
        )

    def resolve(self, order_id: str) -> OrderResult:
        """An answer that was not clear stays so: the terminal is asked at once, and answers at once."""
        return OrderResult(id=order_id, status="refused", reason="the terminal could not keep it")

    def execute(self, order: Order) -> OrderResult:
        """Do what the gateway does with an order: the same request, the same reading of the answer."""
        terminal = self._terminal
        if order.action == "open":
            reason = self.guard(order)
            if reason:
                return _refused(order, reason)
        else:
            held = self._known(terminal.positions_get(ticket=order.position))
            if not held:
                reason = f"there is no position {order.position}"
                return _refused(order, reason, TRADE_RETCODE_POSITION_CLOSED)
            reason = mismatch(order, held[0]._asdict())
            if reason:
                return _refused(order, reason)
        info = self._known(terminal.symbol_info(order.symbol))
        tick = self._known(terminal.symbol_info_tick(order.symbol))
        answer = self._known(terminal.order_send(request_of(order, filling_of(info._asdict()), tick.bid, tick.ask)))
        status = status_of(answer.retcode, embedded=True)
        if status != "done":
            return OrderResult(id=order.id, status=status, retcode=answer.retcode, reason=answer.comment)
        after = self._known(terminal.positions_get(symbol=order.symbol))
        position = next((each._asdict() for each in after if each.magic == order.magic), None)
        return OrderResult(
            id=order.id,
            status=status,
            retcode=answer.retcode,
            deal=answer.deal,
            order=answer.order,
            volume=answer.volume,
            price=answer.price,
            position=position,
        )

    def _known(self, value: Any) -> Any:
        if value is None:
            raise TerminalFailed(*self._terminal.last_error())
        return value


def _refused(order: Order, reason: str, retcode: int = 0) -> OrderResult:
    return OrderResult(id=order.id, status="refused", reason=reason, retcode=retcode)
