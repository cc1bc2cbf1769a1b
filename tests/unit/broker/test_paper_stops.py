"""SL and TP: which price touches them, gaps, both in one bar, stop-out, swap, and when they are booked."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker import api
from broker.api import TradeDeal
from broker.paper.terminal import PaperTerminal
from tests.papermarket import HOUR, MONDAY, Bar, flat, paper, send, step, total_of_deals


def last_deal(terminal: PaperTerminal) -> TradeDeal:
    found = terminal.history_deals_get(0, 1 << 40)
    assert found is not None
    return found[-1]


# Bid 1.1000, ask 1.1010 (100 points), then one bar of the test, then calm.
def run(folder: Path, side: str, bar: Bar, *, sl: float = 0.0, tp: float = 0.0) -> TradeDeal | None:
    """The deal that `bar` (hours 1 to 2) makes of a position with these stops; None where it stays open."""
    rows = [(0, 1.1, 1.1, 1.1, 1.1, 100), bar, *flat(bar[4], range(2, 5), spread=100)]
    terminal = paper(folder, {"EURUSD": rows})
    assert send(terminal, "EURUSD", side, 0.1, sl=sl, tp=tp, magic=42).retcode == 10009
    step(terminal)
    step(terminal)
    if terminal.positions_get():
        return None
    assert terminal.account.balance == total_of_deals(terminal)
    return last_deal(terminal)


CASES = [
    # side, high and low of the bid, sl, tp -> price and reason of the deal; the ask is 0.0010 above
    ("buy", 1.1000, 1.0951, 1.095, 0.0, None),
    ("buy", 1.1000, 1.0950, 1.095, 0.0, (1.095, api.DEAL_REASON_SL)),
    ("buy", 1.1049, 1.1000, 0.0, 1.105, None),  # the ask is there: a buy closes at the bid
    ("buy", 1.1050, 1.1000, 0.0, 1.105, (1.105, api.DEAL_REASON_TP)),
    ("sell", 1.1039, 1.1000, 1.105, 0.0, None),
    ("sell", 1.1040, 1.1000, 1.105, 0.0, (1.105, api.DEAL_REASON_SL)),  # the bid is not there, the ask is
    ("sell", 1.1000, 1.0941, 0.0, 1.095, None),
    ("sell", 1.1000, 1.0940, 0.0, 1.095, (1.095, api.DEAL_REASON_TP)),
    ("buy", 1.1060, 1.0940, 1.095, 1.105, (1.095, api.DEAL_REASON_SL)),  # both: the worse
    ("sell", 1.1060, 1.0930, 1.105, 1.095, (1.105, api.DEAL_REASON_SL)),
]


@pytest.mark.parametrize(("side", "high", "low", "sl", "tp", "expected"), CASES)
def test_touched_inside_the_bar(
    tmp_path: Path, side: str, high: float, low: float, sl: float, tp: float, expected: tuple[float, int] | None
) -> None:
    deal = run(tmp_path, side, (1, 1.1, high, low, 1.1, 100), sl=sl, tp=tp)
    if expected is None:
        assert deal is None
        return
    assert deal is not None and (deal.price, deal.reason) == expected
    assert deal.time_msc == (MONDAY + 2 * HOUR) * 1000 - 1  # inside the bar
    assert (deal.entry, deal.magic, deal.type) == (api.DEAL_ENTRY_OUT, 42, int(side == "buy"))
    assert deal.comment.startswith("[sl" if deal.reason == api.DEAL_REASON_SL else "[tp")


@pytest.mark.parametrize(
    ("side", "opening", "sl", "tp", "price"),
    [
        ("buy", 1.0900, 1.095, 0.0, 1.0900),  # worse than the stop
        ("buy", 1.1100, 0.0, 1.105, 1.1100),  # better than the target
        ("sell", 1.1100, 1.105, 0.0, 1.1110),  # the ask
        ("sell", 1.0900, 0.0, 1.095, 1.0910),
    ],
)
def test_gap_fills_at_the_opening_price(
    tmp_path: Path, side: str, opening: float, sl: float, tp: float, price: float
) -> None:
    bar = (1, opening, opening + 0.02, opening - 0.02, opening, 100)
    deal = run(tmp_path, side, bar, sl=sl, tp=tp)
    assert deal is not None and deal.price == price
    assert deal.time == MONDAY + HOUR  # at the opening, before the bar's path
    assert deal.reason == (api.DEAL_REASON_SL if sl else api.DEAL_REASON_TP)


def test_weekend_gap_fills_when_the_market_opens_again(tmp_path: Path) -> None:
    rows = [*flat(1.1, range(3)), *flat(1.05, range(51, 54))]
    terminal = paper(tmp_path, {"EURUSD": rows})
    send(terminal, "EURUSD", "buy", 0.1, sl=1.09)
    step(terminal), step(terminal)
    closed = step(terminal)
    assert (closed.time, closed.deals) == (MONDAY + 3 * HOUR, ())
    reopened = step(terminal)
    assert reopened.time == MONDAY + 51 * HOUR and not reopened.closed
    assert [(each.price, each.reason) for each in reopened.deals] == [(1.05, api.DEAL_REASON_SL)]


def test_stop_out_closes_the_worst_first(tmp_path: Path) -> None:
    rows = [(0, 1.1, 1.1, 1.1, 1.1, 10), (1, 1.1, 1.1, 1.094, 1.094, 10), *flat(1.094, range(2, 4))]
    terminal = paper(tmp_path, {"EURUSD": rows}, balance=1000.0)
    send(terminal, "EURUSD", "buy", 0.2)
    send(terminal, "EURUSD", "buy", 0.6)
    step(terminal)
    # margin 880.08; 8 a pip over 61 pips: equity 512 is above 30 %
    assert step(terminal).deals == ()
    (tmp_path / "deep").mkdir()
    rows[1] = (1, 1.1, 1.1, 1.09, 1.09, 10)
    deep = paper(tmp_path / "deep", {"EURUSD": [*rows[:2], *flat(1.09, range(2, 4))]}, balance=1000.0)
    send(deep, "EURUSD", "buy", 0.2)
    worst = send(deep, "EURUSD", "buy", 0.6)
    step(deep)
    (deal,) = step(deep).deals
    assert (deal.reason, deal.position_id, deal.price) == (api.DEAL_REASON_SO, worst.order, 1.09)
    assert deep.positions_total() == 1 and deep.account.balance == 394.0 == total_of_deals(deep)


def test_swap_gathers_at_midnight_threefold_on_wednesday_and_is_booked_at_the_close(tmp_path: Path) -> None:
    # From Monday to Saturday: Monday, Tuesday, three for Wednesday, Thursday, Friday; Saturday pays nothing.
    terminal = paper(tmp_path, {"EURUSD": flat(1.1, range(6 * 24 + 2))}, balance=10_000.0)
    opened = send(terminal, "EURUSD", "sell", 0.5)
    part = 0.0
    nights = []
    while (moment := terminal.step()) is not None:
        (position,) = terminal.positions_get() or ()
        if position.swap != part:
            part = position.swap
            nights.append((moment.time - MONDAY, part))
        if moment.time == MONDAY + 6 * 24 * HOUR + HOUR:
            break
    # 2.4 points * 0.00001 * 100,000 * 0.5 lots = 1.20 a night
    assert nights == [(86400, 1.2), (2 * 86400, 2.4), (3 * 86400, 6.0), (4 * 86400, 7.2), (5 * 86400, 8.4)]
    info = terminal.account_info()
    assert info is not None and info.balance == 10_000.0 and info.profit == 3.4
    send(terminal, "EURUSD", "buy", 0.1, position=opened.order)
    assert last_deal(terminal).swap == 1.68
    send(terminal, "EURUSD", "buy", 0.4, position=opened.order)
    assert last_deal(terminal).swap == 6.72
    assert terminal.account.balance == 10_003.4 == total_of_deals(terminal)
