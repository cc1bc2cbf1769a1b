"""The terms of each symbol of the paper market: digits, contract, margin mode, volumes, sessions, swap.

The figures are those of a usual retail broker's raw-spread account; they are a default for the paper terminal,
never assumed of a real one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from broker.api import (
    DAY_OF_WEEK_WEDNESDAY,
    SYMBOL_CALC_MODE_CFDINDEX,
    SYMBOL_CALC_MODE_CFDLEVERAGE,
    SYMBOL_CALC_MODE_EXCH_FUTURES,
    SYMBOL_CALC_MODE_FOREX,
    SYMBOL_CALC_MODE_FOREX_NO_LEVERAGE,
    SYMBOL_CALC_MODE_FUTURES,
    SYMBOL_FILLING_FOK,
    SYMBOL_FILLING_IOC,
    SYMBOL_SWAP_MODE_POINTS,
    SYMBOL_TRADE_EXECUTION_MARKET,
    SYMBOL_TRADE_MODE_FULL,
)
from broker.calendar import Session
from protocol.errors import InvalidInput, nearest

CURRENCIES: Final = frozenset(
    [
        "AUD",
        "BRL",
        "CAD",
        "CHF",
        "CNH",
        "CNY",
        "CZK",
        "DKK",
        "EUR",
        "GBP",
        "HKD",
        "HUF",
        "ILS",
        "INR",
        "JPY",
        "KRW",
        "MXN",
        "NOK",
        "NZD",
        "PLN",
        "SEK",
        "SGD",
        "THB",
        "TRY",
        "USD",
        "ZAR",
    ]
)
#: Bits of SymbolInfo.order_mode; the package does not export them (mql5.com, "Symbol properties", SYMBOL_ORDER_*).
ORDERS_MARKET, ORDERS_LIMIT, ORDERS_STOP, ORDERS_STOP_LIMIT = 1, 2, 4, 8
ORDERS_SL, ORDERS_TP, ORDERS_CLOSE_BY = 16, 32, 64
#: Bits of SymbolInfo.expiration_mode (SYMBOL_EXPIRATION_*), by ORDER_TIME_*: 1 << type_time.
EXPIRATION_ALL: Final = 15
_BY_TICKS: Final = (SYMBOL_CALC_MODE_FUTURES, SYMBOL_CALC_MODE_EXCH_FUTURES)
_NO_CENTS: Final = frozenset({"JPY", "KRW"})


def currency_digits(currency: str) -> int:
    """Decimals in which money of that currency is booked."""
    return 0 if currency in _NO_CENTS else 2


@dataclass(frozen=True, slots=True)
class SymbolSpec:
    """Terms of one symbol. Levels, spread and swap in points (10^-digits); volumes in lots.

    `price`, `volatility` (of a year, as a share) and `session` are what the synthetic market needs.
    """

    name: str
    description: str
    digits: int
    base: str
    profit: str
    calc_mode: int = SYMBOL_CALC_MODE_FOREX
    contract: float = 100_000.0
    volume_min: float = 0.01
    volume_max: float = 100.0
    volume_step: float = 0.01
    volume_limit: float = 0.0  # total a direction; 0: none
    stops_level: int = 10
    freeze_level: int = 0
    spread: int = 10
    swap_long: float = 0.0
    swap_short: float = 0.0
    triple_day: int = DAY_OF_WEEK_WEDNESDAY
    execution: int = SYMBOL_TRADE_EXECUTION_MARKET
    filling: int = SYMBOL_FILLING_FOK | SYMBOL_FILLING_IOC
    group: str = "Forex"
    session: Session = "fx"
    price: float = 1.0
    volatility: float = 0.08
    trade_mode: int = SYMBOL_TRADE_MODE_FULL
    order_mode: int = 127
    expiration_mode: int = EXPIRATION_ALL
    swap_mode: int = SYMBOL_SWAP_MODE_POINTS
    own_tick_size: float = 0.0  # 0: a point
    own_tick_value: float = 0.0  # of a lot, in the currency of the profit; 0: contract * tick size
    margin_initial: float = 0.0  # of a lot, where the mode asks for it
    liquidity: float = 0.0  # lots that one price has; 0: any number
    only_real: bool = False

    @property
    def point(self) -> float:
        """The smallest step of the price."""
        return float(round(10.0**-self.digits, self.digits))

    @property
    def margin_currency(self) -> str:
        """Currency of the margin: the base for forex, the currency of the price for everything else."""
        pair = self.calc_mode in (SYMBOL_CALC_MODE_FOREX, SYMBOL_CALC_MODE_FOREX_NO_LEVERAGE)
        return self.base if pair else self.profit

    @property
    def tick_size(self) -> float:
        """The smallest change of the price."""
        return self.own_tick_size or self.point

    @property
    def tick_value(self) -> float:
        """What a change by `tick_size` is worth a lot, in the currency of the profit."""
        return self.own_tick_value or self.contract * self.tick_size

    @property
    def worth(self) -> float:
        """What a change of the price by 1 is worth a lot, in the currency of the profit."""
        return self.tick_value / self.tick_size if self.calc_mode in _BY_TICKS else self.contract

    @property
    def index_ratio(self) -> float:
        """Tick value over tick size, which the margin of CFDs on indices has as a factor."""
        mine = self.own_tick_value and self.calc_mode == SYMBOL_CALC_MODE_CFDINDEX
        return self.tick_value / self.tick_size if mine else 1.0


def _forex(
    name: str, title: str, price: float, volatility: float, *, spread: int, long: float, short: float
) -> SymbolSpec:
    digits = 3 if name.endswith("JPY") else 5
    return SymbolSpec(
        name, title, digits, name[:3], name[3:], spread=spread, swap_long=long, swap_short=short,
        price=price, volatility=volatility,
    )  # fmt: skip


def _cfd(name: str, title: str, **terms: object) -> SymbolSpec:
    base = SymbolSpec(name, title, 2, name[:3], "USD", calc_mode=SYMBOL_CALC_MODE_CFDLEVERAGE, contract=1.0)
    return replace(base, **terms)  # type: ignore[arg-type]


def _index(name: str, title: str, price: float, *, currency: str = "USD", volatility: float = 0.17) -> SymbolSpec:
    return _cfd(
        name, title, base=currency, profit=currency, group="Indices", session="index", stops_level=50, spread=50,
        volume_min=0.1, volume_step=0.1, volume_max=500.0, swap_long=-80.0, swap_short=20.0,
        price=price, volatility=volatility,
    )  # fmt: skip


_BUILT_IN: Final = (
    _forex("EURUSD", "Euro vs US Dollar", 1.10400, 0.075, spread=10, long=-6.9, short=2.4),
    _forex("GBPUSD", "Pound Sterling vs US Dollar", 1.27300, 0.085, spread=12, long=-3.2, short=-1.6),
    _forex("USDJPY", "US Dollar vs Japanese Yen", 141.000, 0.095, spread=12, long=8.6, short=-19.5),
    _forex("AUDUSD", "Australian Dollar vs US Dollar", 0.68100, 0.095, spread=12, long=-2.6, short=-0.4),
    _forex("NZDUSD", "New Zealand Dollar vs US Dollar", 0.63200, 0.095, spread=14, long=-1.7, short=-1.0),
    _forex("USDCHF", "US Dollar vs Swiss Franc", 0.84100, 0.075, spread=14, long=5.6, short=-10.8),
    _forex("USDCAD", "US Dollar vs Canadian Dollar", 1.32400, 0.065, spread=14, long=0.9, short=-5.1),
    _forex("EURGBP", "Euro vs Pound Sterling", 0.86700, 0.055, spread=14, long=-4.8, short=1.3),
    _forex("EURJPY", "Euro vs Japanese Yen", 155.700, 0.095, spread=16, long=5.3, short=-15.0),
    _forex("GBPJPY", "Pound Sterling vs Japanese Yen", 179.500, 0.105, spread=20, long=11.5, short=-25.0),
    _cfd(
        "XAUUSD", "Gold vs US Dollar", base="XAU", contract=100.0, group="Metals", session="metal",
        stops_level=20, spread=20, swap_long=-38.0, swap_short=16.0, price=2063.0, volatility=0.15,
    ),
    _cfd(
        "XAGUSD", "Silver vs US Dollar", digits=3, base="XAG", contract=5000.0, group="Metals", session="metal",
        stops_level=20, spread=20, swap_long=-4.0, swap_short=1.5, price=23.80, volatility=0.28,
    ),
    _cfd(
        "BTCUSD", "Bitcoin vs US Dollar", base="BTC", group="Crypto", session="always",
        stops_level=100, spread=1800, swap_long=-900.0, swap_short=-300.0, price=42_300.0, volatility=0.55,
    ),
    _cfd(
        "ETHUSD", "Ethereum vs US Dollar", base="ETH", group="Crypto", session="always", volume_max=500.0,
        stops_level=50, spread=180, swap_long=-60.0, swap_short=-20.0, price=2_280.0, volatility=0.65,
    ),
    _index("US500", "US 500 Index", 4_770.0),
    _index("NAS100", "US Tech 100 Index", 16_830.0, volatility=0.22),
    _index("US30", "US Wall Street 30 Index", 37_690.0, volatility=0.15),
    _index("GER40", "Germany 40 Index", 16_750.0, currency="EUR"),
)  # fmt: skip

SPECS: Final[dict[str, SymbolSpec]] = {spec.name: spec for spec in _BUILT_IN}


def spec_of(name: str) -> SymbolSpec:
    """Terms of a built-in symbol. Raises InvalidInput with the nearest name for any other."""
    try:
        return SPECS[name]
    except KeyError:
        near = nearest(name, list(SPECS))
        hint = f"did you mean {near}?" if near else f"one of: {', '.join(SPECS)}"
        raise InvalidInput(f"symbol {name}: not in the synthetic market", hint=hint) from None


def spec_for_prices(name: str, digits: int, *, sure: bool) -> SymbolSpec:
    """Terms for a symbol whose prices come from a file, in which they have `digits` decimals.

    A broker's ending (EURUSD.m, XAUUSDc) is understood; six letters that are two currencies are forex; anything
    else is a CFD with a contract of 1 in the currency that its name ends with, USD where it ends with none.
    `sure`: there are prices enough to believe that `digits` are all.
    """
    letters = re.sub(r"[^A-Z0-9]", "", name.upper())
    known = next((SPECS[key] for key in sorted(SPECS, key=len, reverse=True) if letters.startswith(key)), None)
    if known is not None:
        # Points are the file's own: its spread column counts in them.
        scale = 10.0 ** (digits - known.digits) if sure or digits > known.digits else 1.0
        if scale == 1.0:
            return replace(known, name=name)
        return replace(
            known,
            name=name,
            digits=digits,
            spread=max(1, round(known.spread * scale)),
            stops_level=round(known.stops_level * scale),
            swap_long=known.swap_long * scale,
            swap_short=known.swap_short * scale,
        )
    if len(letters) >= 6 and letters[:3] in CURRENCIES and letters[3:6] in CURRENCIES:
        usual = 3 if letters[3:6] == "JPY" else 5
        return SymbolSpec(name, name, digits if sure else max(digits, usual), letters[:3], letters[3:6])
    profit = letters[-3:] if letters[-3:] in CURRENCIES else "USD"
    return _cfd(name, name, digits=digits, base=letters[:3] or profit, profit=profit, group="CFD", stops_level=0)
