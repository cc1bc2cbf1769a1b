"""Somebody logs the terminal in to another account, between two looks or inside a step: only our market is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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

    def switch(self, login: int, ahead: int) -> None:
        self.login, self.ahead = login, ahead

    def go(self, seconds: float) -> None:
        self.utc, self.mono = self.utc + seconds, self.mono + seconds

    @property
    def server(self) -> int:
        return int(self.utc + self.ahead)

    def initialize(self, **_: Any) -> bool:
        return True

    def shutdown(self) -> None:
        pass

    def last_error(self) -> tuple[int, str]:
        return self.error

    def account_info(self) -> Any:
        if self.blind:
            self.error = (api.RES_E_FAIL, "Terminal: Call failed")
            return None
        return ACCOUNT._replace(login=self.login)

    def terminal_info(self) -> Any:
        return TERMINAL

    def symbols_get(self) -> tuple[Any, ...]:
        return (SYMBOL,)

    def symbol_select(self, _name: str, _enable: bool) -> bool:
        return True

    def symbol_info_tick(self, name: str) -> Tick:
        self.meanwhile.pop("symbol_info_tick", lambda: None)()
        return Tick(self.server, 1.0, 1.1, 0.0, 0, int((self.utc + self.ahead) * 1000), 6, 0.0)

    def copy_rates_from_pos(self, name: str, _timeframe: int, _start: int, count: int) -> Rates:
        self.meanwhile.pop("copy_rates_from_pos", lambda: None)()
        rates = np.zeros(count, RATES_DTYPE)
        rates["time"] = self.server // HOUR * HOUR - HOUR * np.arange(count)[::-1]
        return rates


def filled(kind: Any, **known: Any) -> Any:
    """A struct of the package with nothing but this in it."""
    return kind(**{**dict.fromkeys(kind._fields, 0), **known})


ACCOUNT = filled(paper.AccountInfo, server="Broker-Live", trade_allowed=True, trade_expert=True)
TERMINAL = filled(paper.TerminalInfo, connected=True, trade_allowed=True)
SYMBOL = filled(paper.SymbolInfo, name="EURUSD")


class Watched:
    """A terminal over the module, which follows EURUSD H1; every step is a quarter second."""

    def __init__(self, folder: Path) -> None:
        self.module = Module()
        self.told: list[str] = []
        keys = {"kind": "mt5", "login": 7, "server": "Broker-Live", "password_env": "STABLEHAND_SWITCHED"}
        self.terminal = Mt5Terminal(
            self.module, AccountConfig.model_validate(keys), file=folder / "symbols.json", base_dir=folder,
            tell=lambda line, _bad: self.told.append(line), mono=lambda: self.module.mono, utc=lambda: self.module.utc,
        )  # fmt: skip
        assert self.terminal.tend()
        self.terminal.follow("EURUSD", "H1")
        assert self.steps(12) == [] and self.told == ["the server's time is UTC+2"]
        self.told.clear()

    def steps(self, count: int, seconds: float = 0.25) -> list[int]:
        """Opening times of the bars that so many steps tell, as hours of the day."""
        bars = []
        for _ in range(count):
            self.module.go(seconds)
            bars += [int.from_bytes(bar.row[:8], "little") for bar in self.terminal.step().closed]
        return [(one - MONDAY) // HOUR for one in bars]

    def is_as_before(self) -> None:
        """The clock is ours, and bars go on where they stopped, each once."""
        assert self.terminal.now == self.module.server
        assert self.terminal.last_closed("EURUSD", "H1") == MONDAY + 11 * HOUR
        assert self.steps(180, 60.0) == [12, 13, 14]
        assert self.terminal.now == self.module.server


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setenv("STABLEHAND_SWITCHED", "s3cret")
    return Watched(tmp_path)


def test_a_switch_between_two_looks_tells_no_bar_and_moves_no_clock(watched: Watched) -> None:
    watched.module.switch(42, THEIRS)
    assert watched.steps(1) == []
    assert watched.terminal.held().startswith("the terminal is logged in to 42, not to 7"), "the step has seen it"
    assert watched.steps(4) == [] and watched.terminal.now == int(watched.module.utc + OURS)
    watched.module.switch(7, OURS)
    watched.module.go(1.0)
    assert watched.terminal.tend(), "what happened meanwhile is read"
    watched.is_as_before()
    assert len(watched.told) == 2 and watched.told[1].startswith("over after"), watched.told


@pytest.mark.parametrize("moment", ["symbol_info_tick", "copy_rates_from_pos"])
def test_a_switch_inside_a_step_moves_nothing(watched: Watched, moment: str) -> None:
    if moment == "copy_rates_from_pos":  # asked for when a bar is over
        assert watched.steps(44, 60.0) == []
        watched.module.go(60.0 - watched.module.utc % 60.0)
    watched.module.meanwhile[moment] = lambda: watched.module.switch(42, THEIRS)
    before = watched.terminal.last_closed("EURUSD", "H1")
    for _ in range(5):
        assert watched.steps(1) == []
    assert not watched.module.meanwhile and watched.terminal.held()
    assert watched.terminal.last_closed("EURUSD", "H1") == before
    watched.module.switch(7, OURS)
    watched.terminal.tend()
    if moment == "copy_rates_from_pos":
        assert watched.steps(1) == [12], "the bar that was over is not lost"
    else:
        watched.is_as_before()
    assert watched.terminal.now == watched.module.server


def test_what_a_new_bot_follows_begins_in_our_market(watched: Watched) -> None:
    watched.module.switch(42, THEIRS)
    watched.terminal.follow("EURUSD", "H4")
    assert watched.terminal.last_closed("EURUSD", "H4") is None
    watched.module.switch(7, OURS)
    watched.terminal.tend()
    watched.module.meanwhile["copy_rates_from_pos"] = lambda: watched.module.switch(42, THEIRS)
    watched.terminal.follow("EURUSD", "H4")
    assert watched.terminal.last_closed("EURUSD", "H4") is None
    watched.module.switch(7, OURS)
    watched.terminal.tend()
    watched.is_as_before()


def test_a_terminal_that_fails_while_another_account_is_there_tells_no_bar(watched: Watched) -> None:
    watched.module.switch(42, THEIRS)
    watched.terminal.tend()
    watched.module.blind = True
    for _ in range(5):
        watched.module.go(0.5)
        watched.terminal.tend()
    assert watched.terminal.held().startswith("the terminal is logged in to 42, not to 7")
    watched.module.blind = False
    assert watched.steps(3, 1.0) == []


def test_a_terminal_that_does_not_say_whose_account_it_has_tells_no_bar(watched: Watched) -> None:
    watched.module.blind = True
    assert watched.steps(60, 60.0) == []
    watched.module.blind = False
    assert watched.steps(1) == [12], "nothing is lost"
