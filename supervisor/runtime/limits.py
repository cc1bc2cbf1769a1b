"""What the system lets one installation have: open files and processes, raised as far as allowed, and counted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from protocol.errors import REFUSED, StablehandError

#: Open files of the supervisor: its own, and for each child a bus connection, a pidfd and what it opens in passing.
_OWN_FILES: Final = 128
_FILES_EACH: Final = 3
#: Tasks (threads) of the installation: a bot has its main thread, the link, the market and those of ZeroMQ.
_OWN_TASKS: Final = 64
_TASKS_EACH: Final = 6
_MOST_FILES: Final = 1 << 16


def raise_limits() -> None:
    """Raise the soft limits on open files and processes to what is allowed. No effect where there are none."""
    if sys.platform == "win32":
        return
    import resource

    for which, most in ((resource.RLIMIT_NOFILE, _MOST_FILES), (resource.RLIMIT_NPROC, None)):
        soft, hard = resource.getrlimit(which)
        wanted = hard if most is None else _least(hard, most)
        if soft != resource.RLIM_INFINITY and (wanted == resource.RLIM_INFINITY or soft < wanted):
            try:
                resource.setrlimit(which, (wanted, hard))
            except (OSError, ValueError):
                continue  # what cannot be raised is counted by `check_room`


def check_room(children: int) -> None:
    """Whether so many bots and gateways fit. Raises StablehandError with the limit and what to do."""
    if sys.platform == "win32":
        return
    import resource

    files, tasks = _OWN_FILES + children * _FILES_EACH, _OWN_TASKS + children * _TASKS_EACH
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft != resource.RLIM_INFINITY and soft < files:
        raise StablehandError(f"{children} processes need about {files} open files, and the limit is {soft}",
                              code=REFUSED, hint="raise it: ulimit -Hn, or LimitNOFILE= of the service")  # fmt: skip
    most = tasks_allowed()
    if most is not None and most < tasks:
        raise StablehandError(f"{children} processes need about {tasks} tasks, and the limit is {most}", code=REFUSED,
                              hint="raise it: TasksMax= of the service, or the container's pids limit")  # fmt: skip


def tasks_allowed(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The smallest `pids.max` of this process's cgroups (version 2); None where there is none."""
    try:
        lines = proc.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    path = next((line[3:] for line in lines if line.startswith("0::")), None)
    if path is None:
        return None
    found = []
    here = root / path.lstrip("/")
    for folder in (here, *here.parents):
        if folder != root and root not in folder.parents:
            break
        try:
            text = (folder / "pids.max").read_text("ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            found.append(int(text))
    return min(found, default=None)


def _least(hard: int, most: int) -> int:
    import resource

    return most if hard == resource.RLIM_INFINITY else min(hard, most)
