"""The report of a backtest, as plain values: what `--json` shows, and what the page is drawn from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from botproc.backtest.curve import drawdown, months, sharpe, thin
from botproc.backtest.engine import Played
from botproc.backtest.guards import told
from botproc.backtest.job import Ready
from botproc.backtest.trades import as_dicts, stats_of, trades_of
from botproc.loader import build
from broker.api import DEAL_TYPE_BALANCE

#: Points of the equity curve that a report holds.
_POINTS: Final = 1500
#: History rows that a report holds; fills are in the trades.
_NOTES: Final = 200
_ACTIONS: Final = frozenset({"WARNING", "ERROR"})


def make(ready: Ready, played: Played, seconds: float) -> dict[str, Any]:
    """`{account, bots, period, result, per_bot, months, equity, trades, open, deals, guards, notes}`; see

    docs/backtest.md.
    """
    trades = trades_of(played.deals, played.names)
    deals = [deal._asdict() | {"bot": played.names.get(deal.magic, "unattributed")} for deal in played.deals]
    for deal in deals:
        del deal["external_id"]
    return {
        "account": _account(ready),
        "bots": [_bot(entrant.bot_id, entrant.config) for entrant in ready.entrants],
        "period": {
            "start": played.times[0] if played.times else None,
            "end": played.times[-1] if played.times else None,
            "bars": played.bars,
            "decisions": played.decisions,
            "seconds": round(seconds, 3),
        },
        "result": asdict(stats_of(trades)) | _money(ready, played),
        "per_bot": {
            name: asdict(stats_of([trade for trade in trades if trade.bot == name]))
            for name in (entrant.config.name for entrant in ready.entrants)
        },
        "months": months(played.times, played.equity, _deposit(played)),
        "equity": _curve(played),
        "trades": as_dicts(trades),
        "open": [
            position._asdict() | {"bot": played.names.get(position.magic, "unattributed")}
            for position in played.positions
        ],
        "deals": deals,
        "guards": told(played.denied),
        "notes": [
            {"at": note.at, "bot": note.bot, "action": note.action, "text": note.text}
            for note in [each for each in played.notes if each.action in _ACTIONS][:_NOTES]
        ],
    }


def _account(ready: Ready) -> dict[str, Any]:
    config = ready.account
    return {
        "name": ready.name,
        "symbols": list(config.symbols),
        "timeframe": config.timeframe,
        "balance": config.balance,
        "currency": config.currency,
        "leverage": config.leverage,
        "margin_mode": config.margin_mode,
        "commission_per_lot": config.commission_per_lot,
        "spread_points": config.spread_points,
    }


def _bot(bot_id: int, config: Any) -> dict[str, Any]:
    keys = ("name", "market", "timeframe", "strategy", "risk_percent", "sl_atr_multiplier", "tp_atr_multiplier")
    params = build(config.strategy, config.params).params.model_dump(mode="json")
    return {"id": bot_id, **{key: getattr(config, key) for key in keys}, "params": params}


def _deposit(played: Played) -> float:
    return sum(deal.profit for deal in played.deals if deal.type == DEAL_TYPE_BALANCE)


def _money(ready: Ready, played: Played) -> dict[str, Any]:
    """What belongs to the account and its curve. `net_profit` counts closed trades, `return_percent` the equity."""
    first = _deposit(played)
    equity = played.equity[-1] if played.equity else first
    fall = drawdown(played.times, played.equity, first)
    commission = sum(deal.commission for deal in played.deals)
    swap, fee = sum(deal.swap for deal in played.deals), sum(deal.fee for deal in played.deals)
    return {
        "balance": played.balance[-1] if played.balance else first,
        "equity": equity,
        "return_percent": round(100.0 * (equity / first - 1.0), 3) if first > 0 else None,
        "max_drawdown": fall.money,
        "max_drawdown_percent": fall.percent,
        "max_drawdown_from": fall.start or None,
        "max_drawdown_to": fall.bottom or None,
        "sharpe": sharpe(played.times, played.equity, first),
        "exposure_percent": round(100.0 * played.held / len(played.times), 2) if played.times else None,
        "commission": round(commission, 2),
        "swap": round(swap, 2),
        "fee": round(fee, 2),
        "spread_cost": round(-played.spread_cost, 2),
        "strategy_errors": played.errors,
    }


def _curve(played: Played) -> list[list[float]]:
    """[server seconds, equity, balance, close of the first bot's market]: thinned, the extremes kept."""
    closes = next(iter(played.closes.values()), [])
    return [[played.times[i], played.equity[i], played.balance[i], closes[i]] for i in thin(played.equity, _POINTS)]
