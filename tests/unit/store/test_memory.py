"""Bots, runs, journal and halts: what is remembered, and what a second word cannot change."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from store import bots, journal, runs, views
from store.database import Database, open_database
from store.errors import StoreConflict
from store.halts import HaltBook, gateway_halts, supervisor_halts
from store.journal import NewRow
from store.runs import Intent
from store.tables import Which


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[Connection]:
    opened = open_database(tmp_path / "supervisor.db", "supervisor")
    with opened.begin() as connection:
        yield connection
    opened.close()


def history(run_seq: int, *, epoch: int = 1, bot_id: int = 1) -> NewRow:
    return NewRow(
        float(run_seq), "history", f"row {run_seq}", bot="b", bot_id=bot_id, epoch=epoch, run_seq=run_seq,
        data={"action": "INFO"},
    )  # fmt: skip


def test_a_bot_is_remembered_as_it_was_written(conn: Connection) -> None:
    declared = {"market": "EURUSD", "params": {"fast": 20}, "since": datetime.date(2020, 1, 1)}
    first = bots.insert_bot(conn, "a", declared=declared, wanted="running")
    second = bots.insert_bot(conn, "b", added={"market": "USDJPY"}, wanted="stopped")
    gateway = bots.insert_bot(conn, "a", kind="gateway", wanted="running")
    bots.set_override(conn, first, {"risk_percent": 2.0})
    bots.set_wanted(conn, [first, second], "paused")
    bots.set_declared(conn, first, None)
    bots.set_added(conn, second, {"market": "GBPUSD"})
    rows = {row.id: row for row in bots.load_all(conn)}
    assert list(rows) == [first, second, gateway]
    assert (rows[first].declared, rows[first].override, rows[first].wanted) == (
        None,
        {"risk_percent": 2.0},
        "paused",
    )
    assert (rows[second].added, rows[second].declared) == ({"market": "GBPUSD"}, None)
    assert (rows[gateway].kind, rows[gateway].name, rows[gateway].wanted) == ("gateway", "a", "running")
    with pytest.raises(StoreConflict, match="a bot named a exists already"):
        bots.insert_bot(conn, "a", wanted="running")


def test_an_id_is_never_reused_and_its_epoch_stays(conn: Connection) -> None:
    first = bots.insert_bot(conn, "a", wanted="running")
    bots.reserve_epochs(conn, {first: 32})
    bots.reserve_epochs(conn, {first: 16})  # a ceiling never sinks
    bots.remove(conn, first, 5.0)
    again = bots.insert_bot(conn, "a", wanted="running")
    assert again > first
    assert [row.id for row in bots.load_all(conn)] == [again]
    assert [row.id for row in bots.load_all(conn, removed=True)] == [first, again]
    assert bots.last_epochs(conn) == {first: 32, again: 0}
    removed = bots.get(conn, first)
    assert removed is not None and (removed.removed_at, removed.last_epoch) == (5.0, 32)


def test_ids_rise_even_when_the_last_row_is_really_deleted(tmp_path: Path) -> None:
    """AUTOINCREMENT, and not `max(rowid) + 1`: also over a restart."""
    for expected in (1, 2, 3):
        opened = open_database(tmp_path / "x.db", "supervisor")
        with opened.begin() as conn:
            assert bots.insert_bot(conn, "a", wanted="running") == expected
            assert journal.append(conn, [NewRow(1.0, "info", "x")]) == [expected]
            conn.exec_driver_sql("DELETE FROM bots")
            conn.exec_driver_sql("DELETE FROM journal")
        opened.close()


def test_a_run_from_intent_to_end(conn: Connection) -> None:
    bot = bots.insert_bot(conn, "a", wanted="running")
    runs.record_intents(conn, [Intent(bot, 1, "t1", 1.0), Intent(bot, 2, "t2", 2.0)])
    runs.record_identity(conn, "t1", 77, "boot", 2**40, "g1", "hash")
    assert [run.token for run in runs.open_runs(conn)] == ["t1", "t2"]
    assert runs.record_end(conn, "t1", 3.0, 9, "crash", "signal 9")
    assert not runs.record_end(conn, "t1", 4.0, -1, "unknown", "later")
    (still,) = runs.open_runs(conn)
    assert (still.token, still.pid) == ("t2", None)
    newest, oldest = runs.last_runs(conn, bot, 10)
    assert (newest.epoch, oldest.epoch) == (2, 1)
    assert (oldest.pid, oldest.boot_id, oldest.start_ticks, oldest.launcher) == (77, "boot", 2**40, "g1")
    assert (oldest.ended_at, oldest.status, oldest.cause, oldest.reason) == (3.0, 9, "crash", "signal 9")
    assert views.causes(conn, bot) == {"crash": 1}
    assert {key: run.epoch for key, run in views.newest_runs(conn).items()} == {bot: 2}
    assert "token" not in runs.as_dict(newest)


@pytest.mark.parametrize("second", [Intent(1, 1, "other", 1.0), Intent(1, 2, "token", 1.0), Intent(9, 1, "x", 1.0)])
def test_an_epoch_and_a_token_are_used_once(second: Intent, tmp_path: Path) -> None:
    opened = open_database(tmp_path / "x.db", "supervisor")
    with opened.begin() as conn:
        bots.insert_bot(conn, "a", wanted="running")
        runs.record_intents(conn, [Intent(1, 1, "token", 1.0)])
    with pytest.raises(StoreConflict), opened.begin() as conn:
        runs.record_intents(conn, [second])
    opened.close()


def test_old_runs_are_forgotten_but_not_the_newest(conn: Connection) -> None:
    bot, other = (bots.insert_bot(conn, name, wanted="running") for name in "ab")
    for epoch in range(1, 7):
        runs.record_intents(conn, [Intent(bot, epoch, f"a{epoch}", 1.0)])
    runs.record_intents(conn, [Intent(other, 1, "b1", 1.0)])
    for token in ("a1", "a2", "a3", "a4", "a6", "b1"):
        runs.record_end(conn, token, 10.0, 0, "clean", "")
    assert runs.prune(conn, before=5.0, keep=0) == 0
    assert runs.prune(conn, before=11.0, keep=2) == 4
    assert [run.epoch for run in runs.last_runs(conn, bot, 9)] == [6, 5]
    assert len(runs.last_runs(conn, other, 9)) == 1


def test_history_said_twice_is_written_once(conn: Connection) -> None:
    assert journal.append(conn, [history(1), history(2)]) == [1, 2]
    mixed = [
        history(2),
        history(3),
        NewRow(9.0, "state", "s"),
        history(3),
        history(1, epoch=2),
        history(1, bot_id=2),
    ]
    assert journal.append(conn, mixed) == [0, 3, 4, 0, 5, 6]
    assert journal.append(conn, [history(1)]) == [0]
    assert journal.append(conn, [NewRow(9.0, "state", "s"), NewRow(9.0, "state", "s")]) == [7, 8]
    assert journal.append(conn, []) == []
    assert [row.seq for row in journal.of_bot(conn, 1, 10)] == [1, 2, 3, 5]
    assert [row.seq for row in journal.of_bot(conn, 1, 2)] == [3, 5]
    assert [journal.last_run_seq(conn, 1, epoch) for epoch in (1, 2, 3)] == [3, 1, 0]


@pytest.mark.parametrize("count", [1, 2, 150])
def test_history_of_many_runs_said_twice_is_written_once(conn: Connection, count: int) -> None:
    rows = [NewRow(1.0, "history", "START", "b", bot_id=bot, epoch=bot % 3, run_seq=bot % 5) for bot in range(count)]
    first = journal.append(conn, rows[::2])
    assert all(first)
    again = journal.append(conn, [*rows, *rows])
    assert [bool(seq) for seq in again] == [bool(at % 2) for at in range(count)] + [False] * count
    assert len(journal.last(conn, 1000)) == count


def test_what_is_written_already_is_found_by_an_index(conn: Connection) -> None:
    asked: list[str] = []
    driver = conn.connection.driver_connection
    assert driver is not None
    driver.set_trace_callback(asked.append)  # what the driver is given, whoever gives it
    rows = [NewRow(1.0, "history", "x", "b", bot_id=bot, epoch=1, run_seq=1) for bot in range(2, 7)]
    journal.append(conn, [*rows, history(7), history(8)])
    driver.set_trace_callback(None)
    questions = [statement for statement in asked if statement.startswith("SELECT")]
    assert len(questions) == 6, "one for each single row, and one for the two of one run"
    for question in questions:
        plan = [str(row[-1]) for row in driver.execute(f"EXPLAIN QUERY PLAN {question}")]
        assert not any(step.startswith("SCAN") for step in plan), plan
        assert any("SEARCH journal USING" in step for step in plan), plan


def test_a_row_comes_back_as_it_was_written(conn: Connection) -> None:
    row = NewRow(
        1.5, "alert", "Grüße \ud800 €", bot="b", bot_id=7, data={"n": [1, 2.5, None], "s": "ü\ud800"}, cause_id="c1"
    )
    journal.append(conn, [row])
    (read,) = journal.since(conn, 0, limit=9)
    assert (read.text, read.data) == ("Grüße ? €", {"n": [1, 2.5, None], "s": "ü\ud800"})
    assert (read.at, read.type, read.bot, read.bot_id, read.cause_id) == (1.5, "alert", "b", 7, "c1")


def test_since_resumes_and_selects(conn: Connection) -> None:
    assert (journal.first_seq(conn), journal.last_seq(conn)) == (0, 0)
    kinds = ["state", "alert", "info"]
    journal.append(conn, [NewRow(float(n), kinds[n % 3], str(n), bot="ab"[n % 2]) for n in range(2000)])
    seen: list[int] = []
    while rows := journal.since(conn, seen[-1] if seen else 0, limit=300):
        seen += [row.seq for row in rows]
    assert seen == list(range(1, 2001))
    assert [row.text for row in journal.since(conn, 10, limit=3, bot="a")] == ["10", "12", "14"]
    assert [row.text for row in journal.since(conn, 0, limit=3, types=["alert", "info"])] == ["1", "2", "4"]
    assert journal.since(conn, 0, limit=3, types=[]) == []
    assert [row.text for row in journal.last(conn, 2, bot="b")] == ["1997", "1999"]


def test_the_journal_is_pruned_by_age_and_size_and_goes_on_rising(conn: Connection) -> None:
    def prune(before: float, keep: int) -> int:
        return journal.forget(conn, below=journal.kept_from(conn, before=before, keep=keep), most=1000)

    assert prune(1e9, 0) == 0
    journal.append(conn, [NewRow(float(n), "x", str(n)) for n in range(1, 101)])
    assert prune(11.0, 1000) == 10
    assert journal.first_seq(conn) == 11
    assert journal.forget(conn, below=15, most=3) == 3
    assert prune(0.0, 20) == 67
    assert (journal.first_seq(conn), journal.last_seq(conn)) == (81, 100)
    assert prune(1e9, 0) == 19
    assert journal.append(conn, [NewRow(1.0, "x", "y")]) == [101]


def test_what_is_kept_of_the_journal_has_no_hole(conn: Connection) -> None:
    times = [9.0, 1.0, 2.0, 8.0, 1.0, 9.0]  # a bot's rows come later than they happened
    journal.append(conn, [NewRow(at, "x", str(at)) for at in times])
    assert journal.kept_from(conn, before=8.5, keep=100) == 1
    assert journal.kept_from(conn, before=8.5, keep=5) == 2
    journal.forget(conn, below=2, most=10)
    assert journal.kept_from(conn, before=8.0, keep=100) == 4


@pytest.mark.parametrize(("which", "book"), [("supervisor", supervisor_halts), ("ledger", gateway_halts)])
def test_a_halt_holds_until_it_is_lifted(which: Which, book: HaltBook, tmp_path: Path) -> None:
    opened: Database = open_database(tmp_path / "x.db", which)
    with opened.begin() as conn:
        first = book.add(conn, scope="all", reason="news", who="ann", at=1.0)
        assert book.add(conn, scope="all", reason="again", who="bob", at=2.0) == first
        book.add(conn, scope="bot:x", reason="odd", who="bob", at=3.0)
    with opened.begin() as conn:
        assert [(halt.scope, halt.reason) for halt in book.active(conn)] == [("all", "news"), ("bot:x", "odd")]
        assert book.lift(conn, scope="all", who="ann", at=4.0)
        assert not book.lift(conn, scope="all", who="ann", at=5.0)
        assert [halt.scope for halt in book.active(conn)] == ["bot:x"]
        assert book.add(conn, scope="all", reason="new", who="ann", at=6.0) > first
        lifted = book.all(conn)[-1]
        assert (lifted.lifted_at, lifted.lifted_by) == (4.0, "ann")
    opened.close()
