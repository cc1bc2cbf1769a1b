"""Profit and margin, computed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker import api
from broker.paper.terminal import PaperTerminal
from tests.papermarket import Bar, flat, paper

BUY, SELL = api.ORDER_TYPE_BUY, api.ORDER_TYPE_SELL
MARKET: dict[str, list[Bar]] = {
    "EURUSD": flat(1.10000, range(3), spread=20),  # ask 1.10020
    "USDJPY": flat(150.000, range(3), spread=30),  # ask 150.030
    "GBPUSD": flat(1.25000, range(3)),
    "XAUUSD": flat(2000.00, range(3)),
    "BTCUSD": flat(40000.00, range(3)),
}


@pytest.fixture
def usd(tmp_path: Path) -> PaperTerminal:
    return paper(tmp_path, MARKET)


@pytest.fixture
def eur(tmp_path: Path) -> PaperTerminal:
    return paper(tmp_path, MARKET, currency="EUR")


def test_profit_in_usd(usd: PaperTerminal) -> None:
    profit = usd.order_calc_profit
    assert profit(BUY, "EURUSD", 1.0, 1.10000, 1.10100) == 100.00  # 0.001 * 100,000
    assert profit(SELL, "EURUSD", 0.5, 1.10000, 1.10100) == -50.00
    assert profit(BUY, "XAUUSD", 0.1, 2000.00, 2010.50) == 105.00  # 10.5 * 100 oz * 0.1
    assert profit(SELL, "BTCUSD", 0.25, 40000.0, 39000.0) == 250.00  # 1000 * 1 * 0.25
    # 100,000 yen, sold at the price at which the trade itself ends: 100000 / 151
    assert profit(BUY, "USDJPY", 1.0, 150.000, 151.000) == 662.25
    assert profit(SELL, "USDJPY", 1.0, 150.000, 151.000) == -662.25


def test_profit_in_eur_goes_the_other_way_and_over_usd(eur: PaperTerminal) -> None:
    profit = eur.order_calc_profit
    assert profit(BUY, "XAUUSD", 0.1, 2000.00, 2010.50) == 95.44  # 105 USD buy euros at the ask: / 1.10020
    assert profit(SELL, "XAUUSD", 0.1, 2000.00, 2010.50) == -95.45  # a loss is paid at the bid: / 1.10000
    assert profit(BUY, "EURUSD", 1.0, 1.10000, 1.11000) == 900.90  # 1000 / 1.11, the trade's own end
    # 50,000 yen to dollars at the trade's own end, 150.500, and on to euros at the ask, 1.10020
    assert profit(BUY, "USDJPY", 1.0, 150.000, 150.500) == 301.97


def test_margin(usd: PaperTerminal, tmp_path: Path) -> None:
    margin = usd.order_calc_margin
    assert margin(BUY, "EURUSD", 1.0, 1.10020) == 1100.20  # 100,000 EUR / 100 at the price
    assert margin(SELL, "USDJPY", 1.0, 150.000) == 1000.00  # the base is the account's currency
    assert margin(BUY, "XAUUSD", 0.1, 2000.00) == 200.00  # 0.1 * 100 * 2000 / 100
    (tmp_path / "eur").mkdir()
    other = paper(tmp_path / "eur", MARKET, currency="EUR", leverage=30)
    assert other.order_calc_margin(BUY, "EURUSD", 1.0, 1.10020) == 3333.33
    assert other.order_calc_margin(BUY, "GBPUSD", 1.0, 1.25000) == 3787.88  # 3333.33 GBP * 1.25 / 1.10000


def test_yen_account_has_no_cents(tmp_path: Path) -> None:
    terminal = paper(tmp_path, MARKET, currency="JPY", balance=1_000_000.4)
    info = terminal.account_info()
    assert info is not None and (info.balance, info.currency_digits) == (1_000_000.0, 0)
    assert terminal.order_calc_profit(BUY, "USDJPY", 0.01, 150.000, 150.002) == 2.0
    assert terminal.order_calc_profit(BUY, "EURUSD", 1.0, 1.1, 1.101) == 15_000.0  # 100 USD at the bid


def test_no_path_is_none_with_a_reason_and_no_order(tmp_path: Path) -> None:
    terminal = paper(tmp_path, {"USDJPY": flat(150.0, range(5)), "XAUUSD": flat(2000.0, range(5))}, currency="EUR")
    assert terminal.order_calc_profit(BUY, "XAUUSD", 1.0, 2000.0, 2001.0) is None
    code, text = terminal.last_error()
    assert code == api.RES_E_FAIL and "USD to EUR" in text
    assert terminal.order_calc_margin(BUY, "USDJPY", 1.0, 150.0) is None
    result = terminal.order_send({"action": 1, "symbol": "XAUUSD", "volume": 0.1, "type": 0, "type_filling": 1})
    assert result is not None and result.retcode == api.TRADE_RETCODE_PRICE_OFF
    assert terminal.positions_get() == ()
