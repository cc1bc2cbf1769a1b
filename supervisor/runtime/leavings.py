"""What a program left behind when nobody was there to inherit it: found by what its environment says.

As long as a run's launcher lives, what the run leaves behind comes to that. Where the launcher has died, a program
whose minder is killed leaves processes in sessions of their own to init. Each of them still has the variables that the
program was given, which name the run. A look at every process of the machine is no price for something so rare.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Final

import psutil

from protocol.process import identity_of
from supervisor.runtime.oldruns import signal_identity

_KILL: Final = 9
_TIMES: Final = 20  # one that forks while it is killed has left another

log = logging.getLogger("stablehand")


def kill_leavings(data_dir: Path, name: str, epoch: int) -> list[int]:
    """Kill every process that was started below the run `epoch` of the program `name`, which has ended; their pids.

    For a thread: it reads the environment of every process that it may read.
    """
    marks = {"STABLEHAND_DATA_DIR": str(data_dir), "STABLEHAND_NAME": name, "STABLEHAND_EPOCH": str(epoch)}
    killed: list[int] = []
    for _ in range(_TIMES):
        found = [pid for pid in psutil.pids() if pid != os.getpid() and _has(pid, marks)]
        if not found:
            break
        for pid in found:
            identity = identity_of(pid)
            # Looked at again: the pid may have been given to somebody else since.
            if identity is not None and _has(pid, marks):
                with contextlib.suppress(PermissionError):
                    signal_identity(identity, _KILL, group=False)
                if pid not in killed:
                    killed.append(pid)
                    log.warning(
                        "killed process %d, left behind by %s (epoch %d) whose launcher is gone", pid, name, epoch
                    )
    return killed


def _has(pid: int, marks: dict[str, str]) -> bool:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        environment = process.environ()
    except (psutil.Error, OSError):
        return False
    return all(environment.get(key) == value for key, value in marks.items())
