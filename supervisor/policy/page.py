"""The page `docs/lifecycle.md`, made from the table."""

from __future__ import annotations

from typing import Final

from supervisor.policy.events import EVENTS, Event
from supervisor.policy.states import State
from supervisor.policy.table import TABLE, Cell

_INTRO: Final = """\
# Lifecycle

This page is generated from the table in `supervisor/policy/table.py` (`make docs` writes it again).

A bot has a *wanted* state, which only operators change, and a *state*, which is what is. Whatever happens
outside arrives as an event; `decide(bot, event, now, rng)` looks up the cell of the bot's state and the
event's type, and gives the bot as it is afterwards, with the instructions that the runtime performs. The
result of each instruction comes back as the next event.

Before the table is asked, events of another run (another epoch) and deadlines that were moved meanwhile are
put aside. In the table, *ignored* means that the event is legal and nothing is to be done; *impossible* means
that nobody can send it, and it raises `InvalidTransition` with the bot's recent story.

No two runs of a bot ever live: a launch is asked for only after the end of the run before was told, or its
launch failed.
"""

#: One word for what leads from one state to another is not enough where many do; the picture names these.
_SHORT: Final = 3


def _first_line(event: type[Event]) -> str:
    return (event.__doc__ or "").strip().partition("\n")[0]


def _diagram() -> list[str]:
    edges: dict[tuple[State, State], list[str]] = {}
    for (state, event), cell in TABLE.items():
        for target in cell.targets:
            if target is not state:
                edges.setdefault((state, target), []).append(event.__name__)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> stopped"]
    for (state, target), names in edges.items():
        label = ", ".join(names) if len(names) <= _SHORT else f"{', '.join(names[:_SHORT])}, ..."
        lines.append(f"    {state} --> {target}: {label}")
    return [*lines, "```"]


def _words(cell: Cell, state: State) -> str:
    if cell.kind != "handler":
        return f"*{cell.kind}*: {cell.text}"
    targets = [str(target) for target in cell.targets if target is not state]
    return f"{cell.text}{' → ' + ', '.join(f'`{t}`' for t in targets) if targets else ''}"


def _section(state: State) -> list[str]:
    lines = [f"## In `{state}`", "", "| Event | What is done, and where it may lead |", "| --- | --- |"]
    return [*lines, *(f"| `{event.__name__}` | {_words(TABLE[state, event], state)} |" for event in EVENTS), ""]


def _overview() -> list[str]:
    marks = {"handler": "●", "ignored": "·", "impossible": "✕"}
    lines = [
        "| Event | " + " | ".join(State) + " |",
        "| --- |" + " :-: |" * len(State),
    ]
    for event in EVENTS:
        lines.append(f"| `{event.__name__}` | " + " | ".join(marks[TABLE[state, event].kind] for state in State) + " |")
    return [*lines, "", "● handled, · ignored, ✕ impossible"]


def render() -> str:
    """The page as Markdown."""
    events = ["| Event | Meaning |", "| --- | --- |"]
    events += [f"| `{event.__name__}` | {_first_line(event)} |" for event in EVENTS]
    lines = [_INTRO, *_diagram(), "", "## Events", "", *events, "", "## Overview", "", *_overview(), ""]
    for state in State:
        lines += _section(state)
    return "\n".join(lines).rstrip() + "\n"
