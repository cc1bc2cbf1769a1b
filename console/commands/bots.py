"""add, update, remove, show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from console import settings, values
from console.commands.shared import (
    AsJson,
    Bot,
    Bots,
    Every,
    Where,
    Yes,
    chosen,
    colour,
    is_person,
    names,
    show_table,
    warn,
    write,
    write_json,
)
from console.figures import moment, plain
from console.grid import Cell, Column, Row, facts, paint
from console.stable import STATES
from protocol.errors import InvalidInput

PANEL = "Bots"
Words = Annotated[list[str] | None, typer.Argument(metavar="[BOT]... KEY=VALUE...", help="Bots, and what to set.")]
Unset = Annotated[
    list[str] | None,
    typer.Option(
        "--unset",
        metavar="KEY",
        help="Take back what an update has set: the file's value holds again. May be repeated.",
    ),
]
File = Annotated[Path | None, typer.Option("--file", "-f", metavar="FILE", help="A TOML file with [[bots]] tables.")]


def register(app: typer.Typer) -> None:
    """Add these verbs."""
    for verb, command in (("add", _add), ("update", _update), ("remove", _remove), ("show", _show)):
        app.command(verb, rich_help_panel=PANEL)(command)


def _add(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Name of the new bot.")] = None,
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Its configuration, as in the file.")
    ] = None,
    file: File = None,
    as_json: AsJson = False,
) -> int:
    """Add a bot: market=EURUSD strategy=MA_CROSSOVER params.fast=10 .. Or many from a file, all or none.

    Values are TOML where they can be read as such, else texts. `wanted=stopped` adds it without starting it.
    """
    if file is not None:
        if name is not None:
            raise InvalidInput("give a name with key=value.., or --file, not both")
        new = values.bots_of(file)
    else:
        if name is None or "=" in name:
            raise InvalidInput("the name of the new bot comes first", hint="add NAME market=EURUSD strategy=..")
        new = [{"name": name, **_without_name(values.pairs(keys or []))}]
    with settings.connect(timeout=30.0) as client:
        result = client.add(new)
    if as_json:
        write_json(result)
    else:
        write(f"added: {names(result['added'])}")
    return 0


def _without_name(table: dict[str, Any]) -> dict[str, Any]:
    if "name" in table:
        raise InvalidInput("the name of a bot cannot be changed", hint="remove it, and add another")
    return table


def _update(
    words: Words = None, every: Every = False, where: Where = None, unset: Unset = None, file: File = None,
    as_json: AsJson = False,
) -> int:  # fmt: skip
    """Change keys of bots, all or none: eurusd-ma risk_percent=2 params.fast=10. Those that ran are restarted.

    Keys that only the supervisor reads (priority, after, the restart policy, limits) take effect without a restart.
    With --file each [[bots]] table names a bot and what to set in it.
    """
    bots = [word for word in words or [] if "=" not in word]
    settings_of = [word for word in words or [] if "=" in word]
    args: dict[str, Any]
    if file is not None:
        if words or every or where or unset:
            raise InvalidInput("--file says which bots and what to set: give nothing beside it")
        args = {"updates": [{"name": bot.pop("name"), "set": bot} for bot in values.bots_of(file)]}
    else:
        if not settings_of and not unset:
            raise InvalidInput("say what to set", hint="update BOT.. key=value..")
        args = {**chosen(bots, every, where), "set": _without_name(values.pairs(settings_of))}
        if unset:
            args["unset"] = unset
    with settings.connect(timeout=30.0) as client:
        result = client.request("update", args)
    if as_json:
        write_json(result)
        return 0
    for entry in result["updated"]:
        if not entry["changed"]:
            write(f"{entry['name']}: nothing changed")
            continue
        write(f"{entry['name']}: {changes(entry['changed'])}{'; restarting' if entry['restarted'] else ''}")
    if not result["updated"]:
        write("no bot matches")
    return 0


def changes(changed: dict[str, list[Any]]) -> str:
    """`key old → new`, in one line."""
    return ", ".join(f"{key} {plain(old)} → {plain(new)}" for key, (old, new) in changed.items())


def _remove(
    positions: Annotated[
        Literal["keep", "close"],
        typer.Option("--positions", metavar="keep|close", help="What becomes of open positions."),
    ],
    bots: Bots = None,
    every: Every = False,
    where: Where = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Stop bots and remove them. Their deals and history stay."""
    args = chosen(bots, every, where)
    if not yes and not as_json:
        if not is_person():
            warn("nothing was removed (say --yes to do it)")
            return 1
        what = names(args["bots"]) if "bots" in args else "all bots" if every else "the bots that match"
        typer.confirm(f"remove {what}, and {positions} open positions?", abort=True)
    with settings.connect() as client:
        result = client.request("remove", {**args, "positions": positions}, timeout=60.0)
    code = 0 if result["removed"] or every else 1
    if as_json:
        write_json(result)
        return code
    for name in result["removed"]:
        outcome = (result.get("positions") or {}).get(name)
        write(f"removed {name}{f': {outcome}' if outcome else ''}")
    if not result["removed"]:
        write("no bot matches")
    return code


def _show(bot: Bot, as_json: AsJson = False) -> int:
    """All about one bot: its configuration and what was changed in it, its runs, its story."""
    with settings.connect() as client:
        shown = client.request("show", {"bot": bot})
    if as_json:
        write_json(shown)
        return 0
    tint = colour()
    run = shown.get("run") or {}
    state = shown["state"]
    head = [
        ("bot", Cell(f"{shown['name']}  (id {shown['id']}, magic {shown['magic']})", "bold")),
        ("state", Cell(state, STATES.get(state, ""))),
        ("wanted", Cell(shown["wanted"])),
        ("source", Cell("declared in the file" if shown["source"] == "file" else "added at run time")),
    ]
    if run:
        text = f"epoch {run.get('epoch')}, pid {plain(run.get('pid'))}, since {moment(run.get('started_at'))} UTC"
        head.append(("run", Cell(f"{text}, code {plain(run.get('code_hash'))[:12]}")))
    if shown.get("counts"):
        head.append(("ends", Cell(", ".join(f"{count} {cause}" for cause, count in shown["counts"].items()))))
    head.append(("log", Cell(shown["log_path"])))
    write([*facts(head, colour=tint), "", paint("CONFIGURATION", "bold", tint)])
    write(facts(_configuration(shown), colour=tint))
    _show_runs(shown.get("runs") or [])
    if shown.get("story"):
        write(["", paint("STORY", "bold", tint), *(paint(line, "dim", tint) for line in shown["story"])])
    return 0


def _configuration(shown: dict[str, Any]) -> list[tuple[str, Cell]]:
    override, declared = shown.get("override") or {}, shown.get("declared") or {}
    pairs = []
    for key, value in shown["config"].items():
        if key == "name":
            continue
        text = plain(value)
        if key in override:
            was = f", file: {plain(declared[key])}" if key in declared else ""
            pairs.append((key, Cell(f"{text}  (set by update{was})", "yellow")))
        else:
            pairs.append((key, Cell(text)))
    return pairs


def _show_runs(runs: list[dict[str, Any]]) -> None:
    if not runs:
        return
    write("")
    columns = (
        Column("EPOCH", right=True), Column("STARTED"), Column("ENDED"), Column("CAUSE"),
        Column("REASON", shrink_to=12),
    )  # fmt: skip
    rows = [
        Row([
            Cell(plain(run.get("epoch"))), Cell(moment(run.get("started_at"))), Cell(moment(run.get("ended_at"))),
            Cell(plain(run.get("cause"))), Cell(plain(run.get("reason"))),
        ])
        for run in runs
    ]  # fmt: skip
    show_table(columns, rows, empty="no earlier runs")
