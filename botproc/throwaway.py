"""A fork that does one thing and ends: it never goes back to what its parent was doing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

_BLOCKED = (signal.SIGTERM,)  # signals that the parent may have a handler for


def throwaway(work: Callable[[], int], longest: int) -> int:
    """The pid of a child that does this work and exits with what it returns (1 where it raises). After `longest`
    seconds the kernel ends it. Signals that come in the moment of the fork never run the parent's handlers there."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    pid = -1
    try:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for number in (*_BLOCKED, signal.SIGALRM):
                    signal.signal(number, signal.SIG_DFL)
                signal.alarm(longest)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)
                status = work()
            finally:
                os._exit(status)
    finally:
        if pid != 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)
    return pid
