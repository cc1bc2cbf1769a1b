"""The clock over bars: sessions of the made market, replay with its start and end, bars as a bot sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker import api
from broker.api import RATES_DTYPE, Rates
from broker.market import aggregate, bar_ends, bar_starts, closed_only, from_bytes, from_frame, to_frame
from broker.paper.synthetic import FIRST, START, State, make_chunk
from broker.paper.terminal import PaperTerminal
from broker.symbols import SPECS, SymbolSpec, spec_for_prices
from protocol.errors import InvalidInput
from tests.papermarket import HOUR, MONDAY, Bar, flat, paper, step, synthetic, write_csv

H1, H4, D1, M30 = api.TIMEFRAME_H1, api.TIMEFRAME_H4, api.TIMEFRAME_D1, api.TIMEFRAME_M30


def rates(found: Rates | None) -> Rates:
    assert found is not None
    return found


def made(symbol: str, timeframe: str, seed: int, chunks: int) -> Rates:
    out, state = [], FIRST
    for chunk in range(chunks):
        bars, state = make_chunk(SPECS[symbol], timeframe, seed, chunk, state)
        out.append(bars)
    return np.concatenate(out)


@pytest.mark.parametrize("symbol", ["EURUSD", "USDJPY", "XAUUSD", "BTCUSD", "US500"])
def test_made_bars_are_plausible(symbol: str) -> None:
    bars, spec = made(symbol, "H1", 7, 12), SPECS[symbol]
    assert (bars["time"] < START).sum() >= 1000
    assert (np.diff(bars["time"]) > 0).all()
    assert (bars["high"] >= np.maximum(bars["open"], bars["close"])).all()
    assert (bars["low"] <= np.minimum(bars["open"], bars["close"])).all()
    assert (bars["spread"] > 0).all() and (bars["tick_volume"] > 0).all()
    assert (np.round(bars["close"], spec.digits) == bars["close"]).all()
    assert bars["close"].min() / spec.price > 0.4 and bars["close"].max() / spec.price < 2.5
    moves = np.diff(np.log(bars["close"]))
    assert 0.5 < moves.std() * (252 * 24) ** 0.5 / spec.volatility < 2.0
    assert np.corrcoef(np.abs(moves[1:]), np.abs(moves[:-1]))[0, 1] > 0.1  # volatility clusters
    hours = bars["time"] // HOUR
    weekday, hour = (hours // 24 + 3) % 7, hours % 24  # Monday 0
    if symbol == "BTCUSD":
        assert set(weekday) == set(range(7)) and len(set(hour)) == 24
        return
    # New York closes at 22:00 in winter and at 21:00 in summer, by the clock of UTC.
    winter = (bars["time"] > 1_699_228_800) & (bars["time"] < 1_709_942_400)  # 2023-11-06 to 2024-03-09
    assert not (weekday == 5).any()
    assert not ((weekday == 4) & (hour >= 22)).any() and not ((weekday == 6) & (hour < 21)).any()
    assert ((weekday == 4) & (hour == 21) & winter).any() and not ((weekday == 6) & (hour == 21) & winter).any()
    summer = (bars["time"] > 1_710_201_600) & (bars["time"] < 1_730_000_000)
    assert not ((weekday == 4) & (hour == 21) & summer).any()
    assert ((weekday == 6) & (hour == 21) & summer).any() == (spec.session == "fx")
    assert ((hour == 22) & (weekday < 4) & winter).any() == (spec.session == "fx")


def test_market_is_closed_at_the_weekend_and_the_clock_passes_over(tmp_path: Path) -> None:
    terminal = synthetic(tmp_path, symbols=("EURUSD",))
    friday, sunday = MONDAY + (4 * 24 + 22) * HOUR, MONDAY + (6 * 24 + 22) * HOUR
    while (moment := step(terminal)).time < friday:
        assert len(moment.closed) == 1
    assert (moment.time, len(moment.closed)) == (friday, 1)
    quote = terminal.symbol_info_tick("EURUSD")
    assert quote is not None and quote.time == friday - 1
    assert not terminal.is_open("EURUSD")
    last = from_bytes(moment.closed[0].row)[0]
    assert quote.bid == last["close"] == moment.closed[0].bid
    newest = rates(terminal.copy_rates_from_pos("EURUSD", H1, 0, 1))
    assert newest[0] == last and len(closed_only(newest, "H1", terminal.now)) == 1
    moment = step(terminal)
    assert (moment.time, moment.closed) == (sunday, ()) and terminal.is_open("EURUSD")
    assert len(closed_only(rates(terminal.copy_rates_from_pos("EURUSD", H1, 0, 1)), "H1", terminal.now)) == 0


def test_unknown_symbols_and_timeframes(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as unknown:
        synthetic(tmp_path / "a", symbols=("EURUSD", "EURUSB"))
    assert unknown.value.line() == "symbol EURUSB: not in the synthetic market (did you mean EURUSD?)"
    with pytest.raises(InvalidInput, match="MN1"):
        synthetic(tmp_path / "b", timeframe="MN1")
    with pytest.raises(InvalidInput, match="EURUSD stands there twice"):
        synthetic(tmp_path / "c", symbols=("EURUSD", "EURUSD"))


@pytest.mark.parametrize("timeframe", ["M1", "M5", "H4", "D1", "W1"])
def test_every_timeframe_has_history_and_runs(tmp_path: Path, timeframe: str) -> None:
    terminal = synthetic(tmp_path, symbols=("EURUSD", "US500", "BTCUSD"), timeframe=timeframe)
    for symbol in terminal.series:
        assert len(rates(terminal.copy_rates_from_pos(symbol, getattr(api, f"TIMEFRAME_{timeframe}"), 0, 1000))) == 1000
    for _ in range(50):
        assert step(terminal).time == terminal.now


def test_a_long_run_forgets_old_bars_and_resumes_without_making_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"symbols": ("BTCUSD", "EURUSD"), "timeframe": "M15", "seed": 3}
    terminal = synthetic(tmp_path, **config)
    for _ in range(14_000):
        step(terminal)
    terminal.close()
    made_chunks: list[int] = []

    def counted(spec: SymbolSpec, timeframe: str, seed: int, chunk: int, *more: Any) -> tuple[Rates, State]:
        made_chunks.append(chunk)
        return make_chunk(spec, timeframe, seed, chunk, *more)

    monkeypatch.setattr("broker.paper.feeds.make_chunk", counted)
    again = synthetic(tmp_path, **config)
    assert min(made_chunks) > 0 and len(made_chunks) <= 2 * 11
    for _ in range(1500):
        assert step(again) == step(terminal)
    for symbol in ("BTCUSD", "EURUSD"):
        pair = [rates(each.copy_rates_from_pos(symbol, api.TIMEFRAME_M15, 0, 5000)) for each in (terminal, again)]
        assert len(pair[0]) == 5000 and (pair[0] == pair[1]).all()
        assert (np.diff(pair[0]["time"]) > 0).all()
        # Each bar opens where the one before closed, but for a small gap after a weekend: over chunks too.
        assert (np.abs(pair[0]["open"][1:] / pair[0]["close"][:-1] - 1) < 0.01).all()
        assert len(rates(terminal.copy_rates_from_pos(symbol, api.TIMEFRAME_M15, 0, 100_000))) < 13_000


def test_forming_bar_shows_its_opening_only(tmp_path: Path) -> None:
    rows: list[Bar] = [(0, 1.1, 1.2, 1.0, 1.15, 20), (1, 1.16, 1.3, 0.9, 1.2, 30), (2, 1.21, 1.21, 1.21, 1.21, 10)]
    terminal = paper(tmp_path, {"EURUSD": rows})
    forming = rates(terminal.copy_rates_from_pos("EURUSD", H1, 0, 5))
    assert forming.tolist() == [(MONDAY, 1.1, 1.1, 1.1, 1.1, 1, 20, 0)]
    moment = step(terminal)
    assert moment.time == terminal.now == MONDAY + HOUR
    (bar,) = moment.closed
    assert from_bytes(bar.row).tolist() == [(MONDAY, 1.1, 1.2, 1.0, 1.15, 100, 20, 0)]
    assert (bar.symbol, bar.timeframe, bar.bid, bar.ask) == ("EURUSD", "H1", 1.16, 1.1603)  # of the next bar's opening
    seen = rates(terminal.copy_rates_from_pos("EURUSD", H1, 0, 5))
    assert seen.tolist()[-1] == (MONDAY + HOUR, 1.16, 1.16, 1.16, 1.16, 1, 30, 0) and len(seen) == 2
    assert rates(terminal.copy_rates_from_pos("EURUSD", H1, 1, 5)).tolist() == seen.tolist()[:1]
    assert rates(terminal.copy_rates_from("EURUSD", H1, MONDAY + 1, 5)).tolist() == seen.tolist()[:1]
    assert rates(terminal.copy_rates_range("EURUSD", H1, MONDAY, MONDAY + HOUR)).tolist() == seen.tolist()
    ticks = terminal.copy_ticks_from("EURUSD", MONDAY, 10, api.COPY_TICKS_ALL)
    assert ticks is not None and ticks["bid"].tolist() == [1.1, 1.15, 1.16]
    assert ticks["ask"].tolist() == [1.1002, 1.1502, 1.1603]
    assert ticks["time_msc"].tolist() == [MONDAY * 1000, (MONDAY + HOUR) * 1000 - 1, (MONDAY + HOUR) * 1000]
    step(terminal)
    end = step(terminal)
    assert end.time == MONDAY + 3 * HOUR and terminal.step() is None and terminal.step() is None


def test_larger_bars_are_built_and_told_when_they_close(tmp_path: Path) -> None:
    rows: list[Bar] = [
        (hour, 1.1, 1.1 + hour / 1000, 1.1 - hour / 1000, 1.1, 10) for hour in [*range(6), *range(10, 14)]
    ]
    terminal = paper(tmp_path, {"EURUSD": rows})
    rates(terminal.copy_rates_from_pos("EURUSD", H4, 0, 5))  # from now on H4 is told
    told: list[tuple[int, int, float, int]] = []
    while (moment := terminal.step()) is not None:
        for bar in moment.closed:
            if bar.timeframe == "H4":
                row = from_bytes(bar.row)[0]
                told.append(
                    ((moment.time - MONDAY) // HOUR, (row["time"] - MONDAY) // HOUR, row["high"], row["tick_volume"])
                )
    # Hours 4 and 5 are all that 4..8 has: it is over when the clock next moves, at 10.
    assert told == [(4, 0, 1.103, 400), (10, 4, 1.105, 200), (12, 8, 1.111, 200)]
    assert terminal.copy_rates_from_pos("EURUSD", M30, 0, 5) is None
    assert terminal.last_error()[0] == api.RES_E_NOT_FOUND
    day = rates(terminal.copy_rates_from_pos("EURUSD", D1, 0, 5))
    assert day.tolist() == [(MONDAY, 1.1, 1.113, 1.087, 1.1, 1000, 10, 0)]


def test_bar_arithmetic() -> None:
    moment = np.array([1_709_251_199], np.int64)  # Thursday 2024-02-29 23:59:59
    starts = {name: int(bar_starts(moment, name)[0]) for name in ("M1", "H4", "D1", "W1", "MN1")}
    assert starts == {
        "M1": 1709251140, "H4": 1709236800, "D1": 1709164800,
        "W1": 1708819200,  # Sunday 2024-02-25
        "MN1": 1706745600,
    }  # fmt: skip
    assert bar_ends(np.array([1706745600], np.int64), "MN1")[0] == 1709251200
    bars = made("EURUSD", "H1", 3, 1)
    assert (from_frame(to_frame(bars)) == bars).all()
    days = aggregate(bars, "D1")
    assert days["tick_volume"].sum() == bars["tick_volume"].sum() and days.dtype == RATES_DTYPE
    assert (aggregate(aggregate(bars, "H4"), "D1") == days).all()


def test_replay_starts_and_ends_where_it_is_told(tmp_path: Path) -> None:
    bars = {"EURUSD": flat(1.1, range(30, 80)), "XAUUSD": flat(2000.0, range(24, 90))}
    terminal = paper(tmp_path, bars, start="2024-01-03", end="2024-01-04")
    assert terminal.now == MONDAY + 48 * HOUR
    assert len(rates(terminal.copy_rates_from_pos("EURUSD", H1, 0, 99))) == 48 - 30 + 1
    count = 0
    while terminal.step() is not None:
        count += 1
    assert (count, terminal.now) == (24, MONDAY + 72 * HOUR)

    def refused(**config: str) -> str:
        with pytest.raises(InvalidInput) as error:
            paper(tmp_path / "other", bars, **config)
        return error.value.line()

    (tmp_path / "other").mkdir()
    assert "end 2024-01-03 is not after start 2024-01-03" in refused(start="2024-01-03", end="2024-01-03")
    assert "start 2025-01-01 lies outside the data (the files hold 2024-01-02 00:00 to " in refused(start="2025-01-01")
    assert "end 2020-01-01 lies outside" in refused(end="2020-01-01")
    assert "start 'soon' is not a day (write it as 2020-01-31)" in refused(start="soon")
    assert "no bar of EURUSD between 2024-01-04T10:00" in refused(start="2024-01-04T10:00")
    assert "no folder" in refused(path="nowhere")


def test_symbols_of_files_get_their_terms_from_built_ins_or_the_prices(tmp_path: Path) -> None:
    cent = spec_for_prices("EURUSD.m", 4, sure=True)
    assert (cent.name, cent.digits, cent.base, cent.spread, cent.stops_level) == ("EURUSD.m", 4, "EUR", 1, 1)
    assert spec_for_prices("XAUUSD", 1, sure=False) == SPECS["XAUUSD"]
    assert spec_for_prices("XAUUSD", 3, sure=True).spread == 200
    unknown = spec_for_prices("SEKNOK", 4, sure=False)
    assert (unknown.digits, unknown.base, unknown.profit, unknown.contract) == (5, "SEK", "NOK", 100_000)
    share = spec_for_prices("AAPL", 2, sure=True)
    assert (share.digits, share.profit, share.contract, share.group) == (2, "USD", 1.0, "CFD")
    write_csv(tmp_path, "AAPL", flat(180.25, range(3)))
    assert (
        rates(paper(tmp_path, {"AAPL": flat(180.25, range(3))}).copy_rates_from_pos("AAPL", H1, 0, 9))["open"] == 180.25
    )


def test_spread_is_the_files_or_the_configured_or_the_usual_one(tmp_path: Path) -> None:
    plain = "time,open,high,low,close,volume\n2024-01-01 00:00:00,1.1,1.1,1.1,1.1,10\n"

    def spread(name: str, text: str, **config: int) -> int:
        (tmp_path / name).mkdir()
        (tmp_path / name / "EURUSD_H1.csv").write_text(text)
        settings = {"feed": "replay", "path": ".", "symbols": ("EURUSD",), **config}
        info = synthetic(tmp_path / name, **settings).symbol_info("EURUSD")
        assert info is not None
        return info.spread

    assert spread("usual", plain) == SPECS["EURUSD"].spread
    assert spread("configured", plain, spread_points=7) == 7
    own = plain.replace("volume", "tick_volume,spread").replace("1.1,10", "1.1,10,4")
    assert spread("own", own, spread_points=7) == 4


def test_symbol_groups(tmp_path: Path) -> None:
    terminal: PaperTerminal = synthetic(tmp_path)

    def names(group: str) -> list[str]:
        found = terminal.symbols_get(group)
        assert found is not None
        return [each.name for each in found]

    assert names("*") == list(terminal.series) and terminal.symbols_total() == 6
    assert names("*USD*,!EUR*,!BTC*") == ["GBPUSD", "USDJPY", "XAUUSD"]
    assert names("!EUR*,EUR*") == names("NONE") == []
