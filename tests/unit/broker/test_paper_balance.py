"""The balance is the sum of all deals, to the cent, whatever is ordered; and the same again after a restart."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker import api
from broker.paper.terminal import PaperTerminal
from protocol.errors import InvalidInput
from store.errors import StoreError
from tests.papermarket import flat, paper, send, step, synthetic, total_of_deals

SYMBOLS = ("EURUSD", "USDJPY", "XAUUSD", "BTCUSD", "US500")

ORDERS = st.lists(
    st.tuples(
        st.sampled_from(["buy", "sell", "close", "part", "stops", "limit", "stop", "stop-limit", "remove", "by"]),
        st.sampled_from(SYMBOLS),
        st.integers(1, 30),  # hundredths of a lot
        st.integers(5, 60),  # distance of the stop, in ten thousandths of the price
        st.integers(0, 9),  # steps afterwards
    ),
    max_size=25,
)


def act(terminal: PaperTerminal, kind: str, symbol: str, lots: int, distance: int) -> None:
    """One order out of random numbers; refusals are part of the game."""
    tick = terminal.symbol_info_tick(symbol)
    found = terminal.positions_get(symbol=symbol)
    assert tick is not None and found is not None
    volume, away = lots / 100, tick.bid * distance / 10_000
    if kind in ("limit", "stop", "stop-limit", "remove"):
        wait(terminal, kind, symbol, volume, away)
    elif kind == "by":
        first = next(iter(found), None)
        other = next((each for each in found if first is not None and each.type != first.type), None)
        if first is not None and other is not None:
            send(terminal, "", "buy", 0.0, action=10, position=first.ticket, position_by=other.ticket)
    elif kind in ("buy", "sell"):
        sign = 1 if kind == "buy" else -1
        send(terminal, symbol, kind, volume, sl=tick.bid - sign * away, tp=tick.bid + 2 * sign * away, magic=lots)
    elif found and kind == "stops":
        send(terminal, symbol, "buy", 0.0, action=api.TRADE_ACTION_SLTP, position=found[0].ticket, tp=0.0)
    elif found:
        side = "sell" if found[0].type == api.POSITION_TYPE_BUY else "buy"
        amount = found[0].volume if kind == "close" else min(volume, found[0].volume)
        send(terminal, symbol, side, amount, position=found[0].ticket)


def wait(terminal: PaperTerminal, kind: str, symbol: str, volume: float, away: float) -> None:
    """One request about pending orders."""
    tick, orders = terminal.symbol_info_tick(symbol), terminal.orders_get(symbol=symbol)
    assert tick is not None and orders is not None
    if kind == "remove":
        if orders:
            send(terminal, symbol, "buy", 0.0, action=api.TRADE_ACTION_REMOVE, order=orders[0].ticket)
        return
    up = int(volume * 100) % 2 == 0
    number = {"limit": 2, "stop": 4, "stop-limit": 6}[kind] + (not up)
    sign = 1 if up == (kind == "limit") else -1
    price = tick.ask - away if sign > 0 else tick.bid + away
    stop = price - away if up else price + away
    send(
        terminal, symbol, "buy", volume, action=api.TRADE_ACTION_PENDING, type=number, price=price,
        stoplimit=stop, sl=0.0, type_filling=api.ORDER_FILLING_RETURN, type_time=int(volume * 100) % 3 == 0,
    )  # fmt: skip


def state(terminal: PaperTerminal) -> tuple[Any, ...]:
    """All that can be asked of an account."""
    ask = terminal
    return (
        ask.account_info(), ask.positions_get(), ask.orders_get(), ask.history_deals_get(0, 1 << 40),
        ask.history_orders_get(0, 1 << 40), ask.now, ask.symbols_get(),
        *(rates.tobytes() for name in SYMBOLS if (rates := ask.copy_rates_from_pos(name, 16385, 0, 300)) is not None),
    )  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    ORDERS, st.sampled_from(["hedging", "netting"]), st.sampled_from(["USD", "EUR", "JPY"]), st.integers(0, 24),
    st.sampled_from([{}, {"price_model": "ohlc"}, {"price_model": "ohlc", "ticks_per_bar": 5}]),
    st.sampled_from([{}, {"slippage_points": 9, "latency_ms": 900_000, "latency_jitter_ms": 900_000}]),
    st.sampled_from([{}, {"*": {"liquidity": 0.1, "swap_mode": "reopen-current"}}]),
)  # fmt: skip
def test_balance_is_the_sum_of_the_deals(
    orders: list[Any], mode: str, currency: str, restart: int, model: Any, chance: Any, terms: Any
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        config: dict[str, Any] = {
            "symbols": SYMBOLS, "margin_mode": mode, "currency": currency, "commission_per_lot": 3.33, "leverage": 500,
            "balance": 1_000_000.0 if currency == "JPY" else 10_000.0, "fee_per_lot": 0.11,
            "terms": terms, **model, **chance,
        }  # fmt: skip
        terminal = synthetic(Path(folder), **config)
        for number, (kind, symbol, lots, distance, steps) in enumerate(orders):
            act(terminal, kind, symbol, lots, distance)
            for _ in range(steps):
                step(terminal)
            if number == restart:
                terminal.keep_clock(force=True)
                before = state(terminal)
                terminal.close()
                terminal = synthetic(Path(folder), **config)
                assert state(terminal) == before
            info = terminal.account_info()
            assert info is not None
            assert round(info.balance * 100) == round(total_of_deals(terminal) * 100)
            assert info.equity == pytest.approx(info.balance + info.profit, abs=0.011)
            shown = terminal.positions_get()
            assert shown is not None
            assert mode == "hedging" or len({each.symbol for each in shown}) == len(shown)
        terminal.close()


def game(terminal: PaperTerminal, moments: range) -> None:
    """Deterministic orders, by the number of the moment."""
    for number in moments:
        symbol = SYMBOLS[number // 7 % len(SYMBOLS)]
        if number % 7 == 0:
            act(terminal, "buy" if number % 2 else "sell", symbol, 10, 30)
        step(terminal)


def test_same_seed_same_deals_also_with_a_restart_in_the_middle(tmp_path: Path) -> None:
    results = []
    for name, breaks in (("whole", [2600]), ("cut", [401, 1303, 1999, 2600])):
        (tmp_path / name).mkdir()
        terminal, begin = synthetic(tmp_path / name, symbols=SYMBOLS, seed=11), 0
        for end in breaks:
            game(terminal, range(begin, end))
            terminal.close()
            terminal, begin = synthetic(tmp_path / name, symbols=SYMBOLS, seed=11), end
        results.append(state(terminal))
    assert len(results[0][3]) > 300
    assert results[0] == results[1]
    (tmp_path / "other").mkdir()
    other = synthetic(tmp_path / "other", symbols=SYMBOLS, seed=12)
    game(other, range(100))
    assert other.history_deals_get(0, 1 << 40) != results[0][3][: len(other.account.deals)]


def test_without_a_close_it_goes_on_from_the_last_commit(tmp_path: Path) -> None:
    terminal = synthetic(tmp_path)
    for _ in range(5):
        step(terminal)
    send(terminal, "EURUSD", "buy", 0.1)
    committed, kept = terminal.now, terminal.positions_get()
    again = synthetic(tmp_path)  # as after kill -9
    assert (again.now, again.positions_get()) == (committed, kept)
    assert step(again) == step(terminal)


@pytest.mark.parametrize(
    ("key", "value"),
    [("seed", 8), ("currency", "EUR"), ("margin_mode", "netting"), ("balance", 5.0), ("timeframe", "H4")],
)
def test_a_changed_configuration_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    synthetic(tmp_path).close()
    with pytest.raises(InvalidInput, match=rf"account test: {key} is .*paper.db was made with") as refused:
        synthetic(tmp_path, **{key: value})
    assert "\n" not in refused.value.line()


def test_a_symbol_with_an_open_position_must_stay(tmp_path: Path) -> None:
    terminal = synthetic(tmp_path)
    send(terminal, "BTCUSD", "buy", 0.01)
    terminal.close()
    with pytest.raises(InvalidInput, match=r"position 1000001 is open on BTCUSD, which symbols has not"):
        synthetic(tmp_path, symbols=("EURUSD",))
    assert synthetic(tmp_path, symbols=("BTCUSD",)).positions_total() == 1


def test_what_cannot_be_committed_did_not_happen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*flat(1.1, range(2)), (2, 1.1, 1.1, 1.0, 1.05), *flat(1.05, range(3, 6))]
    terminal = paper(tmp_path, {"EURUSD": rows})

    def refuse(*_: Any, **__: Any) -> None:
        raise StoreError("store paper.db: database or disk is full")

    with monkeypatch.context() as broken:
        broken.setattr("broker.paper.records.tables.add_deals", refuse)
        result = send(terminal, "EURUSD", "buy", 0.1)
        assert result.retcode == api.TRADE_RETCODE_ERROR and "disk is full" in result.comment
        assert terminal.positions_get() == () and terminal.account.balance == 10_000.0
    assert send(terminal, "EURUSD", "buy", 0.1, sl=1.08).retcode == api.TRADE_RETCODE_DONE
    step(terminal), step(terminal)
    before = terminal.now, terminal.symbol_info_tick("EURUSD"), terminal.positions_get()
    with monkeypatch.context() as broken:
        broken.setattr("broker.paper.records.tables.add_deals", refuse)
        with pytest.raises(StoreError, match="disk is full"):
            terminal.step()
        assert before == (terminal.now, terminal.symbol_info_tick("EURUSD"), terminal.positions_get())
    moment = step(terminal)
    assert [each.price for each in moment.deals] == [1.08] and len(moment.closed) == 1
    assert terminal.account.balance == total_of_deals(terminal) == 9799.0
