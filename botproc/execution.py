"""A program's process: started by fork and exec, signalled with its group, and ended with all that is below it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from protocol.process import children_of, die_with_parent

_CLEAR_UP: Final = 1.0  # seconds that killed processes get to be gone


class NotExecuted(Exception):
    """The system would not execute it; the text says why."""


class Execution:
    """One process in a group of its own, whose output goes to `output`. Start it before any thread exists.

    Raises NotExecuted, OSError where there is no process to be had. It dies with the process that started it.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], cwd: Path, output: int) -> None:
        told, tell = os.pipe()  # closed by the exec, or it tells why there was none
        starter = os.getpid()
        try:
            self.pid = os.fork()
        except OSError:
            os.close(told)
            raise
        finally:
            if os.getpid() == starter:
                os.close(tell)
        if self.pid == 0:
            _become(command, environment, cwd, output, tell, starter)
        self.status: int | None = None  # as waitpid gives it
        with os.fdopen(told, "rb") as pipe:
            problem = pipe.read().decode("utf-8", "replace")
        if problem:
            os.waitpid(self.pid, 0)
            raise NotExecuted(problem)

    def reap(self) -> bool:
        """Take back every child that has ended (orphans of the program too); whether the program has."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == self.pid:
                self.status = status
        return self.status is not None

    def signal(self, number: int, *, group: bool = True) -> None:
        """To the program's group, or to its first process alone."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if group:
                os.killpg(self.pid, number)
            elif self.status is None:
                os.kill(self.pid, number)

    def clear_up(self) -> None:
        """Kill what is left: the group, and every process below, in whatever session it may be."""
        self.signal(signal.SIGKILL)
        until = time.monotonic() + _CLEAR_UP
        while (left := children_of(os.getpid())) and time.monotonic() < until:
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)  # a child of ours, not reaped yet: surely this one
            self.reap()
            time.sleep(0.002)


def _become(
    command: Sequence[str], environment: Mapping[str, str], cwd: Path, output: int, tell: int, starter: int
) -> NoReturn:
    """In the child: never returns."""
    try:
        os.setpgid(0, 0)
        die_with_parent(signal.SIGKILL)
        if os.getppid() != starter:  # it ended before that was in force
            os._exit(127)
        for number in signal.valid_signals():
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_DFL)  # Python ignores SIGPIPE, and that would be inherited
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.dup2(output, 1)
        os.dup2(output, 2)
        try:
            os.chdir(cwd)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(cwd)) from None
        try:
            os.execvpe(command[0], list(command), dict(environment))
        except OSError as error:
            raise OSError(error.errno, error.strerror, command[0]) from None
    except BaseException as error:  # nothing may climb back into the stack of the starter
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, OSError):
            text = f"{errno.errorcode.get(error.errno or 0, 'error')}: {error.strerror}: {error.filename}"
        with contextlib.suppress(OSError):
            os.write(tell, text.encode()[:4000])
    finally:
        os._exit(127)
