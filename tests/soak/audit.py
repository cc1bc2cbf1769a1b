"""What must hold after every round, read from the kernel and the files, not only from the supervisor."""

from __future__ import annotations

import re
import sqlite3
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from broker import api
from tests.soak.yard import PATIENCE, Yard, line_of, locks_of
from tests.support import eventually

_TRACEBACK = "Traceback (most recent call last)"
#: Seconds after which an order without a known outcome is one that was left.
_OUTCOME = 60.0
#: Above the first settled figure, beside half of it again.
_MORE_FILES = 32
_MORE_BYTES = 40_000_000
_OF_A_DEAL = 700  # bytes; some 520 are measured


@dataclass
class Auditor:
    """Keeps what it saw, so that it can say what has grown."""

    yard: Yard
    growth: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)  # role -> (pid, files, bytes)
    lags: list[tuple[float, float]] = field(default_factory=list)
    _read: dict[Path, int] = field(default_factory=dict)  # how far a log was looked through

    # --- after every round ---------------------------------------------------------------------------

    def light(self) -> None:
        """Raise AssertionError where a promise is broken."""
        yard = self.yard
        assert not yard.trouble, yard.trouble
        yard.settled()
        self._epochs()
        self._nothing_strange()
        self._numbers()
        self._logs()
        self._orders()
        self._measure()

    def _epochs(self) -> None:
        """Epochs only rise, and a run that is gone is one of which we know why."""
        rows = self.yard.rows()
        for name, row in rows.items():
            before = self.yard.epochs.get(name, row["epoch"])
            assert row["epoch"] >= before, f"{name}: epoch {row['epoch']} after {before}"
            for epoch in range(before, row["epoch"]):
                if (name, epoch) not in self.yard.excused:
                    self._must_be_excused(name, epoch)
            self.yard.epochs[name] = row["epoch"]

    def _must_be_excused(self, name: str, epoch: int) -> None:
        """A run that was never confirmed (its epoch was skipped), or that an operator ended, needs no excuse."""
        rows = self.query("supervisor.db", _RUNS + " WHERE b.name = ? AND r.epoch = ?", name, epoch)
        told = [row for row in rows if row[3] not in ("operator", "clean")]
        assert name in self.yard.scars or not told, f"{name}: nobody touched the run of epoch {epoch}: {told}"

    def _nothing_strange(self) -> None:
        """Exactly one process a run, and nobody else. What has just ended may still be there for a moment."""
        found: list[str] = []

        def none() -> bool:
            found[:] = self.problems()
            return not found

        try:
            eventually(none, PATIENCE, every=0.25)
        except AssertionError:
            raise AssertionError(f"not as it should be: {found}") from None

    def problems(self) -> list[str]:
        """Processes and locks that are not as the rows of status say."""
        yard = self.yard
        running = {row["name"]: row["pid"] for row in yard.daemon.status() if row["pid"]}
        gateway = yard.gateway["pid"]
        processes = {one.pid: one for one in yard.daemon.processes()}
        held = {pid: names for pid in processes if (names := locks_of(pid))}
        found = []
        holders = Counter(name for names in held.values() for name in names)
        found += [f"{count} processes have {name} open" for name, count in holders.items() if count > 1]
        for name, pid in running.items():
            mine = [lock for lock in held.get(pid, []) if re.fullmatch(rf"{re.escape(name)}-\d+", lock)]
            if len(mine) != 1:
                found.append(f"{name} (process {pid}) has {held.get(pid)}")
        expected = {*running.values(), gateway}
        found += [f"process {pid} holds {names} and is nobody's run" for pid, names in held.items()
                  if pid not in expected]  # fmt: skip
        locked = _flocks()
        for lock in (yard.daemon.data_dir / "locks").iterdir():
            owner = locked.get(lock.stat().st_ino)
            if owner is not None and owner not in expected:
                found.append(f"{lock.name} is locked by {owner}, who is no run")
        roles = Counter(self._role(one, processes, expected) for one in processes.values())
        found += [f"stray: {role}" for role in roles if role.startswith("?")]
        for role in ("supervisor", "probe"):
            if roles[role] != 1:
                found.append(f"{roles[role]} x {role}")
        idle = [one.pid for one in yard.launchers() if not any(locks_of(child.pid) for child in _children(one))]
        if len(idle) > 1:
            found.append(f"launchers without a run: {idle}")
        return found

    def _role(self, process: psutil.Process, all_: dict[int, psutil.Process], runs: set[int]) -> str:
        """What a process is; with `?` where it is nothing that should be."""
        line = line_of(process)
        if process.pid == self.yard.daemon.pid:
            return "supervisor"
        if process.pid in runs:
            return "run"
        parents = _ancestors(process)
        if "supervisor.runtime.probe" in line:
            return "probe" if self.yard.daemon.pid in parents else f"? probe {process.pid} of another supervisor"
        if "botproc.launcher" in line:
            return "launcher or spare"
        if any(pid in runs for pid in parents) or not line:
            return "below a run"  # a program and its children; one that has just ended has no line
        return f"? {process.pid} {line[:200]}"

    def _numbers(self) -> None:
        """The journal's numbers have no gap, and the rows of each run none either."""
        count, low, high = self.query("supervisor.db", "SELECT count(*), min(seq), max(seq) FROM journal")[0]
        assert count == high - low + 1, f"the journal has {count} rows from {low} to {high}"
        torn = self.query(
            "supervisor.db",
            "SELECT bot, epoch, count(*), min(run_seq), max(run_seq) FROM journal WHERE run_seq IS NOT NULL"
            " GROUP BY bot_id, epoch HAVING count(*) != max(run_seq) - min(run_seq) + 1 OR min(run_seq) != 1",
        )
        assert not torn, f"history with gaps (bot, epoch, rows, first, last): {torn}"

    def _logs(self) -> None:
        """No traceback in any log since the last look."""
        for path in sorted((self.yard.daemon.data_dir / "logs").iterdir()):
            if path.suffix not in (".log", ".out"):
                continue
            size = path.stat().st_size
            start = self._read.get(path, 0)
            with path.open("rb") as log:
                log.seek(start if size >= start else 0)
                text = log.read().decode("utf-8", "replace")
            self._read[path] = size
            at = text.find(_TRACEBACK)
            assert at < 0, f"{path.name}: {text[max(0, at - 300) : at + 3000]}"
        told = [one for one in self.yard.complaints if _TRACEBACK in one]
        assert not told, told

    def _orders(self) -> None:
        """No order is left without an outcome, and no decision was entered twice."""
        old = time.time() - _OUTCOME
        left = self.query(
            "ledger-main.db",
            "SELECT i.id, i.bot_id, i.action FROM order_intents i LEFT JOIN order_results r ON r.id = i.id"
            " WHERE (r.id IS NULL OR r.status = 'unknown') AND i.at < ?",
            old,
        )
        assert not left, f"orders without an outcome: {left}"
        twice = self.query(
            "ledger-main.db",
            "SELECT i.bot_id, i.decision, count(*) FROM order_intents i JOIN order_results r ON r.id = i.id"
            " WHERE r.status = 'done' AND i.action = 'open' GROUP BY 1, 2 HAVING count(*) > 1",
        )
        assert not twice, f"entered twice: {twice}"
        highest: dict[int, int] = {}
        # Epoch 0 are the gateway's own closes.
        for bot_id, epoch in self.query(
            "ledger-main.db", "SELECT bot_id, epoch FROM order_intents WHERE epoch > 0 ORDER BY rowid"
        ):
            assert epoch >= highest.get(bot_id, 0), f"bot {bot_id}: epoch {epoch} traded after {highest[bot_id]}"
            highest[bot_id] = epoch

    def _measure(self) -> None:
        """Descriptors and private memory of what lives long."""
        yard = self.yard
        probe = [one for one in psutil.Process(yard.daemon.pid).children() if "runtime.probe" in line_of(one)]
        roles = {"supervisor": yard.daemon.pid, "launcher": yard.launcher().pid, "gateway": yard.gateway["pid"],
                 "probe": probe[0].pid}  # fmt: skip
        lag = yard.ask("host")["loop_lag"]
        if lag["p99"] is not None:
            self.lags.append((lag["p99"], lag["own_p99"]))
        for role, pid in roles.items():
            process = psutil.Process(pid)
            self.growth.setdefault(role, []).append((pid, process.num_fds(), process.memory_full_info().uss))

    # --- at the end ----------------------------------------------------------------------------------

    def grown(self) -> dict[str, tuple[int, int, int, int]]:
        """For each role: descriptors and bytes at first (the least of the first rounds), and at last."""
        found = {}
        for role, seen in self.growth.items():
            early = seen[1:4] or seen
            found[role] = (min(one[1] for one in early), min(one[2] for one in early), seen[-1][1], seen[-1][2])
        return found

    def final(self) -> dict[str, Any]:
        """After the last round: growth, then the stop of everything, then the files. Figures for the table."""
        for role, (files, size, files_now, size_now) in self.grown().items():
            assert files_now <= files * 1.5 + _MORE_FILES, f"{role}: {files} descriptors became {files_now}"
            # The paper terminal keeps the account's history, as a real one does: a deal and its order each.
            history = self.query("ledger-main.db", "SELECT count(*) FROM ledger_deals")[0][0] * _OF_A_DEAL
            most = size * 1.5 + _MORE_BYTES + (history if role == "gateway" else 0)
            assert size_now <= most, f"{role}: {size} bytes became {size_now}"
        yard = self.yard
        assert yard.daemon.down(PATIENCE) == 0
        yard.hear()
        eventually(lambda: not yard.daemon.processes(), PATIENCE, what="no process left")
        assert not _flocks().keys() & {one.stat().st_ino for one in (yard.daemon.data_dir / "locks").iterdir()}
        self._numbers()
        self._logs()
        for name in ("supervisor.db", "ledger-main.db", "paper-main.db"):
            assert self.query(name, "PRAGMA integrity_check") == [("ok",)], name
        left = self.query("supervisor.db", _RUNS + " WHERE r.ended_at IS NULL")
        assert not left, f"runs without an end: {left}"
        return {**self._runs(), **self._money()}

    def _runs(self) -> dict[str, Any]:
        runs = self.query("supervisor.db", _RUNS + " ORDER BY r.id")
        again = [key for key, count in Counter((run[4], run[1]) for run in runs).items() if count > 1]
        assert not again, f"epochs given twice: {again}"
        for name, epoch, _status, cause, _bot, reason, kind in runs:
            allowed = self.yard.excused.get((name, epoch), set())
            if kind == "gateway":
                continue  # counted below: who plays the fault does not know its epoch
            if cause in ("hang", "oom", "limit", "host", "strategy", "lock"):
                assert cause in allowed, f"{name}, epoch {epoch}: {cause} ({reason}), allowed: {allowed or 'nothing'}"
        hung = sum(run[3] == "hang" for run in runs if run[6] == "gateway")
        assert hung == self.yard.gateway_hangs, f"{hung} gateways were judged hung, {self.yard.gateway_hangs} hung"
        causes = Counter(str(run[3]) for run in runs)
        rows = self.query("supervisor.db", "SELECT count(*) FROM journal")[0][0]
        return {"runs": len(runs), "causes": dict(causes), "journal": rows}

    def _money(self) -> dict[str, Any]:
        """Every deal of the terminal is in the ledger as it is, with its bot, and the sums are the balance."""
        names = [
            "ticket",
            "order",
            "magic",
            "position_id",
            "entry",
            "volume",
            "price",
            "profit",
            "commission",
            "swap",
            "fee",
        ]
        columns = ", ".join(f'"{name}"' for name in names)
        deals = self.query("paper-main.db", f"SELECT {columns} FROM paper_deals ORDER BY ticket")
        booked = self.query("ledger-main.db", f"SELECT {columns} FROM ledger_deals ORDER BY ticket")
        assert booked == deals, f"the ledger differs: {set(booked) ^ set(deals)}"
        balance = self.query("paper-main.db", "SELECT balance FROM paper_account")[0][0]
        total = sum(sum(deal[7:]) for deal in deals)
        assert abs(total - balance) < 0.005, f"the deals come to {total}, the balance is {balance}"
        expert = f'SELECT "order" FROM paper_deals WHERE magic != 0 AND reason = {api.DEAL_REASON_EXPERT}'
        executed = Counter(row[0] for row in self.query("paper-main.db", expert))
        results = Counter(
            row[0] for row in self.query(
                "ledger-main.db", "SELECT \"order\" FROM order_results WHERE status = 'done' AND deal > 0"
            )
        )  # fmt: skip
        assert max(results.values(), default=1) == 1, "two orders claim one execution"
        held = Counter(row[0] for row in self.query("paper-main.db", "SELECT magic FROM paper_positions"))
        assert max(held.values(), default=0) <= 1, f"more than one position of a bot: {held}"
        unclaimed = executed.keys() - results.keys()
        assert not unclaimed, f"executed, and nobody's order: {unclaimed}"
        return {"deals": len(deals), "orders": len(results), "balance": balance}

    def query(self, database: str, text: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of one of the databases, read only."""
        path = self.yard.daemon.data_dir / database
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30.0)) as connection:
            return connection.execute(text, values).fetchall()


_RUNS = (
    "SELECT b.name, r.epoch, r.status, r.cause, r.bot_id, r.reason, b.kind FROM runs r JOIN bots b ON b.id = r.bot_id"
)


def _flocks() -> dict[int, int]:
    """Inode -> process of every flock in the kernel's table."""
    found = {}
    for line in Path("/proc/locks").read_text("utf-8").splitlines():
        words = line.split()
        if "FLOCK" in words and "->" not in words:
            found[int(words[5].rpartition(":")[2])] = int(words[4])
    return found


def _ancestors(process: psutil.Process) -> list[int]:
    try:
        return [one.pid for one in process.parents()]
    except psutil.Error:
        return []


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.Error:
        return []
