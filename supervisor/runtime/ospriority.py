"""A bot's priority at the operating system, only where it can be given back.

Raising a priority again needs a privilege (CAP_SYS_NICE, or RLIMIT_NICE). Without it a bot gets the scheduler's
batch policy instead, which it may leave at any time: it counts as one that computes, and yields to the others.

Where the kernel makes a group of each session (autogroup), values of processes count only within their session, and
every bot has one of its own: there the session's own nice value is set as well, which needs no privilege.
"""

from __future__ import annotations

import contextlib
import os
import sys
from functools import cache
from pathlib import Path
from typing import Final, Literal

_CAP_SYS_NICE: Final = 23
SESSION_STEP: Final = 0.1
_AUTOGROUP: Final = Path("/proc/sys/kernel/sched_autogroup_enabled")
_NICE_ZERO: Final = 20  # RLIMIT_NICE that allows to go back to nice 0


@cache
def method() -> Literal["nice", "batch", ""]:
    """How priorities are lowered here; empty: not at all."""
    if not sys.platform.startswith("linux"):
        return ""
    import resource

    with contextlib.suppress(OSError, ValueError, IndexError):
        text = Path("/proc/self/status").read_text("ascii")
        if int(text.split("CapEff:", 1)[1].split()[0], 16) >> _CAP_SYS_NICE & 1:
            return "nice"
    soft, _ = resource.getrlimit(resource.RLIMIT_NICE)
    return "nice" if soft >= _NICE_ZERO or soft == resource.RLIM_INFINITY else "batch"


def lower(pid: int, nice: int) -> bool:
    """Give a bot and its threads this nice value (0: as usual). Its process leads a group of its own.

    False where the system refuses; it is no error: the bot may just have ended.
    """
    if sys.platform == "win32":
        return False
    try:
        if method() == "nice":
            os.setpriority(os.PRIO_PGRP, pid, nice)
        elif method() == "batch":
            policy = os.SCHED_BATCH if nice else os.SCHED_OTHER
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setscheduler(int(thread.name), policy, os.sched_param(0))
        else:
            return False
    except OSError:
        return False
    return True


def lower_session(pid: int, nice: int) -> bool:
    """Give the session of a bot this nice value; False: try again in `SESSION_STEP` seconds.

    From those without a privilege the kernel takes one of these in that time, for the whole machine.
    """
    try:
        Path(f"/proc/{pid}/autogroup").write_text(str(nice), "ascii")
    except BlockingIOError:
        return False
    except OSError:
        return True  # it has ended, or there are no such groups: nothing is left to be done
    return True


def autogroups() -> bool:
    """Whether the kernel makes a group of each session."""
    with contextlib.suppress(OSError):
        return _AUTOGROUP.read_text("ascii").strip() == "1"
    return False
