"""up, down, status, and what is wanted of bots."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from console import main, roll, settings, stable, up
from console.commands.shared import (
    AsJson,
    Bots,
    Every,
    Wait,
    Where,
    chosen,
    colour,
    names,
    warn,
    write,
    write_json,
)
from protocol.errors import InvalidInput

PANEL = "Running the stable"
#: verb -> (what was done, what was so already)
_WORDS = {
    "start": ("started", "running already"),
    "stop": ("stopping", "stopped already"),
    "restart": ("restarting", "stopped, so not restarted"),
    "pause": ("pausing", "paused already"),
    "resume": ("resuming", "running already"),
}
#: The longest that `stop --mode close` may take: `close_timeout_seconds` at its largest, and a little.
_CLOSING = 310.0
_REACHED = {"start": "running", "stop": "stopped", "restart": "restarted", "pause": "paused", "resume": "running"}


class StopMode(StrEnum):
    """What becomes of positions, and of the process."""

    KEEP = "keep"
    CLOSE = "close"
    KILL = "kill"


def register(app: typer.Typer) -> None:
    """Add these verbs."""
    app.command("up", rich_help_panel=PANEL)(_up)
    app.command("down", rich_help_panel=PANEL)(_down)
    app.command("handover", rich_help_panel=PANEL)(_handover)
    app.command("status", rich_help_panel=PANEL)(_status)
    for verb, text in (
        ("start", "Want bots running."),
        ("pause", "Want bots alive, without new entries; positions are still looked after."),
        ("resume", "Want paused bots running."),
    ):
        app.command(verb, rich_help_panel=PANEL, help=text)(_verb(verb))
    app.command("restart", rich_help_panel=PANEL)(_restart)
    app.command("stop", rich_help_panel=PANEL)(_stop)


def _up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="In the background; returns when ready.")] = False,
    table: Annotated[
        bool | None, typer.Option("--table/--no-table", help="The live table; as usual, in a terminal.")
    ] = None,
    wait: Annotated[float, typer.Option(metavar="SECONDS", min=1, help="With --detach: the longest wait.")] = 60.0,
    as_json: AsJson = False,
) -> int:
    """Start the supervisor: with a live table in a terminal, else in its place. Ctrl-C stops everything."""
    site = settings.site()
    if detach:
        return up.detached(site, wait=wait, as_json=as_json)
    if as_json:
        raise InvalidInput("up --json needs --detach", hint="in the foreground there is no one answer")
    if table if table is not None else colour_terminal():
        from console.live import show

        return show(site)
    return up.replace_self(site)


def colour_terminal() -> bool:
    """Whether a live table can be shown."""
    import os
    import sys

    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _down(
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it has gone (as usual), or not.")] = True,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="The longest wait.")] = 120.0,
    as_json: AsJson = False,
) -> int:
    """Stop all bots and the supervisor, and wait until it has gone. What is wanted of bots stays as it is."""
    return up.down(timeout if wait else 0.0, as_json=as_json)


def _handover(
    leave: Annotated[bool, typer.Option("--leave", help="End, and let the next `up` take the bots over.")] = False,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="The longest wait.")] = 60.0,
    as_json: AsJson = False,
) -> int:
    """Renew the supervisor in place, as after an upgrade: same process, new code; the bots trade on.

    It reads its file as at every start: what is new there starts.
    """
    return up.handover(timeout, leave=leave, as_json=as_json)


def _status(bots: Bots = None, as_json: AsJson = False) -> int:
    """What bots do: of all, or of those named."""
    return main.status(bots or (), as_json=as_json)


def _verb(verb: str) -> Callable[..., int]:
    def command(
        bots: Bots = None, every: Every = False, where: Where = None, wait: Wait = None, as_json: AsJson = False
    ) -> int:
        return act(verb, chosen(bots, every, where), wait=wait, as_json=as_json)

    return command


def _restart(
    bots: Bots = None, every: Every = False, where: Where = None, wait: Wait = None,
    rolling: Annotated[
        bool, typer.Option("--rolling", help="A few at a time, each waited for; the first that fails ends it.")
    ] = False,
    batch: Annotated[int, typer.Option("--batch", metavar="N", min=1, help="With --rolling: how many.")] = 1,
    as_json: AsJson = False,
) -> int:  # fmt: skip
    """Stop bots and start them again, each in a new process."""
    which = chosen(bots, every, where)
    if rolling:
        return roll.restart(which, batch=batch, wait=60.0 if wait is None else wait, as_json=as_json)
    if batch != 1:
        raise InvalidInput("--batch is for --rolling")
    return act("restart", which, wait=wait, as_json=as_json)


def _stop(
    bots: Bots = None, every: Every = False, where: Where = None, wait: Wait = None,
    mode: Annotated[StopMode, typer.Option(
        help="keep: positions stay, with their stops. close: they are closed. kill: at once, without asking the bot.",
    )] = StopMode.KEEP,
    kill: Annotated[bool, typer.Option("--kill", help="The same as --mode kill.")] = False,
    as_json: AsJson = False,
) -> int:  # fmt: skip
    """Want bots stopped. Positions stay as they are, with their stops, unless --mode close."""
    args = {**chosen(bots, every, where), "mode": "kill" if kill else mode.value}
    return act("stop", args, wait=wait, as_json=as_json, patience=_CLOSING if mode is StopMode.CLOSE else None)


def act(verb: str, args: dict[str, Any], *, wait: float | None, as_json: bool, patience: float | None = None) -> int:
    """Ask for what is wanted, and tell what became of it."""
    if wait is not None:
        args = {**args, "wait": wait}
    with settings.connect() as client:
        result = client.request(verb, args, timeout=patience)
    failed, missed = result.get("failed") or {}, result.get("missed") or {}
    nobody = not (result["done"] or result["already"] or failed or missed)
    code = 1 if failed or missed or (nobody and "where" in args) else 0
    if as_json:
        write_json(result)
        return code
    done, already = result["done"], result["already"]
    words = _WORDS[verb]
    reached = result.get("reached") or []
    if wait is not None and reached:
        write(f"{_REACHED[verb]}: {names(reached)}{_count(reached)}")
    elif done and wait is None:
        write(f"{words[0]}: {names(done)}{_count(done)}")
    for name, text in (result.get("closed") or {}).items():
        write(f"{name}: {text}")
    rest = [name for name in already if wait is None or name not in reached]
    if rest:
        write(f"{words[1]}: {names(rest)}{_count(rest)}")
    if nobody:
        write("no bot matches")
    if result.get("warning"):
        warn(str(result["warning"]))
    for name, reason in failed.items():
        warn(f"{name}: {reason}")
    for name, reason in missed.items():
        if name not in failed:
            warn(f"{name}: not {_REACHED[verb]} within {wait:g} s: {reason}")
    return code


def _count(bots: list[str]) -> str:
    return f" ({len(bots)} bots)" if len(bots) > 3 else ""


def state_line(host: dict[str, Any]) -> str:
    """Bots by state, for the progress of `down`."""
    return stable.states(host.get("bots") or {}, colour=colour())
