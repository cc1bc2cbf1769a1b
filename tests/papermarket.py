"""A paper terminal over bars that a test writes down itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from broker import api
from broker.api import OrderSendResult
from broker.paper.terminal import PaperTerminal, Step
from protocol.botconfig import AccountConfig

#: Monday 2024-01-01 00:00.
MONDAY = 1_704_067_200
HOUR = 3600

#: hour, open, high, low, close[, spread in points]; hours are counted from MONDAY.
Bar = Sequence[float]


def write_csv(folder: Path, symbol: str, bars: Iterable[Bar], timeframe: str = "H1") -> Path:
    """The bars as a MetaTrader export with a spread column (10 where a bar names none)."""
    lines = ["time,open,high,low,close,tick_volume,spread,real_volume"]
    for bar in bars:
        moment = dt.datetime.fromtimestamp(MONDAY + bar[0] * HOUR, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
        spread = int(bar[5]) if len(bar) > 5 else 10
        lines.append(f"{moment},{bar[1]},{bar[2]},{bar[3]},{bar[4]},100,{spread},0")
    path = folder / f"{symbol}_{timeframe}.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def flat(price: float, hours: Iterable[int], spread: int = 10) -> list[Bar]:
    """Bars in which nothing happens."""
    return [(hour, price, price, price, price, spread) for hour in hours]


#: Terminals that the running test has opened.
_OPEN: list[PaperTerminal] = []


def _kept(terminal: PaperTerminal) -> PaperTerminal:
    _OPEN.append(terminal)
    return terminal


def close_all() -> None:
    """Close the terminals of a test: their databases hold descriptors. Closing one twice does no harm."""
    while _OPEN:
        _OPEN.pop().close()


def paper(folder: Path, bars: dict[str, list[Bar]], **config: Any) -> PaperTerminal:
    """A terminal that replays `bars`; with the same folder again: the same account."""
    for symbol, rows in bars.items():
        write_csv(folder, symbol, rows)
    settings = {"feed": "replay", "path": ".", "symbols": tuple(bars), "bars_per_second": "max", **config}
    return _kept(
        PaperTerminal(
            AccountConfig.model_validate(settings), name="test", database=folder / "paper.db", base_dir=folder
        )
    )


def synthetic(folder: Path, **config: Any) -> PaperTerminal:
    """A terminal over the made market."""
    settings = {"bars_per_second": "max", **config}
    return _kept(
        PaperTerminal(
            AccountConfig.model_validate(settings), name="test", database=folder / "paper.db", base_dir=folder
        )
    )


def send(terminal: PaperTerminal, symbol: str, side: str, volume: float, **request: Any) -> OrderSendResult:
    """A market order, IOC."""
    result = terminal.order_send(
        {
            "action": api.TRADE_ACTION_DEAL,
            "symbol": symbol,
            "volume": volume,
            "type": api.ORDER_TYPE_BUY if side == "buy" else api.ORDER_TYPE_SELL,
            "type_filling": api.ORDER_FILLING_IOC,
            **request,
        }
    )
    assert result is not None, terminal.last_error()
    return result


def step(terminal: PaperTerminal) -> Step:
    """The next moment, which must be there."""
    moment = terminal.step()
    assert moment is not None
    return moment


def total_of_deals(terminal: PaperTerminal) -> float:
    """Sum of profit, commission, swap and fee over all deals, counted in hundredths."""
    deals = terminal.history_deals_get(0, 1 << 40)
    assert deals is not None
    return sum(round((deal.profit + deal.commission + deal.swap + deal.fee) * 100) for deal in deals) / 100
