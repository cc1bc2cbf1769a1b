"""Every strategy against a calculation of its own: plain pandas over the whole series, without windows or TA-Lib.

Averages begin with the first bar here and run to the last, where a strategy sees its lookback alone: that both
agree says that the lookback is long enough, too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from botproc import loader
from botproc.strategy import Position
from botproc.window import frame_of
from broker.paper.csvbars import read_bars

Rule = Callable[[pd.DataFrame], "tuple[pd.Series[bool], pd.Series[bool]]"]


def made(bars: int = 6000, seed: int = 11) -> pd.DataFrame:
    """Hourly bars with calm and wild stretches, trends, gaps and bursts of volume; weekends included."""
    rng = np.random.default_rng(seed)
    wild = np.exp(0.9 * np.sin(np.arange(bars) / 37.0) + 0.5 * np.sin(np.arange(bars) / 211.0))
    steps = rng.normal(0, 0.0015, bars) * wild + 0.0004 * np.sin(np.arange(bars) / 90.0)
    close = 100 * np.exp(np.cumsum(steps))
    open_ = np.r_[close[0], close[:-1]] * (1 + np.where(rng.random(bars) < 0.01, rng.normal(0, 0.01, bars), 0))
    spans = np.abs(rng.normal(0, 0.0012, (2, bars))) * wild
    hours = (np.arange(bars) + 473_352).astype("datetime64[h]").astype("datetime64[ns]")
    return pd.DataFrame(
        {
            "time": pd.DatetimeIndex(hours, tz="UTC"),
            "open": open_,
            "high": np.maximum(open_, close) * (1 + spans[0]),
            "low": np.minimum(open_, close) * (1 - spans[1]),
            "close": close,
            "tick_volume": rng.lognormal(7, 0.45, bars).astype(np.uint64),
            "spread": np.full(bars, 10, np.int32),
            "real_volume": np.zeros(bars, np.uint64),
        }
    )


def sma(x: Any, n: int) -> Any:
    return x.rolling(n).mean()


def ema(x: Any, n: int) -> Any:
    return x.ewm(span=n, adjust=False).mean()


def wilder(x: Any, n: int) -> Any:
    return x.ewm(alpha=1 / n, adjust=False).mean()


def rsi(close: Any, n: int = 14) -> Any:
    change = close.diff().fillna(0.0)
    gain, loss = wilder(change.clip(lower=0), n), wilder(-change.clip(upper=0), n)
    return 100 * gain / (gain + loss)


def true_range(b: pd.DataFrame) -> Any:
    before = b.close.shift()
    return pd.concat([b.high - b.low, (b.high - before).abs(), (b.low - before).abs()], axis=1).max(axis=1)


def adx(b: pd.DataFrame, n: int) -> Any:
    up, down = b.high.diff().fillna(0.0), -b.low.diff().fillna(0.0)
    plus = wilder(up.where((up > down) & (up > 0), 0.0), n)
    minus = wilder(down.where((down > up) & (down > 0), 0.0), n)
    return wilder((100 * (plus - minus).abs() / (plus + minus)).fillna(0.0), n)


def bands(close: Any, n: int, k: float) -> tuple[Any, Any]:
    return sma(close, n) + k * close.rolling(n).std(ddof=0), sma(close, n) - k * close.rolling(n).std(ddof=0)


def ups(x: Any, line: Any) -> Any:
    return (x > line) & (x.shift() <= line.shift())


def downs(x: Any, line: Any) -> Any:
    return (x < line) & (x.shift() >= line.shift())


def ma_crossover(b: pd.DataFrame) -> Any:
    fast, slow = sma(b.close, 20), sma(b.close, 50)
    return ups(fast, slow), downs(fast, slow)


def rsi_crossover(b: pd.DataFrame) -> Any:
    line, trend = rsi(b.close), sma(b.close, 50)
    return ups(line, sma(line, 10)) & (b.close > trend), downs(line, sma(line, 10)) & (b.close < trend)


def bollinger_reversion(b: pd.DataFrame) -> Any:
    (upper, lower), trend = bands(b.close, 20, 2.0), sma(b.close, 200)
    return (b.close > trend) & (b.low <= lower), (b.close < trend) & (b.high >= upper)


def squeeze(b: pd.DataFrame) -> Any:
    upper, lower = bands(b.close, 20, 2.0)
    width = (upper - lower) / sma(b.close, 20)
    tight = (width < 0.7 * sma(width, 10)).shift(fill_value=False)
    return tight & (b.close > upper.shift()), tight & (b.close < lower.shift())


def bollinger_squeeze(b: pd.DataFrame) -> Any:
    (up, down), line = squeeze(b), rsi(b.close)
    return up & (line < 70), down & (line > 30)


def quantum_velocity(b: pd.DataFrame) -> Any:
    (up, down), trend = squeeze(b), ema(b.close, 200)
    return up & (b.close > trend), down & (b.close < trend)


def pulse(b: pd.DataFrame, length: int) -> Any:
    macd = ema(b.close, 12) - ema(b.close, 26)
    histogram, trend = macd - ema(macd, 9), sma(b.close, length)
    low, high = b.low.rolling(14).min(), b.high.rolling(14).max()
    k = sma(100 * (b.close - low) / (high - low), 3)
    k, d = k.round(9), sma(k, 3).round(9)
    return (b.close > trend) & (histogram > 0) & ups(k, d), (b.close < trend) & (histogram < 0) & downs(k, d)


def turtle(b: pd.DataFrame) -> Any:
    return b.close > b.high.rolling(20).max().shift(), b.close < b.low.rolling(20).min().shift()


def ichimoku(b: pd.DataFrame) -> Any:
    def middle(n: int) -> Any:
        return (b.high.rolling(n).max() + b.low.rolling(n).min()) / 2

    tenkan, kijun = middle(9), middle(26)
    a, c = ((tenkan + kijun) / 2).shift(26), middle(52).shift(26)
    clear, under = (b.close > a) & (b.close > c), (b.close < a) & (b.close < c)
    return ups(tenkan, kijun) & clear, downs(tenkan, kijun) & under


def dynamic(b: pd.DataFrame) -> Any:
    up, down = turtle(b)
    trend, large = ema(b.close, 50), (b.high - b.low) > 0.8 * wilder(true_range(b), 14)
    return up & (b.close > trend) & large, down & (b.close < trend) & large


def regime(b: pd.DataFrame, n: int, level: float, fast: int, slow: int, k: float, length: int) -> Any:
    strong, trend = adx(b, n) > level, sma(b.close, length)
    upper, lower = bands(b.close, 20, k)
    f, s = sma(b.close, fast), sma(b.close, slow)
    above, below = b.close > trend, b.close < trend
    crosses = strong & above & ups(f, s), strong & below & downs(f, s)
    touches = ~strong & above & (b.low <= lower), ~strong & below & (b.high >= upper)
    return crosses, touches


def hybrid(b: pd.DataFrame) -> Any:
    crosses, touches = regime(b, 14, 25, 20, 50, 2.0, 200)
    return crosses[0] | touches[0], crosses[1] | touches[1]


def crypto(b: pd.DataFrame) -> Any:
    crosses, touches = regime(b, 10, 20, 12, 26, 2.2, 100)
    line = rsi(b.close)
    calm = 100 * b.close.rolling(24).std(ddof=0) / sma(b.close, 24) <= 2.0
    passed = calm & ((b.time.dt.day_of_week < 5) | ((line - 50).abs() >= 15))
    buy = (crosses[0] & (line < 75)) | (touches[0] & (line < 25))
    return buy & passed, ((crosses[1] & (line > 25)) | (touches[1] & (line > 75))) & passed


def index_momentum(b: pd.DataFrame) -> Any:
    line = rsi(b.close)
    loud = b.tick_volume >= 1.3 * sma(b.tick_volume.astype(float), 20)
    gap = 100 * (b.open / b.close.shift() - 1)
    # Hours of New York, seven behind the server's: a bar that opens from 9:00 on overlaps 9:30 to 16:00.
    inside = b.time.dt.hour.sub(7).mod(24).between(9, 15)
    jumped = gap.abs() > 0.5
    buy = (jumped & (gap > 0) & (line < 70)) | (
        ~jumped & loud & line.between(50, 70, inclusive="neither") & (line.diff() > 1e-7)
    )
    sell = (jumped & (gap < 0) & (line > 30)) | (
        ~jumped & loud & line.between(30, 50, inclusive="neither") & (line.diff() < -1e-7)
    )
    return buy & inside, sell & inside


def index_breakout(b: pd.DataFrame) -> Any:
    atr, trend = wilder(true_range(b), 14), sma(b.close, 50)
    volume = b.tick_volume.astype(float)
    vwap = ((b.high + b.low + b.close) / 3 * volume).rolling(50).sum() / volume.rolling(50).sum()
    loud = volume.rolling(2).max() >= 1.5 * sma(volume, 20).shift(2)
    top, bottom = b.high.rolling(20).max().shift(2), b.low.rolling(20).min().shift(2)

    def tests(column: Any, level: Any) -> Any:
        return sum(((column.shift(n) - level).abs() <= 0.5 * atr).astype(int) for n in range(2, 22)) >= 3

    def signal(broken: Any, size: Any, votes: list[Any]) -> Any:
        return broken & (size >= 0.2 * atr) & (sum(vote.astype(int) for vote in votes) >= 3)

    up, down = b.close.rolling(2).min() > top, b.close.rolling(2).max() < bottom
    buy = signal(up, b.close - top, [tests(b.high, top), b.close > trend, loud, b.close > vwap])
    return buy, signal(down, bottom - b.close, [tests(b.low, bottom), b.close < trend, loud, b.close < vwap])


RULES: dict[str, Any] = {
    "MA_CROSSOVER": ma_crossover,
    "RSI_CROSSOVER": rsi_crossover,
    "BOLLINGER_REVERSION": bollinger_reversion,
    "BOLLINGER_SQUEEZE": bollinger_squeeze,
    "QUANTUM_VELOCITY": quantum_velocity,
    "PULSE_SYNC": functools.partial(pulse, length=100),
    "MERCY_EDGE": functools.partial(pulse, length=200),
    "TURTLE_BREAKOUT": turtle,
    "ICHIMOKU_CLOUD": ichimoku,
    "DYNAMIC_BREAKOUT": dynamic,
    "QUANTUMBOTX_HYBRID": hybrid,
    "QUANTUMBOTX_CRYPTO": crypto,
    "INDEX_MOMENTUM": index_momentum,
    "INDEX_BREAKOUT_PRO": index_breakout,
}


def compare(name: str, bars: pd.DataFrame, last: int) -> dict[str, int]:
    """Each of the `last` bars by the strategy and by the rule; what was seen."""
    strategy = loader.build(name, {})
    buy, sell = RULES[name](bars)
    assert not (buy & sell).any()
    seen = {"BUY": 0, "SELL": 0, "HOLD": 0}
    for end in range(len(bars) - last + 1, len(bars) + 1):
        signal = strategy.decide(bars.iloc[end - strategy.lookback : end])
        expected = "BUY" if buy.iloc[end - 1] else "SELL" if sell.iloc[end - 1] else "HOLD"
        assert signal.action == expected, f"bar {end}: {signal.explanation} {signal.figures}"
        seen[signal.action] += 1
    return seen


def test_these_are_all_strategies_of_the_package() -> None:
    assert sorted(RULES) == loader.known()


@pytest.mark.parametrize("name", RULES)
def test_signals_are_those_of_the_rule_computed_apart(name: str) -> None:
    seen = compare(name, made(), 3000)
    assert all(seen.values()), seen


@functools.cache
def real(folder: Path, symbol: str) -> pd.DataFrame:
    return frame_of(read_bars(folder / f"{symbol}_H1.csv", "H1").rates[-9000:])


@pytest.mark.market
@pytest.mark.parametrize("symbol", ["EURUSD", "US500"])
@pytest.mark.parametrize("name", RULES)
def test_on_real_prices_too_and_each_buys_and_sells(name: str, symbol: str, market: Path) -> None:
    seen = compare(name, real(market, symbol), 4000)
    assert seen["BUY"] > 5 and seen["SELL"] > 5, seen


def test_the_turtle_leaves_by_its_own_channel() -> None:
    bars, strategy = made(), loader.build("TURTLE_BREAKOUT", {})
    low, high = bars.low.rolling(10).min().shift(), bars.high.rolling(10).max().shift()
    buy, sell = turtle(bars)
    ends = {"buy": 0, "sell": 0}
    for end in range(3000, 5000):
        window, at, close = bars.iloc[:end], end - 1, bars.close.iloc[end - 1]
        plain = strategy.decide(window).action
        assert plain == ("BUY" if buy.iloc[at] else "SELL" if sell.iloc[at] else "HOLD")
        for side, broken in (("buy", close < low.iloc[at]), ("sell", close > high.iloc[at])):
            action = strategy.decide(window, Position(side, 0.1, 100.0)).action  # type: ignore[arg-type]
            assert action == (plain if plain != "HOLD" else "EXIT" if broken else "HOLD")
            ends[side] += action == "EXIT"
    assert min(ends.values()) > 10, ends
