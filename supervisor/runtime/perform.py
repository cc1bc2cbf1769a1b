"""Does what the policy decided; the result of each instruction comes back as an event.

Nothing here waits: what takes time is a write on the store's thread, a message, or a request to the
launcher, and its answer is posted to the daemon's queue.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from sqlalchemy import Connection

from protocol import keys
from protocol.messages import Command
from protocol.process import ProcessIdentity, kernel_boot_id
from protocol.spec import RunSpec
from protocol.voice import remove_voice
from store import bots as bot_table
from store import runs as run_table
from store.errors import StoreConflict
from store.runs import Intent
from store.writer import Writer
from supervisor.policy import events, instructions
from supervisor.policy.instructions import Instruction
from supervisor.policy.states import Cause
from supervisor.runtime import clock
from supervisor.runtime.accounts import Accounts
from supervisor.runtime.bus import Bus
from supervisor.runtime.cgroups import Cgroups
from supervisor.runtime.chronicle import Chronicle
from supervisor.runtime.launchers import Launchers
from supervisor.runtime.leavings import kill_leavings
from supervisor.runtime.memory import Memory
from supervisor.runtime.oldruns import OldRuns, signal_identity
from supervisor.runtime.ordering import Ordering
from supervisor.runtime.registry import Record, Registry, Run
from supervisor.runtime.specs import SpecMaker
from supervisor.runtime.zap import BUS, KeyDoor, run_user

_EPOCH_BLOCK: Final = 16
_FIRST_WORK: Final = 0.01  # seconds that a bot's first cycle waits for each other bot that is starting too
_FIRST_WORK_MOST: Final = 20.0
_CONTINUE: Final = int(getattr(signal, "SIGCONT", 0))
_SIGNALS: Final = {
    "TERM": signal.SIGTERM,
    "ABRT": signal.SIGABRT,
    "CONT": _CONTINUE,
    "KILL": 9,  # Windows has no SIGKILL; there the number stands for TerminateProcess
}

Post = Callable[[events.Event], None]


@dataclass(slots=True)
class Performer:
    """Carries out instructions of the policy, one method each."""

    registry: Registry
    writer: Writer
    memory: Memory
    chronicle: Chronicle
    accounts: Accounts
    bus: Bus
    launchers: Launchers
    old_runs: OldRuns
    ordering: Ordering
    specs: SpecMaker
    door: KeyDoor | None  # on tcp
    post: Post
    cgroups: Cgroups
    admit: Callable[[instructions.RecordIntent], None] | None = None  # the queue before a start
    queued: Callable[[], int] = lambda: 0  # how many wait in it
    intents: list[tuple[Intent, int, Callable[[Exception | None], None]]] = field(default_factory=list)

    def perform(self, instruction: Instruction) -> None:
        """Carry out one instruction."""
        record = self.registry.by_id.get(instruction.bot_id)
        if record is None:
            return
        match instruction:
            case instructions.RecordIntent():
                if self._must_wait(record, instruction):
                    return  # before it takes a place in the queue
                if record.kind == "bot" and self.admit is not None:
                    self.admit(instruction)
                else:  # a gateway waits for nobody: the bots wait for it
                    self.record_intent(record, instruction)
            case instructions.Launch():
                self._launch(record, instruction)
            case instructions.SendFence():
                if record.kind == "bot":
                    self.accounts.fence(record, instruction.epoch, instruction.alive, instruction.cause_id)
            case instructions.SendStop():
                self._command(record, "stop", instruction.cause_id, instruction.mode)
            case instructions.SendAbort():
                self._abort(record, instruction)
            case instructions.SendPause():
                self._command(record, "pause", instruction.cause_id)
            case instructions.SendResume():
                self._command(record, "resume", instruction.cause_id)
            case instructions.SendSignal():
                self._signal(record, instruction)
            case instructions.ConfirmDead():
                self.old_runs.confirm_dead(record, instruction.pid)
            case instructions.RecordEnd():
                self._record_end(record, instruction)
            case instructions.Note():
                self.chronicle.add(
                    instruction.type,
                    instruction.text,
                    bot=record.name,
                    bot_id=record.bot_id,
                    cause_id=instruction.cause_id,
                    data=dict(instruction.data),
                )

    def record_intent(self, record: Record, instruction: instructions.RecordIntent) -> None:
        """Commit the intent to start; of a bot that has been let in."""
        epoch, cause = instruction.epoch, instruction.cause_id
        if self._must_wait(record, instruction):  # again: time has passed in the queue
            return
        restart = record.run is not None
        run = self.registry.new_run(record, epoch, clock.wall(), clock.now())
        if self.door is not None:
            run.keys = keys.new_pair()
            run.public_key = run.keys.public
            self.door.admit(run.public_key, run_user(record.bot_id), BUS)
        ceiling = record.epoch_ceiling
        intent = Intent(
            bot_id=record.bot_id,
            epoch=epoch,
            token=run.token,
            at=run.started_at,
            public_key=run.public_key or None,
        )
        # A block at a time: a crashed bot can start again while the disk refuses.
        new_ceiling = epoch + _EPOCH_BLOCK - 1 if epoch > ceiling else ceiling

        def recorded(error: Exception | None) -> None:
            if error is None:
                record.epoch_ceiling = max(record.epoch_ceiling, new_ceiling)
                self.post(events.Recorded(record.bot_id, cause_id=cause, epoch=epoch))
            elif restart and epoch <= record.epoch_ceiling:
                # The epoch is reserved, so the successor of a run that was remembered may start while the
                # disk refuses; the intent is written as soon as it accepts again.
                self.memory.later("starts", partial(_remember, [(intent, new_ceiling)]))
                self.post(events.Recorded(record.bot_id, cause_id=cause, epoch=epoch))
            else:
                self.post(events.RecordFailed(record.bot_id, cause_id=cause, epoch=epoch, reason=str(error)))

        if not self.intents:
            asyncio.get_running_loop().call_soon(self._write_intents)
        self.intents.append((intent, new_ceiling if new_ceiling > ceiling else 0, recorded))

    def reserve(self, adopted: Sequence[Record]) -> None:
        """Epochs for the successors of adopted runs: the supervisor before may have used any of those it reserved."""
        ceilings = {one.bot_id: one.epoch_ceiling + _EPOCH_BLOCK for one in adopted}

        def reserved(error: Exception | None) -> None:
            for record in adopted if error is None else ():
                record.epoch_ceiling = max(record.epoch_ceiling, ceilings[record.bot_id])

        if ceilings:
            self._write(lambda conn: bot_table.reserve_epochs(conn, ceilings), reserved)

    def _must_wait(self, record: Record, instruction: instructions.RecordIntent) -> bool:
        """Whether others must be running first; then it is told so, and asked again when they are."""
        return record.kind != "gateway" and self.ordering.hold(record, instruction.epoch, instruction.cause_id)

    def _write_intents(self) -> None:
        """All that one turn of the loop decided to start, as one operation: a hundred starts are two statements."""
        batch, self.intents = self.intents, []

        def done(error: Exception | None) -> None:
            if isinstance(error, StoreConflict) and len(batch) > 1:  # one of them: the others must not pay for it
                for intent, ceiling, recorded in batch:
                    self._write(partial(_remember, [(intent, ceiling)]), recorded)
                return
            for _, _, recorded in batch:
                recorded(error)

        self._write(partial(_remember, [(intent, ceiling) for intent, ceiling, _ in batch]), done)

    def _launch(self, record: Record, instruction: instructions.Launch) -> None:
        run = record.run
        assert run is not None
        if record.kind == "bot":
            # Where many start at once, their first cycles would hold up the starts of the others.
            others = len(self.registry.coming_up) - 1 + self.queued()
            spec = self.specs.bot(record, run, min(others * _FIRST_WORK, _FIRST_WORK_MOST))
        elif record.kind == "program":
            spec = self.specs.program(record, run)
        else:
            spec = self.specs.gateway(record, run)
        asyncio.get_running_loop().create_task(
            self._launched(record, run, spec, instruction.cause_id), name=f"launch {record.name}"
        )

    async def _launched(self, record: Record, run: Run, spec: RunSpec, cause: str) -> None:
        try:
            launcher, reply = await self.launchers.launch(spec)
            text = "" if reply.get("ok") else str(reply.get("error", "refused"))
        except Exception as error:  # the answer is an event, whatever went wrong
            text = str(error) or type(error).__name__
        if text:
            self.post(
                events.LaunchFailed(record.bot_id, cause_id=cause, epoch=run.epoch, cause=Cause.LAUNCH, reason=text)
            )
            run.unlaunched = True
            self.old_runs.take_at_its_word(record, run)
            return
        run.pid = int(reply["pid"])
        run.identity = ProcessIdentity(kernel_boot_id(), run.pid, int(reply["start_ticks"]))
        run.launcher = launcher
        run.code_hash = str(reply.get("code_hash", ""))
        identity, code_hash = run.identity, run.code_hash

        def write(conn: Connection) -> None:
            run_table.record_identity(
                conn,
                run.token,
                pid=identity.pid,
                boot_id=identity.boot_id,
                start_ticks=identity.start_ticks,
                launcher=launcher,
                code_hash=code_hash,
            )

        self.memory.later("processes", write)
        self.post(events.Launched(record.bot_id, cause_id=cause, epoch=run.epoch, pid=run.pid))
        if not self.launchers.alive(launcher):  # it ended with this answer, and nobody watches what it left
            self.old_runs.watch(record, run)

    def _command(self, record: Record, verb: str, cause: str, mode: str = "") -> None:
        run = record.run
        if run is None:
            return
        message = Command(
            id=f"{verb}:{run.token}",
            verb=verb,  # type: ignore[arg-type]
            args={"mode": mode} if mode else {},
            cause_id=cause,
        )
        if not self.bus.send(record, message) and verb == "stop" and run.pid:
            # It has no bus connection (yet): SIGTERM says the same.
            self._send_signal(record, run, "TERM", group=False)

    def _signal(self, record: Record, instruction: instructions.SendSignal) -> None:
        run = record.run
        if run is not None and run.epoch == instruction.epoch and run.pid:
            self._send_signal(record, run, instruction.signal, group=instruction.group)
            if instruction.signal == "ABRT":
                self._continue(record, run)

    def _abort(self, record: Record, instruction: instructions.SendAbort) -> None:
        run = record.run
        if run is not None and run.epoch == instruction.epoch and run.pid:
            self._command(record, "abort", instruction.cause_id)
            self._continue(record, run)

    def _continue(self, record: Record, run: Run) -> None:
        if _CONTINUE:  # one that was stopped shall write where it stands, too
            self._send_signal(record, run, "CONT", group=False)

    def _send_signal(self, record: Record, run: Run, name: str, *, group: bool) -> None:
        told = self.launchers.signal(run.launcher, run.token, _SIGNALS[name], group=group)
        # At the second SIGKILL its launcher may not do what it is told, at the third not tell of the end either.
        if not told or (name == "KILL" and run.kills > 1):
            self.old_runs.signal(record, run, _SIGNALS[name], group=group)
        elif name == "KILL" and run.kills and run.identity is not None:
            signal_identity(run.identity, _SIGNALS[name], group=group)
        run.kills += name == "KILL"

    def _record_end(self, record: Record, instruction: instructions.RecordEnd) -> None:
        run = record.run
        if run is None or run.epoch != instruction.epoch:
            return
        self.registry.end_run(record)
        self.chronicle.forget((record.bot_id, run.epoch))
        record.sample = None
        self.cgroups.ended(record, run.epoch)
        if self.door is not None:
            self.door.forget(run.public_key)
        if record.kind == "program":  # its minder does that, unless it was killed
            loop = asyncio.get_running_loop()
            loop.run_in_executor(None, remove_voice, self.specs.run_dir, record.bot_id, run.epoch)
            # A minder that was killed leaves what is below it to its launcher, where that inherits.
            if not self.launchers.inherits(run.launcher) and instruction.status & 0x7F:
                loop.run_in_executor(None, kill_leavings, self.specs.data_dir, record.name, run.epoch)
        at = clock.wall()

        def write(conn: Connection) -> None:
            run_table.record_end(
                conn,
                run.token,
                at=at,
                status=instruction.status,
                cause=instruction.cause,
                reason=instruction.reason,
            )

        # Only a committed end may be reaped: until then the exit status lives in the launcher.
        self.memory.later("ends of runs", write, lambda: self.launchers.ack(run.launcher, run.token))

    def _write(self, write: Callable[..., None], done: Callable[[Exception | None], None]) -> None:
        loop = asyncio.get_running_loop()

        def committed(result: object) -> None:
            loop.call_soon_threadsafe(done, result if isinstance(result, Exception) else None)

        self.writer.submit(write, committed)


def _remember(starts: list[tuple[Intent, int]], conn: Connection) -> None:
    """Write intents, and with each the epochs that it reserves (0: none)."""
    bot_table.reserve_epochs(conn, {intent.bot_id: ceiling for intent, ceiling in starts if ceiling})
    run_table.record_intents(conn, [intent for intent, _ in starts])
