"""Runs that are not this supervisor's launcher's children: signalled by identity, watched by pidfd.

An adopted run whose launcher died has nobody to reap it for us; a run that still holds its bot's lock must
be dead before a successor starts. Both are looked at through a pidfd where the system has one, opened
before the identity is checked, so that a reused pid is never signalled and no exit goes unnoticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from protocol.locks import FileLock, LockHeld
from protocol.process import ProcessIdentity, descendants_of, identity_of, is_alive
from supervisor.policy import events
from supervisor.runtime import clock
from supervisor.runtime.registry import Record, Run

_POLL: Final = 0.05
_KILL: Final = 9  # by number: Windows has no name for it
_PATIENCE: Final = 2.0  # an unwelcome old run leaves by itself; after this it is killed

_HAS_PIDFD: Final = hasattr(os, "pidfd_open") and sys.platform == "linux"


class OldRuns:
    """Watches and signals processes by identity."""

    def __init__(self, post: Callable[[events.Event], None], lock_path: Callable[[Record], Path]) -> None:
        self._post = post
        self._lock_path = lock_path
        self._watched: dict[str, int] = {}  # run token -> pidfd, or -1 where it is polled
        self._tasks: set[asyncio.Task[None]] = set()
        self._confirming: set[tuple[int, int]] = set()  # bot and pid

    def watch(self, record: Record, run: Run) -> None:
        """Tell the daemon when this process ends (its status is not ours to learn)."""
        if run.identity is None or run.token in self._watched:
            return
        fd = _open_pidfd(run.identity)
        if fd is None:
            self._gone(record, run)
        elif fd >= 0:
            self._watched[run.token] = fd
            asyncio.get_running_loop().add_reader(fd, self._ended, record, run)
        else:
            self._watched[run.token] = -1
            self._spawn(self._poll(record, run))

    def take_at_its_word(self, record: Record, run: Run) -> None:
        """A run that no launcher answers for has said Hello: its token proves it, so its word is who it is."""
        if run.unlaunched and run.identity is None and run.said is not None:
            run.identity, run.pid = run.said, run.said.pid
            self.watch(record, run)

    def signal(self, record: Record, run: Run, number: int, *, group: bool) -> None:
        """Signal the run, if that very process still lives; its group too where it leads one."""
        if run.identity is None:
            return
        self.watch(record, run)  # its launcher may have ended in the moment in which it told of this run
        # Without a launcher nobody inherits what the run leaves behind: it is looked for while the run lives.
        below = descendants_of(run.identity.pid) if number == _KILL and is_alive(run.identity) else []
        signal_identity(run.identity, number, group=group)
        for identity in below:
            signal_identity(identity, number, group=False)

    def confirm_dead(self, record: Record, pid: int) -> None:
        """See `pid`, which holds the bot's lock, dead (killing it when it does not leave), then post OldRunDead.

        Asked again with each attempt of the successor: one watch is enough for all of them.
        """
        if (record.bot_id, pid) not in self._confirming:
            self._confirming.add((record.bot_id, pid))
            self._spawn(self._confirm(record, pid))

    def close(self) -> None:
        """Stop watching."""
        for fd in self._watched.values():
            if fd >= 0:
                asyncio.get_running_loop().remove_reader(fd)
                os.close(fd)
        self._watched.clear()
        for task in self._tasks:
            task.cancel()

    async def _confirm(self, record: Record, pid: int) -> None:
        started = clock.now()
        # Taken now, while it holds the lock: a pid that is given to somebody else later is never signalled. Our own
        # pid stands in the file where we have looked for a moment whether the lock is free.
        identity = identity_of(pid) if pid and pid != os.getpid() else None
        try:
            while True:
                try:
                    # Holding the lock for a moment is the proof that nobody else does.
                    FileLock(self._lock_path(record)).release()
                    break
                except LockHeld as held:
                    # Who holds it now may be the successor, or another old run, of which the successor will tell.
                    if held.pid and held.pid != pid:
                        break
                    if identity is not None and clock.now() - started > _PATIENCE:
                        with contextlib.suppress(PermissionError):
                            signal_identity(identity, _KILL, group=False)
                except OSError:
                    break
                await asyncio.sleep(_POLL)
        finally:
            self._confirming.discard((record.bot_id, pid))
        self._post(events.OldRunDead(record.bot_id))

    def _ended(self, record: Record, run: Run) -> None:
        fd = self._watched.pop(run.token, -1)
        if fd >= 0:
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)
        self._gone(record, run)

    def _gone(self, record: Record, run: Run) -> None:
        if not run.ended:
            text = "the process ended while no launcher watched it; its status is unknown"
            self._post(events.Gone(record.bot_id, epoch=run.epoch, detail=text))

    async def _poll(self, record: Record, run: Run) -> None:
        assert run.identity is not None
        while run.token in self._watched and not run.ended and is_alive(run.identity):
            await asyncio.sleep(0.25)
        self._ended(record, run)

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def signal_identity(identity: ProcessIdentity, number: int, *, group: bool) -> bool:
    """Signal exactly this process (and its group, where it leads one). False when it is gone."""
    fd = _open_pidfd(identity)
    if fd is None:
        return False
    try:
        if group and hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getpgid(identity.pid) == identity.pid:
                    os.killpg(identity.pid, number)
                    return True
        if fd >= 0:
            signal.pidfd_send_signal(fd, number)
        else:
            os.kill(identity.pid, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        if fd >= 0:
            os.close(fd)


def _open_pidfd(identity: ProcessIdentity) -> int | None:
    """A pidfd of the living process, -1 where there are none, None when it is gone or another has its pid."""
    fd = -1
    if _HAS_PIDFD:
        try:
            fd = os.pidfd_open(identity.pid)
        except ProcessLookupError:
            return None
    if is_alive(identity):
        return fd
    if fd >= 0:
        os.close(fd)
    return None
