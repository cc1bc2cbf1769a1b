"""Profit and margin in the account's currency.

Formulas: mql5.com, "Symbol properties", ENUM_SYMBOL_CALC_MODE.
    profit  FOREX, CFDs, stocks     (close - open) * contract * lots, sign turned for a sell
            FUTURES, EXCH_FUTURES   (close - open) * tick value / tick size * lots
    margin  FOREX                   lots * contract / leverage     in the base currency
            FOREX_NO_LEVERAGE       lots * contract                in the base currency
            CFD, EXCH_STOCKS        lots * contract * price        in the currency of the price
            CFDLEVERAGE             lots * contract * price / leverage
            CFDINDEX                lots * contract * price * tick value / tick size
            FUTURES, EXCH_FUTURES   lots * initial margin
A conversion goes through the account's symbols, in either direction, over at most one currency between. A gain
is sold (at the bid), a loss or a margin is bought (at the ask). Where the symbol itself converts (USDJPY on an
account in USD), its price in question is used instead of the quote: a stop's loss is known at the stop's price.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from broker.api import (
    SYMBOL_CALC_MODE_CFDLEVERAGE,
    SYMBOL_CALC_MODE_EXCH_FUTURES,
    SYMBOL_CALC_MODE_FOREX,
    SYMBOL_CALC_MODE_FOREX_NO_LEVERAGE,
    SYMBOL_CALC_MODE_FUTURES,
)
from broker.paper.series import Series
from broker.symbols import SymbolSpec, currency_digits

_LEVERAGED: Final = (SYMBOL_CALC_MODE_FOREX, SYMBOL_CALC_MODE_CFDLEVERAGE)
_FUTURES: Final = (SYMBOL_CALC_MODE_FUTURES, SYMBOL_CALC_MODE_EXCH_FUTURES)
_PAIRS: Final = (SYMBOL_CALC_MODE_FOREX, SYMBOL_CALC_MODE_FOREX_NO_LEVERAGE)

#: Steps of a conversion: the symbol, and whether it is walked from its price's currency to its base.
Path = tuple[tuple[str, bool], ...]


class Calculator:
    """Money of trades on an account in `currency` with `leverage`, by the quotes of `series`."""

    def __init__(self, currency: str, leverage: int, series: Mapping[str, Series]) -> None:
        self.currency = currency
        self.digits = currency_digits(currency)
        self._leverage = leverage
        self._series = series
        self._paths: dict[str, Path | None] = {}

    def money(self, value: float) -> float:
        """`value` as it is booked."""
        return round(value, self.digits) + 0.0  # no minus zero

    def profit(self, spec: SymbolSpec, buy: bool, volume: float, price_open: float, price_close: float) -> float | None:
        """Profit of `volume` lots from `price_open` to `price_close`; None where no symbol converts it."""
        change = price_close - price_open if buy else price_open - price_close
        value = change * spec.worth * volume
        rate = self._rate(spec.profit, value >= 0, spec.name, price_close)
        return None if rate is None else self.money(value * rate)

    def margin(self, spec: SymbolSpec, volume: float, price: float) -> float | None:
        """Margin of `volume` lots at `price`; None where no symbol converts it."""
        if spec.calc_mode in _FUTURES:
            value = volume * spec.margin_initial
        else:
            value = volume * spec.contract
            if spec.calc_mode not in _PAIRS:
                value *= price * spec.index_ratio
            if spec.calc_mode in _LEVERAGED:
                value /= self._leverage
        rate = self._rate(spec.margin_currency, False, spec.name, price)
        return None if rate is None else self.money(value * rate)

    def converts(self, spec: SymbolSpec) -> bool:
        """Whether the symbol's profit and margin can be told in the account's currency."""
        return all(
            currency == self.currency or self._path(currency) is not None
            for currency in (spec.profit, spec.margin_currency)
        )

    def convert(self, value: float, currency: str) -> float | None:
        """`value` of `currency` by the present quotes, not rounded."""
        rate = self._rate(currency, value >= 0, "", 0.0)
        return None if rate is None else value * rate

    def _rate(self, currency: str, gain: bool, own: str, own_price: float) -> float | None:
        if currency == self.currency:
            return 1.0
        path = self._path(currency)
        if path is None:
            return None
        rate = 1.0
        for symbol, back in path:
            if symbol == own:
                price = own_price
            else:
                series = self._series[symbol]
                # Selling the pair's base gives its bid; buying the base with its price's currency costs the ask.
                price = series.bid if gain != back else series.ask
            if price <= 0:
                return None
            rate = rate / price if back else rate * price
        return rate

    def _path(self, currency: str) -> Path | None:
        if currency not in self._paths:
            self._paths[currency] = self._find(currency)
        return self._paths[currency]

    def _find(self, currency: str) -> Path | None:
        steps: dict[str, dict[str, tuple[str, bool]]] = {}
        for name, series in self._series.items():
            spec = series.spec
            if spec.calc_mode in _PAIRS:
                steps.setdefault(spec.base, {}).setdefault(spec.profit, (name, False))
                steps.setdefault(spec.profit, {}).setdefault(spec.base, (name, True))
        first = steps.get(currency, {})
        if self.currency in first:
            return (first[self.currency],)
        for middle in sorted(first, key=lambda name: (name != "USD", name)):
            last = steps[middle].get(self.currency)
            if last is not None:
                return (first[middle], last)
        return None
