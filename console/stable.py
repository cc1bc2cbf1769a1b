"""The table of the stable: one bot a line, and below it why, where there is something to say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from console import figures
from console.grid import Cell, Column, Row, paint, table

STATES: Final = {
    "running": "green", "paused": "yellow", "starting": "cyan", "adopting": "cyan", "stopping": "magenta",
    "backoff": "yellow", "failed": "bold red", "stopped": "dim",
}  # fmt: skip
#: What may be wanted in a state without a contradiction; otherwise the table shows both.
_NATURAL: Final = {
    "running": ("running",), "paused": ("paused",), "stopped": ("stopped",), "stopping": ("stopped",),
    "starting": ("running", "paused"), "backoff": ("running", "paused"), "failed": ("running", "paused"),
    "adopting": ("running", "paused", "stopped"),
}  # fmt: skip
_SIGNALS: Final = {"BUY": "green", "SELL": "red", "ERROR": "bold red", "HOLD": "dim", "EXIT": "yellow"}

COLUMNS: Final = (
    Column("BOT", shrink_to=12),
    Column("STATE"),
    Column("MARKET", shrink_to=10),
    Column("STRATEGY", shrink_to=8, leave_out=5),
    Column("POSITION", right=True),
    Column("PROFIT", right=True),
    Column("LAST", leave_out=2),
    Column("CYC", right=True, leave_out=4),
    Column("BEAT", right=True, leave_out=6),
    Column("CPU", right=True, leave_out=7),
    Column("RSS", right=True, leave_out=8),
    Column("RST", right=True, leave_out=1),
    Column("UP", right=True, leave_out=3),
)


def row(bot: dict[str, Any]) -> Row:
    """One bot, as `status` tells it."""
    state, wanted = bot["state"], bot["wanted"]
    shown = state if wanted in _NATURAL.get(state, ()) else f"{state}→{wanted}"
    profit = bot.get("profit")
    colour = "" if not profit else "green" if profit > 0 else "red"
    beat = bot.get("heartbeat_age_s")
    restarts = bot.get("restarts") or 0
    signal = bot.get("last_signal") or figures.DASH
    cells = [
        Cell(bot["name"], "bold"),
        Cell(shown, STATES.get(state, "")),
        Cell(f"{bot['market']} {bot['timeframe']}" if bot["market"] else "-"),
        Cell(bot["strategy"]),
        Cell(figures.position(bot.get("position"))),
        Cell(figures.money(profit), colour),
        Cell(signal, _SIGNALS.get(signal, "dim")),
        Cell(figures.number(bot.get("cycles"))),
        Cell(figures.span(beat), "yellow" if beat and beat > 5 else ""),
        Cell(figures.percent(bot.get("cpu_percent"))),
        Cell(figures.size(bot.get("rss_bytes"))),
        Cell(str(restarts), "yellow" if restarts else "dim"),
        Cell(figures.span(bot.get("uptime_s"))),
    ]
    return Row(cells, _note(bot))


def _note(bot: dict[str, Any]) -> str:
    parts = [bot["reason"]] if bot.get("reason") else []
    if (bot.get("pace") or 1.0) != 1.0:
        parts.append(f"pace {bot['pace']:g}")
    if bot.get("errors"):
        parts.append(f"{bot['errors']} analyses raised")
    return "; ".join(parts)


def lines(bots: Sequence[dict[str, Any]], *, width: int | None, colour: bool) -> list[str]:
    """The table and, for more than one bot, a line that sums it up."""
    if not bots:
        return ["no bots yet (add one with: stablehand add NAME market=EURUSD strategy=MA_CROSSOVER)"]
    shown = table(COLUMNS, [row(bot) for bot in bots], width=width, colour=colour)
    return shown if len(bots) == 1 else [*shown, "", summary(bots, colour=colour)]


def summary(bots: Sequence[dict[str, Any]], *, colour: bool) -> str:
    """How many bots, in which states."""
    counts: dict[str, int] = {}
    for bot in bots:
        counts[bot["state"]] = counts.get(bot["state"], 0) + 1
    return f"{len(bots)} bots: {states(counts, colour=colour)}"


def states(counts: dict[str, int], *, colour: bool) -> str:
    """Counts by state in one order, each in its colour."""
    known = [state for state in STATES if counts.get(state)] + [state for state in counts if state not in STATES]
    return ", ".join(paint(f"{counts[state]} {state}", STATES.get(state, ""), colour) for state in known)
