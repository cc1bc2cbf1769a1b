"""analysis, history, strategies, logs, events: what bots think, did and said."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from console import logview, settings
from console.commands.shared import (
    AsJson,
    Bot,
    OfBot,
    colour,
    show_table,
    warn,
    write,
    write_json,
)
from console.figures import clock, moment, plain, price
from console.grid import Cell, Column, Row, facts, paint
from protocol.errors import InvalidInput, Unreachable

PANEL: Final = "Looking"
_RETRY: Final = 1.0
_TYPES: Final = {"alert": "bold red", "halt": "bold red", "history": "cyan", "warning": "yellow"}
_SIGNALS: Final = {"BUY": "bold green", "SELL": "bold red", "EXIT": "bold cyan"}


def register(app: typer.Typer) -> None:
    """Add these verbs."""
    for verb, command in (
        ("analysis", _analysis), ("history", _history), ("strategies", _strategies), ("logs", _logs),
        ("events", _events),
    ):  # fmt: skip
        app.command(verb, rich_help_panel=PANEL)(command)


def _analysis(bot: Bot, as_json: AsJson = False) -> int:
    """What a bot's strategy says of the market now; of a stopped bot too."""
    with settings.connect(timeout=30.0) as client:
        found = client.request("analysis", {"bot": bot})
    if as_json:
        write_json(found)
        return 0
    pairs = [
        ("bot", Cell(found["name"], "bold")),
        ("signal", Cell(f"{found['signal']} at {price(found['price'])}", _SIGNALS.get(found["signal"], ""))),
        ("because", Cell(found["explanation"])),
        ("bar", Cell(f"{moment(found['bar_time'])} server time")),
        ("from", Cell("the running bot" if found["live"] else "an analysis made just now")),
    ]
    write(facts([*pairs, *((key, Cell(price(each))) for key, each in found["figures"].items())], colour=colour()))
    return 0


def _history(
    bot: Bot,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many, the newest.")] = 50,
    as_json: AsJson = False,
) -> int:
    """What a bot did: opened, closed, warned. Oldest first."""
    with settings.connect() as client:
        rows = client.request("history", {"bot": bot, "limit": limit})
    if as_json:
        write_json(rows)
        return 0
    columns = (
        Column("NO", right=True), Column("TIME (UTC)"), Column("EPOCH", right=True, leave_out=1), Column("ACTION"),
        Column("WHAT"),
    )  # fmt: skip
    shown = [
        Row([
            Cell(str(row["seq"]), "dim"), Cell(moment(row["at"])), Cell(plain(row["epoch"])),
            Cell(row["action"], "cyan"), Cell(row["text"]),
        ])
        for row in rows
    ]  # fmt: skip
    show_table(columns, shown, empty="nothing yet")
    return 0


def _strategies(as_json: AsJson = False) -> int:
    """The strategies that are installed, and their parameters."""
    with settings.connect(timeout=30.0) as client:
        found = client.request("strategies")
    if as_json:
        write_json(found)
        return 0
    tint = colour()
    for number, one in enumerate(found):
        write(("\n" if number else "") + f"{paint(one['id'], 'bold', tint)}  {one.get('title') or ''}".rstrip())
        if one.get("error"):
            write(paint(f"  broken: {one['error']}", "red", tint))
            continue
        write(f"  {one['rule']} Needs {one['lookback']} bars.".replace("  Needs", "  Needs"))
        write([f"  {name} = {plain(spec.get('default'))}{_bounds(spec)}" for name, spec in one["params"].items()])
    if not found:
        write("no strategies")
    return 0


def _bounds(spec: dict[str, Any]) -> str:
    low, high, label = spec.get("minimum"), spec.get("maximum"), spec.get("label")
    text = "" if low is None and high is None else f"  ({plain(low)} to {plain(high)})"
    if low is not None and high is None:
        text = f"  (at least {plain(low)})"
    elif high is not None and low is None:
        text = f"  (at most {plain(high)})"
    return f"{text}  {label}" if label else text


def _logs(
    bot: Bot,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=100_000, help="How many of the last.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it is written.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Lines as they stand in the file.")] = False,
    output: Annotated[
        bool, typer.Option("--output", "-o", help="What its process wrote to stdout and stderr, instead of its log.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """The log of a bot or program. --json: one JSON object a line."""
    if follow and settings.remote() is not None:
        raise InvalidInput("logs --follow reads the file itself", hint="over --connect: logs without --follow")
    with settings.connect() as client:
        found = client.request("logs", {"bot": bot, "lines": lines, "output": output})
    path = Path(found["raw_path"] if output else found["path"])
    tint = colour()

    def put(line: str) -> None:
        shown = logview.as_json(line) if as_json else logview.pretty(line, colour=tint)
        if raw or (output and not as_json):
            shown = line
        sys.stdout.write(f"{shown}\n")
        sys.stdout.flush()

    for line in found["lines"]:
        put(line)
    if not follow:
        if not found["lines"] and not as_json:
            warn(f"{path} holds nothing yet; what the process itself wrote: {found['raw_path']}")
        return 0
    last = found["lines"][-1] if found["lines"] else None
    for line in logview.follow(path, after=last, whole=last is None and lines > 0):
        put(line)
    return 0


def _events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they happen, without gaps.")] = False,
    since: Annotated[int | None, typer.Option("--since", metavar="N", min=0, help="Those after number N.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many.")] = 100,
    bot: OfBot = None,
    as_json: AsJson = False,
) -> int:
    """The journal of events, oldest first. --json: a list; with -f one object a line."""
    if follow:
        return _follow_events(since, limit, bot, as_json=as_json)
    with settings.connect() as client:
        page = client.events(since=since, limit=limit, bot=bot)
    if as_json:
        write_json(page["events"])
        return 0
    tint = colour()
    write([event_line(event, colour=tint) for event in page["events"]] or "no events")
    if since is not None and page["first"] is not None and since + 1 < page["first"]:
        warn(f"events {since + 1} to {page['first'] - 1} are older than the journal keeps")
    return 0


def _follow_events(since: int | None, limit: int, bot: str | None, *, as_json: bool) -> int:
    tint = colour()
    last = since
    away = False
    with settings.connect() as client:
        page = client.events(limit=1)
        if last is None:
            # Begin as `tail -f` does: with the last ones.
            last = max(0, page["last"] - min(limit, 10))
        elif last > page["last"]:
            raise InvalidInput(f"the last event is {page['last']}; there is none after {last} yet")
    while True:
        try:
            with settings.connect() as client:
                for event in client.follow(since=last, bot=bot):
                    away = False
                    last = event["seq"]
                    sys.stdout.write((json.dumps(event) if as_json else event_line(event, colour=tint)) + "\n")
                    sys.stdout.flush()
        except Unreachable as error:
            if not away:
                warn(f"{error.message}; waiting for a supervisor")
            away = True
            time.sleep(_RETRY)


def event_line(event: dict[str, Any], *, colour: bool, numbered: bool = True) -> str:
    """One event in one line."""
    number = paint(f"{event['seq']:>6}", "dim", colour) + "  " if numbered else ""
    kind = paint(f"{event['type']:<8}", _TYPES.get(event["type"], "dim"), colour)
    text = event["text"]
    bot = event.get("bot")
    if bot and not text.startswith(bot):
        text = f"{paint(bot, 'bold', colour)}: {text}"
    return f"{number}{paint(clock(event['at']), 'dim', colour)}  {kind}  {text}"
