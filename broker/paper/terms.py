"""A symbol's terms as the configuration changes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from broker import api, symbols
from broker.symbols import SymbolSpec
from protocol.botconfig import AccountConfig, SymbolTerms
from protocol.errors import InvalidInput

_EXECUTION: Final = {
    "request": api.SYMBOL_TRADE_EXECUTION_REQUEST,
    "instant": api.SYMBOL_TRADE_EXECUTION_INSTANT,
    "market": api.SYMBOL_TRADE_EXECUTION_MARKET,
    "exchange": api.SYMBOL_TRADE_EXECUTION_EXCHANGE,
}
_TRADE_MODE: Final = {
    "disabled": api.SYMBOL_TRADE_MODE_DISABLED,
    "long-only": api.SYMBOL_TRADE_MODE_LONGONLY,
    "short-only": api.SYMBOL_TRADE_MODE_SHORTONLY,
    "close-only": api.SYMBOL_TRADE_MODE_CLOSEONLY,
    "full": api.SYMBOL_TRADE_MODE_FULL,
}
_CALC_MODE: Final = {
    "forex": api.SYMBOL_CALC_MODE_FOREX,
    "forex-no-leverage": api.SYMBOL_CALC_MODE_FOREX_NO_LEVERAGE,
    "futures": api.SYMBOL_CALC_MODE_FUTURES,
    "cfd": api.SYMBOL_CALC_MODE_CFD,
    "cfd-index": api.SYMBOL_CALC_MODE_CFDINDEX,
    "cfd-leverage": api.SYMBOL_CALC_MODE_CFDLEVERAGE,
    "exchange-stocks": api.SYMBOL_CALC_MODE_EXCH_STOCKS,
    "exchange-futures": api.SYMBOL_CALC_MODE_EXCH_FUTURES,
}
_SWAP_MODE: Final = {
    "disabled": api.SYMBOL_SWAP_MODE_DISABLED,
    "points": api.SYMBOL_SWAP_MODE_POINTS,
    "symbol-currency": api.SYMBOL_SWAP_MODE_CURRENCY_SYMBOL,
    "margin-currency": api.SYMBOL_SWAP_MODE_CURRENCY_MARGIN,
    "deposit-currency": api.SYMBOL_SWAP_MODE_CURRENCY_DEPOSIT,
    "interest-current": api.SYMBOL_SWAP_MODE_INTEREST_CURRENT,
    "interest-open": api.SYMBOL_SWAP_MODE_INTEREST_OPEN,
    "reopen-current": api.SYMBOL_SWAP_MODE_REOPEN_CURRENT,
    "reopen-bid": api.SYMBOL_SWAP_MODE_REOPEN_BID,
}
_FILLING: Final = {"fok": api.SYMBOL_FILLING_FOK, "ioc": api.SYMBOL_FILLING_IOC, "boc": api.SYMBOL_FILLING_BOC}
_ORDERS: Final = {
    "market": symbols.ORDERS_MARKET,
    "limit": symbols.ORDERS_LIMIT,
    "stop": symbols.ORDERS_STOP,
    "stop-limit": symbols.ORDERS_STOP_LIMIT,
    "sl": symbols.ORDERS_SL,
    "tp": symbols.ORDERS_TP,
    "close-by": symbols.ORDERS_CLOSE_BY,
}
_EXPIRATION: Final = {"gtc": 1, "day": 2, "specified": 4, "specified-day": 8}
#: Keys of the configuration -> field of SymbolSpec and number of each word.
_WORDS: Final[Mapping[str, Mapping[str, int]]] = {
    "execution": _EXECUTION,
    "trade_mode": _TRADE_MODE,
    "calc_mode": _CALC_MODE,
    "swap_mode": _SWAP_MODE,
}
_BITS: Final[Mapping[str, tuple[str, Mapping[str, int]]]] = {
    "filling": ("filling", _FILLING),
    "order_types": ("order_mode", _ORDERS),
    "expiration": ("expiration_mode", _EXPIRATION),
}
_RENAMED: Final = {"tick_size": "own_tick_size", "tick_value": "own_tick_value"}


def with_terms(spec: SymbolSpec, config: AccountConfig) -> SymbolSpec:
    """The symbol's terms on this account: the usual, those of `"*"`, then its own. Raises InvalidInput."""
    for key in ("*", spec.name):
        terms = config.terms.get(key)
        if terms is not None:
            spec = replace(spec, **_changes(terms))
    if spec.volume_min > spec.volume_max:
        raise InvalidInput(f"terms of {spec.name}: volume_min {spec.volume_min} is above volume_max {spec.volume_max}")
    return spec


def check_names(config: AccountConfig) -> None:
    """Raises InvalidInput where `terms` names a symbol that the account does not have."""
    for name in config.terms:
        if name != "*" and name not in config.symbols:
            raise InvalidInput(f"terms of {name}: symbols has no {name}", hint=f"one of: {', '.join(config.symbols)}")


def _changes(terms: SymbolTerms) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for key, value in terms:
        if value is None:
            continue
        if key in _WORDS:
            changes[key] = _WORDS[key][value]
        elif key in _BITS:
            field, bits = _BITS[key]
            changes[field] = sum({bits[word] for word in value})
        else:
            changes[_RENAMED.get(key, key)] = value
    return changes
