"""The desk: what a trader needs of its terminal, live or in a backtest.

Any method may raise a `StablehandError` when the terminal cannot answer: the trader then does nothing and
says so. An answer of None means "there is none", never "not known".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from protocol.errors import UNAVAILABLE, StablehandError
from protocol.messages import OrderResult

Side = Literal["buy", "sell"]


class DeskFailed(StablehandError):
    """The terminal cannot answer now."""

    code = UNAVAILABLE


@dataclass(frozen=True, slots=True)
class OrderDraft:
    """An order as the trader decides it. The desk adds who sends it (bot, epoch, magic) and when."""

    action: Literal["open", "close"]
    side: Side
    """Open: side of the new position. Close: side of the position that is closed."""
    volume: float
    """Lots."""
    sl: float = 0.0
    tp: float = 0.0
    """Prices; 0: none."""
    position: int = 0
    """Ticket of the position to close."""
    deviation: int = 20
    """Largest slippage accepted, in points."""
    comment: str = ""
    """At most 16 characters: brokers cut it."""
    decision: str = ""
    """Decision key: symbol|timeframe|bar_time."""
    bar_time: int = 0
    """Opening time of the bar decided on, in seconds of the server's clock."""


class Desk(Protocol):
    """One bot's view of its account: its own symbol, and its own position (by magic)."""

    def symbol_info(self) -> dict[str, Any]:
        """MetaTrader's SymbolInfo of the bot's symbol."""
        ...

    def tick(self) -> dict[str, Any]:
        """The last quote: MetaTrader's Tick."""
        ...

    def account_info(self) -> dict[str, Any]:
        """MetaTrader's AccountInfo."""
        ...

    def position(self) -> dict[str, Any] | None:
        """The bot's open position (TradePosition), None when flat. Raises when the terminal failed."""
        ...

    def last_deal(self, position_id: int) -> dict[str, Any] | None:
        """The newest deal of a position (TradeDeal); None where the desk cannot tell."""
        ...

    def calc_profit(self, side: Side, volume: float, price_open: float, price_close: float) -> float:
        """Profit in account currency, as order_calc_profit has it."""
        ...

    def calc_margin(self, side: Side, volume: float, price: float) -> float:
        """Margin in account currency, as order_calc_margin has it."""
        ...

    def send(self, draft: OrderDraft) -> OrderResult:
        """Send once. `unknown` when no answer came in time."""
        ...

    def resolve(self, order_id: str) -> OrderResult:
        """What became of an order whose answer was `unknown`. Never sends it anew."""
        ...
