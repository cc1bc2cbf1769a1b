"""What one step of the market tells."""

from __future__ import annotations

from typing import NamedTuple

from broker.api import TradeDeal


class ClosedBar(NamedTuple):
    """A bar that closed: one record of the rates dtype, and the symbol's quote after the moment."""

    symbol: str
    timeframe: str
    row: bytes
    bid: float
    ask: float


class Step(NamedTuple):
    """One moment of the market: server seconds, bars that closed, deals that it made.

    `missed`: symbols and timeframes whose bars are late, or not all there: whoever follows them must attach anew.
    """

    time: int
    closed: tuple[ClosedBar, ...]
    deals: tuple[TradeDeal, ...] = ()
    missed: tuple[tuple[str, str], ...] = ()
