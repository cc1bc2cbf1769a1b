"""Runs that outlived the last supervisor: matched from the store, the launchers' lists and their Hellos.

What is alive is awaited (its Hello, then it is adopted in place); what has ended with a known status is
told as such; what is gone is told so. Nothing is launched for a bot before its old run is accounted for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protocol.process import ProcessIdentity, age_of, is_alive, kernel_boot_id
from store.runs import RunRow
from supervisor.policy import events
from supervisor.runtime import clock
from supervisor.runtime.launchers import Launchers
from supervisor.runtime.oldruns import OldRuns
from supervisor.runtime.registry import Record, Registry, Run


def adopt(
    open_runs: list[RunRow],
    listed: list[dict[str, Any]],
    registry: Registry,
    launchers: Launchers,
    old_runs: OldRuns,
    post: Callable[[events.Event], None],
    patience: float,
) -> int:
    """Account for every open run; each has `patience` seconds to say Hello. The number that is alive and awaited."""
    by_token = {str(one["token"]): one for one in listed}
    newest: dict[int, RunRow] = {}
    for row in open_runs:
        if row.bot_id not in newest or row.epoch > newest[row.bot_id].epoch:
            newest[row.bot_id] = row
    alive = 0
    known = set()
    for row in newest.values():
        record = registry.by_id.get(row.bot_id)
        if record is None:
            continue
        known.add(row.token)
        alive += _one(row, by_token.get(row.token), record, registry, launchers, old_runs, post, patience)
    for token, one in by_token.items():
        if token not in known:
            # Nobody remembers it (its bot was removed, its end was committed, its intent never was).
            launchers.signal(str(one["launcher"]), token, 9, group=True)
            launchers.ack(str(one["launcher"]), token)
    return alive


def _one(
    row: RunRow,
    listed: dict[str, Any] | None,
    record: Record,
    registry: Registry,
    launchers: Launchers,
    old_runs: OldRuns,
    post: Callable[[events.Event], None],
    patience: float,
) -> bool:
    run = _restore(row, listed)
    registry.take_over(record, run)
    post(events.AdoptStarted(record.bot_id, epoch=run.epoch, patience=patience))
    if listed is not None and launchers.alive(run.launcher):
        return not listed.get("exited")  # a launcher tells the exits that it knows by itself
    if run.identity is None:
        # The intent is known, the process is not: it may live, launched in the supervisor's last moment.
        # The lock tells: confirm_dead sees its holder dead before anything else starts.
        post(events.Gone(record.bot_id, epoch=run.epoch, detail="its launch was never confirmed"))
        return False
    if not is_alive(run.identity):
        post(events.Gone(record.bot_id, epoch=run.epoch, detail="it ended while no supervisor ran"))
        return False
    old_runs.watch(record, run)
    return True


def _restore(row: RunRow, listed: dict[str, Any] | None) -> Run:
    run = Run(
        epoch=row.epoch,
        token=row.token,
        started_at=row.intended_at,
        started=clock.now(),
        public_key=row.public_key or "",
    )
    if listed is not None:
        run.pid = int(listed["pid"])
        run.launcher = str(listed["launcher"])
        run.code_hash = str(listed.get("code_hash", ""))
        run.identity = ProcessIdentity(kernel_boot_id(), run.pid, int(listed["start_ticks"]))
    elif row.pid is not None and row.boot_id is not None and row.start_ticks is not None:
        run.pid = row.pid
        run.code_hash = row.code_hash or ""
        run.identity = ProcessIdentity(row.boot_id, row.pid, row.start_ticks)
    age = age_of(run.identity) if run.identity is not None else None
    # By the wall clock too, a step of which must not make a start lie in the future: a spare is older than its run.
    since = clock.wall() - row.intended_at
    run.started -= max(0.0, since) if age is None else min(age, since if since >= 0 else age)
    return run
