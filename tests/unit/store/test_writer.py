"""The writer: one fsync for many, each alone in its failure, every one answered once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from store import bots, journal, meta, runs
from store.database import Database, open_database
from store.errors import StoreConflict, StoreError
from store.journal import NewRow
from store.runs import Intent
from store.writer import Writer
from tests.support import eventually

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "supervisor.db", "supervisor", busy_timeout=0.1)
    yield opened
    opened.close()


@pytest.fixture
def writer(database: Database) -> Iterator[Writer]:
    made = Writer(database)
    yield made
    made.close()


def put(key: str) -> Callable[[Connection], None]:
    return lambda conn: meta.set(conn, key, "v")


def intend(intent: Intent) -> Callable[[Connection], None]:
    return lambda conn: runs.record_intents(conn, [intent])


def note(row: NewRow) -> Callable[[Connection], list[int]]:
    return lambda conn: journal.append(conn, [row])


class Gate:
    """An operation that holds the writer's transaction open, so that others gather behind it."""

    def __init__(self, writer: Writer) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        writer.submit(self._hold, lambda _: None)
        assert self.entered.wait(5)

    def _hold(self, _conn: Connection) -> None:
        self.entered.set()
        assert self.open.wait(10)


def commits(database: Database) -> list[None]:
    seen: list[None] = []
    event.listen(database.engine, "commit", lambda _conn: seen.append(None))
    return seen


def test_what_gathered_is_one_commit(database: Database) -> None:
    writer = Writer(database, slice_seconds=30)
    gate = Gate(writer)
    seen = commits(database)
    answers: list[Any] = []
    for n in range(400):
        writer.submit(put(f"k{n}"), answers.append)
    gate.open.set()
    eventually(lambda: writer.pending == 0)
    assert answers == [None] * 400
    assert len(seen) == 1
    assert writer.close()


def test_five_hundred_intents_are_quick(database: Database, writer: Writer) -> None:
    with database.begin() as conn:
        ids = [bots.insert_bot(conn, f"bot{n}", wanted="running") for n in range(500)]
    figures: list[float] = []
    for epoch in range(1, 6):
        answers: list[Any] = []
        started = time.perf_counter()
        for bot_id in ids:
            writer.submit(intend(Intent(bot_id, epoch, f"{bot_id}-{epoch}", 1.0)), answers.append)
        eventually(lambda: writer.pending == 0, every=0.001)
        figures.append(time.perf_counter() - started)
        assert answers == [None] * 500
    assert min(figures) < 0.1, figures
    with database.read() as conn:
        assert len(runs.open_runs(conn)) == 2500


@pytest.mark.posix
def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.db"
    code = (
        "import itertools, os\n"
        "from store.database import open_database\nfrom store.writer import Writer\nfrom store import meta\n"
        f"writer = Writer(open_database({str(path)!r}, 'supervisor'))\n"
        "for n in itertools.count():\n"
        "    if writer.pending < 100:\n"
        "        put = lambda conn, n=n: meta.set(conn, f'k{n}', 'v') or n\n"
        "        writer.submit(put, lambda r: os.write(1, b'k%d\\n' % r))\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    answered = {child.stdout.readline().strip() for _ in range(300)}
    child.kill()
    answered |= set(child.stdout.read().splitlines())
    child.wait(10)
    child.stdout.close()
    opened = open_database(path, "supervisor")
    with opened.read() as conn:
        kept = set(conn.execute(text("SELECT key FROM meta")).scalars())
        assert conn.execute(text("PRAGMA integrity_check")).scalar() == "ok"
    opened.close()
    assert len(answered) >= 300 and answered <= kept


def test_a_bad_operation_fails_alone(database: Database, writer: Writer) -> None:
    gate = Gate(writer)
    answers: dict[str, Any] = {}

    def half(conn: Connection) -> None:
        meta.set(conn, "half", "written")
        raise ValueError("no")

    writer.submit(lambda conn: bots.insert_bot(conn, "a", wanted="running"), lambda r: answers.update(a=r))
    writer.submit(half, lambda r: answers.update(half=r))
    writer.submit(lambda conn: conn.execute(text("SELECT * FROM nowhere")), lambda r: answers.update(sql=r))
    writer.submit(lambda conn: bots.insert_bot(conn, "a", wanted="running"), lambda r: answers.update(twice=r))
    writer.submit(intend(Intent(999, 1, "token", 1.0)), lambda r: answers.update(orphan=r))
    writer.submit(lambda conn: bots.insert_bot(conn, "b", wanted="running"), lambda r: answers.update(b=r))
    gate.open.set()
    eventually(lambda: len(answers) == 6)
    assert (answers["a"], answers["b"]) == (1, 2)
    assert isinstance(answers["half"], ValueError)
    assert isinstance(answers["sql"], StoreError) and "nowhere" in answers["sql"].line()
    assert isinstance(answers["twice"], StoreConflict) and isinstance(answers["orphan"], StoreConflict)
    with database.read() as conn:
        assert [bot.name for bot in bots.load_all(conn)] == ["a", "b"]
        assert meta.get(conn, "half") is None


def test_a_locked_database_fails_the_group_and_the_next_succeeds(database: Database, writer: Writer) -> None:
    other = sqlite3.connect(database.name, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    answers: list[Any] = []
    for n in range(20):
        writer.submit(put(f"k{n}"), answers.append)
    eventually(lambda: len(answers) == 20)
    assert {type(answer) for answer in answers} == {StoreError}
    assert answers[0].line() == f"store {database.name}: database is locked"
    with database.read() as conn:  # reading goes on
        assert meta.get(conn, "k0") is None
    other.execute("ROLLBACK")
    other.close()
    writer.submit(put("after"), answers.append)
    eventually(lambda: len(answers) == 21)
    assert answers[-1] is None
    with database.read() as conn:
        rows = conn.execute(text("SELECT key FROM meta")).scalars().all()
    assert rows == ["after"]
    assert writer.pending == 0


def test_a_lock_that_is_let_go_in_time_is_waited_for(tmp_path: Path) -> None:
    database = open_database(tmp_path / "supervisor.db", "supervisor", busy_timeout=10)
    writer = Writer(database)
    other = sqlite3.connect(database.name, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answers: list[Any] = []
    writer.submit(put("k"), answers.append)
    eventually(lambda: writer.pending == 1)
    other.execute("COMMIT")
    other.close()
    eventually(lambda: answers == [None])
    assert writer.close()
    database.close()


def test_a_full_disk_undoes_the_group(database: Database, writer: Writer) -> None:
    """`max_page_count` is SQLite's own full disk: SQLITE_FULL, as from a device without space."""
    gate = Gate(writer)
    answers: list[Any] = []

    def limit(conn: Connection) -> None:
        pages = conn.execute(text("PRAGMA page_count")).scalar()
        conn.execute(text(f"PRAGMA max_page_count = {pages}"))

    def lift(conn: Connection) -> None:
        conn.execute(text("PRAGMA max_page_count = 1000000"))

    writer.submit(limit, answers.append)
    writer.submit(note(NewRow(1.0, "x", "y" * 2_000_000)), answers.append)
    gate.open.set()
    eventually(lambda: len(answers) == 2)
    assert isinstance(answers[1], StoreError) and "full" in answers[1].line()
    writer.submit(lift, answers.append)
    writer.submit(note(NewRow(1.0, "x", "short")), answers.append)
    eventually(lambda: len(answers) == 4)
    assert answers[3] == [1]


def test_an_answer_comes_after_the_commit_and_may_raise(database: Database, writer: Writer) -> None:
    seen: list[str | None] = []

    def done(_: Any) -> None:
        with database.read() as conn:
            seen.append(meta.get(conn, "k"))
        raise RuntimeError("the receiver's own fault")

    writer.submit(put("k"), done)
    writer.submit(put("l"), done)
    eventually(lambda: len(seen) == 2)
    assert seen == ["v", "v"]


def test_the_order_of_submission_holds(database: Database, writer: Writer) -> None:
    answers: list[Any] = []
    for n in range(1200):
        writer.submit(note(NewRow(float(n), "x", str(n))), answers.append)
    eventually(lambda: len(answers) == 1200)
    assert answers == [[seq] for seq in range(1, 1201)]
    with database.read() as conn:
        assert [row.text for row in journal.since(conn, 0, limit=2000)] == [str(n) for n in range(1200)]


def test_close_writes_what_waits_and_refuses_what_comes_late(database: Database) -> None:
    writer = Writer(database)
    answers: list[Any] = []
    for n in range(50):
        writer.submit(put(f"k{n}"), answers.append)
    assert writer.close()
    assert answers == [None] * 50
    writer.submit(put("late"), answers.append)
    assert isinstance(answers[-1], StoreError) and "closed" in answers[-1].line()


def test_close_does_not_wait_for_ever(database: Database) -> None:
    writer = Writer(database)
    gate = Gate(writer)
    answers: list[Any] = []
    # Beyond what one transaction takes, so that it is still in the queue when the time is up.
    writer.submit(put("k"), answers.append)
    assert not writer.close(timeout=0.05)
    assert [type(answer) for answer in answers] == [StoreError]
    gate.open.set()
    eventually(lambda: writer.pending == 0)
