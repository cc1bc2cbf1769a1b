"""The paper terminal over real exports: six symbols, 2020 to 2025."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from broker.paper.csvbars import read_bars
from broker.paper.terminal import PaperTerminal
from protocol.botconfig import AccountConfig
from tests.papermarket import send, total_of_deals

pytestmark = pytest.mark.market

SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "XAUUSD", "BTCUSD", "US500")
DIGITS = (5, 5, 3, 2, 2, 2)


@pytest.fixture
def market() -> Path:
    folder = Path(os.environ.get("STABLEHAND_MARKET_DATA", Path(__file__).parents[3] / "shared" / "market"))
    if not folder.is_dir():
        pytest.skip(f"no MetaTrader exports in {folder}; STABLEHAND_MARKET_DATA names another folder")
    return folder


def replay(market: Path, database: Path, start: str) -> PaperTerminal:
    config = AccountConfig.model_validate(
        {"feed": "replay", "path": str(market), "symbols": SYMBOLS, "start": start, "end": "2025-01-01",
         "bars_per_second": "max", "commission_per_lot": 3.0, "balance": 50_000.0}
    )  # fmt: skip
    return PaperTerminal(config, name="test", database=database, base_dir=market)


def test_all_six_files_load_quickly(market: Path) -> None:
    for symbol, digits in zip(SYMBOLS, DIGITS, strict=True):
        began = time.perf_counter()
        bars = read_bars(market / f"{symbol}_H1.csv", "H1")
        assert time.perf_counter() - began < 1.0
        assert len(bars.rates) > 30_000 and bars.digits == digits and bars.sure
        assert bars.longest_gap is not None and bars.longest_gap.bars < 96
        assert bars.has_spread == (symbol != "EURUSD")


def test_five_years_without_positions_pass_quickly(market: Path, tmp_path: Path) -> None:
    terminal = replay(market, tmp_path / "paper.db", "2020-01-01")
    began, moments, bars = time.process_time(), 0, 0
    while (moment := terminal.step()) is not None:
        moments, bars = moments + 1, bars + len(moment.closed)
    assert time.process_time() - began < 6.0
    assert moments > 38_000 and bars > 190_000
    assert terminal.history_deals_total(0, 1 << 40) == 1


def test_a_year_of_trades_adds_up(market: Path, tmp_path: Path) -> None:
    terminal, choose = replay(market, tmp_path / "paper.db", "2024-01-01"), random.Random(5)
    while terminal.step() is not None:
        if choose.random() < 0.05:
            symbol, side = choose.choice(SYMBOLS), choose.choice(["buy", "sell"])
            tick = terminal.symbol_info_tick(symbol)
            assert tick is not None
            away = tick.bid * 0.005 * (1 if side == "buy" else -1)
            send(terminal, symbol, side, 0.1, sl=tick.bid - away, tp=tick.bid + 2 * away)
    info = terminal.account_info()
    assert info is not None and info.balance == total_of_deals(terminal) == terminal.account.balance
    deals = terminal.history_deals_get(0, 1 << 40)
    assert deals is not None and len(deals) > 300
    assert {each.reason for each in deals} >= {0, 3, 4, 5} and any(each.swap for each in deals)
