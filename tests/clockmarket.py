"""A package MetaTrader5 whose market is a clock that the test sets, and a terminal that watches it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from broker import api, paper
from broker.api import RATES_DTYPE, Rates, Tick
from broker.mt5.terminal import Mt5Terminal
from protocol.botconfig import AccountConfig
from tests.papermarket import MONDAY

HOUR = 3600
#: A quarter past an hour of the server's, which is two hours ahead of UTC.
UTC = float(MONDAY + 10 * HOUR + 900)
OURS, THEIRS = 2 * HOUR, 5 * HOUR


class Module:
    """A package whose market is the clock itself: a tick at every moment, a bar at every hour of the account's server.

    `meanwhile` happens at the next call of the function that it names.
    """

    def __init__(self) -> None:
        self.login, self.ahead, self.utc, self.mono = 7, OURS, UTC, 0.0
        self.error = (api.RES_S_OK, "Success")
        self.meanwhile: dict[str, Callable[[], None]] = {}
        self.blind = False
        self.connected, self.refuses = True, False
        self.offered = self.selected = True  # by the broker; in the terminal's Market Watch
        self.asked_to_select = 0
        self.unloaded: Rates | None = None  # bars as they were before a break, which the terminal still shows
        self.shut_at: float | None = None
        self.gap = (0.0, 0.0)  # a weekend of the server's, in which there are no bars

    def shut(self) -> None:
        """The market closes: tick and bar stay as they are."""
        self.shut_at = self.utc + self.ahead

    def cut(self) -> None:
        """The line to the broker breaks: tick and bar stay as they are, and the terminal says so."""
        self.shut()
        self.connected = False

    def mend(self, *, loading: bool = False) -> None:
        """And is back. `loading`: ticks come, and the terminal has not yet loaded what it has missed."""
        self.unloaded = self.copy_rates_from_pos("EURUSD", 0, 0, 1000) if loading else None
        self.shut_at, self.connected = None, True

    def reopen(self) -> None:
        """And opens."""
        assert self.shut_at is not None
        self.gap, self.shut_at = (self.shut_at, self.utc + self.ahead), None

    def switch(self, login: int, ahead: int) -> None:
        """Another account, or another zone."""
        self.login, self.ahead = login, ahead

    def go(self, seconds: float) -> None:
        """Time passes."""
        self.utc, self.mono = self.utc + seconds, self.mono + seconds

    @property
    def server(self) -> int:
        """The server's clock."""
        return int(self.utc + self.ahead)

    @property
    def last(self) -> float:
        """When the last tick was, by that clock."""
        return self.utc + self.ahead if self.shut_at is None else self.shut_at

    def initialize(self, **_: Any) -> bool:
        return not self.refuses

    def shutdown(self) -> None:
        pass

    def last_error(self) -> tuple[int, str]:
        return self.error

    def account_info(self) -> Any:
        if self.blind or self.refuses:
            self.error = (api.RES_E_INTERNAL_FAIL_SEND if self.refuses else api.RES_E_FAIL, "Terminal: Call failed")
            return None
        return ACCOUNT._replace(login=self.login)

    def terminal_info(self) -> Any:
        return TERMINAL._replace(connected=self.connected)

    def symbols_get(self) -> tuple[Any, ...]:
        return (SYMBOL,)

    def symbol_select(self, _name: str, _enable: bool) -> bool:
        self.asked_to_select += 1
        self.selected = self.offered
        return self.offered

    def symbol_info_tick(self, name: str) -> Tick | None:
        if not self.selected:
            self.error = (api.RES_E_NOT_FOUND, "Terminal: Not found")
            return None
        self.meanwhile.pop("symbol_info_tick", lambda: None)()
        return Tick(int(self.last), 1.0, 1.1, 0.0, 0, int(self.last * 1000), 6, 0.0)

    def copy_rates_from_pos(self, name: str, _timeframe: int, _start: int, count: int) -> Rates:
        self.meanwhile.pop("copy_rates_from_pos", lambda: None)()
        hours = int(self.last) // HOUR * HOUR - HOUR * np.arange(1000)[::-1]
        hours = hours[(hours <= self.gap[0]) | (hours + HOUR > self.gap[1])][-count:]
        rates = np.zeros(len(hours), RATES_DTYPE)
        rates["time"] = hours
        rates["close"] = np.minimum(self.last - hours, HOUR)  # seconds of it that are known
        if self.unloaded is not None and count < len(self.unloaded):  # a bar that has begun since is there
            old = hours <= self.unloaded["time"][-1]
            rates["close"][old] = self.unloaded["close"][np.searchsorted(self.unloaded["time"], hours[old])]
        return rates


def filled(kind: Any, **known: Any) -> Any:
    """A struct of the package with nothing but this in it."""
    return kind(**{**dict.fromkeys(kind._fields, 0), **known})


ACCOUNT = filled(paper.AccountInfo, server="Broker-Live", trade_allowed=True, trade_expert=True)
TERMINAL = filled(paper.TerminalInfo, connected=True, trade_allowed=True)
SYMBOL = filled(paper.SymbolInfo, name="EURUSD")


class Watched:
    """A terminal over the module, which follows EURUSD H1; every step is a quarter second."""

    def __init__(self, folder: Path, *, shut: bool = False) -> None:
        self.module = Module()
        if shut:  # so that nothing tells the server's clock
            self.module.shut()
        self.told: list[str] = []
        self.missed = 0  # steps of the last call whose bars were late, or not all
        keys = {"kind": "mt5", "login": 7, "server": "Broker-Live", "password_env": "STABLEHAND_WATCHED"}
        self.terminal = Mt5Terminal(
            self.module, AccountConfig.model_validate(keys), file=folder / "symbols.json", base_dir=folder,
            tell=lambda line, _bad: self.told.append(line), mono=lambda: self.module.mono, utc=lambda: self.module.utc,
        )  # fmt: skip
        assert self.terminal.tend()
        self.terminal.follow("EURUSD", "H1")
        assert self.steps(12) == [] and self.told == ([] if shut else ["the server's time is UTC+2"])
        self.told.clear()

    def steps(self, count: int, seconds: float = 0.25) -> list[int]:
        """Opening times of the bars that so many steps tell, as hours of the day."""
        return [hour for hour, _ in self.bars(count, seconds)]

    def bars(self, count: int, seconds: float = 0.25) -> list[tuple[int, float]]:
        """The same, and how many seconds of each were known when it was told."""
        told = []
        self.missed = 0
        for _ in range(count):
            self.module.go(seconds)
            step = self.terminal.step()
            told += [np.frombuffer(bar.row, RATES_DTYPE)[0] for bar in step.closed]
            self.missed += len(step.missed)
        return [((int(one["time"]) - MONDAY) // HOUR, float(one["close"])) for one in told]
