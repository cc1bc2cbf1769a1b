"""host: what the machine has left, and what the stable does about it."""

from __future__ import annotations

from typing import Any, Final

import typer

from console import settings
from console.commands.shared import AsJson, colour, write, write_json
from console.figures import DASH, percent, size, span
from console.grid import Cell, facts

PANEL: Final = "Looking"
_LEVELS: Final = (
    "nothing is held back",
    "less important bots are paced",
    "less important bots are paced, and yield to others",
    "flat bots pause, the least important first",
    "flat bots are stopped, the least important first",
)


def register(app: typer.Typer) -> None:
    """Add this verb."""
    app.command("host", rich_help_panel=PANEL)(_host)


def _host(as_json: AsJson = False) -> int:
    """The machine: CPU, memory, disk, network, and what is held back for its sake."""
    with settings.connect() as client:
        found = client.host()
    if as_json:
        write_json(found)
        return 0
    write(facts(lines(found), colour=colour()))
    return 0


def lines(found: dict[str, Any]) -> list[tuple[str, Cell]]:
    """What is shown; nothing known is a dash."""
    pressure, throttle = found.get("pressure"), found.get("throttle") or {}
    level = int(throttle.get("level") or 0)
    pairs = [
        ("cpu", Cell(f"{percent(found.get('cpu_percent'))} of {found.get('cpu_count') or DASH} cores")),
        (
            "memory",
            Cell(f"{percent(found.get('memory_percent'))} used, {size(found.get('memory_available'))} available"),
        ),
        ("swap", Cell(percent(found.get("swap_percent")))),
        ("load", Cell(DASH if found.get("load1") is None else f"{found['load1']:.2f}")),
        ("pressure", Cell("  ".join(f"{key} {percent(each)}" for key, each in pressure.items()) if pressure else DASH)),
        ("network", Cell(f"out {_rate(found, 'sent')}, in {_rate(found, 'received')}")),
        ("disk", Cell(f"{size(found.get('disk_free'))} free ({percent(found.get('disk_percent'))} used)")),
        ("bots", Cell(", ".join(f"{count} {state}" for state, count in (found.get("bots") or {}).items()) or "none")),
        ("throttle", Cell(_throttle(throttle), "" if level == 0 else "yellow")),
    ]
    pairs.append(("cgroups", Cell(_cgroups(found.get("cgroups") or {}))))
    if throttle.get("places") is not None:
        waiting = throttle.get("waiting_for_a_place")
        pairs.append(("places", Cell(f"{throttle['places']} at the most, {waiting} bots wait")))
    if throttle.get("waiting_to_start"):
        held = throttle.get("starts_held_by") or ""
        pairs.append(("starts", Cell(f"{throttle['waiting_to_start']} wait: {held}")))
    probe = found.get("probe") or {}
    if probe:
        cost = f"{percent(probe.get('cpu_percent'))} of a core for {probe.get('processes')} processes"
        pairs.append(("probe", Cell(f"{cost}, {span(found.get('sample_age_s'))} ago")))
    for name, one in (found.get("own") or {}).items():
        pairs.append((name, Cell(f"cpu {percent(one.get('cpu_percent'))}, {size(one.get('uss_bytes'))}")))
    return pairs


def _cgroups(groups: dict[str, Any]) -> str:
    """Whether the kernel holds the bots to their shares, and if not, why."""
    if not groups.get("path"):
        return f"not available: {groups.get('why_not') or DASH}"
    return f"{' and '.join(groups['controllers'])} of each bot, below {groups['path']}"


def _throttle(throttle: dict[str, Any]) -> str:
    if not throttle.get("enabled"):
        return "off"
    level = int(throttle.get("level") or 0)
    held = throttle.get("paused", 0) + throttle.get("stopped", 0)
    counts = f" ({throttle['paused']} paused, {throttle['stopped']} stopped)" if held else ""
    figures = f"; {throttle['figures']}" if throttle.get("figures") else ""
    return f"level {level}: {_LEVELS[level]}{counts}{figures}"


def _rate(found: dict[str, Any], way: str) -> str:
    value = found.get(f"network_{way}_per_s")
    return DASH if value is None else f"{size(value)}/s"
