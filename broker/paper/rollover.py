"""Swap: what a position costs, or earns, for a night.

Modes: mql5.com, "Symbol properties", ENUM_SYMBOL_SWAP_MODE. A night that begins on a Saturday or Sunday pays
nothing; one day of the week pays for them, threefold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from broker import api
from broker.paper.account import Account
from broker.paper.matching import Position
from broker.paper.series import Series
from broker.symbols import SymbolSpec

_DAY: Final = 86_400
_BANK_YEAR: Final = 360  # days
_INTEREST: Final = (api.SYMBOL_SWAP_MODE_INTEREST_CURRENT, api.SYMBOL_SWAP_MODE_INTEREST_OPEN)
_REOPEN: Final = (api.SYMBOL_SWAP_MODE_REOPEN_CURRENT, api.SYMBOL_SWAP_MODE_REOPEN_BID)
_WEEKEND: Final = (api.DAY_OF_WEEK_SATURDAY, api.DAY_OF_WEEK_SUNDAY)


def midnights(after: int, until: int) -> Iterator[tuple[Callable[[SymbolSpec], int], int]]:
    """The midnights after `after` and up to `until`: how often each pays for a symbol, and when it is."""
    for midnight in range((after // _DAY + 1) * _DAY, until + 1, _DAY):
        weekday = (midnight // _DAY + 3) % 7  # of the day that ended, Sunday 0
        if weekday not in _WEEKEND:
            yield (lambda spec, day=weekday: 3 if day == spec.triple_day else 1), midnight  # type: ignore[misc]


def pay(account: Account, series: Series, position: Position, nights: int, time_msc: int) -> None:
    """Book the swap of so many nights on a position: gathered, or by closing and opening it again."""
    spec = series.spec
    rate = (spec.swap_long if position.buy else spec.swap_short) * nights
    if not rate or spec.swap_mode == api.SYMBOL_SWAP_MODE_DISABLED:
        return
    if spec.swap_mode in _REOPEN:
        close = series.bid if position.buy else series.ask
        base = series.bid if spec.swap_mode == api.SYMBOL_SWAP_MODE_REOPEN_BID else close
        moved = round(base + rate * spec.point, spec.digits)
        account.reopen(position.ticket, close, moved, time_msc)
        return
    value = _value(account, series, position, rate)
    account.add_swap(position.ticket, value)


def _value(account: Account, series: Series, position: Position, rate: float) -> float:
    """The swap in the account's currency, not rounded."""
    spec, calc, lots = series.spec, account.calc, position.volume
    if spec.swap_mode == api.SYMBOL_SWAP_MODE_POINTS:
        return calc.convert(rate * spec.point * spec.worth * lots, spec.profit) or 0.0
    if spec.swap_mode == api.SYMBOL_SWAP_MODE_CURRENCY_DEPOSIT:
        return rate * lots
    if spec.swap_mode in _INTEREST:
        current = spec.swap_mode == api.SYMBOL_SWAP_MODE_INTEREST_CURRENT
        price = series.bid if current else position.price_open
        return calc.convert(rate / 100 / _BANK_YEAR * price * spec.worth * lots, spec.profit) or 0.0
    currency = spec.base if spec.swap_mode == api.SYMBOL_SWAP_MODE_CURRENCY_SYMBOL else spec.margin_currency
    return calc.convert(rate * lots, currency) or 0.0
