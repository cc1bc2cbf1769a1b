"""What the live table shows, as lines: the host, the accounts, the bots, the last events. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from console import stable
from console.commands.looking import event_line
from console.commands.trading import feed_time
from console.figures import money, percent, span
from console.grid import paint, table

EVENTS: Final = 5
HALTS: Final = 4
#: Bots that need an eye come first when not all fit.
_URGENT: Final = ("failed", "backoff", "stopping", "adopting", "starting", "running", "paused", "stopped")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the supervisor told at one moment."""

    ping: dict[str, Any]
    bots: Sequence[dict[str, Any]]
    host: dict[str, Any] = field(default_factory=dict)
    accounts: Sequence[dict[str, Any]] = ()
    events: Sequence[dict[str, Any]] = ()


def lines(shot: Snapshot, *, width: int, height: int, footer: str, colour: bool = True) -> list[str]:
    """The whole screen, in at most `width` columns and `height` lines (where that is possible)."""
    halts = [cut_painted(paint(f"HALT  {text}", "bold red", colour), width) for text in shot.ping.get("halts") or ()]
    if len(halts) > HALTS:
        halts[HALTS - 1 :] = [paint(f"HALT  and {len(halts) - HALTS + 1} more", "bold red", colour)]
    top = [_headline(shot, colour), *halts, *(_account(one, colour) for one in shot.accounts), ""]
    bottom = [""]
    if shot.events:
        bottom += [cut_painted(event_line(event, colour=colour), width) for event in shot.events[-EVENTS:]]
        bottom.append("")
    bottom.append(paint(footer, "dim", colour))
    room = max(4, height - len(top) - len(bottom) - 1)
    return [*top, *_bots(shot.bots, width, room, colour), *bottom]


def _headline(shot: Snapshot, colour: bool) -> str:
    host = shot.host
    parts = [
        paint(f"stablehand {shot.ping.get('version', '')}", "bold cyan", colour),
        f"up {span(shot.ping.get('uptime_s'))}",
    ]
    if host:
        parts += [f"cpu {percent(host.get('cpu_percent'))}", f"mem {percent(host.get('memory_percent'))}"]
        if host.get("load1") is not None:
            parts.append(f"load {host['load1']:.2f}")
    counts: dict[str, int] = {}
    for bot in shot.bots:
        counts[bot["state"]] = counts.get(bot["state"], 0) + 1
    parts.append(stable.states(counts, colour=colour) or "no bots")
    if shot.ping.get("not_remembered"):
        parts.append(paint("NOT REMEMBERED: the disk refuses", "bold red", colour))
    return "  ".join(parts)


def _account(account: dict[str, Any], colour: bool) -> str:
    state = account.get("state")
    parts = [paint(account["name"], "bold", colour)]
    if account.get("balance") is not None:
        parts.append(f"balance {money(account['balance'])} {account.get('currency') or ''}")
        parts.append(f"equity {money(account['equity'])}")
    if account.get("time"):
        parts.append(f"feed {feed_time(account)}")
    if state != "running":
        parts.append(paint(f"gateway {state}", "yellow", colour))
    if account.get("trouble"):
        parts.append(paint(account["trouble"], "bold red", colour))
    return "  ".join(parts)


def _bots(bots: Sequence[dict[str, Any]], width: int, room: int, colour: bool) -> list[str]:
    if not bots:
        return stable.lines([], width=width, colour=colour)
    rows = [stable.row(bot) for bot in bots]
    if sum(1 + bool(row.note) for row in rows) + 1 <= room:
        return table(stable.COLUMNS, rows, width=width, colour=colour)
    rank = {state: number for number, state in enumerate(_URGENT)}
    order = sorted(range(len(bots)), key=lambda n: (rank.get(bots[n]["state"], 0), n))
    kept: list[int] = []
    used = 2  # the heading, and the line about the rest
    for n in order:
        used += 1 + bool(rows[n].note)
        if used > room:
            break
        kept.append(n)
    shown = table(stable.COLUMNS, [rows[n] for n in kept], width=width, colour=colour)
    more = f"  and {len(bots) - len(kept)} more (stablehand status shows all)"
    return [*shown, paint(more, "dim", colour)]


def cut_painted(text: str, width: int) -> str:
    """A line with colours in at most `width` visible characters."""
    seen, out, number = 0, [], 0
    while number < len(text):
        if text[number] == "\x1b":
            end = text.index("m", number) + 1
            out.append(text[number:end])
            number = end
            continue
        seen += 1
        if seen <= width:
            out.append(text[number] if seen < width or number == len(text) - 1 else "…")
        number += 1
    return "".join(out)
