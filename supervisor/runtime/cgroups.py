"""Control groups (Linux, version 2): one for each run of a bot or program, below a group that is ours to share out.

The supervisor, its gateways and launchers are never in them. Where there is no such group, `why` says so in words,
and every call is without effect.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from protocol import cgroup
from supervisor.policy import shares
from supervisor.runtime.registry import Record

CONTROLLERS: Final = ("cpu", "memory")
#: The leaf in which systemd starts the supervisor (DelegateSubgroup=): the group above is then ours, and empty.
SUBGROUP: Final = "supervisor"
_REMOVE_SECONDS: Final = 5.0
_REMOVE_STEP: Final = 0.05


@dataclass(frozen=True, slots=True)
class Tree:
    """The folder of all runs' groups, and what the kernel shares out in it."""

    folder: Path
    controllers: tuple[str, ...]


def find(setting: str, name: str, proc: Path = Path("/proc/self")) -> tuple[Tree | None, str]:
    """The tree for the setting `cgroup` (auto, off, or a path), or why there is none.

    `name` is the installation's; it makes two installations in one group keep apart.
    """
    if setting == "off":
        return None, "off in the configuration"
    if not sys.platform.startswith("linux"):
        return None, "only Linux has control groups"
    if setting != "auto":
        return plant(Path(setting), name)
    mount = _mount(proc)
    if mount is None:
        return None, "no control groups of version 2 are mounted"
    own = _own(proc, *mount)
    if own is None or own.name != SUBGROUP:
        return None, (
            "this supervisor was given no group of its own: a service of systemd 254 or later has one "
            "(stablehand service install), else name one with cgroup"
        )
    return plant(own.parent, name)


def plant(base: Path, name: str, wanted: Iterable[str] = CONTROLLERS) -> tuple[Tree | None, str]:
    """Make `base/bots-NAME`, in which the kernel shares out what of `wanted` it can; or why it cannot."""
    try:
        there = (base / "cgroup.controllers").read_text("ascii").split()
    except OSError as error:
        return None, f"{base} is no control group of version 2: {error.strerror}"
    usable = [one for one in wanted if one in there]
    if not usable:
        return None, f"{base} has no {' or '.join(wanted)} controller (it has: {', '.join(there) or 'none'})"
    folder = base / f"bots-{name}"
    if not os.access(base, os.W_OK) or not os.access(base / "cgroup.subtree_control", os.W_OK):
        return None, f"{base} is not ours to write"
    enabled, problem = [], ""
    try:
        for one in usable:
            problem = cgroup.write(base / "cgroup.subtree_control", f"+{one}") or problem
        folder.mkdir(exist_ok=True)
        for one in usable:
            refused = cgroup.write(folder / "cgroup.subtree_control", f"+{one}")
            enabled += [] if refused else [one]
            problem = problem or refused
    except OSError as error:
        return None, f"{folder}: {error.strerror}"
    if not enabled:
        cgroup.remove(folder)
        return None, f"{base} cannot be shared out: {problem} (processes that are in the group itself?)"
    return Tree(folder, tuple(enabled)), ""


class Cgroups:
    """The groups of the runs. Groups are found again by name, so that adoption needs no memory of them."""

    def __init__(self, tree: Tree | None, why: str) -> None:
        self._tree = tree
        self.why = why
        self._removing: set[asyncio.Task[None]] = set()

    def describe(self) -> dict[str, Any]:
        """For the command `host`."""
        tree = self._tree
        if tree is None:
            return {"path": None, "controllers": [], "why_not": self.why}
        return {"path": str(tree.folder), "controllers": list(tree.controllers), "why_not": None}

    def placed(self, record: Record, epoch: int) -> dict[str, Any]:
        """What a run's specification says of its group; nothing where there are none."""
        group = self._group(record, epoch)
        if group is None:
            return {}
        values = {}
        if self._has("cpu"):
            values["cpu.weight"] = str(shares.weight(record.settings.priority))
        if self._has("memory"):
            limit = record.config.memory_limit_mb if record.config else 0.0
            values |= {"memory.max": shares.memory_max(int(limit * 1e6)), "memory.oom.group": "1"}
        return {"cgroup": str(group), "cgroup_values": values}

    def weigh(self, record: Record, weight: int) -> bool:
        """Give the record's run this weight; whether it has it now."""
        return self._set(record, "cpu", "cpu.weight", str(weight))

    @property
    def caps(self) -> bool:
        """Whether there is anything that holds a run to its cap."""
        return self._has("cpu")

    def allow(self, record: Record, megabytes: float) -> bool:
        """Raise the bound of the record's run to what this limit means (0: none); whether that holds now.

        A lower one is for its next run: the kernel would kill this one at once for what it has already.
        """
        if not self._has("memory") or record.run is None:
            return True
        group = self._group(record, record.run.epoch)
        wanted = shares.memory_max(int(megabytes * 1e6))
        try:
            now = (group / "memory.max").read_text("ascii").strip() if group is not None else "max"
        except OSError:
            return False
        if now == "max" or (wanted != "max" and int(wanted) <= int(now)):
            return True
        return self._set(record, "memory", "memory.max", wanted)

    def cap(self, record: Record, percent: float) -> bool:
        """Let the record's run have so much of a core (0: as much as it gets); whether that holds now."""
        return self._set(record, "cpu", "cpu.max", shares.cpu_max(percent))

    def out_of_memory(self, record: Record, epoch: int) -> bool:
        """Whether the kernel killed in the run's group because it had reached its bound."""
        group = self._group(record, epoch)
        return group is not None and cgroup.counter(group / "memory.events", "oom_kill") > 0

    def ended(self, record: Record, epoch: int) -> None:
        """A run is over: remove its group, as soon as the last of its processes is gone."""
        group = self._group(record, epoch)
        if group is None or cgroup.remove(group):
            return
        task = asyncio.get_running_loop().create_task(_remove(group), name=f"cgroup of {record.name}")
        self._removing.add(task)
        task.add_done_callback(self._removing.discard)

    def sweep(self) -> None:
        """Remove the groups of runs that ended while no supervisor looked."""
        if self._tree is not None:
            for group in self._tree.folder.iterdir():
                if group.is_dir():
                    cgroup.remove(group)

    def close(self, *, stopped: bool) -> None:
        """The supervisor leaves; where all has been stopped no group is left behind. Blocks for a moment."""
        for task in self._removing:
            task.cancel()
        if self._tree is None or not stopped:
            return
        until = time.monotonic() + _REMOVE_SECONDS
        while True:
            self.sweep()
            if cgroup.remove(self._tree.folder) or time.monotonic() >= until:
                return
            time.sleep(_REMOVE_STEP)

    def _has(self, controller: str) -> bool:
        return self._tree is not None and controller in self._tree.controllers

    def _group(self, record: Record, epoch: int) -> Path | None:
        if self._tree is None or record.kind == "gateway":
            return None
        return self._tree.folder / f"{record.name}-{record.bot_id}.{epoch}"

    def _set(self, record: Record, controller: str, file: str, value: str) -> bool:
        if not self._has(controller) or record.run is None:
            return True  # there is nothing to set, and nothing to try again
        group = self._group(record, record.run.epoch)
        return group is not None and not cgroup.write(group / file, value)


async def _remove(group: Path) -> None:
    until = time.monotonic() + _REMOVE_SECONDS
    while not cgroup.remove(group) and time.monotonic() < until:
        await asyncio.sleep(_REMOVE_STEP)


def _mount(proc: Path) -> tuple[str, Path] | None:
    """(root, mount point) of the hierarchy, from the kernel's table of mounts."""
    try:
        lines = (proc / "mountinfo").read_text("utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            _, _, _, root, point = before.split(" ")[:5]
            return root, Path(point)
    return None


def _own(proc: Path, root: str, point: Path) -> Path | None:
    """The folder of the group that this process is in."""
    try:
        lines = (proc / "cgroup").read_text("utf-8").splitlines()
    except OSError:
        return None
    path = next((line[3:] for line in lines if line.startswith("0::")), None)
    if path is None or not path.startswith(root):
        return None
    return point / path[len(root) :].lstrip("/")
