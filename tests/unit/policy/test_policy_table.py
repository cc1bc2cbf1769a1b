"""The whole product of states and events, the purity of the room, and the page made of it."""

from __future__ import annotations

import ast
from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

from supervisor import policy
from supervisor.policy import events
from supervisor.policy import instructions as do
from supervisor.policy.events import EVENTS
from supervisor.policy.lifecycle import InvalidTransition, decide
from supervisor.policy.page import render
from supervisor.policy.states import Bot, Cause, Hold, Limits, Purpose, Run, State, Wanted
from supervisor.policy.steps import TARGETS
from supervisor.policy.table import TABLE

ROOM = Path(policy.__file__).parent


def test_every_cell_is_decided_in_words() -> None:
    assert set(TABLE) == set(product(State, EVENTS))
    for cell in TABLE.values():
        assert len(cell.text) > 8
        assert (cell.run is not None) == (cell.kind == "handler")
    kinds = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)}
    assert kinds - {events.Event, events.RunEvent} == set(EVENTS)


def test_every_handler_is_used() -> None:
    assert set(TARGETS) == {cell.run for cell in TABLE.values() if cell.run}


def test_every_state_can_be_entered_and_left() -> None:
    ways = {(state, target) for (state, _), cell in TABLE.items() for target in cell.targets if target is not state}
    assert {target for _, target in ways} == set(State)
    assert {state for state, _ in ways} == set(State)


RUNS: dict[State, tuple[Run, ...]] = {
    State.STOPPED: ("none", "ended"),
    State.STARTING: ("recording", "launching", "alive"),
    State.RUNNING: ("alive",),
    State.PAUSED: ("alive",),
    State.STOPPING: ("recording", "launching", "alive"),
    State.BACKOFF: ("none", "ended"),
    State.FAILED: ("none", "ended"),
    State.ADOPTING: ("alive",),
}
EPOCH = 5
SAMPLES: dict[str, tuple[Any, ...]] = {
    "RecordFailed": (EPOCH, "disk full"),
    "Launched": (EPOCH, 4711),
    "LaunchFailed": (EPOCH, Cause.LAUNCH, "ENOMEM"),
    "FenceLow": (EPOCH, 9),
    "WaitingFor": (EPOCH, "dependency"),
    "Exited": (EPOCH, 9, -1, 9),
    "LockHeld": (EPOCH, 41),
    "Hung": (EPOCH, "no heartbeat for 6 s"),
    "HostPause": ("cpu 97 %",),
    "HostStop": ("cpu 97 %",),
    "LimitHit": (EPOCH, "memory 600 MB, 500 allowed"),
    "Blocked": (EPOCH, "waiting for db"),
    "GroupRestart": ("db failed",),
    "ExecFailed": (EPOCH, 71 << 8, "no such file"),
}


def test_no_cell_starts_a_run_beside_one_that_may_live() -> None:
    """The rule of rules, over the whole product: a new intent only after the end of the run before was told."""
    ends = (events.Exited, events.Gone, events.ExecFailed, events.LockHeld, events.LaunchFailed)
    asked = 0
    holds: tuple[Hold, ...] = ("", "pause", "stop")
    for (state, kind), wanted, restart, held in product(TABLE, Wanted, ("permanent", "temporary"), holds):
        purposes: tuple[Purpose, ...] = (
            ("stop", "restart", "hang", "hold", "quarantine") if state is State.STOPPING else ("",)
        )
        for run, purpose in product(RUNS[state], purposes):
            limits = Limits(restart=restart)  # type: ignore[arg-type]
            bot = Bot(1, "alpha", state=state, wanted=wanted, run=run, purpose=purpose, epoch=EPOCH, limits=limits)
            bot = replace(bot, deadline=1.0, hello=run == "alive", held=held, queued=state is State.STOPPED)
            given = SAMPLES.get(kind.__name__, (EPOCH,) if issubclass(kind, events.RunEvent) else ())
            try:
                after, instructions = decide(bot, kind(1, *given), 2.0, Random(1))
            except InvalidTransition:
                continue
            may_live = run in ("launching", "alive") and kind not in ends
            if any(isinstance(i, do.RecordIntent | do.Launch) for i in instructions):
                asked += 1
                assert not may_live, (state, kind, run)
                assert after.held != "stop", "started although the host holds it"
            if may_live:
                assert after.run in ("launching", "alive"), (state, kind, run)
                assert after.state not in (State.STOPPED, State.FAILED, State.BACKOFF), (state, kind, run)
    assert asked > 50


def test_the_room_is_pure() -> None:
    allowed = {
        "__future__",
        "collections",
        "dataclasses",
        "enum",
        "heapq",
        "itertools",
        "random",
        "typing",
        "supervisor",
    }
    for path in ROOM.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name.partition(".")[0] in allowed, f"{path.name} imports {name}"
                assert not name.startswith("supervisor") or name.startswith("supervisor.policy"), path.name


def test_the_committed_page_is_the_generated_one() -> None:
    committed = (ROOM.parent.parent / "docs" / "lifecycle.md").read_text("utf-8")
    assert committed == render(), "write it again with: make docs"
