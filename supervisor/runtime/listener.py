"""What the bus and the launchers say, turned into events of the policy and entries of the chronicle."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any, Final

from protocol import messages
from protocol.locks import holder_of, is_held
from protocol.messages import Hello, HistoryAck, Message
from protocol.process import ProcessIdentity
from protocol.seldom import Seldom
from protocol.spec import EXIT_CONFIG, EXIT_LOCK_HELD, EXIT_NOT_EXECUTED, EXIT_STRATEGY, EXIT_UNAVAILABLE, NOT_EXECUTED
from supervisor.policy import events
from supervisor.policy.states import State
from supervisor.runtime.bus import describe_bad_frame
from supervisor.runtime.perform import Performer
from supervisor.runtime.registry import Record, Run
from supervisor.runtime.stable import Stable

log = logging.getLogger("stablehand")

#: The reason travels over the bus and the exit over the launcher: what ends with a reason is given time to say it.
_LAST_WORDS: Final = 0.05


class Listener:
    """The ears of the daemon."""

    def __init__(self, stable: Stable, lock_path: Callable[[Record], Any]) -> None:
        self._stable = stable
        self._lock_path = lock_path
        self._may_warn = Seldom()
        self.performer: Performer | None = None

    # --- bus ------------------------------------------------------------------------------------------

    def hello(self, record: Record, message: Hello) -> None:
        """A run said who it is."""
        stable = self._stable
        run = record.run
        if run is not None:
            run.code_hash = run.code_hash or message.code_hash
            stable.chronicle.has_from((record.bot_id, message.epoch), message.history_from)
            run.said = ProcessIdentity(message.boot_id, message.pid, message.start_ticks)
            if self.performer is not None:
                self.performer.old_runs.take_at_its_word(record, run)
        stable.post(events.HelloSeen(record.bot_id, epoch=message.epoch, ready=message.ready, paused=message.paused))
        if record.kind == "gateway":
            stable.accounts.gateway_said_hello(record.account)

    def heard(self, record: Record, message: Message) -> None:
        """A message of a known run."""
        stable = self._stable
        run = record.run
        if run is None:
            return
        bot_id, epoch = record.bot_id, run.epoch
        match message:
            case messages.Ready():
                if record.kind == "gateway":
                    self._bound(record, message)
                stable.registry.coming_up.discard(bot_id)
                stable.post(events.ReadySeen(bot_id, epoch=epoch))
            case messages.Waiting():
                stable.post(events.WaitingFor(bot_id, epoch=epoch, reason=message.reason, detail=message.detail))
            case messages.CommandDone():
                self._command_done(record, message, epoch)
            case messages.History():
                self._history(record, message, epoch)
            case messages.Bye():
                run.last_words = message.reason
            case messages.Fenced():
                stable.accounts.answered(message)
            case messages.QueryResult():
                stable.accounts.result(message)
            case messages.Halts():
                stable.halts.reported(record.account, message.halts)
            case messages.Figures():
                stable.accounts.took_figures(record.account, message)
            case _:
                self.bad_frame(ValueError(f"{type(message).__name__} is not for a supervisor"))

    def analysis_hello(self, message: Hello, reply: Callable[[Message], bool]) -> bool:
        """An analysis on demand has come up."""
        if message.token not in self._stable.analyses:
            return False
        reply(messages.Welcome(supervisor_boot=self._stable.boot, heartbeat_interval=10.0))
        return True

    def analysis_heard(self, token: str, message: Message) -> None:
        """Its result."""
        future = self._stable.analyses.get(token)
        if isinstance(message, messages.CommandDone) and future is not None and not future.done():
            future.set_result({"ok": message.ok, "result": message.result, "error": message.error})

    def bad_frame(self, error: Exception) -> None:
        """Count it; log at most one a second, however many come."""
        self._stable.bad_frames += 1
        if self._may_warn():
            log.warning("dropped a frame (%d so far): %s", self._stable.bad_frames, describe_bad_frame(error))

    def fenced(self, record: Record, message: messages.Fenced) -> None:
        """A gateway answered a fence."""
        stable = self._stable
        if message.ok and not message.remembered:
            closes = ": closes only until it is" if record.fenced is not None and record.fenced[1] else ""
            text = f"fence of epoch {message.epoch} in force, NOT remembered ({message.reason}){closes}"
            stable.chronicle.add("alert", text, bot=record.name, bot_id=record.bot_id)
        if message.ok:
            stable.post(events.FenceAcked(record.bot_id, epoch=message.epoch))
        elif message.highest_epoch > message.epoch:
            stable.post(events.FenceLow(record.bot_id, epoch=message.epoch, highest=message.highest_epoch))
        else:
            stable.chronicle.add("alert", f"fence of epoch {message.epoch} refused: {message.reason}; asked again",
                                 bot=record.name, bot_id=record.bot_id)  # fmt: skip
            asyncio.get_running_loop().call_later(1.0, self._fence_again, record, message.epoch)

    def _fence_again(self, record: Record, epoch: int) -> None:
        run = record.run
        if run is not None and run.epoch == epoch:
            self._stable.accounts.fence(record, epoch, not run.ended, "")

    def _command_done(self, record: Record, message: messages.CommandDone, epoch: int) -> None:
        stable = self._stable
        future = stable.commands_waiting.get(message.id)
        if future is not None:
            if not future.done():
                future.set_result({"ok": message.ok, "result": message.result, "error": message.error})
        elif message.id.startswith("pause:"):
            stable.post(events.PauseDone(record.bot_id, epoch=epoch))
        elif message.id.startswith("resume:"):
            stable.post(events.ResumeDone(record.bot_id, epoch=epoch))

    def _history(self, record: Record, message: messages.History, epoch: int) -> None:
        if not message.rows:
            return
        last, run = message.rows[-1].seq, record.run

        def committed() -> None:
            # Meanwhile another run may have come, whose own rows of these numbers are not committed yet.
            if record.run is run:
                self._stable.bus.send(record, HistoryAck(seq=last))

        for row in message.rows:
            self._stable.chronicle.add(
                "alert" if row.action == "ALERT" else "history",  # a gateway's: something of the account is wrong
                row.text,
                bot=record.name,
                bot_id=record.bot_id,
                at=row.at,
                data={"action": row.action, "data": row.data},
                epoch=epoch,
                run_seq=row.seq,
                committed=committed if row.seq == last else None,
            )

    def history_again(self, whose: tuple[int, int]) -> None:
        """Rows of this run (id of the bot, epoch) were dropped here; it has them still."""
        record = self._stable.registry.by_id.get(whose[0])
        if record is not None and record.run is not None and record.run.epoch == whose[1]:
            self._stable.bus.ask_hello(record.run)

    def _bound(self, record: Record, message: messages.Ready) -> None:
        try:
            addresses = json.loads(message.detail) if message.detail else {}
        except ValueError:
            return
        known = self._stable.endpoints.accounts.get(record.account)
        if known is not None and addresses:
            known.update({key: str(value) for key, value in addresses.items() if key in known})
            try:
                self._stable.endpoints.save(self._stable.data_dir)
            except OSError as error:  # the file of before stays; its ports are kept over restarts
                log.warning("endpoints.json not written: %s", error.strerror)

    # --- launchers ------------------------------------------------------------------------------------

    def exited(self, notice: dict[str, Any]) -> None:
        """A launcher tells an end."""
        token = str(notice["token"])
        record = self._stable.registry.by_token.get(token)
        if record is None or record.run is None:
            self._stable.launchers.ack(str(notice["launcher"]), token)
            return
        code = int(notice.get("code", -1))
        telling = (EXIT_NOT_EXECUTED,) if record.kind == "program" else (EXIT_STRATEGY, EXIT_CONFIG, EXIT_UNAVAILABLE)
        if code in telling and not record.run.last_words:
            asyncio.get_running_loop().call_later(_LAST_WORDS, self._post_exit, record, notice)
        else:
            self._post_exit(record, notice)

    def _post_exit(self, record: Record, notice: dict[str, Any]) -> None:
        run = record.run
        if run is None or run.ended or run.token != notice["token"]:
            return
        code = int(notice.get("code", -1))
        if record.kind == "program" and self._program_exit(record, run, code, int(notice.get("status", -1))):
            return
        if code == EXIT_LOCK_HELD and (record.kind != "program" or is_held(self._lock_path(record))):
            pid = holder_of(self._lock_path(record)) or 0
            self._stable.post(events.LockHeld(record.bot_id, epoch=run.epoch, pid=pid))
            return
        self._stable.post(
            events.Exited(
                record.bot_id,
                epoch=run.epoch,
                status=int(notice.get("status", -1)),
                code=code,
                signal=int(notice.get("signal", 0)),
                oom=self._stable.cgroups.out_of_memory(record, run.epoch),
                detail=run.last_words,
            )
        )

    def _program_exit(self, record: Record, run: Run, code: int, status: int) -> bool:
        """Whether it was an end before there was a program: its file could not be executed."""
        trying = self._stable.state(record) in (State.STARTING, State.STOPPING, State.ADOPTING)
        if code != EXIT_NOT_EXECUTED or not run.last_words.startswith(NOT_EXECUTED) or not trying:
            return False  # that a program itself gives this code is its own affair
        reason = run.last_words.removeprefix(NOT_EXECUTED)
        self._stable.post(events.ExecFailed(record.bot_id, epoch=run.epoch, status=status, reason=reason))
        return True

    def launcher_lost(self, name: str) -> None:
        """A launcher died: its children live on, and are watched by their pidfds from now on."""
        stable = self._stable
        orphans = [one for one in stable.registry.by_token.values() if one.run and one.run.launcher == name]
        stable.chronicle.add("alert", f"{name} ended; its {len(orphans)} processes live on and are watched")
        assert self.performer is not None
        for record in orphans:
            if record.run is not None and not record.run.ended:
                self.performer.old_runs.watch(record, record.run)
