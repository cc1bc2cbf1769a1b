"""A supervisor that becomes its successor: a new process image of the same command line, under the same pid.

The lock of the data directory is not let go of in between: its descriptor is the one that survives the exec, so
no other supervisor can slip in. What else the successor must know travels in one variable of the environment.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, dataclass, field
from typing import Final, NoReturn

from protocol.errors import REFUSED, Refused, StablehandError
from protocol.locks import FileLock

_VARIABLE: Final = "STABLEHAND_SUCCESSION"
_CHECK_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What the image before this one left; empty at an ordinary start."""

    lock_fd: int = -1
    launchers: dict[str, int] = field(default_factory=dict)  # name -> pid: they are children of this process
    stop: bool = False  # it was told to stop in its last moment

    @property
    def is_empty(self) -> bool:
        """Whether this is an ordinary start."""
        return self.lock_fd < 0


def take(environ: MutableMapping[str, str]) -> Inheritance:
    """What was left, taken out of the environment so that no child finds it."""
    text = environ.pop(_VARIABLE, "")
    try:
        return Inheritance(**json.loads(text)) if text else Inheritance()
    except (ValueError, TypeError):
        return Inheritance()  # not ours: an ordinary start, which the lock judges


def possible() -> bool:
    """Whether a process can renew itself here. On Windows exec makes another process and ends this one."""
    return sys.platform != "win32"


def command() -> list[str]:
    """This process's own command line."""
    return [sys.executable, *sys.orig_argv[1:]]


def check() -> None:
    """See that the successor would start: its code, the file, the strategies. Raises Refused with its complaint."""
    try:
        done = subprocess.run(
            [*command(), "--check"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_CHECK_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"the successor cannot be tried: {error}", hint="nothing was changed") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise Refused(f"the successor would not start: {lines[-1].removeprefix('stablehand: ')}",
                      hint="nothing was changed")  # fmt: skip


def become(lock: FileLock, launchers: Mapping[str, int], environ: Mapping[str, str], *, stop: bool) -> NoReturn:
    """Become the next image. Everything but the lock must be closed. Raises StablehandError when it cannot be."""
    if sys.platform == "win32":
        raise StablehandError("Windows cannot renew a process in place", code=REFUSED)
    left = Inheritance(lock.fileno(), dict(launchers), stop)
    sys.stdout.flush()
    sys.stderr.flush()
    # A stop that comes while there is no handler must wait, not end the process and leave the bots alone.
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    os.set_inheritable(lock.fileno(), True)
    try:
        os.execve(sys.executable, command(), {**os.environ, **environ, _VARIABLE: json.dumps(asdict(left))})
    except OSError as error:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
        raise StablehandError(f"{sys.executable} cannot be started: {error.strerror}",
                              hint="the bots trade on; start a supervisor by hand") from None  # fmt: skip


_HELD: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))


class HeldSignals:
    """Signals of an image that is just coming up: noted, until the loop has handlers of its own."""

    def __init__(self, left: Inheritance) -> None:
        self.stop = left.stop
        if left.is_empty or sys.platform == "win32":
            return
        for number in _HELD:
            signal.signal(number, self._note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)

    def hold(self) -> None:
        """From now on a SIGTERM is noted too where this is an ordinary start: bots of before may live, and it means
        that they shall stop. A second one ends this process at once."""
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._note_or_end)

    def _note_or_end(self, number: int, _frame: object) -> None:
        if self.stop:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.stop = True

    def _note(self, number: int, _frame: object) -> None:
        self.stop = self.stop or number != getattr(signal, "SIGHUP", None)
