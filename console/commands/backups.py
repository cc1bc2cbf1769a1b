"""backup, restore: the memory of an installation, copied and put back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from console import settings, up
from console.commands.shared import AsJson, Yes, is_person, warn, write, write_json
from protocol.errors import InvalidInput

PANEL: Final = "Configuration"
_SECONDS: Final = 600.0


def register(app: typer.Typer) -> None:
    """Add these verbs."""
    app.command("backup", rich_help_panel=PANEL)(_backup)
    app.command("restore", rich_help_panel=PANEL)(_restore)


def _backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that does not exist yet.")],
    as_json: AsJson = False,
) -> int:
    """Copy store, ledgers and paper accounts to a folder, while everything goes on."""
    # Over --connect the folder is one of the supervisor's machine.
    to = folder if settings.remote() is not None else folder.absolute()
    with settings.connect() as client:
        done = client.request("backup", {"to": str(to)}, timeout=_SECONDS)
    if as_json:
        write_json(done)
    else:
        write(f"{done['folder']}: {', '.join(done['files'])} ({done['bytes'] / 1e6:.1f} MB)")
    return 0


def _restore(
    folder: Annotated[Path | None, typer.Argument(metavar="[FOLDER]", help="A folder that `backup` wrote.")] = None,
    nothing: Annotated[
        bool, typer.Option("--nothing", help="No backup: begin with an empty memory where it was damaged.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Put a backup back, while no supervisor runs: show the difference, ask, do it. Epochs rise by a gap."""
    if (folder is None) != nothing:
        raise InvalidInput("name the backup's folder, or say --nothing")
    site = settings.site()
    words = ["--restore-nothing"] if folder is None else ["--restore", str(folder.absolute())]
    if not yes:
        shown = _run(site, words)
        if shown.returncode != 0 or as_json:
            return _tell(shown, as_json=as_json, applied=False)
        sys.stdout.write(shown.stdout)
        if not is_person():
            warn("not restored (say --yes to do it)")
            return 1
        typer.confirm("put this in place of what is here?", abort=True)
    done = _run(site, [*words, "--apply"])
    if not yes and done.returncode == 0:
        write(done.stdout.splitlines()[-1])
        return 0
    return _tell(done, as_json=as_json, applied=done.returncode == 0)


def _run(site: settings.Site, words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        up.command(site, *words), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )  # fmt: skip


def _tell(done: subprocess.CompletedProcess[str], *, as_json: bool, applied: bool) -> int:
    sys.stderr.write(done.stderr)
    if as_json and done.returncode == 0:
        write_json({"applied": applied, "lines": done.stdout.splitlines()})
    elif not as_json:
        sys.stdout.write(done.stdout)
    return done.returncode
