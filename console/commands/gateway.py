"""gateway: an account's gateway by itself, beside a terminal on this host, for a stable on another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

PANEL: Final = "Configuration"


def register(app: typer.Typer) -> None:
    """Add this verb."""
    app.command("gateway", rich_help_panel=PANEL)(_gateway)


def _gateway(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Its file.")] = Path("gateway.toml"),
    show_key: Annotated[bool, typer.Option("--show-key", help="Only print the gateway's public key.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only check the file.")] = False,
) -> int:
    """Run the gateway of one account beside its terminal, for a stable on another host."""
    flags = [*(["--show-key"] if show_key else []), *(["--check"] if check else [])]
    command = [sys.executable, "-P", "-m", "broker.gateway", str(file), *flags]
    sys.stdout.flush()
    if sys.platform != "win32":
        os.execv(sys.executable, command)  # signals and the exit code are the gateway's own
    with subprocess.Popen(command) as child:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                continue  # the gateway has heard it too, and ends
