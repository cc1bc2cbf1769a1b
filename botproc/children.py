"""The children of a launcher or spawner: who lives, who has ended, and who may be given back to the kernel.

An ended child stays a zombie, and so keeps its pid and its group from being reused, until a supervisor has
committed its end and acknowledged it. Signals go to children of this table only.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from protocol.spec import RunSpec

UNKNOWN: Final = -1
#: Whether an end can be seen without reaping it. Not on Windows; on macOS from Python 3.13 on.
ZOMBIES: Final = hasattr(os, "waitid")


@dataclass(slots=True)
class Child:
    """One run's process. `watch`: its pidfd while it lives, -1 where there is none."""

    token: str
    pid: int
    start_ticks: int
    kind: str
    name: str
    bot_id: int
    epoch: int
    code_hash: str
    watch: int = -1
    popen: subprocess.Popen[bytes] | None = None
    exited: bool = False
    status: int = UNKNOWN
    code: int = UNKNOWN
    signal: int = 0
    at: float = 0.0

    def row(self) -> dict[str, Any]:
        """The child in a `list`."""
        names = ("token", "pid", "start_ticks", "kind", "name", "bot_id", "epoch", "code_hash", "exited", "status")
        return {name: getattr(self, name) for name in names}

    def launched(self) -> dict[str, Any]:
        """The answer to its `launch`."""
        return {"ok": True, "pid": self.pid, "start_ticks": self.start_ticks, "code_hash": self.code_hash}

    def notice(self) -> dict[str, Any]:
        """The news of its end."""
        names = ("token", "pid", "status", "code", "signal", "at")
        return {"op": "exit", **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True, slots=True)
class NotMade:
    """A process that could not be made, and why."""

    reason: str

    @staticmethod
    def because(error: OSError | RuntimeError) -> NotMade:
        """In the words of the system where they are its own."""
        return NotMade(describe(error) if isinstance(error, OSError) else str(error))


class Children:
    """All children by token, in the order of their launch."""

    def __init__(self) -> None:
        self._all: dict[str, Child] = {}

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)

    def get(self, token: str) -> Child | None:
        """The child of a run, or None."""
        return self._all.get(token)

    @staticmethod
    def make(spec: RunSpec, pid: int, ticks: int, code_hash: str) -> Child:
        """A new child, not in the table yet."""
        return Child(spec.token, pid, ticks, spec.kind, spec.name, spec.bot_id, spec.epoch, code_hash)

    def add(self, child: Child) -> None:
        """Take it into the table."""
        self._all[child.token] = child

    def forget(self, child: Child) -> None:
        """It was never told of, and is no more."""
        del self._all[child.token]

    def living(self) -> int:
        """How many have not ended."""
        return sum(not child.exited for child in self._all.values())

    def unacknowledged(self) -> list[dict[str, Any]]:
        """Notices of all ended children, in the order of their ends."""
        ended = sorted((child for child in self._all.values() if child.exited), key=lambda child: child.at)
        return [child.notice() for child in ended]

    def reaped(self, child: Child) -> dict[str, Any]:
        """The notice where an end cannot be seen without reaping it: the child's `popen` has waited."""
        assert child.popen is not None
        code = int(child.popen.returncode)
        return self.ended(child, code, 0) if code >= 0 or os.name != "posix" else self.ended(child, UNKNOWN, -code)

    def ended(self, child: Child, code: int, signal_number: int, dumped: bool = False) -> dict[str, Any]:
        """Note an end that the kernel told, end what is left of the child's group, and give the notice."""
        child.exited = True
        child.code = code
        child.signal = signal_number
        if signal_number:
            child.status = signal_number | (0x80 if dumped else 0)
        else:
            child.status = (code & 0xFF) << 8 if code >= 0 else UNKNOWN
        child.at = time.time()
        if hasattr(os, "killpg"):
            # While the zombie holds the pid, the group is surely its own; later nobody could address it.
            _try(lambda: os.killpg(child.pid, signal.SIGKILL))
        return child.notice()

    def look(self, child: Child) -> dict[str, Any] | None:
        """The notice when the child has ended by now, without reaping it (POSIX)."""
        try:
            info = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # somebody else reaped it: its status is unknown
            return self.ended(child, UNKNOWN, 0)
        if info is None:
            return None
        if info.si_code == os.CLD_EXITED:
            return self.ended(child, info.si_status, 0)
        return self.ended(child, UNKNOWN, info.si_status, info.si_code == os.CLD_DUMPED)

    def acknowledge(self, token: str) -> Child | None:
        """The end is committed: reap the child and forget it. None when it lives or is not known."""
        child = self._all.get(token)
        if child is None or not child.exited:
            return None
        del self._all[token]
        if child.popen is not None:
            child.popen.wait()
        else:
            _try(lambda: os.waitpid(child.pid, 0))
        return child

    def send(self, token: str, number: int, group: bool) -> dict[str, Any]:
        """Send a signal to a child, or to all of its group: `{ok}` or `{ok: False, error: "gone"}`."""
        child = self._all.get(token)
        if child is None or (child.exited and not (group and ZOMBIES)):  # nothing else holds its pid
            return {"ok": False, "error": "gone"}
        try:
            if sys.platform == "win32":
                _send_windows(child, number)
            elif group:
                _send_group(child, number)
            else:
                os.kill(child.pid, number)  # unreaped, so surely still this child
        except (ProcessLookupError, PermissionError):
            return {"ok": False, "error": "gone"}
        return {"ok": True}


def number_of(name: Any) -> int:
    """A signal's number, from `9`, `"KILL"` or `"SIGKILL"`. Raises ValueError."""
    if isinstance(name, int) and not isinstance(name, bool):
        return 9 if name == 9 else int(signal.Signals(name))  # Windows has no name for 9
    text = str(name).upper()
    text = text if text.startswith("SIG") else f"SIG{text}"
    if sys.platform == "win32" and text == "SIGKILL":
        return 9
    try:
        return int(signal.Signals[text])
    except KeyError:
        raise ValueError(f"{name!r} is no signal") from None


def describe(error: OSError) -> str:
    """`ENOMEM: Cannot allocate memory`."""
    return f"{errno.errorcode.get(error.errno or 0, 'error')}: {error.strerror or error}"


def _send_group(child: Child, number: int) -> None:
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        if child.exited:
            raise
        os.kill(child.pid, number)  # so young that it has no session of its own yet


def _send_windows(child: Child, number: int) -> None:
    if child.popen is None:
        return
    if number == 9:
        child.popen.kill()
    else:
        # A console event reaches the child's own process group only, where its handler stops it gracefully.
        child.popen.send_signal(getattr(signal, "CTRL_BREAK_EVENT", number))


def _try(action: Any) -> None:
    try:
        action()
    except OSError:
        return  # gone already: which is what was wanted
