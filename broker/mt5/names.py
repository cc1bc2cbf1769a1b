"""The broker's names of symbols in calls, and the bots' names in answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from broker import api
from broker.functions import in_group
from broker.mt5.aliases import Aliases

_SYMBOL_FIRST: Final = frozenset(
    {
        "symbol_info", "symbol_info_tick", "symbol_select", "market_book_add", "market_book_get",
        "market_book_release", "copy_rates_from", "copy_rates_from_pos", "copy_rates_range", "copy_ticks_from",
        "copy_ticks_range",
    }
)  # fmt: skip
_CALCULATIONS: Final = frozenset({"order_calc_margin", "order_calc_profit"})
_REQUESTS: Final = frozenset({"order_send", "order_check"})
#: Answers in which a symbol is named, as structs of our own: the package's cannot be changed.
_NAMING: Final[dict[str, Callable[[Any], Any]]] = {
    "positions_get": api.TradePosition._make,
    "orders_get": api.TradeOrder._make,
    "history_orders_get": api.TradeOrder._make,
    "history_deals_get": api.TradeDeal._make,
}


class NoSuchSymbol(LookupError):
    """The broker has no such symbol, nor one that is surely the same."""


class NotKnownYet(Exception):
    """The terminal could not be asked for its symbols; `why` where it said nothing itself."""

    def __init__(self, why: tuple[int, str] | None = None) -> None:
        super().__init__(why)
        self.why = why


class Names:
    """For the terminal thread. `ask` asks the package for a function by its name."""

    def __init__(self, aliases: Aliases, ask: Callable[..., Any]) -> None:
        self._aliases = aliases
        self._ask = ask

    def translated(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments with the broker's names in them. Raises LookupError, NotKnownYet."""
        if name in _SYMBOL_FIRST and args:
            return (self._broker_name(args[0]), *args[1:]), kwargs
        if name in _CALCULATIONS and len(args) > 1:
            return (args[0], self._broker_name(args[1]), *args[2:]), kwargs
        if name in _REQUESTS and args and isinstance(args[0], Mapping) and "symbol" in args[0]:
            return (self._request(args[0]), *args[1:]), kwargs
        if isinstance(kwargs.get("symbol"), str):
            return args, {**kwargs, "symbol": self._broker_name(kwargs["symbol"])}
        if self._is_masked(name, kwargs.get("group")):
            return args, {key: value for key, value in kwargs.items() if key != "group"}
        return args, kwargs

    def _request(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return {**request, "symbol": self._broker_name(request["symbol"])}
        except NoSuchSymbol:
            return dict(request)  # the terminal refuses it, with a retcode and a comment as for any other defect

    def _is_masked(self, name: str, group: Any) -> bool:
        """Whether a mask of the bots' names must be applied here, since the broker has other names."""
        return name in _NAMING and isinstance(group, str) and self._aliases.differ

    def _broker_name(self, wanted: Any) -> Any:
        """Raises LookupError where the broker has no such symbol, NotKnownYet where it cannot be asked."""
        if not isinstance(wanted, str):
            return wanted
        known = self._aliases.known(wanted)
        if known is not None:
            return known
        if not self._aliases.names:
            every = self._ask("symbols_get")
            if every is None:
                raise NotKnownYet
            if not every:
                raise NotKnownYet((api.RES_E_INTERNAL_FAIL_CONNECT, "the terminal has no symbols yet"))
            self._aliases.know(tuple(one.name for one in every))
        try:
            found = self._aliases.find(wanted)
        except ValueError as error:
            raise LookupError(str(error)) from None
        if found is None:
            raise NoSuchSymbol(f"the broker has no symbol {wanted}, nor one that is surely the same")
        if not self._ask("symbol_select", found, True):
            raise NotKnownYet
        return found

    def renamed(self, name: str, value: Any, group: Any = None) -> Any:
        """An answer with the bots' names in it; `group`: the mask that was asked with."""
        if value is None or value is False:
            return value
        if name in _REQUESTS or name == "symbol_info":
            return self._one(name, value)
        make = _NAMING.get(name)
        if make is None:
            return value
        structs = (make(one) for one in value)
        named = tuple(one._replace(symbol=self._aliases.to_wanted(one.symbol)) for one in structs)
        if self._is_masked(name, group):
            return tuple(one for one in named if in_group(one.symbol, group))
        return named

    def _one(self, name: str, value: Any) -> Any:
        """A single struct: as it came, where its name is the bots' name too."""
        if name == "symbol_info":
            wanted = self._aliases.to_wanted(value.name)
            return value if wanted == value.name else api.SymbolInfo._make(value)._replace(name=wanted)
        wanted = self._aliases.to_wanted(value.request.symbol)
        if wanted == value.request.symbol:
            return value
        request = api.TradeRequest._make(value.request)._replace(symbol=wanted)
        make = api.OrderSendResult._make if name == "order_send" else api.OrderCheckResult._make
        return make(value)._replace(request=request)
