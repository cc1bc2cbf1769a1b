"""reload, config check."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated, Any, Final

import typer

from console import settings, up
from console.commands.shared import AsJson, Yes, colour, is_person, warn, write, write_json
from console.figures import plain
from console.grid import paint

PANEL: Final = "Configuration"
_TABLES: Final = (("defaults", "bot_defaults"), ("groups", "groups"))  # part of the difference, table of the file
_PARTS: Final = ("added", "removed", "changed", "supervisor", *(part for part, _ in _TABLES))


def register(app: typer.Typer) -> None:
    """Add these verbs."""
    app.command("reload", rich_help_panel=PANEL)(_reload)
    config = typer.Typer(help="The configuration file.", no_args_is_help=True)
    config.command("check")(_check)
    config.callback()(_config)
    app.add_typer(config, name="config", rich_help_panel=PANEL)


def _config() -> None:
    """The configuration file."""


def _reload(
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the difference.")] = False,
    as_json: AsJson = False,
) -> int:
    """Read the file again: show the difference, ask, apply it. No known bot is started or stopped by it."""
    apply = yes and not dry_run
    with settings.connect(timeout=30.0, strict=True) as client:
        difference = client.request("reload", {"apply": apply and as_json})
        if as_json:
            write_json(difference)
            return 0
        lines = difference_lines(difference, colour=colour())
        nothing = not any(difference.get(part) for part in _PARTS)
        write(["the file and the stable agree", *lines] if nothing else lines)
        if nothing or dry_run:
            return 0
        if not apply:
            if not is_person():
                warn("not applied (say --yes to apply it)")
                return 1
            typer.confirm("apply this?", abort=True)
        client.request("reload", {"apply": True})
        write("applied")
    return 0


def difference_lines(difference: dict[str, Any], *, colour: bool) -> list[str]:
    """What a reload would change, line by line; and what `update` set, which stays."""
    lines = [paint(f"+ {name}", "green", colour) + "  new bot" for name in difference["added"]]
    lines += [paint(f"- {name}", "red", colour) + "  no longer in the file" for name in difference["removed"]]
    overrides = difference.get("overrides") or {}
    for name, changed in difference["changed"].items():
        lines.append(paint(f"~ {name}", "yellow", colour))
        for key, (old, new) in changed.items():
            over = overrides.get(name, {})
            held = f"  (held at {plain(over[key])} by update)" if key in over else ""
            was, becomes = paint(plain(old), "red", colour), paint(plain(new), "green", colour)
            lines.append(f"    {key}  {was} → {becomes}{paint(held, 'dim', colour)}")
    for table, changed in ((table, difference.get(part) or {}) for part, table in _TABLES):
        lines += [paint(f"~ [{table}]", "yellow", colour)] if changed else []
        lines += [
            f"    {key}  {paint(plain(old), 'red', colour)} → {paint(plain(new), 'green', colour)}"
            for key, (old, new) in changed.items()
        ]
    for key, (old, new) in (difference.get("supervisor") or {}).items():
        lines.append(f"{paint('!', 'yellow', colour)} {key}  {plain(old)} → {plain(new)}  after the next start")
    for name, over in overrides.items():
        text = ", ".join(f"{key} = {plain(value)}" for key, value in over.items())
        lines.append(paint(f"  {name}: set by update, and stays: {text}", "dim", colour))
    return lines


def _check(
    gaps: Annotated[bool, typer.Option("--gaps", help="List the gaps in the files of replays.")] = False,
    as_json: AsJson = False,
) -> int:
    """Check the file: keys, values, strategies, symbols, market files. Nothing is started or changed."""
    site = settings.site()
    command = up.command(site, "--check", *(["--gaps"] if gaps else []))
    checked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if not as_json:
        sys.stdout.write(checked.stdout)
        sys.stderr.write(checked.stderr)
        return checked.returncode
    problems = [line.removeprefix("stablehand: ") for line in checked.stderr.splitlines() if line.strip()]
    write_json({"file": str(site.config), "ok": checked.returncode == 0, "problems": problems})
    return checked.returncode
