"""The lock by which a host has one gateway of an account: kept from the first connection to the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from broker.mt5.takeover import Takeover
from broker.mt5.troubles import Account, gone, holder, taken
from protocol.locks import FileLock, LockHeld

#: Tries at one look, and seconds between them: a gateway that waits for the account has it for a moment at its looks.
_TRIES: Final = 4
_BETWEEN: Final = 0.02


class AccountLock:
    """`hold` takes the lock, or raises LockHeld or OSError. None: there is none, and the account is ours."""

    def __init__(self, account: Account, hold: Callable[[], FileLock] | None) -> None:
        self._account = account
        self._hold = hold
        self._lock: FileLock | None = None
        self._takeover = Takeover()

    @property
    def kept(self) -> bool:
        """Whether the account is this gateway's."""
        return self._hold is None or self._lock is not None

    def keep(self, now: float) -> str:
        """Have the lock from now on, where that may be; else the line that says why not. `now`: monotonic seconds."""
        if self._hold is None or self._lock is not None:
            return ""
        try:
            lock = _tried(self._hold)
        except (LockHeld, OSError) as error:
            self._takeover = self._takeover.held(holder(error))
            return taken(self._account, error)
        self._takeover = self._takeover.free(now)
        if not self._takeover.may_keep(now):
            lock.release()
            return gone(self._account, self._takeover.by)
        self._lock = lock
        return ""

    def release(self) -> None:
        """Let another gateway have it."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _tried(hold: Callable[[], FileLock]) -> FileLock:
    for _ in range(_TRIES - 1):
        try:
            return hold()
        except LockHeld:
            time.sleep(_BETWEEN)
    return hold()
