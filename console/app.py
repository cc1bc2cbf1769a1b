"""All verbs of the command line. What a verb does stands in `console.commands`, by theme."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from console import settings
from console.commands import (
    backtest,
    backups,
    bots,
    config,
    gateway,
    halts,
    keys,
    looking,
    machine,
    running,
    service,
    trading,
)
from protocol.errors import InvalidInput, Refused

app = typer.Typer(
    name="stablehand",
    help="Runs a stable of trading bots: each its own process, supervised, paced, and never two copies of one.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for theme in (running, service, bots, looking, machine, halts, trading, backtest, config, gateway, keys, backups):
    theme.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"stablehand {version('stablehand')}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    config_file: Annotated[
        str | None,
        typer.Option(
            "-c", "--config", metavar="FILE",
            help="Configuration file; else STABLEHAND_CONFIG, else ./supervisor.toml. May stand after the verb.",
        ),
    ] = None,
    connect: Annotated[
        str | None,
        typer.Option(
            "--connect", metavar="FILE",
            help="Speak to a supervisor on another machine, by the file that `keys new` wrote there. May stand "
            "after the verb; else STABLEHAND_CONNECT.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:  # fmt: skip
    if config_file is not None:
        settings.choose(config_file)
    if connect is not None:
        settings.choose_remote(connect)
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code. Raises StablehandError; a wrong option is InvalidInput."""
    try:
        result: Any = app(list(arguments), prog_name="stablehand", standalone_mode=False)
    except typer.Abort:
        raise Refused("nothing was done: not confirmed") from None
    except typer.Exit as leave:
        return leave.exit_code
    except Exception as error:
        # The class of a wrong option moved between typer's versions; what it can do has not.
        wording = getattr(error, "format_message", None)
        if wording is None:
            raise
        raise _usage(wording(), getattr(error, "ctx", None)) from None
    return result if isinstance(result, int) else 0


def _usage(message: str, context: Any) -> InvalidInput:
    text = " ".join(str(message).split()).rstrip(".").replace(" Value error, ", " ")
    where = getattr(context, "command_path", None) or "stablehand"
    helped = "Did you mean" in text or "Possible options" in text
    return InvalidInput(text[:1].lower() + text[1:], hint=None if helped else f"{where} --help shows what it takes")
