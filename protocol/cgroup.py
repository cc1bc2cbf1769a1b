"""A Linux control group (version 2) of one run: entered by the run itself, watched and removed by the supervisor.

Control groups are folders of the kernel; what is written into their files is its business, and takes no disk.
Elsewhere there are none: nobody is told a path there, and nothing here is called.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def enter(path: str, values: Mapping[str, str]) -> str:
    """Make the group, set its values and move this process into it; why it did not work, or nothing.

    A value that the kernel refuses is named, and does not keep the process out.
    """
    group, refused = Path(path), []
    try:
        group.mkdir(exist_ok=True)
        for name, value in values.items():
            if problem := write(group / name, value):
                refused.append(f"{name} = {value}: {problem}")
        _put(group / "cgroup.procs", str(os.getpid()))
    except OSError as error:
        return f"{path}: {error.strerror}"
    return "; ".join(refused)


def write(file: Path, value: str) -> str:
    """Set one value; why the kernel refused it, or nothing."""
    try:
        _put(file, value)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def counter(file: Path, key: str) -> int:
    """A number out of a file of `key number` lines; 0 where there is none."""
    try:
        lines = file.read_text("ascii").splitlines()
    except OSError:
        return 0
    return next((int(number) for name, _, number in (line.partition(" ") for line in lines) if name == key), 0)


def remove(group: Path) -> bool:
    """Remove a group that nobody is in; False while somebody is."""
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _put(file: Path, value: str) -> None:
    """One write, as the kernel wants it; a file that is not there is never made."""
    fd = os.open(file, os.O_WRONLY)
    try:
        os.write(fd, value.encode("ascii"))
    finally:
        os.close(fd)
