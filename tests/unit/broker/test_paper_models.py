"""What the configuration chooses: ways inside a bar, chance, ticks, costs, swap, margin, comments, larger bars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker import api
from broker.market import aggregate
from broker.paper.chance import draw, draw_points
from broker.paper.csvbars import read_bars
from broker.paper.path import tick_prices
from broker.paper.terminal import PaperTerminal
from protocol.errors import InvalidInput
from tests.papermarket import HOUR, MONDAY, Bar, flat, paper, send, step, synthetic, total_of_deals, write_csv

BUY, SELL = api.ORDER_TYPE_BUY, api.ORDER_TYPE_SELL
H1 = api.TIMEFRAME_H1


def reasons(folder: Path, bar: Bar, side: str, sl: float, tp: float, **config: Any) -> list[int]:
    """Why a position opened at bid 1.1 is closed by one bar that reaches both its stops."""
    folder.mkdir()
    rows = [(0, 1.1, 1.1, 1.1, 1.1, 10), bar, *flat(bar[4], range(2, 4))]
    terminal = paper(folder, {"EURUSD": rows}, **config)
    send(terminal, "EURUSD", side, 0.1, sl=sl, tp=tp)
    found = [deal.reason for _ in range(2) for deal in step(terminal).deals]
    terminal.close()
    return found


def test_both_stops_in_one_bar(tmp_path: Path) -> None:
    rising, falling = (1, 1.1, 1.12, 1.08, 1.11, 10), (1, 1.1, 1.12, 1.08, 1.09, 10)
    sl, tp = api.DEAL_REASON_SL, api.DEAL_REASON_TP
    for number, (model, bar, side, expected) in enumerate(
        [
            ("pessimistic", rising, "buy", sl),
            ("pessimistic", falling, "buy", sl),
            ("pessimistic", rising, "sell", sl),
            ("ohlc", rising, "buy", sl),  # the low comes first
            ("ohlc", falling, "buy", tp),
            ("ohlc", rising, "sell", tp),
            ("ohlc", falling, "sell", sl),
        ]
    ):
        stops = (1.09, 1.115) if side == "buy" else (1.115, 1.09)
        assert reasons(tmp_path / str(number), bar, side, *stops, price_model=model) == [expected], number
        if model == "ohlc":
            folder = tmp_path / f"{number}t"
            assert reasons_in_ticks(folder, bar, side, *stops) == [expected], number


def reasons_in_ticks(folder: Path, bar: Bar, side: str, sl: float, tp: float) -> list[int]:
    folder.mkdir()
    rows = [(0, 1.1, 1.1, 1.1, 1.1, 10), bar, *flat(bar[4], range(2, 4))]
    terminal = paper(folder, {"EURUSD": rows}, price_model="ohlc", ticks_per_bar=12)
    send(terminal, "EURUSD", side, 0.1, sl=sl, tp=tp)
    found = [deal for _ in range(24) for deal in step(terminal).deals]
    assert all(MONDAY + HOUR < deal.time < MONDAY + 2 * HOUR for deal in found)
    terminal.close()
    return [deal.reason for deal in found]


def test_bar_0_forms_tick_by_tick(tmp_path: Path) -> None:
    rows: list[Bar] = [(0, 1.1, 1.112, 1.094, 1.106, 10), *flat(1.106, range(1, 3))]
    terminal = paper(tmp_path, {"EURUSD": rows}, price_model="ohlc", ticks_per_bar=6, bars_per_second=2.0)
    assert terminal.interval == pytest.approx(1 / 12)
    seen = []
    for _ in range(6):
        bars = terminal.copy_rates_from_pos("EURUSD", H1, 0, 1)
        tick = terminal.symbol_info_tick("EURUSD")
        assert bars is not None and tick is not None and tick.time == terminal.now
        opened, high, low, close = (bars[0][name] for name in ("open", "high", "low", "close"))
        assert tick.bid == close and opened == 1.1
        seen.append((close.item(), high.item(), low.item(), int(bars[0]["tick_volume"])))
        last = step(terminal)
    # Open, low, high, close: two ticks each.
    assert [each[0] for each in seen] == [1.1, 1.097, 1.094, 1.103, 1.112, 1.109]
    assert seen[-1] == (1.109, 1.112, 1.094, 83) and seen[0][1:] == (1.1, 1.1, 1)
    assert last.time == MONDAY + HOUR and [bar.timeframe for bar in last.closed] == ["H1"]
    ticks = terminal.copy_ticks_range("EURUSD", MONDAY, MONDAY + HOUR - 0.001, api.COPY_TICKS_ALL)
    assert ticks is not None and ticks["bid"].tolist() == [1.1, 1.097, 1.094, 1.103, 1.112, 1.109, 1.106]
    assert (np.diff(ticks["time_msc"]) > 0).all()
    step(terminal), step(terminal)
    send(terminal, "EURUSD", "buy", 0.1)
    now, quote = terminal.now, terminal.symbol_info_tick("EURUSD")
    terminal.close()
    again = paper(tmp_path, {"EURUSD": rows}, price_model="ohlc", ticks_per_bar=6)
    assert (again.now, again.symbol_info_tick("EURUSD")) == (now, quote) and now == MONDAY + HOUR + 2 * HOUR // 6


def test_all_ticks_stay_within_their_bar(tmp_path: Path) -> None:
    terminal = synthetic(tmp_path, symbols=("XAUUSD",))
    bars = terminal.copy_rates_from_pos("XAUUSD", H1, 1, 500)
    assert bars is not None
    for count in (3, 4, 7, 60):
        prices = tick_prices(bars, count, 2)
        assert prices.shape == (500, count + 1)
        assert (prices.max(axis=1) == bars["high"]).all() and (prices.min(axis=1) == bars["low"]).all()
        assert (prices[:, 0] == bars["open"]).all() and (prices[:, -1] == bars["close"]).all()


def test_ticks_want_one_way(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"ticks_per_bar 4 shows one way inside a bar"):
        synthetic(tmp_path, ticks_per_bar=4)
    with pytest.raises(InvalidInput, match="ticks_per_bar 2"):
        synthetic(tmp_path, ticks_per_bar=2, price_model="ohlc")


def test_chance_is_even_and_repeats() -> None:
    numbers = [draw(7, "slippage", moment) for moment in range(4000)]
    assert numbers == [draw(7, "slippage", moment) for moment in range(4000)]
    assert numbers != [draw(8, "slippage", moment) for moment in range(4000)]
    assert 0 <= min(numbers) < 0.01 and 0.99 < max(numbers) < 1
    assert np.histogram(numbers, bins=10)[0].min() > 330
    points = [draw_points(7, 5, moment) for moment in range(600)]
    assert set(points) == set(range(6)) and draw_points(7, 0, "x") == 0


def test_slippage_is_against_you_and_never_on_a_limit(tmp_path: Path) -> None:
    rows: list[Bar] = [(0, 1.1, 1.1, 1.1, 1.1)]
    for hour in range(1, 100):
        rows.append((hour, 1.1, 1.12, 1.08, 1.1))
    terminal = paper(tmp_path, {"EURUSD": rows}, slippage_points=8, limit_orders=0, leverage=500)
    slips = {"market": set[int](), "stop": set[int](), "sl": set[int](), "tp": set[int]()}
    for number in range(98):
        tick = terminal.symbol_info_tick("EURUSD")
        assert tick is not None
        opened = send(terminal, "EURUSD", "buy", 0.01, sl=1.09 if number % 2 else 0.0, tp=0.0 if number % 2 else 1.11)
        slips["market"].add(round((opened.price - tick.ask) * 1e5))
        pending = {"action": 5, "type": api.ORDER_TYPE_BUY_STOP, "price": 1.105, "type_filling": 2}
        assert send(terminal, "EURUSD", "buy", 0.01, **pending).retcode == api.TRADE_RETCODE_DONE
        for deal in step(terminal).deals:
            if deal.entry == api.DEAL_ENTRY_IN:
                slips["stop"].add(round((deal.price - 1.105) * 1e5))
            elif deal.reason == api.DEAL_REASON_SL:
                slips["sl"].add(round((1.09 - deal.price) * 1e5))
            else:
                slips["tp"].add(round((deal.price - 1.11) * 1e5))
    assert slips["tp"] == {0}
    for kind in ("market", "stop", "sl"):
        assert min(slips[kind]) == 0 and max(slips[kind]) == 8 and len(slips[kind]) > 5, kind


def test_the_price_moves_on_while_an_order_travels(tmp_path: Path) -> None:
    rows: list[Bar] = [(0, 1.1, 1.106, 1.1, 1.106, 10), *flat(1.106, range(1, 3))]
    late = paper(tmp_path, {"EURUSD": rows}, latency_ms=1_800_000, order_timeout_ms=3_600_000)
    # Half an hour later: half of the way from open (and low) over the high to the close, which is the high.
    assert send(late, "EURUSD", "buy", 0.1).price == 1.1031
    (tmp_path / "b").mkdir()
    jitter = paper(tmp_path / "b", {"EURUSD": rows}, latency_jitter_ms=3_600_000, order_timeout_ms=3_600_000)
    prices = {send(jitter, "EURUSD", "buy", 0.01).price for _ in range(20)}
    assert len(prices) > 5 and min(prices) >= 1.1001 and max(prices) <= 1.1061


def test_the_same_seed_gives_the_same_deals_byte_for_byte(tmp_path: Path) -> None:
    def deals(name: str, seed: int, breaks: list[int]) -> bytes:
        (tmp_path / name).mkdir()
        config: dict[str, Any] = {
            "symbols": ("EURUSD", "BTCUSD"), "seed": seed, "slippage_points": 20, "latency_ms": 60_000,
            "latency_jitter_ms": 600_000, "order_timeout_ms": 3_600_000, "price_model": "ohlc", "ticks_per_bar": 4,
        }  # fmt: skip
        terminal = synthetic(tmp_path / name, **config)
        for number in range(1500):
            if number in breaks:
                terminal.close()
                terminal = synthetic(tmp_path / name, **config)
            if number % 9 == 0:
                symbol = "BTCUSD" if number % 2 else "EURUSD"
                tick = terminal.symbol_info_tick(symbol)
                assert tick is not None
                away = tick.bid * 0.003
                send(terminal, symbol, "buy", 0.01, sl=tick.bid - away, tp=tick.bid + away)
                pending = {"action": 5, "type": api.ORDER_TYPE_BUY_STOP, "price": tick.ask + away, "type_filling": 2}
                send(terminal, symbol, "buy", 0.01, sl=tick.bid - away, **pending)
            step(terminal)
        found = terminal.history_deals_get(0, 1 << 40)
        assert found is not None and len(found) > 300 and terminal.account.balance == total_of_deals(terminal)
        terminal.close()
        return repr(found).encode()

    first = deals("first", 5, [])
    assert deals("again", 5, []) == first
    assert deals("broken", 5, [10, 400, 1111]) == first
    assert deals("other", 6, []) != first


@pytest.mark.parametrize(
    ("policy", "kept"),
    [("keep", "a comment that is long"), ("cut16", "a comment that i"), ("replace", "Stablehand-Paper"), ("drop", "")],
)
def test_what_a_broker_does_to_comments(tmp_path: Path, policy: str, kept: str) -> None:
    terminal = paper(tmp_path, {"EURUSD": [*flat(1.1, range(2)), *flat(1.08, range(2, 5))]}, comment_policy=policy)
    comment = "a comment that is long"
    result = send(terminal, "EURUSD", "buy", 0.1, comment=comment, magic=5, sl=1.09)
    send(terminal, "EURUSD", "buy", 0.1, action=5, type=2, price=1.05, type_filling=2, comment=comment)
    assert result.request.comment == comment
    found = [each.comment for each in terminal.positions_get() or ()]
    found += [each.comment for each in terminal.orders_get() or ()]
    found += [each.comment for each in terminal.history_deals_get(ticket=result.order) or ()]
    found += [each.comment for each in terminal.history_orders_get(ticket=result.order) or ()]
    assert found == [kept] * 4
    step(terminal), step(terminal)
    (deal,) = (terminal.history_deals_get(position=result.order) or ())[1:]
    assert (deal.comment, deal.magic) == ("[sl 1.09000]", 5)


def nights(folder: Path, side: str, **terms: Any) -> tuple[PaperTerminal, float]:
    """The swap of one lot of EURUSD over the night from Monday to Tuesday."""
    folder.mkdir(exist_ok=True)
    bars: dict[str, list[Bar]] = {"EURUSD": flat(1.2, range(26)), "GBPUSD": flat(1.5, range(26))}
    terminal = paper(folder, bars, terms={"EURUSD": terms}, leverage=500)
    send(terminal, "EURUSD", side, 1.0)
    for _ in range(25):
        step(terminal)
    (position,) = terminal.positions_get() or ()
    return terminal, position.swap


def test_swap_in_every_mode(tmp_path: Path) -> None:
    cases: dict[str, tuple[float, float]] = {
        "disabled": (5.0, 0.0),
        "points": (5.0, 5.0),  # 5 * 0.00001 * 100,000
        "symbol-currency": (-5.0, -6.0),  # 5 euros at 1.2, bought at the ask
        "margin-currency": (5.0, 6.0),
        "deposit-currency": (5.0, 5.0),
        "interest-current": (3.6, 12.0),  # 3.6 % of 120,000 dollars for a day of 360
        "interest-open": (3.6, 12.0),
    }
    for number, (mode, (rate, expected)) in enumerate(cases.items()):
        terminal, swap = nights(tmp_path / str(number), "buy", swap_mode=mode, swap_long=rate, swap_short=-999.0)
        terminal.close()
        assert swap == pytest.approx(expected, abs=0.011), mode
    _, swap = nights(tmp_path / "triple", "sell", swap_short=-2.0, triple_day=1)
    assert swap == -6.0


def test_swap_by_reopening(tmp_path: Path) -> None:
    for mode, side, price in (("reopen-current", "buy", 1.20005), ("reopen-bid", "sell", 1.20005)):
        terminal, swap = nights(tmp_path / mode, side, swap_mode=mode, swap_long=5.0, swap_short=5.0)
        (position,) = terminal.positions_get() or ()
        assert (position.price_open, swap) == (price, 0.0)
        out, into = (terminal.history_deals_get(position=position.ticket) or ())[1:]
        assert (out.reason, out.entry, into.reason, into.entry) == (7, 1, 7, 0)
        assert (out.profit, into.price) == (-10.0, price)
        assert terminal.account.balance == total_of_deals(terminal)


def test_margin_and_profit_in_every_mode(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], float, float]] = [
        # terms, margin of 2 lots at 50, profit of 2 lots from 50 to 51
        ({"calc_mode": "forex", "contract": 1000.0}, 20.0, 2000.0),
        ({"calc_mode": "forex-no-leverage", "contract": 1000.0}, 2000.0, 2000.0),
        ({"calc_mode": "cfd", "contract": 10.0}, 1000.0, 20.0),
        ({"calc_mode": "cfd-leverage", "contract": 10.0}, 10.0, 20.0),
        ({"calc_mode": "cfd-index", "contract": 10.0, "tick_size": 0.5, "tick_value": 2.0}, 4000.0, 20.0),
        ({"calc_mode": "futures", "tick_size": 0.25, "tick_value": 12.5, "margin_initial": 600.0}, 1200.0, 100.0),
        ({"calc_mode": "exchange-stocks", "contract": 1.0}, 100.0, 2.0),
        ({"calc_mode": "exchange-futures", "tick_size": 0.5, "tick_value": 5.0, "margin_initial": 70.0}, 140.0, 20.0),
    ]
    for number, (terms, margin, profit) in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        terminal = paper(folder, {"USDUSD": flat(50.0, range(3), spread=0)}, terms={"*": terms}, leverage=100)
        assert terminal.order_calc_margin(BUY, "USDUSD", 2.0, 50.0) == margin, terms
        assert terminal.order_calc_profit(BUY, "USDUSD", 2.0, 50.0, 51.0) == profit, terms
        assert terminal.order_calc_profit(SELL, "USDUSD", 2.0, 50.0, 51.0) == -profit, terms
        info = terminal.symbol_info("USDUSD")
        assert info is not None
        assert info.trade_tick_value == pytest.approx(profit / 2 * info.trade_tick_size), terms
        terminal.close()


def test_commission_and_fee_stand_on_each_deal(tmp_path: Path) -> None:
    terminal = paper(tmp_path, {"EURUSD": flat(1.1, range(3))}, commission_per_lot=3.5, fee_per_lot=0.5)
    opened = send(terminal, "EURUSD", "buy", 0.2)
    send(terminal, "EURUSD", "sell", 0.2, position=opened.order)
    found = (terminal.history_deals_get(position=opened.order)) or ()
    assert [(deal.commission, deal.fee) for deal in found] == [(-0.7, -0.1)] * 2
    assert terminal.account.balance == 10_000.0 - 1.6 - 2.0 == total_of_deals(terminal)


def test_stop_out_by_money_and_what_the_account_shows(tmp_path: Path) -> None:
    rows: list[Bar] = [(0, 1.1, 1.1, 1.1, 1.1), *flat(1.095, range(1, 4))]
    terminal = paper(
        tmp_path, {"EURUSD": rows}, balance=1000.0, stop_out_mode="money", stop_out_level=600.0,
        margin_call_level=800.0, trade_mode="real", leverage=200,
    )  # fmt: skip
    info = terminal.account_info()
    assert info is not None and (info.margin_so_mode, info.margin_so_so, info.margin_so_call) == (1, 600.0, 800.0)
    assert (info.trade_mode, info.limit_orders) == (api.ACCOUNT_TRADE_MODE_REAL, 200)
    send(terminal, "EURUSD", "buy", 0.5)
    assert [deal.reason for deal in step(terminal).deals] == []  # 745 left
    send(terminal, "EURUSD", "buy", 0.1)
    terminal.close()
    again = paper(tmp_path, {"EURUSD": rows}, balance=1000.0, stop_out_mode="money", stop_out_level=800.0)
    deals = step(again).deals
    assert [deal.reason for deal in deals] == [6, 6] and deals[0].volume == 0.5


def test_files_of_smaller_bars(tmp_path: Path) -> None:
    minutes: list[Bar] = [
        (minute / 60, 1.1 + minute / 1e4, 1.1 + minute / 1e4 + 3e-4, 1.1 + minute / 1e4 - 2e-4, 1.1 + minute / 1e4)
        for minute in range(300)
    ]
    minutes = [(at, *(round(price, 5) for price in prices)) for at, *prices in minutes]
    write_csv(tmp_path, "EURUSD", minutes, "M1")
    small = read_bars(tmp_path / "EURUSD_M1.csv", "M1").rates
    config: dict[str, Any] = {"feed": "replay", "path": ".", "symbols": ("EURUSD",)}
    hours = synthetic(tmp_path, resample_from="M1", timeframe="H1", **config)
    while hours.step() is not None:
        pass
    for name in ("H1", "H4"):
        wanted = aggregate(small, name)
        found = hours.copy_rates_from_pos("EURUSD", getattr(api, f"TIMEFRAME_{name}"), 0, 99)
        assert found is not None and found.tolist() == wanted.tolist()
    hours.close()
    (tmp_path / "m").mkdir()
    write_csv(tmp_path / "m", "EURUSD", minutes, "M1")
    by_minute = synthetic(tmp_path / "m", timeframe="M1", **config)
    for _ in range(90):
        step(by_minute)
    for name in ("M1", "M5", "M15", "M30", "H1", "H2", "D1", "W1", "MN1"):
        wanted = aggregate(small[:91], name)
        found = by_minute.copy_rates_from_pos("EURUSD", getattr(api, f"TIMEFRAME_{name}"), 0, 99)
        assert found is not None and (found["time"] == wanted["time"]).all(), name
        assert (found["open"] == wanted["open"]).all() and found["close"][-1] == small["open"][90]
    with pytest.raises(InvalidInput, match="H1 bars cannot be put together from H4"):
        synthetic(tmp_path / "x", resample_from="H4", timeframe="H1", **(config | {"path": str(tmp_path)}))
    with pytest.raises(InvalidInput, match="resample_from is for a replay"):
        synthetic(tmp_path / "y", resample_from="M1")


def test_terms_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="terms of GOLD: symbols has no GOLD"):
        synthetic(tmp_path / "a", terms={"GOLD": {}})
    with pytest.raises(InvalidInput, match=r"volume_min 5.0 is above volume_max 2.0"):
        synthetic(tmp_path / "b", terms={"EURUSD": {"volume_min": 5.0}, "*": {"volume_max": 2.0}})
