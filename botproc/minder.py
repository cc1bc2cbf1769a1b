"""The minder: the process beside a program that speaks for it to the supervisor.

It holds the program's lock, says Hello and beats as a bot does, owns the notify socket and the files of the
raw output, and ends as the program ended, with its exit code or its signal. So a program is adopted, watched
and judged like any bot, whatever becomes of the supervisor and the launcher; and it dies with its minder.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from collections import deque
from typing import Any, Final

import zmq

from botproc import logs
from botproc.execution import Execution, NotExecuted
from botproc.rawlog import RawLog
from botproc.surroundings import Surroundings
from protocol.link import BusLink
from protocol.messages import Bye, Command, CommandDone, Message, Phase, Ready, Unwelcome, Waiting
from protocol.programconfig import ProgramConfig
from protocol.progress import Progress
from protocol.spec import EXIT_NOT_EXECUTED, EXIT_UNWELCOME, NOT_EXECUTED, RunSpec
from protocol.wake import WakeFd

_FLUSH: Final = 0.5
_TURN: Final = 1.0  # seconds that a turn lasts at most, so that the minder itself is seen to move
_OWN_LIMIT: Final = 30.0  # a minder that does not turn for so long hangs
_CHUNK: Final = 1 << 18
#: Bytes a second that are taken from a program's output; one that writes more waits, and disturbs nobody.
_FASTEST: Final = 32 << 20
_STATUS_EVERY: Final = 1.0
_LONGEST_STATUS: Final = 200

log = logging.getLogger("stablehand.program")


def run_program(spec: RunSpec) -> int:
    """Live one run of a program; the exit code, where it was not a signal that ended it."""
    assert spec.program is not None
    return Minder(spec, spec.program).run()


class Minder:
    """One run."""

    def __init__(self, spec: RunSpec, config: ProgramConfig) -> None:
        self._spec = spec
        self._config = config
        self._wake = WakeFd()
        self._progress = Progress()
        self._inbox: deque[Message] = deque()
        self._context: zmq.Context[Any] = zmq.Context(io_threads=1)
        self._ready = False
        self._terms = 0  # SIGTERMs that came
        self._aborts = 0
        self._stopping_since: float | None = None
        self._because = ""
        self._unwelcome = False
        self._budget = float(_FASTEST)
        self._budget_at = time.monotonic()
        self._status = self._status_told = ""
        self._status_due = 0.0
        self._link = BusLink(self._context, spec, self._progress, self._receive, self._hello)
        self._raw = RawLog(logs.raw_path(spec.log_path), spec.log_max_bytes, spec.log_backups, (1, 2))

    def run(self) -> int:
        """Until the program has ended, and all that is below it."""
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGABRT, self._on_abort)  # how a hang is announced: the program shall write where
        signal.signal(signal.SIGCHLD, lambda *_: self._wake.set())
        output, write = os.pipe()
        os.set_blocking(output, False)
        self._output = output
        self._around = Surroundings(self._spec, self._config)
        self._progress.move(*self._first_phase())
        try:
            # Before the link's thread exists: a fork beside threads could inherit a lock that nobody releases.
            self._process = Execution(self._config.command, self._around.environment(), self._around.folder, write)
        except (NotExecuted, OSError) as error:
            return self._not_executed(str(error))
        finally:
            os.close(write)
        self._link.start()
        self._report("START", f"process {self._process.pid}: {' '.join(self._config.command)}"[:500])
        self._started = time.monotonic()
        while not self._process.reap():
            self._turn()
        return self._leave(self._process.status or 0)

    # --- the loop ----------------------------------------------------------------------------------

    def _turn(self) -> None:
        poller = select.poll()
        for fd in (self._wake.fileno(), self._around.notify.fileno()):
            poller.register(fd, select.POLLIN)
        if self._output >= 0 and self._allowed() > 0:
            poller.register(self._output, select.POLLIN)
        events = dict(poller.poll(self._patience() * 1000))
        self._wake.clear()
        if self._output in events:
            self._take_output()
        for said in self._around.notify.read():
            self._heard(said)
        while self._inbox:
            self._obey(self._inbox.popleft())
        self._move_on()

    def _patience(self) -> float:
        """Seconds until something is due."""
        now = time.monotonic()
        waits = [_TURN]
        if self._output >= 0 and self._allowed() <= 0:
            waits.append(0.02)
        if self._arrives_by_itself():
            waits.append(self._started + self._config.ready_after_seconds - now)
        if self._stopping_since is not None:
            waits.append(self._stopping_since + self._config.stop_timeout_seconds - now)
        if self._status != self._status_told:
            waits.append(self._status_due - now)
        return max(0.0, min(waits))

    def _move_on(self) -> None:
        now = time.monotonic()
        if self._terms and self._stopping_since is None:
            self._stop("SIGTERM")
        elif self._terms and self._config.stop_signal != "TERM":
            self._process.signal(signal.SIGTERM)  # the signal of its own was not enough
        self._terms = 0
        if self._aborts:
            self._aborts = 0
            self._process.signal(signal.SIGABRT, group=False)
        if self._stopping_since is not None and now >= self._stopping_since + self._config.stop_timeout_seconds:
            self._process.signal(signal.SIGKILL)
        if self._arrives_by_itself() and now >= self._started + self._config.ready_after_seconds:
            self._arrive("")
        if self._status != self._status_told and now >= self._status_due:
            self._status_told, self._status_due = self._status, now + _STATUS_EVERY
            self._link.send(Waiting(token=self._spec.token, reason="status", detail=self._status))
        if self._progress.phase not in (Phase.WATCHED, Phase.NOT_READY):
            self._progress.touch()  # what is not to be heard of a program is heard of its minder

    def _arrives_by_itself(self) -> bool:
        return not self._ready and self._config.ready == "started" and self._stopping_since is None

    # --- what the program says ---------------------------------------------------------------------

    def _heard(self, said: dict[str, str]) -> None:
        if "STATUS" in said:
            self._status = "".join(c for c in said["STATUS"][:_LONGEST_STATUS] if c.isprintable())
        if said.get("READY") == "1" and not self._ready and self._config.ready == "notify":
            self._arrive(self._status)
        if said.get("WATCHDOG") == "1":
            self._progress.cycles += 1
            if self._progress.phase == Phase.WATCHED:
                self._progress.touch()
        if said.get("STOPPING") == "1" and self._stopping_since is None and self._progress.phase != Phase.STOPPING:
            self._progress.move(Phase.STOPPING, _OWN_LIMIT)  # it ends by itself: no watchdog is expected any more
            self._status = self._status or "stopping by itself"

    def _arrive(self, detail: str) -> None:
        self._ready = True
        watched = self._config.watchdog_seconds
        self._progress.move(Phase.WATCHED if watched else Phase.IDLE, watched or _OWN_LIMIT)
        self._link.send(Ready(token=self._spec.token, detail=detail))

    def _take_output(self) -> None:
        try:
            data = os.read(self._output, _CHUNK)
        except BlockingIOError:
            return
        if not data:  # nobody has it open any more
            os.close(self._output)
            self._output = -1
            return
        self._budget -= len(data)
        self._raw.write(data)

    def _allowed(self) -> float:
        now = time.monotonic()
        self._budget = min(_FASTEST / 4, self._budget + (now - self._budget_at) * _FASTEST)
        self._budget_at = now
        return self._budget

    # --- what the supervisor says ------------------------------------------------------------------

    def _obey(self, message: Message) -> None:
        if isinstance(message, Unwelcome):
            self._unwelcome = True
            self._stop(f"the supervisor refused this run: {message.reason}")
        elif isinstance(message, Command):
            stop = message.verb == "stop"
            error = "" if stop else f"a program knows no {message.verb}"
            self._link.send(CommandDone(id=message.id, ok=stop, error=error))
            if stop:
                self._stop("stopped by command")

    def _stop(self, because: str) -> None:
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()
            self._because = because
            self._progress.move(Phase.STOPPING, self._config.stop_timeout_seconds + _OWN_LIMIT)
            self._process.signal(signal.Signals[f"SIG{self._config.stop_signal}"])

    # --- begin and end -----------------------------------------------------------------------------

    def _first_phase(self) -> tuple[Phase, float]:
        if self._config.ready == "notify":
            return Phase.NOT_READY, self._config.start_timeout_seconds
        return Phase.BOOT, _OWN_LIMIT

    def _not_executed(self, reason: str) -> int:
        log.error("not executed: %s", reason)
        self._link.start()
        self._link.history("ERROR", f"not executed: {reason}")
        return self._say_goodbye(f"{NOT_EXECUTED}{reason}", EXIT_NOT_EXECUTED)

    def _leave(self, status: int) -> int:
        """End everything below, write out what it wrote, say goodbye, and end as the program did."""
        self._process.clear_up()
        while self._output >= 0:
            before = self._output, self._budget
            self._take_output()
            if (self._output, self._budget) == before:
                break  # nothing more is there, though somebody may still have it open
        code = os.waitstatus_to_exitcode(status)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._report("STOP", f"{how}; {self._because}" if self._because else how)
        self._say_goodbye(self._because, code)
        if self._unwelcome:
            return EXIT_UNWELCOME
        if code < 0:
            _end_by(-code)
        return code

    def _say_goodbye(self, reason: str, code: int) -> int:
        self._around.close()
        self._raw.close()
        self._link.send(Bye(token=self._spec.token, reason=reason))
        self._link.stop(_FLUSH)
        self._context.destroy()
        return code

    # --- small things ------------------------------------------------------------------------------

    def _hello(self) -> dict[str, Any]:
        return {"ready": self._ready, "voice": self._config.heartbeat == "bus"}

    def _receive(self, message: Message) -> None:
        """On the link's thread."""
        self._inbox.append(message)
        self._wake.set()

    def _on_term(self, *_: Any) -> None:
        self._terms += 1
        self._wake.set()

    def _on_abort(self, *_: Any) -> None:
        self._aborts += 1
        self._wake.set()

    def _report(self, action: str, text: str) -> None:
        log.info("%s: %s", action, text)
        self._link.history(action, text)


def _end_by(number: int) -> None:
    """End by that signal, so that the kernel tells the launcher the same of us as of the program."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the program's own core is the one to look at
    logs.flush()
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
