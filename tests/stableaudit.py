"""What must hold of an installation after every fault, read from the kernel and from the files, not from its word.

No duplicate: each running bot has one process, which holds the bot's lock and is the only one that has the lock's
file open. No orphan: every process of the installation is the supervisor's, a launcher's that listens, or a run.
Nothing lost: epochs only rise, the journal has no gap, the history of each run is whole, logs are unbroken.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil

from tests.daemon import Daemon
from tests.support import eventually

UP = ("running", "paused")
Files = defaultdict[Path, set[int]]  # path -> who has it open


def audit(daemon: Daemon, *, logs: bool = True, timeout: float = 15.0) -> None:
    """Raise AssertionError where something is there twice, left over, or lost. Waits for what is still settling.

    `logs`: not after a full disk, which cuts the line that is just being written.
    """
    found: list[str] = []

    def whole() -> bool:
        found[:] = _memory(daemon)
        if not found:
            files = _open_files(daemon)
            found[:] = _doubles(daemon, files) or _orphans(daemon, files)
        return not found

    try:
        eventually(whole, timeout, every=0.2)
    except AssertionError:
        raise AssertionError("; ".join(found)) from None
    broken = _broken_logs(daemon) if logs else []
    assert not broken, broken


def ended(daemon: Daemon, timeout: float = 15.0) -> None:
    """After the end of everything: no process, and nobody holds a lock."""
    eventually(lambda: not daemon.processes(), timeout, what=f"all ended: {daemon.processes()}")
    held = set(_flocks(daemon.data_dir / "locks"))
    assert not held, held


def ids(daemon: Daemon) -> dict[str, int]:
    """Name -> id of every bot and program."""
    return {
        name: number
        for number, name in _rows(daemon, "SELECT id, name FROM bots WHERE kind = 'bot' AND removed_at IS NULL")
    }


def runs(daemon: Daemon, name: str) -> list[tuple[int, int | None, str | None]]:
    """(epoch, status, cause) of a bot's runs, oldest first."""
    return _rows(daemon, f"SELECT epoch, status, cause FROM runs WHERE bot_id = {ids(daemon)[name]} ORDER BY epoch")


def seconds_to_adopt(daemon: Daemon, names: set[str]) -> float:
    """By the journal's own times: from the last start of a supervisor to the last of these bots that it took over."""
    rows = _rows(daemon, "SELECT seq, at FROM journal WHERE type = 'supervisor' AND text LIKE '%started%' ORDER BY seq")
    seq, began = rows[-1]

    def told() -> list[float] | None:
        query = f"SELECT bot, min(at) FROM journal WHERE seq > {seq} AND type = 'state' AND text = 'running' GROUP BY 1"
        at = dict(_rows(daemon, query))
        return [at[name] for name in names] if names <= at.keys() else None

    return max(eventually(told, 10, what="all are called running")) - float(began)


def _rows(daemon: Daemon, query: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(f"file:{daemon.data_dir}/supervisor.db?mode=ro", uri=True)) as conn:
        return conn.execute(query).fetchall()


def _doubles(daemon: Daemon, open_in: Files) -> list[str]:
    """Bots with another number of processes than they should have."""
    number, held = ids(daemon), _flocks(daemon.data_dir / "locks")
    wrong = []
    for row in daemon.status():
        path = daemon.data_dir / "locks" / f"{row['name']}-{number[row['name']]}"
        wanted = {row["pid"]} if row["state"] in UP else set()
        if row["state"] not in (*UP, "stopped", "failed"):
            wrong.append(f"{row['name']} is {row['state']}: {row['reason']}")
        elif open_in[path] != wanted or held.get(path, set()) != wanted:
            wrong.append(f"{row['name']} ({row['state']}, pid {row['pid']}): open in {open_in[path]}, held by "
                         f"{held.get(path)}")  # fmt: skip
        log = daemon.data_dir / "logs" / f"{row['name']}.log"
        if not open_in[log] <= wanted:
            wrong.append(f"{log} is open in {open_in[log]}")
    return wrong


def _orphans(daemon: Daemon, open_in: Files) -> list[str]:
    """Processes of the installation that nobody has started for anything that is wanted now."""
    everybody = daemon.processes()
    known = {daemon.pid, *_launchers(daemon, everybody)}
    for path, pids in open_in.items():
        if path.parent.name == "locks":
            known |= pids
    found = []
    for process in everybody:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.pid not in known and not known & {parent.pid for parent in process.parents()}:
                found.append(f"{process.pid} {' '.join(process.cmdline())[:80]}")
    return found


def _memory(daemon: Daemon) -> list[str]:
    wrong = []
    up = {row["name"]: row for row in daemon.status()}
    for name, number in ids(daemon).items():
        of_bot = f"FROM runs WHERE bot_id = {number}"
        epochs = [epoch for (epoch,) in _rows(daemon, f"SELECT epoch {of_bot} ORDER BY id")]
        if epochs != sorted(set(epochs)):
            wrong.append(f"epochs of {name} do not only rise: {epochs}")
        left = [epoch for (epoch,) in _rows(daemon, f"SELECT epoch {of_bot} AND ended_at IS NULL")]
        if left != ([up[name]["epoch"]] if up[name]["state"] in UP else []):
            wrong.append(f"{name} is {up[name]['state']} in epoch {up[name]['epoch']}, open runs: {left}")
    numbers = [seq for (seq,) in _rows(daemon, "SELECT seq FROM journal ORDER BY seq")]
    if numbers != list(range(1, len(numbers) + 1)):
        missing = set(range(1, max(numbers, default=0) + 1)) - set(numbers)
        wrong.append(f"the journal has gaps: {sorted(missing)[:10]}")
    history: dict[tuple[int, int], list[int]] = defaultdict(list)
    for bot_id, epoch, run_seq in _rows(daemon, "SELECT bot_id, epoch, run_seq FROM journal WHERE run_seq > 0"):
        history[bot_id, epoch].append(run_seq)
    for run, rows in history.items():
        if sorted(rows) != list(range(1, len(rows) + 1)):
            wrong.append(f"the history of (bot, epoch) {run} is not whole: {sorted(rows)}")
    return wrong


def _broken_logs(daemon: Daemon) -> list[str]:
    """Logs with a line that is no JSON, or in which an older epoch writes after a newer one."""
    wrong = []
    for path in (daemon.data_dir / "logs").glob("*.log"):
        files = [*sorted(path.parent.glob(f"{path.name}.*"), key=lambda one: -int(one.suffix[1:])), path]
        epoch = 0
        for line in "".join(one.read_text("utf-8") for one in files).splitlines():
            try:
                told = json.loads(line)
            except ValueError:
                if path.stem not in ("launcher", "supervisor"):  # theirs hold what a crash printed, too
                    wrong.append(f"{path.name}: {line!r}")
                continue
            if told.get("epoch", epoch) < epoch:
                wrong.append(f"{path.name}: epoch {told['epoch']} after {epoch}")
            epoch = told.get("epoch", epoch)
    return wrong


def _open_files(daemon: Daemon) -> Files:
    """Which processes have which files of the data directory open, by /proc."""
    found: defaultdict[Path, set[int]] = defaultdict(set)
    root = str(daemon.data_dir)
    for pid in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208  (many times as fast as Path)
        for target in _targets(pid):
            if target.startswith(root):
                found[Path(target)].add(int(pid))
    return found


def _targets(pid: str) -> list[str]:
    """What the descriptors of a process are open on; empty when it is gone."""
    found = []
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))  # noqa: PTH115
    return found


def _flocks(folder: Path) -> dict[Path, set[int]]:
    """Who holds a lock on which file of the folder, as the kernel says."""
    inodes = {path.stat().st_ino: path for path in folder.glob("*")}
    found: dict[Path, set[int]] = defaultdict(set)
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if "FLOCK" in fields and "->" not in fields:
            path = inodes.get(int(fields[5].rsplit(":", 1)[1]))
            if path is not None:
                found[path].add(int(fields[4]))
    return dict(found)


def _launchers(daemon: Daemon, everybody: list[psutil.Process]) -> set[int]:
    """Processes that listen on a launcher's socket of this installation."""
    run = daemon.data_dir / "run"
    with contextlib.suppress(OSError):
        run = Path((daemon.data_dir / "run.path").read_text().strip())
    listening = set()
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if len(fields) == 8 and fields[7].startswith(f"{run}/launcher-") and int(fields[3], 16) & 0x10000:
            listening.add(f"socket:[{fields[6]}]")
    return {one.pid for one in everybody if listening.intersection(_targets(str(one.pid)))}
