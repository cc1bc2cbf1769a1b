"""How many bars a strategy asks for: enough that what lies before them does not matter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import talib

from botproc import indicators, loader
from botproc.strategies.index_breakout_pro import _ATR as BREAKOUT_ATR
from botproc.strategy import ema_bars, wilder_bars
from tests.unit.botproc.test_strategies import VARIANTS

Values = npt.NDArray[np.float64]

#: Parameters that are periods of recursive indicators (EMA, Wilder's), by strategy.
RECURSIVE: dict[str, tuple[str, ...]] = {
    "RSI_CROSSOVER": ("rsi",),
    "BOLLINGER_SQUEEZE": ("rsi",),
    "QUANTUM_VELOCITY": ("ema",),
    "PULSE_SYNC": ("macd_fast", "macd_slow", "macd_signal"),
    "MERCY_EDGE": ("macd_fast", "macd_slow", "macd_signal"),
    "DYNAMIC_BREAKOUT": ("ema", "atr"),
    "QUANTUMBOTX_HYBRID": ("adx",),
    "QUANTUMBOTX_CRYPTO": ("adx", "rsi"),
    "INDEX_MOMENTUM": ("rsi",),
}
#: Those that are made of windows alone. INDEX_BREAKOUT_PRO has an ATR of a fixed period.
WINDOWS = {"MA_CROSSOVER", "BOLLINGER_REVERSION", "TURTLE_BREAKOUT", "ICHIMOKU_CLOUD", "INDEX_BREAKOUT_PRO"}


def test_all_fourteen_are_sorted_in() -> None:
    assert RECURSIVE.keys() | WINDOWS == set(loader.known()) and len(RECURSIVE) + len(WINDOWS) == 14


@pytest.mark.parametrize(("name", "params"), VARIANTS)
def test_at_least_four_times_the_period(name: str, params: dict[str, Any]) -> None:
    strategy = loader.build(name, params)
    for period in RECURSIVE.get(name, ()):
        assert strategy.lookback >= 4 * getattr(strategy.params, period), period
    if name == "INDEX_BREAKOUT_PRO":
        assert strategy.lookback >= 4 * BREAKOUT_ATR


def prices(seed: int, bars: int = 6000) -> Values:
    """A price that moves by a tenth of a percent a bar, which is what hours of gold or of an index do."""
    random = np.random.default_rng(seed)
    close: Values = 100.0 * np.exp(np.cumsum(random.normal(0, 0.001, bars)))
    return close


def range_of(close: Values) -> tuple[Values, Values, Values]:
    return close * 1.0007, close * 0.9993, close


def ema_of(period: int) -> Callable[[Values], float]:
    return lambda close: indicators.ema(close, period)


def macd(close: Values) -> float:
    return float(talib.MACD(close, 12, 26, 9)[2][-1])


#: Name: the indicator of a price, the bars it is given, and by how much it may depend on what was before them: a ten
#: thousandth of the price for averages, a hundredth of a point for what runs from 0 to 100.
SETTLED: dict[str, tuple[Callable[[Values], float], int, float]] = {
    **{f"EMA {n}": (ema_of(n), ema_bars(n), 1e-4 * 100) for n in (20, 50, 200)},
    "MACD": (macd, indicators.macd_bars(12, 26, 9), 1e-6 * 100),
    "RSI 14": (lambda close: float(talib.RSI(close, 14)[-1]), wilder_bars(14) + 1, 1e-2),
    "ADX 14": (lambda close: indicators.adx(*range_of(close), 14), indicators.adx_bars(14), 1e-2),
    "ATR 14": (lambda close: float(talib.ATR(*range_of(close), 14)[-1]), wilder_bars(14) + 1, 1e-6 * 100),
}


@pytest.mark.parametrize("name", SETTLED)
def test_a_longer_past_gives_the_same_value(name: str) -> None:
    indicator, bars, tolerance = SETTLED[name]
    worst = 0.0
    for seed in range(25):
        close = prices(seed)
        worst = max(worst, abs(indicator(close) - indicator(close[-bars:])))
    assert worst <= tolerance


def test_a_window_of_a_single_period_would_not_do() -> None:
    """What the rule of four periods is for: the test above can fail."""
    close = prices(1)
    assert max(abs(indicators.ema(prices(s), 200) - indicators.ema(prices(s)[-250:], 200)) for s in range(25)) > 0.1
    assert abs(float(talib.RSI(close, 14)[-1]) - float(talib.RSI(close[-20:], 14)[-1])) > 0.1
