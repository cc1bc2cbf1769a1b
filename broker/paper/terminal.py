"""The paper terminal: MetaTrader 5's functions, over a market whose clock `step` moves."""

from __future__ import annotations

from typing import Any, Final

from broker import api
from broker.api import RES_E_AUTH_FAILED, RES_E_INVALID_PARAMS
from broker.paper.answers import Failed, answers, answers_or
from broker.paper.bars import Bars
from broker.paper.clock import Clock
from broker.paper.history import History
from broker.paper.moments import ClosedBar, Step
from broker.paper.reads import Reads
from broker.paper.series import Series
from broker.steady import Steady

#: What a step gives stands here too, beside the terminal that gives it.
__all__ = ["VERSION", "ClosedBar", "PaperTerminal", "Step"]

VERSION: Final = (500, 6231, "27 Sep 2026")


class PaperTerminal(Reads, Bars, History, Clock, Steady):
    """One paper account and its market. Not for several threads at once, as the real one.

    A new account begins at the feed's start, with a deposit; an old one goes on where its database says.
    """

    @property
    def lockstep(self) -> bool:
        """Whether the market waits for the bots (`bars_per_second = "max"`)."""
        return self.config.bars_per_second == "max"

    @property
    def interval(self) -> float | None:
        """Seconds between two steps; None in lockstep. A bar has as many steps as it has ticks."""
        speed = self.config.bars_per_second
        return None if isinstance(speed, str) else 1.0 / (speed * self.config.ticks_per_bar)

    # --- the connection ------------------------------------------------------------------------------

    def initialize(self, *args: Any, **kwargs: Any) -> bool:
        """Connect again after `shutdown`. Arguments are those of `login`."""
        self.connected = True
        return self.login(**kwargs) if "login" in kwargs else self._succeed()

    @answers_or(False)
    def login(self, *args: Any, **kwargs: Any) -> bool:
        """True for the account's own number, which is the only one here."""
        number = args[0] if args else kwargs.get("login")
        if number != self.login_number:
            raise Failed(RES_E_AUTH_FAILED, "Terminal: Authorization failed")
        return True

    def shutdown(self) -> None:
        """Disconnect: until `initialize` every function fails. The account stays; `close` leaves it for good."""
        self.connected = False

    @answers
    def version(self) -> tuple[int, int, str]:
        """Terminal version, build, and the build's day, of the package whose API this is."""
        return VERSION

    def last_error(self) -> tuple[int, str]:
        """Code and text of the last call's failure; (1, "Success") after a success."""
        return self.error

    @answers_or(True)
    def _succeed(self) -> bool:
        return True

    def close(self) -> None:
        """Keep the clock's place and close the database."""
        self.keep_clock(force=True)
        self._db.close()

    # --- money ---------------------------------------------------------------------------------------

    @answers
    def order_calc_margin(self, action: int, symbol: str, volume: float, price: float) -> float:
        """Margin in the account's currency, whatever else is open. None where no symbol converts it."""
        series = self._calc_arguments(action, symbol, volume=volume, price=price)
        margin = self.calc.margin(series.spec, volume, price)
        if margin is None:
            raise self._no_path(series.spec.margin_currency)
        return margin

    @answers
    def order_calc_profit(
        self, action: int, symbol: str, volume: float, price_open: float, price_close: float
    ) -> float:
        """Profit in the account's currency. None where no symbol converts it."""
        series = self._calc_arguments(action, symbol, volume=volume, price_open=price_open, price_close=price_close)
        buy = action == api.ORDER_TYPE_BUY
        profit = self.calc.profit(series.spec, buy, volume, price_open, price_close)
        if profit is None:
            raise self._no_path(series.spec.profit)
        return profit

    def _calc_arguments(self, action: int, symbol: str, **numbers: float) -> Series:
        if action not in (api.ORDER_TYPE_BUY, api.ORDER_TYPE_SELL):
            raise Failed(RES_E_INVALID_PARAMS, 'Invalid "action" argument')
        series = self.series_of(symbol)
        for name, value in numbers.items():
            if isinstance(value, str) or not 0 < value < 1e15:
                raise Failed(RES_E_INVALID_PARAMS, f'Invalid "{name}" argument')
        return series

    def _no_path(self, currency: str) -> Failed:
        text = f"Terminal: Call failed (no symbol converts {currency} to {self.calc.currency})"
        return Failed(api.RES_E_FAIL, text)
