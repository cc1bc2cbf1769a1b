"""Strategies on bars written down by hand, where the right answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from botproc import loader
from botproc.strategy import Action, Position, Strategy

#: open, high, low, close[, tick volume]
Bar = Sequence[float]


def bars_of(rows: Sequence[Bar], *, start: str = "2024-01-09 17:00", step: str = "1h") -> pd.DataFrame:
    """Bars of which the last opens at `start`, which is inside New York's hours by a usual broker's clock."""
    table = np.array([[*row, 100.0][:5] for row in rows], dtype=np.float64)
    end = pd.Timestamp(start, tz="UTC")
    times = pd.date_range(end=end, periods=len(rows), freq=step).as_unit("ns")
    columns = dict(zip(("open", "high", "low", "close", "tick_volume"), table.T, strict=True))
    return pd.DataFrame({"time": times, **columns, "spread": 10, "real_volume": 0})


def closes(prices: Sequence[float], wick: float = 0.0) -> list[Bar]:
    """Bars from close to close."""
    before = [prices[0], *prices[:-1]]
    return [(a, max(a, b) + wick, min(a, b) - wick, b) for a, b in zip(before, prices, strict=True)]


def filled(strategy: Strategy, rows: Sequence[Bar], past: Sequence[Bar]) -> list[Bar]:
    """`rows` behind so much of `past`, repeated, as the strategy needs."""
    missing = max(0, strategy.lookback - len(rows))
    return [*(list(past) * (missing // len(past) + 1))[-missing:], *rows] if missing else list(rows)


def decide(name: str, rows: Sequence[Bar], past: Sequence[Bar], params: dict[str, Any], **when: Any) -> Action:
    strategy = loader.build(name, params)
    return strategy.decide(bars_of(filled(strategy, rows, past), **when)).action


WIDE = closes([90.0, 110.0])
CALM = [100.0, 100.1, 99.9, 100.0, 100.1, 99.9, 100.0]
NARROW = {"length": 4, "squeeze_window": 5}


@pytest.mark.parametrize(
    ("last", "expected"),
    [(104.0, "BUY"), (96.0, "SELL"), (100.05, "HOLD")],
)
def test_a_squeeze_breaks(last: float, expected: Action) -> None:
    assert decide("BOLLINGER_SQUEEZE", closes([*CALM[:4], last]), WIDE, NARROW) == expected
    # Without a squeeze before it the same last bar says nothing.
    assert decide("BOLLINGER_SQUEEZE", closes([90.0, 110.0, 90.0, 110.0, last]), WIDE, NARROW) == "HOLD"


def test_a_squeeze_that_the_rsi_finds_gone_too_far_is_left() -> None:
    nearly = closes([100.0, 101.0, 99.0, 101.0, 99.0, 101.0, *CALM[:4]])
    quiet = closes(CALM)
    for last in (110.0, 90.0):
        rows = [*nearly, closes([100.0, last])[1]]
        strategy = loader.build("BOLLINGER_SQUEEZE", NARROW)
        signal = strategy.decide(bars_of(filled(strategy, rows, quiet)))
        assert signal.action == "HOLD" and "gone far" in signal.explanation, signal


def test_velocity_takes_only_the_side_of_its_average() -> None:
    params = {**NARROW, "ema": 30}
    above, below = closes([190.0, 210.0]), closes([40.0, 60.0])  # the average comes from there
    for past, allowed, refused in ((above, "SELL", 104.0), (below, "BUY", 96.0)):
        last = 96.0 if allowed == "SELL" else 104.0
        rows = closes([90.0, 110.0, 90.0, *CALM[:4]])
        assert decide("QUANTUM_VELOCITY", [*rows, closes([100.0, last])[1]], past, params) == allowed
        assert decide("QUANTUM_VELOCITY", [*rows, closes([100.0, refused])[1]], past, params) == "HOLD"


@pytest.mark.parametrize("name", ["PULSE_SYNC", "MERCY_EDGE"])
def test_trend_histogram_and_stochastic_must_agree(name: str) -> None:
    params = {"trend": 5, "macd_fast": 2, "macd_slow": 3, "macd_signal": 2, "stoch_k": 3, "stoch_slow": 1, "stoch_d": 2}
    rising, falling = [100.0, 100.0, 101.0, 103.0, 102.5, 108.0], [100.0, 100.0, 99.0, 97.0, 97.5, 92.0]
    flat = closes([100.0, 100.0])
    assert decide(name, closes(rising), flat, params) == "BUY"
    assert decide(name, closes(falling), flat, params) == "SELL"
    # The stochastic stays up: it has crossed before.
    assert decide(name, closes([*rising, 109.0]), flat, params) == "HOLD"
    # The same rise below the trend.
    assert decide(name, closes(rising), closes([150.0, 150.0]), {**params, "trend": 40}) == "HOLD"


def test_the_turtle() -> None:
    flat: list[Bar] = [(100.0, 101.0, 99.0, 100.0)]
    rising: list[Bar] = [(100.0 + n, 101.0 + n, 99.0 + n, 100.0 + n) for n in range(1, 6)]
    strategy = loader.build("TURTLE_BREAKOUT", {"entry": 6, "exit": 2})

    def say(rows: Sequence[Bar], position: Position | None) -> Action:
        return strategy.decide(bars_of(filled(strategy, rows, flat)), position).action

    long, short = Position("buy", 1.0, 100.0), Position("sell", 1.0, 100.0)
    assert say([(100.0, 103.0, 100.0, 101.01)], None) == "BUY"
    assert say([(100.0, 103.0, 100.0, 101.0)], None) == "HOLD"  # on the channel's edge is not beyond it
    assert say([(100.0, 100.0, 97.0, 98.99)], None) == "SELL"
    back: list[Bar] = [*rising, (105.0, 105.0, 102.0, 102.5)]  # below the low 103 of two bars, above that of six
    assert say(back, long) == "EXIT"
    assert say(back, None) == "HOLD" and say(back, short) == "HOLD"
    assert say([*rising, (105.0, 105.0, 102.0, 103.0)], long) == "HOLD"
    mirrored: list[Bar] = [(200 - o, 200 - low, 200 - high, 200 - c) for o, high, low, c in back]
    assert say(mirrored, short) == "EXIT" and say(mirrored, long) == "HOLD"


def test_the_cloud() -> None:
    params = {"tenkan": 2, "kijun": 3, "senkou": 4}
    # Tenkan from below to the Kijun's 115, and with the second bar at 130 above its 115.
    rows = closes([120.0, 120.0, 120.0, 120.0, 110.0, 100.0, 100.0, 130.0, 130.0, 130.0])
    for use, past in ((True, closes([120.0, 120.0])), (False, closes([120.0, 120.0]))):
        strategy = loader.build("ICHIMOKU_CLOUD", {**params, "use_cloud_filter": use})
        said = [strategy.decide(bars_of(filled(strategy, rows[:n], past))).action for n in (9, 10)]
        assert "BUY" in said and "SELL" not in said
    # A cloud that lies higher than the price: the cross counts without the filter alone.
    high = closes([500.0, 500.0, 500.0, 500.0, 110.0, 100.0, 100.0, 130.0, 130.0, 130.0])
    crossed = next(
        n
        for n in range(8, 11)
        if decide("ICHIMOKU_CLOUD", high[:n], high[:1], {**params, "use_cloud_filter": False}) == "BUY"
    )
    assert decide("ICHIMOKU_CLOUD", high[:crossed], high[:1], params) == "HOLD"


def test_a_breakout_wants_a_large_bar_and_the_trend() -> None:
    flat: list[Bar] = [(100.0, 101.0, 99.0, 100.0)]
    params = {"donchian": 5, "ema": 4, "atr": 3}
    assert decide("DYNAMIC_BREAKOUT", [(100.0, 103.0, 100.0, 102.0)], flat, params) == "BUY"
    assert decide("DYNAMIC_BREAKOUT", [(100.0, 100.0, 97.0, 98.0)], flat, params) == "SELL"
    assert decide("DYNAMIC_BREAKOUT", [(102.0, 102.5, 102.0, 102.0)], flat, params) == "HOLD"  # a gap, and a small bar
    down: list[Bar] = [(200.0 - n, 200.5 - n, 199.5 - n, 200.0 - n) for n in range(60)]
    below = [*down, *flat * 6, (100.0, 103.0, 100.0, 102.0)]
    assert decide("DYNAMIC_BREAKOUT", below, down[:1], {**params, "ema": 200}) == "HOLD"


def quiet(volume: float = 100.0) -> list[Bar]:
    return [(100.0, 100.6, 99.8, 100.4, volume), (100.4, 100.6, 99.8, 100.0, volume)]


@pytest.mark.parametrize(
    ("bar", "params", "expected"),
    [
        ((100.0, 101.0, 100.0, 101.0, 200.0), {}, "BUY"),
        ((100.0, 100.0, 99.0, 99.0, 200.0), {}, "SELL"),
        ((100.0, 101.0, 100.0, 101.0, 120.0), {}, "HOLD"),  # too little volume
        ((101.0, 101.2, 100.9, 101.0, 100.0), {}, "BUY"),  # a gap of a percent, with it
        ((101.0, 101.2, 100.9, 101.0, 100.0), {"gap_fade": True}, "SELL"),
        ((99.0, 99.2, 98.9, 99.0, 100.0), {}, "SELL"),
        ((99.0, 99.2, 98.9, 99.0, 100.0), {"gap_fade": True}, "BUY"),
        ((101.0, 101.2, 100.9, 101.0, 100.0), {"gap": 2.0}, "HOLD"),
        ((109.0, 109.2, 108.9, 109.0, 900.0), {}, "HOLD"),  # overbought at once: neither gap nor momentum
    ],
)
def test_momentum_of_an_index(bar: Bar, params: dict[str, Any], expected: Action) -> None:
    assert decide("INDEX_MOMENTUM", [bar], quiet(), params) == expected


@pytest.mark.parametrize(
    ("opens", "step", "params", "inside"),
    [
        ("2024-01-09 15:00", "1h", {}, False),  # 8:00 in New York, to 9:00
        ("2024-01-09 16:00", "1h", {}, True),  # holds 9:30
        ("2024-07-09 22:00", "1h", {}, True),  # in summer too: such a server changes its clock with New York
        ("2024-01-09 23:00", "1h", {}, False),  # 16:00
        ("2024-01-09 16:15", "15min", {}, False),
        ("2024-01-09 16:30", "15min", {}, True),
        ("2024-01-09 00:00", "1D", {}, True),  # a day holds the session
        ("2024-01-09 14:00", "1h", {"server_ahead": 5}, True),  # a server in UTC, in winter
        ("2024-01-09 22:00", "1h", {"server_ahead": 5}, False),
        ("2024-01-09 10:00", "1h", {"session": "DE"}, True),
        ("2024-01-09 20:00", "1h", {"session": "DE"}, False),
        ("2024-01-09 23:00", "1h", {"session_filter": False}, True),
    ],
)
def test_hours_of_the_exchange(opens: str, step: str, params: dict[str, Any], inside: bool) -> None:
    up = (100.0, 101.0, 100.0, 101.0, 200.0)
    assert decide("INDEX_MOMENTUM", [up], quiet(), params, start=opens, step=step) == ("BUY" if inside else "HOLD")


def test_a_level_must_be_tested_and_broken_by_closes_and_votes() -> None:
    flat: list[Bar] = [(100.0, 101.0, 99.0, 100.0, 100.0)]
    up: list[Bar] = [(100.0, 103.0, 100.0, 102.5, 180.0), (102.5, 103.5, 102.0, 103.0, 100.0)]
    down: list[Bar] = [(200 - o, 200 - low, 200 - high, 200 - c, v) for o, high, low, c, v in up]
    name = "INDEX_BREAKOUT_PRO"
    assert decide(name, up, flat, {}) == "BUY"
    assert decide(name, down, flat, {}) == "SELL"
    assert decide(name, up[:1], flat, {}) == "HOLD"  # one close
    assert decide(name, up[:1], flat, {"confirm": 1}) == "BUY"
    assert decide(name, up, flat, {"min_size": 3.0}) == "HOLD"
    # One vote may be missing, two may not: no volume, and a level that nothing tested.
    silent = [(*row[:4], 100.0) for row in up]
    assert decide(name, silent, flat, {}) == "BUY"
    lonely: list[Bar] = [(100.0, 101.0, 99.0, 100.0, 100.0), *[(100.0, 99.0, 98.0, 99.0, 100.0)] * 19]
    assert decide(name, [*lonely, *silent], flat[:1], {}) == "HOLD"
    assert decide(name, [*lonely, *up], flat[:1], {}) == "BUY"


def test_weekends_want_a_clearer_rsi() -> None:
    """A touch of the band by an RSI between: taken on Friday, left on Saturday, taken there with the mode off."""
    rng = np.random.default_rng(3)
    prices = 100 * np.exp(np.cumsum(rng.normal(0, 0.002, 3000)))
    params = {"trend": 20, "fast": 3, "slow": 8, "volatility_filter": 50.0}
    strategy, free = (loader.build("QUANTUMBOTX_CRYPTO", {**params, "weekend_mode": mode}) for mode in (True, False))
    rows, seen = closes(prices.tolist(), 0.05), {"left": 0, "taken": 0}
    for end in range(strategy.lookback, len(rows)):
        part = rows[end - strategy.lookback : end]
        friday, saturday = (bars_of(part, start=f"2024-01-{day} 12:00") for day in ("12", "13"))
        wanted = free.decide(friday)
        assert strategy.decide(friday).action == wanted.action == free.decide(saturday).action
        if wanted.action == "HOLD":
            continue
        clear = abs(wanted.figures["rsi"] - 50) >= 15
        assert strategy.decide(saturday).action == (wanted.action if clear else "HOLD")
        seen["taken" if clear else "left"] += 1
    assert min(seen.values()) > 3, seen


def test_wild_markets_are_left() -> None:
    rng = np.random.default_rng(3)
    rows = closes((100 * np.exp(np.cumsum(rng.normal(0, 0.002, 2000)))).tolist(), 0.05)
    params = {"trend": 20, "fast": 3, "slow": 8, "weekend_mode": False}
    calm = loader.build("QUANTUMBOTX_CRYPTO", {**params, "volatility_filter": 0.5})
    free = loader.build("QUANTUMBOTX_CRYPTO", {**params, "volatility_filter": 100.0})
    left = 0
    for end in range(calm.lookback, len(rows)):
        bars = bars_of(rows[end - calm.lookback : end])
        wanted, said = free.decide(bars), calm.decide(bars)
        assert said.action == ("HOLD" if wanted.figures["volatility"] > 0.5 else wanted.action)
        left += said.action != wanted.action
    assert left > 3


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("TURTLE_BREAKOUT", {"entry": 5, "exit": 6}),
        ("ICHIMOKU_CLOUD", {"tenkan": 30}),
        ("PULSE_SYNC", {"macd_fast": 26}),
        ("MERCY_EDGE", {"macd_fast": 30}),
        ("QUANTUMBOTX_HYBRID", {"fast": 50}),
        ("QUANTUMBOTX_CRYPTO", {"rsi_oversold": 50, "rsi_overbought": 50}),
        ("INDEX_MOMENTUM", {"session": "JP"}),
        ("INDEX_MOMENTUM", {"gap_fade": 3}),
        ("BOLLINGER_SQUEEZE", {"squeeze_factor": 0.0}),
        ("DYNAMIC_BREAKOUT", {"multiple": True}),
    ],
)
def test_parameters_that_do_not_fit_are_refused(name: str, params: dict[str, Any]) -> None:
    with pytest.raises(loader.ParamsInvalid):
        loader.build(name, params)
