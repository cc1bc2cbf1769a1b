"""The strategies: their rules against a plain re-computation, their lookback, and what they say."""

from __future__ import annotations

import itertools
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from botproc import loader
from botproc.strategy import COLUMNS, Signal, Strategy, StrategyParams, crossing, side_of, wilder_bars
from botproc.window import Window
from broker.api import RATES_DTYPE

BUILT_IN = tuple(loader.known())
FIRST = ("MA_CROSSOVER", "RSI_CROSSOVER", "BOLLINGER_REVERSION")
VARIANTS = [
    *((name, {}) for name in BUILT_IN),
    ("MA_CROSSOVER", {"fast": 3, "slow": 8}),
    ("RSI_CROSSOVER", {"rsi": 5, "rsi_ma": 3, "trend": 10}),
    ("RSI_CROSSOVER", {"rsi": 30, "trend": 600}),
    ("BOLLINGER_REVERSION", {"length": 40, "std": 1.0, "trend": 10}),
    ("BOLLINGER_SQUEEZE", {"length": 5, "squeeze_window": 300, "rsi": 2}),
    ("QUANTUM_VELOCITY", {"ema": 3, "length": 50}),
    ("PULSE_SYNC", {"trend": 600, "macd_fast": 2, "macd_slow": 3, "macd_signal": 2}),
    ("PULSE_SYNC", {"trend": 2, "macd_fast": 2, "macd_slow": 3, "macd_signal": 2, "stoch_k": 190, "stoch_d": 9}),
    ("TURTLE_BREAKOUT", {"entry": 55, "exit": 55}),
    ("ICHIMOKU_CLOUD", {"tenkan": 1, "kijun": 2, "senkou": 3, "use_cloud_filter": False}),
    ("DYNAMIC_BREAKOUT", {"donchian": 400, "ema": 2, "atr": 2}),
    ("QUANTUMBOTX_HYBRID", {"adx": 2, "fast": 3, "slow": 9, "length": 4, "trend": 5}),
    ("QUANTUMBOTX_CRYPTO", {"adx": 2, "rsi": 2, "fast": 2, "slow": 3, "length": 2, "trend": 2}),
    ("INDEX_MOMENTUM", {"rsi": 2, "volume": 90, "session_filter": False}),
    ("INDEX_BREAKOUT_PRO", {"breakout": 300, "confirm": 7, "trend": 9}),
]


def frame(close: Any, *, wick: float = 0.0005) -> pd.DataFrame:
    """Closed H1 bars around the closes; `wick` as a share of the price."""
    prices = np.asarray(close, dtype=np.float64)
    before = np.r_[prices[0], prices[:-1]]
    hours = np.arange(len(prices)).astype("datetime64[h]").astype("datetime64[ns]")
    data = {
        "time": pd.DatetimeIndex(hours, tz="UTC"),
        "open": before,
        "high": np.maximum(before, prices) * (1 + wick),
        "low": np.minimum(before, prices) * (1 - wick),
        "close": prices,
        "tick_volume": np.full(len(prices), 100, np.uint64),
        "spread": np.full(len(prices), 10, np.int32),
        "real_volume": np.zeros(len(prices), np.uint64),
    }
    return pd.DataFrame(data)


def walk(bars: int, *, seed: int = 7, start: float = 1.1) -> pd.DataFrame:
    steps = np.random.default_rng(seed).normal(0, 0.001, bars)
    return frame(start * np.exp(np.cumsum(steps)))


def sma(values: Any, period: int) -> float:
    return float(np.mean(values[-period:]))


def wilder_rsi(close: Any, period: int) -> list[float]:
    """RSI of each bar by Wilder's own recursion, in plain Python."""
    changes = [b - a for a, b in itertools.pairwise(close)]
    gain = sum(max(c, 0.0) for c in changes[:period]) / period
    loss = sum(max(-c, 0.0) for c in changes[:period]) / period
    out = [100 * gain / (gain + loss)]
    for change in changes[period:]:
        gain = (gain * (period - 1) + max(change, 0.0)) / period
        loss = (loss * (period - 1) + max(-change, 0.0)) / period
        out.append(100 * gain / (gain + loss))
    return out


def rule_ma(bars: pd.DataFrame) -> str:
    close = list(bars["close"])
    before, now = (sma(c, 20) - sma(c, 50) for c in (close[:-1], close))
    return "BUY" if before <= 0 < now else "SELL" if now < 0 <= before else "HOLD"


def rule_rsi(bars: pd.DataFrame) -> str:
    close = list(bars["close"])
    rsi = wilder_rsi(close, 14)
    before, now = (values[-1] - sma(values, 10) for values in (rsi[:-1], rsi))
    trend = close[-1] - sma(close, 50)
    if before <= 0 < now and trend > 0:
        return "BUY"
    return "SELL" if now < 0 <= before and trend < 0 else "HOLD"


def rule_bollinger(bars: pd.DataFrame) -> str:
    close = list(bars["close"])
    middle, width = sma(close, 20), 2.0 * float(np.std(close[-20:]))
    trend = close[-1] - sma(close, 200)
    if trend > 0 and bars["low"].iloc[-1] <= middle - width:
        return "BUY"
    return "SELL" if trend < 0 and bars["high"].iloc[-1] >= middle + width else "HOLD"


@pytest.mark.parametrize("start", [1.1, 150.0, 60_000.0, 1e-6])
@pytest.mark.parametrize(
    ("name", "rule"), [("MA_CROSSOVER", rule_ma), ("RSI_CROSSOVER", rule_rsi), ("BOLLINGER_REVERSION", rule_bollinger)]
)
def test_signals_are_those_of_the_rule_computed_by_hand(name: str, rule: Any, start: float) -> None:
    bars, strategy = walk(900, start=start), loader.build(name, {})
    seen = {"BUY": 0, "SELL": 0, "HOLD": 0}
    for end in range(400, 900):
        window = bars.iloc[:end]
        signal = strategy.decide(window)
        assert signal.action == rule(window), f"bar {end}: {signal.explanation}"
        assert signal.price == window["close"].iloc[-1]
        seen[signal.action] += 1
    assert all(count > 0 for count in seen.values()), seen


@pytest.mark.parametrize(("name", "params"), VARIANTS)
def test_nothing_before_the_lookback_and_nothing_later_counts(name: str, params: dict[str, Any]) -> None:
    strategy = loader.build(name, params)
    needed = strategy.lookback
    bars, other = walk(needed + 300), walk(needed + 300, seed=99, start=3.0)
    for end in (needed, needed + 1, needed + 150, needed + 300):
        exact = strategy.decide(bars.iloc[end - needed : end])
        # Another past, and for `analyze` itself too, which sees all of it.
        past = pd.concat([other.iloc[: end - needed], bars.iloc[end - needed : end]])
        for signal in (strategy.decide(bars.iloc[:end]), strategy.analyze(bars.iloc[:end]), strategy.analyze(past)):
            assert signal.action == exact.action
            assert signal.figures == pytest.approx(exact.figures, rel=1e-6, abs=1e-9)
        assert all(math.isfinite(value) for value in exact.figures.values())
    # A strategy has no memory: what it saw later does not change what it says of an earlier bar.
    early = strategy.decide(bars.iloc[: needed + 10])
    strategy.decide(other)
    strategy.decide(bars)
    assert strategy.decide(bars.iloc[: needed + 10]) == early


@pytest.mark.parametrize(("name", "params"), VARIANTS)
def test_one_bar_too_few_is_an_error(name: str, params: dict[str, Any]) -> None:
    strategy = loader.build(name, params)
    short = walk(strategy.lookback - 1)
    for call in (strategy.decide, strategy.analyze):
        with pytest.raises(ValueError, match=f"{name} needs {strategy.lookback} closed bars; there are {len(short)}"):
            call(short)


def test_the_lookback_of_a_recursive_indicator_lets_its_seed_fade() -> None:
    # The same last bars after two very different pasts: the RSI itself, uncut, agrees to 1e-4 of its 100.
    import talib

    for period in (2, 14, 50):
        needed = wilder_bars(period)
        assert needed >= 4 * period
        tail = walk(needed).close.to_numpy()
        calm, wild = np.full(200, tail[0]), walk(200, seed=3).close.to_numpy() * 2
        a, b = (float(talib.RSI(np.r_[past, tail], period)[-1]) for past in (calm, wild))
        assert a == pytest.approx(b, abs=1e-2)
        assert float(talib.RSI(tail, period)[-1]) == pytest.approx(a, abs=1e-3)


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("price", [1.12345, 0.1, 57_143.5, 1e-7])
def test_a_market_that_stands_still_is_a_hold(name: str, price: float) -> None:
    strategy = loader.build(name, {})
    for extra in range(60):
        assert strategy.decide(frame(np.full(strategy.lookback + extra, price), wick=0.0)).action == "HOLD"


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [((1, 2), (3, 2), 1), ((2, 2), (3, 2), 1), ((3, 2), (1, 2), -1), ((3, 2), (4, 2), 0), ((3, 2), (2, 2), 0),
     ((2, 2), (2, 2), 0), ((math.nan, 2), (3, 2), 0)],
)  # fmt: skip
def test_crossing(before: tuple[float, float], now: tuple[float, float], expected: int) -> None:
    assert crossing(*before, *now) == expected


def test_side_sees_the_smallest_price_step_and_not_the_rounding() -> None:
    assert side_of(1.10001, 1.10000) == 1
    assert side_of(65_000.01, 65_000.02) == -1
    assert side_of(0.1 + 0.2, 0.3) == 0


def test_explanations_are_sentences_with_figures() -> None:
    for name in FIRST:
        strategy = loader.build(name, {})
        bars = walk(900)
        texts = {strategy.decide(bars.iloc[:end]).action: strategy.decide(bars.iloc[:end]) for end in range(300, 900)}
        assert set(texts) == {"BUY", "SELL", "HOLD"}
        for signal in texts.values():
            assert signal.explanation[0].isupper() and signal.explanation.endswith(".")
            assert "SMA(" in signal.explanation and any(char.isdigit() for char in signal.explanation)


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_analysis_takes_less_than_a_millisecond(name: str) -> None:
    strategy = loader.build(name, {})
    bars = walk(max(250, strategy.lookback))
    best = math.inf
    for _ in range(200):  # the best of many: the machine may be busy
        started = time.perf_counter()
        strategy.decide(bars)
        best = min(best, time.perf_counter() - started)
    assert best < 0.001


def test_a_bots_window_gives_the_promised_columns() -> None:
    rates = np.zeros(3, RATES_DTYPE)
    rates["time"], rates["open"], rates["close"] = [0, 3600, 7200], 1.5, 1.25
    window = Window(3)
    window.fill(rates.tobytes())
    bars = window.frame()
    assert tuple(bars.columns) == COLUMNS == RATES_DTYPE.names == tuple(walk(3).columns)
    assert bars["time"].iloc[-1] == pd.Timestamp("1970-01-01 02:00", tz="UTC") and bars["open"].iloc[0] == 1.5


def test_the_guides_example_works() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "writing-a-strategy.md").read_text("utf-8")
    scope: dict[str, Any] = {"__name__": "channel"}
    exec(guide.split("```python\n")[1].split("```")[0], scope)
    strategy = scope["Channel"](scope["ChannelParams"]())
    assert strategy.decide(frame(np.linspace(1, 2, 40))).action == "BUY"
    assert strategy.decide(frame(np.linspace(2, 1, 40))).action == "SELL"
    assert strategy.decide(frame(np.full(40, 1.5))).action == "HOLD"


def test_an_answer_that_is_no_signal_is_named() -> None:
    class Silent(Strategy):
        id = "SILENT"
        lookback = 1

        def analyze(self, bars: pd.DataFrame) -> Signal:
            return None  # type: ignore[return-value]

    with pytest.raises(TypeError, match="SILENT answered None; a Signal"):
        Silent(StrategyParams()).decide(walk(2))


@pytest.mark.parametrize("name", BUILT_IN)
def test_columns_at_hand_are_all_that_a_rule_of_ours_takes(name: str) -> None:
    strategy = loader.build(name, {})
    assert strategy.columns_only
    bars, needed = walk(strategy.lookback + 200), strategy.lookback
    stale = walk(needed, seed=3)
    for end in range(needed, needed + 200, 7):
        cut = bars.iloc[end - needed : end]

        def column(wanted: str, cut: pd.DataFrame = cut) -> Any:
            if wanted == "time":
                return cut["time"].dt.tz_localize(None).to_numpy("datetime64[s]").astype(np.float64)
            return cut[wanted].to_numpy(dtype=np.float64)

        assert strategy.decide(stale, None, column) == strategy.decide(cut)


def test_a_rule_of_somebody_else_gets_its_frames() -> None:
    class Mine(type(loader.build("MA_CROSSOVER", {}))):  # type: ignore[misc]
        def analyze(self, bars: pd.DataFrame) -> Signal:
            return Signal("HOLD", float(bars["close"].iloc[-1]), "Mine.")

    assert Mine.columns_only is False
