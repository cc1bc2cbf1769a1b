"""What many verbs share: their options, the choice of bots, and how an answer is written."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

from console import grid, settings, values
from protocol.errors import InvalidInput, StablehandError


def complete_bot(incomplete: str) -> list[str]:
    """Names of bots for the shell's completion; none where no supervisor answers."""
    try:
        with settings.connect(timeout=1.0, strict=True) as client:
            return [bot["name"] for bot in client.status() if bot["name"].startswith(incomplete)]
    except (StablehandError, OSError):
        return []  # a completion that fails must not write into the line being typed


Bot = Annotated[str, typer.Argument(metavar="BOT", help="Name of the bot.", autocompletion=complete_bot)]
Bots = Annotated[
    list[str] | None, typer.Argument(metavar="[BOT]...", help="Names of bots.", autocompletion=complete_bot)
]
Every = Annotated[bool, typer.Option("--all", help="All bots.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="KEY=VALUE", help="The bots that match; several: those that match all."),
]
Wait = Annotated[
    float | None,
    typer.Option(
        "--wait", metavar="SECONDS", min=0, max=86_400, help="Wait until it is so; exit code 1 where it is not."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Plain JSON on stdout.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Account = Annotated[
    str | None, typer.Option("--account", "-a", metavar="NAME", help="Account; not needed where there is one.")
]
OfBot = Annotated[
    str | None, typer.Option("--bot", "-b", metavar="BOT", help="Only of this bot.", autocompletion=complete_bot)
]


def chosen(bots: Sequence[str] | None, every: bool, where: Sequence[str] | None) -> dict[str, Any]:
    """The arguments that say which bots. Raises InvalidInput unless exactly one way is used."""
    if bool(bots) + every + bool(where) != 1:
        raise InvalidInput(
            "say which bots in one way" if bots or every or where else "say which bots",
            hint="BOT.., --all or --where key=value",
        )
    if every:
        return {"all": True}
    return {"where": values.where(where)} if where else {"bots": list(dict.fromkeys(bots or ()))}


def write(text: str | Iterable[str]) -> None:
    """Write a line, or lines."""
    lines = [text] if isinstance(text, str) else list(text)
    if lines:
        sys.stdout.write("\n".join(lines) + "\n")


def write_json(value: Any) -> None:
    """Write plain JSON."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def warn(text: str) -> None:
    """Write one line on stderr."""
    sys.stderr.write(f"stablehand: {' '.join(text.split())}\n")


def colour() -> bool:
    """Whether stdout wants colours."""
    return grid.colour_of(sys.stdout)


def show_table(columns: Sequence[grid.Column], rows: Sequence[grid.Row], *, empty: str) -> None:
    """Write a table, or the one line `empty`."""
    if not rows:
        write(empty)
        return
    write(grid.table(columns, rows, width=grid.width_of(sys.stdout), colour=colour(), whole=True))


def names(bots: Sequence[str], most: int = 8) -> str:
    """Names in a line, the first of many."""
    shown = ", ".join(bots[:most])
    return shown if len(bots) <= most else f"{shown} and {len(bots) - most} more"


def is_person() -> bool:
    """Whether somebody sits there who can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()
