"""What is known of account, symbols, bars and ticks."""

from __future__ import annotations

from functools import cache
from typing import Any, Final, get_type_hints

from broker import api
from broker.api import (
    RES_E_INVALID_PARAMS,
    RES_E_UNSUPPORTED,
    AccountInfo,
    BookInfo,
    SymbolInfo,
    TerminalInfo,
    Tick,
)
from broker.functions import in_group
from broker.paper.answers import Failed, answers, answers_or
from broker.paper.core import Core
from broker.paper.series import Series
from broker.symbols import SymbolSpec
from protocol.botconfig import TIMEFRAME_SECONDS

_BUILD: Final = 6231
_DAY: Final = 86_400


class Reads(Core):
    """Account, symbols, bars, ticks."""

    @answers
    def terminal_info(self) -> TerminalInfo:
        """Whether it is connected with the server, and whether trading by programs is switched on."""
        switches = self.switches
        return TerminalInfo(
            community_account=False, community_connection=False, connected=switches.online, dlls_allowed=False,
            trade_allowed=switches.autotrading, tradeapi_disabled=switches.api_disabled,
            email_enabled=False, ftp_enabled=False,
            notifications_enabled=False, mqid=False, build=_BUILD, maxbars=100_000, codepage=0, ping_last=0,
            community_balance=0.0, retransmission=0.0, company="Stablehand", name="Stablehand Paper Terminal",
            language="English", path=str(self._path.parent), data_path=str(self._path.parent),
            commondata_path=str(self._path.parent),
        )  # fmt: skip

    @answers
    def account_info(self) -> AccountInfo:
        """The account at the present quotes."""
        totals, config, switches = self.account.totals(), self.config, self.switches
        mode = "NETTING" if self.account.netting else "HEDGING"
        return AccountInfo(
            login=self.login_number, trade_mode=getattr(api, f"ACCOUNT_TRADE_MODE_{config.trade_mode.upper()}"),
            leverage=config.leverage, limit_orders=config.limit_orders,
            margin_so_mode=getattr(api, f"ACCOUNT_STOPOUT_MODE_{config.stop_out_mode.upper()}"),
            trade_allowed=switches.trade_allowed, trade_expert=switches.experts_allowed,
            margin_mode=getattr(api, f"ACCOUNT_MARGIN_MODE_RETAIL_{mode}"), currency_digits=self.calc.digits,
            fifo_close=config.fifo_close, balance=self.account.balance, credit=0.0, profit=totals.floating,
            equity=totals.equity, margin=totals.margin,
            margin_free=self.calc.money(totals.equity - totals.margin), margin_level=totals.level,
            margin_so_call=config.margin_call_level, margin_so_so=config.stop_out_level, margin_initial=0.0,
            margin_maintenance=0.0, assets=0.0, liabilities=0.0, commission_blocked=0.0, name=self.name,
            server=self.server, currency=config.currency, company="Stablehand",
        )  # fmt: skip

    # --- symbols -------------------------------------------------------------------------------------

    @answers_or(0)
    def symbols_total(self) -> int:
        """How many symbols there are."""
        return len(self.series)

    @answers
    def symbols_get(self, group: str = "*") -> tuple[SymbolInfo, ...]:
        """Symbols whose names fit `group`."""
        if not isinstance(group, str):
            raise Failed(RES_E_INVALID_PARAMS, 'Invalid "group" argument')
        return tuple(self._symbol_info(self.series[name]) for name in self.series if in_group(name, group))

    def is_open(self, symbol: str) -> bool:
        """Whether the symbol's market is open now. MetaTrader's API has no such function."""
        series = self.series.get(symbol)
        return series is not None and series.forming

    @answers
    def symbol_info(self, symbol: str) -> SymbolInfo:
        """A symbol's terms and prices."""
        return self._symbol_info(self.series_of(symbol))

    @answers
    def symbol_info_tick(self, symbol: str) -> Tick:
        """The last quote."""
        series = self.series_of(symbol)
        flags = api.TICK_FLAG_BID | api.TICK_FLAG_ASK
        return Tick(series.time, series.bid, series.ask, 0.0, 0, series.time_msc, flags, 0.0)

    @answers_or(False)
    def symbol_select(self, symbol: str, enable: bool = True) -> bool:
        """All symbols of the account are always selected; they cannot be taken out."""
        self.series_of(symbol)
        return bool(enable)

    @answers_or(False)
    def market_book_add(self, symbol: str) -> bool:
        """There is no market depth."""
        raise Failed(RES_E_UNSUPPORTED)

    @answers
    def market_book_get(self, symbol: str) -> tuple[BookInfo, ...]:
        """There is no market depth."""
        raise Failed(RES_E_UNSUPPORTED)

    @answers_or(False)
    def market_book_release(self, symbol: str) -> bool:
        """There is no market depth."""
        raise Failed(RES_E_UNSUPPORTED)

    def _symbol_info(self, series: Series) -> SymbolInfo:
        day = series.visible(series.opened - max(1, _DAY // TIMEFRAME_SECONDS[series.timeframe]), series.opened)
        day = day[day["time"] >= series.time // _DAY * _DAY]
        spread = round((series.ask - series.bid) / series.spec.point)
        gap = series.ask - series.bid
        high, low = (float(day["high"].max()), float(day["low"].min())) if len(day) else (series.bid, series.bid)
        return SymbolInfo(
            **_terms(series.spec),
            time=series.time,
            spread=spread,
            bid=series.bid,
            ask=series.ask,
            bidhigh=high,
            bidlow=low,
            askhigh=round(high + gap, series.spec.digits),
            asklow=round(low + gap, series.spec.digits),
            session_open=float(day["open"][0]) if len(day) else 0.0,
            **self._tick_values(series.spec),
        )

    def _tick_values(self, spec: SymbolSpec) -> dict[str, Any]:
        """What a step of the price is worth a lot in the account's currency: as a gain, and as a loss."""
        value = spec.tick_size * spec.worth
        gain = self.calc.convert(value, spec.profit) or 0.0
        loss = -(self.calc.convert(-value, spec.profit) or 0.0)
        return {"trade_tick_value": gain, "trade_tick_value_profit": gain, "trade_tick_value_loss": loss}


@cache
def _terms(spec: SymbolSpec) -> dict[str, Any]:
    """Everything of SymbolInfo that does not move."""
    zeros = {name: kind() for name, kind in get_type_hints(SymbolInfo).items() if kind in (float, int)}
    for name in (
        "time", "spread", "bid", "ask", "bidhigh", "bidlow", "askhigh", "asklow", "session_open",
        "trade_tick_value", "trade_tick_value_profit", "trade_tick_value_loss",
    ):  # fmt: skip
        del zeros[name]
    texts = dict.fromkeys(("basis", "category", "bank", "exchange", "formula", "isin", "page"), "")
    terms = {
        "custom": False, "select": True, "visible": True, "spread_float": True, "margin_hedged_use_leg": False,
        "digits": spec.digits, "point": spec.point, "trade_tick_size": spec.tick_size,
        "trade_calc_mode": spec.calc_mode, "trade_mode": spec.trade_mode,
        "trade_stops_level": spec.stops_level, "trade_freeze_level": spec.freeze_level,
        "trade_exemode": spec.execution, "swap_mode": spec.swap_mode,
        "swap_rollover3days": spec.triple_day, "swap_long": spec.swap_long, "swap_short": spec.swap_short,
        "expiration_mode": spec.expiration_mode, "filling_mode": spec.filling, "order_mode": spec.order_mode,
        "trade_contract_size": spec.contract, "volume_min": spec.volume_min, "volume_max": spec.volume_max,
        "volume_step": spec.volume_step, "volume_limit": spec.volume_limit,
        "margin_initial": spec.margin_initial,
        # Both legs of a hedge pay: twice the contract, by MetaTrader's rule for hedged margin.
        "margin_hedged": 2 * spec.contract,
        "currency_base": spec.base, "currency_profit": spec.profit, "currency_margin": spec.margin_currency,
        "description": spec.description, "name": spec.name, "path": f"{spec.group}\\{spec.name}",
    }  # fmt: skip
    return zeros | texts | terms
