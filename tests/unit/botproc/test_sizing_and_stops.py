"""Volume and stops: decimal arithmetic, the symbol's limits, the right side of the quote."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botproc import stops
from botproc.sizing import NoEntry, Sizing, lots

EURUSD = {
    "name": "EURUSD",
    "digits": 5,
    "point": 1e-05,
    "trade_stops_level": 0,
    "trade_tick_size": 1e-05,
    "volume_min": 0.01,
    "volume_max": 500.0,
    "volume_step": 0.01,
    "volume_limit": 0.0,
}


def size(
    loss: float, *, balance: float = 10_000.0, risk: float = 1.0, min_lot: Literal["refuse", "accept"] = "refuse",
    **info: float,
) -> Sizing:  # fmt: skip
    return lots(balance=balance, risk_percent=risk, loss_of_one_lot=loss, info={**EURUSD, **info}, min_lot=min_lot)


@pytest.mark.parametrize(
    ("balance", "loss", "step", "volume"),
    [
        (30.0, 1.0, 0.1, 0.3),  # in floats floor(0.3 / 0.1) is 2
        (10_000.0, 200.0, 0.01, 0.5),
        (10_000.0, 200.00000000000003, 0.01, 0.5),  # noise of the computed loss costs no step
        (10_000.0, 333.0, 0.01, 0.30),
        (10_000.0, 333.0, 0.001, 0.300),
        (10_000.0, 7_000.0, 1e-05, 0.01428),  # a step that rounds to no decimals at all in careless hands
        (10_000.0, 30.0, 1.0, 3.0),
    ],
)
def test_lots_are_floored_to_the_step(balance: float, loss: float, step: float, volume: float) -> None:
    assert size(loss, balance=balance, volume_step=step, volume_min=step).volume == volume


def test_below_the_smallest_volume_the_entry_is_refused_and_says_the_figures() -> None:
    with pytest.raises(NoEntry) as refusal:
        size(20_000.0)
    assert refusal.value.kind == "volume_min"
    assert "1 % of 10000.00 is 100.00" in refusal.value.text and "would lose 200.00" in refusal.value.text


def test_accept_takes_the_smallest_volume_and_says_that_the_risk_is_larger() -> None:
    sizing = size(20_000.0, min_lot="accept")
    assert sizing.volume == 0.01 and sizing.risk == 200.0 and "above the risk" in sizing.note


def test_capped_at_volume_max_and_volume_limit() -> None:
    assert size(0.1, volume_max=50.0).volume == 50.0
    assert size(0.1, volume_max=50.0, volume_limit=20.005).volume == 20.0
    assert "capped" in size(0.1, volume_max=50.0).note
    with pytest.raises(NoEntry, match="below its smallest volume"):
        size(0.1, volume_limit=0.005)


@pytest.mark.parametrize(("loss", "info"), [(0.0, {}), (100.0, {"volume_step": 0.0})])
def test_figures_without_sense_are_refused(loss: float, info: dict[str, Any]) -> None:
    with pytest.raises(NoEntry):
        size(loss, **info)
    with pytest.raises(NoEntry, match="no money"):
        size(100.0, balance=-5.0)


@given(
    balance=st.floats(100, 1e7), risk=st.floats(0.01, 10), loss=st.floats(0.01, 1e5),
    step=st.sampled_from([1e-05, 0.001, 0.01, 0.1, 1.0]),
)  # fmt: skip
def test_the_risk_is_never_exceeded_and_no_step_is_given_away(
    balance: float, risk: float, loss: float, step: float
) -> None:
    money = balance * risk / 100
    try:
        sizing = size(loss, balance=balance, risk=risk, volume_step=step, volume_min=step, volume_max=1e12)
    except NoEntry:
        assert money < step * loss * (1 + 1e-6)
        return
    assert sizing.volume * loss <= money * (1 + 1e-6)
    assert (sizing.volume + step) * loss > money * (1 - 1e-6)
    assert round(sizing.volume / step) * step == pytest.approx(sizing.volume, rel=1e-12)


def place(side: Literal["buy", "sell"], atr: float, sl: float = 2.0, tp: float = 4.0, **info: Any) -> stops.Stops:
    return stops.place(side, {**EURUSD, **info}, {"bid": 1.10000, "ask": 1.10010}, atr, sl, tp)


def test_a_buy_is_measured_from_the_ask_and_a_sell_from_the_bid() -> None:
    assert place("buy", 0.001) == stops.Stops(1.1001, 1.0981, 1.1041)
    assert place("sell", 0.001) == stops.Stops(1.1, 1.102, 1.096)


def test_prices_are_rounded_to_digits_and_to_a_coarser_tick_size() -> None:
    placed = place("buy", 0.00123456)
    assert (placed.sl, placed.tp) == (1.09763, 1.10504)
    placed = stops.place(
        "buy",
        {**EURUSD, "digits": 2, "point": 0.01, "trade_tick_size": 0.25},
        {"bid": 4000.0, "ask": 4000.5},
        7.1,
        1,
        1,
    )
    assert (placed.sl, placed.tp) == (3993.5, 4007.5)


@pytest.mark.parametrize("level", [0, 1, 17, 50, 100])
@pytest.mark.parametrize("side", ["buy", "sell"])
def test_stops_keep_the_level_from_the_price_that_closes(side: Literal["buy", "sell"], level: int) -> None:
    placed = place(side, 0.00003, trade_stops_level=level)
    least = max(level, 1)
    if side == "buy":
        distances = (1.1 - placed.sl, placed.tp - 1.1)
    else:
        distances = (placed.sl - 1.1001, 1.1001 - placed.tp)
    assert all(round(distance / 1e-05) >= least for distance in distances), placed


def test_no_take_profit_where_the_multiple_is_zero_or_the_target_is_below_zero() -> None:
    assert place("buy", 0.001, tp=0.0).tp == 0.0
    assert place("sell", 0.5, sl=0.5, tp=4.0).tp == 0.0


def test_a_stop_below_zero_is_no_stop() -> None:
    with pytest.raises(NoEntry, match="larger than the price"):
        place("buy", 0.6)


def test_no_quote_no_entry() -> None:
    with pytest.raises(NoEntry, match="no quote"):
        stops.place("buy", EURUSD, {"bid": 0.0, "ask": 0.0}, 0.001, 2, 4)


def test_atr_is_wilders() -> None:
    rng = np.random.default_rng(1)
    close = 1.1 + np.cumsum(rng.normal(0, 0.001, 250))
    bars = pd.DataFrame({"high": close + 0.0007, "low": close - 0.0004, "close": close})
    before = np.r_[close[0], close[:-1]]
    ranges = np.maximum(bars.high, before) - np.minimum(bars.low, before)
    value = float(np.mean(ranges[1:15]))
    for true_range in ranges[15:]:
        value = (13 * value + true_range) / 14
    assert stops.atr(bars) == pytest.approx(value, rel=1e-9)
    longer = pd.concat([bars * 3, bars], ignore_index=True)
    assert stops.atr(longer) == stops.atr(bars)  # at most 250 bars count, so more history changes nothing
    with pytest.raises(NoEntry, match="needs 57 closed bars; there are 56"):
        stops.atr(bars.iloc[:56])
    with pytest.raises(NoEntry, match="does not move"):
        stops.atr(pd.DataFrame(dict.fromkeys(("high", "low", "close"), np.full(60, 1.5))))
