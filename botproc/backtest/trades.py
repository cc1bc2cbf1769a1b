"""Trades: each position from its entry to its end, put together from deals; and what many of them amount to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from broker import api
from broker.api import TradeDeal

_REASONS: Final = {
    api.DEAL_REASON_SL: "stop loss",
    api.DEAL_REASON_TP: "take profit",
    api.DEAL_REASON_SO: "stop out",
}


@dataclass(frozen=True, slots=True)
class Trade:
    """One closed position. Times in server seconds, money in account currency; prices are means over the deals."""

    bot: str
    symbol: str
    side: str
    volume: float
    opened: int
    closed: int
    price_open: float
    price_close: float
    profit: float
    """With commission, swap and fee, entry's and exit's."""
    costs: float
    """Commission, swap and fee alone: negative where they were paid."""
    reason: str
    """What ended it: signal, stop loss, take profit or stop out."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Of a number of closed trades. None where there is nothing to divide by."""

    trades: int
    wins: int
    losses: int
    win_rate: float | None
    """Percent of the trades that won; one without gain or loss counts as neither, and as a trade."""
    net_profit: float
    gross_profit: float
    gross_loss: float
    profit_factor: float | None
    """Gross profit over gross loss; None without a loss."""
    expectancy: float | None
    """Mean profit of a trade."""
    average_win: float | None
    average_loss: float | None
    largest_win: float
    largest_loss: float
    longest_losing_streak: int
    average_hours: float | None
    """Mean time from entry to end."""


def trades_of(deals: Sequence[TradeDeal], names: Mapping[int, str]) -> list[Trade]:
    """Closed positions by the time of their end. `names`: magic to bot. A position that is still open is none."""
    groups: dict[int, list[TradeDeal]] = {}
    for deal in deals:
        if deal.type in (api.DEAL_TYPE_BUY, api.DEAL_TYPE_SELL):
            groups.setdefault(deal.position_id, []).append(deal)
    trades = [trade for group in groups.values() if (trade := _trade(group, names)) is not None]
    return sorted(trades, key=lambda trade: (trade.closed, trade.opened))


def _trade(group: Sequence[TradeDeal], names: Mapping[int, str]) -> Trade | None:
    ins = [deal for deal in group if deal.entry == api.DEAL_ENTRY_IN]
    outs = [deal for deal in group if deal.entry != api.DEAL_ENTRY_IN]
    volume = sum(deal.volume for deal in ins)
    if not outs or round(volume - sum(deal.volume for deal in outs), 8) > 0:
        return None
    first, last = ins[0], outs[-1]
    costs = sum(deal.commission + deal.swap + deal.fee for deal in group)
    return Trade(
        bot=names.get(first.magic, "unattributed"),
        symbol=first.symbol,
        side="buy" if first.type == api.DEAL_TYPE_BUY else "sell",
        volume=round(volume, 8),
        opened=first.time,
        closed=last.time,
        price_open=_mean_price(ins),
        price_close=_mean_price(outs),
        profit=round(sum(deal.profit for deal in group) + costs, 2),
        costs=round(costs, 2),
        reason=_REASONS.get(last.reason, "signal"),
    )


def _mean_price(deals: Sequence[TradeDeal]) -> float:
    if len(deals) == 1:
        return deals[0].price
    return sum(deal.price * deal.volume for deal in deals) / sum(deal.volume for deal in deals)


def stats_of(trades: Sequence[Trade]) -> Stats:
    """What trades amount to; in the order of their ends, for the streak."""
    wins = [trade.profit for trade in trades if trade.profit > 0]
    losses = [trade.profit for trade in trades if trade.profit < 0]
    streak = longest = 0
    for trade in trades:
        streak = streak + 1 if trade.profit < 0 else 0
        longest = max(longest, streak)
    net, count = sum(trade.profit for trade in trades), len(trades)
    return Stats(
        trades=count,
        wins=len(wins),
        losses=len(losses),
        win_rate=round(100.0 * len(wins) / count, 2) if count else None,
        net_profit=round(net, 2),
        gross_profit=round(sum(wins), 2),
        gross_loss=round(sum(losses), 2),
        profit_factor=round(sum(wins) / -sum(losses), 3) if losses else None,
        expectancy=round(net / count, 2) if count else None,
        average_win=round(sum(wins) / len(wins), 2) if wins else None,
        average_loss=round(sum(losses) / len(losses), 2) if losses else None,
        largest_win=max(wins, default=0.0),
        largest_loss=min(losses, default=0.0),
        longest_losing_streak=longest,
        average_hours=round(sum(t.closed - t.opened for t in trades) / count / 3600.0, 2) if count else None,
    )


def as_dicts(trades: Sequence[Trade]) -> list[dict[str, Any]]:
    """Trades as plain values."""
    return [asdict(trade) for trade in trades]
