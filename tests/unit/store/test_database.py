"""Opening: private, current, without Alembic where nothing is to do, and one line where it cannot be."""

from __future__ import annotations

import importlib
import re
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, make_url, text
from sqlalchemy.schema import CreateTable

from store import bots, leases, meta
from store.database import Database, open_database
from store.equity import Sample
from store.errors import StoreConflict, StoreError
from store.migrations.heads import HEADS
from store.migrations.upgrade import scripts
from store.tables import Which, belongs, metadata

ROOT = Path(__file__).resolve().parents[3]
ALL: tuple[Which, ...] = ("supervisor", "ledger", "paper")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "supervisor.db", "supervisor")
    yield opened
    opened.close()


def opened_empty(path: Path, which: Which) -> Database:
    """A database that the migrations make, as they do for one that is older than this version."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("store.database.is_empty", lambda *_: False)
        return open_database(path, which)


def differences(conn: Connection, which: Which) -> list[object]:
    """Between the tables of a database and their declarations."""

    def ours(item: object, name: str | None, kind: str, reflected: bool, other: object) -> bool:
        table = item if kind == "table" else getattr(item, "table", None)
        if name == f"{which}_version":
            return False
        return True if reflected else table is None or belongs(table, which)  # type: ignore[arg-type]

    context = MigrationContext.configure(conn, opts={"include_object": ours, "compare_type": True})
    return list(compare_metadata(context, metadata))


def schema(conn: Connection) -> list[tuple[str, str, list[str]]]:
    """Kind, name and words of everything in the file; columns and constraints in any order."""
    rows = conn.execute(text("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")).all()
    return sorted((kind, name, sorted(re.split(r"[\s,()]+", sql))) for kind, name, sql in rows)


@pytest.mark.parametrize("which", ALL)
def test_the_migrations_make_exactly_the_tables(which: Which, tmp_path: Path) -> None:
    if which == "paper":
        importlib.import_module("store.paper")  # its tables join the common metadata
    found = []
    for opened in (opened_empty(tmp_path / "migrated.db", which), open_database(tmp_path / "fresh.db", which)):
        with opened.read() as conn:
            assert differences(conn, which) == []
            assert conn.execute(text(f"SELECT version_num FROM {which}_version")).scalars().all() == [HEADS[which]]
            found.append(schema(conn))
        opened.close()
    assert found[0] == found[1]
    assert any(belongs(table, which) for table in metadata.tables.values())
    assert scripts(which).get_heads() == [HEADS[which]]


def test_the_tables_can_be_made_on_postgresql() -> None:
    """The words only; a server is not needed. Numbers are 64 bits wide and given by sequences."""
    dialect = make_url("postgresql://").get_dialect()()
    ddl = {table.name: str(CreateTable(table).compile(dialect=dialect)) for table in metadata.tables.values()}
    assert "seq BIGSERIAL NOT NULL" in ddl["journal"]
    assert "ticket BIGINT NOT NULL" in ddl["ledger_deals"]


@pytest.mark.parametrize("which", ["supervisor", "ledger"])
def test_a_migration_can_be_taken_back(which: Which, tmp_path: Path) -> None:
    from alembic.operations import Operations

    opened = open_database(tmp_path / "x.db", which)
    with opened.begin() as conn:
        revision = scripts(which).get_revision("0001")
        assert revision is not None
        with Operations.context(MigrationContext.configure(conn)):
            revision.module.downgrade()
        left = conn.execute(text("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")).scalars().all()
    opened.close()
    assert left == [f"{which}_version"]


@pytest.mark.parametrize("state", ["fresh", "current"])
def test_a_fresh_or_current_database_does_not_import_alembic(state: str, tmp_path: Path) -> None:
    path = tmp_path / "supervisor.db"
    if state == "current":
        open_database(path, "supervisor").close()
    code = (
        "import sys; from store.database import open_database; import store.writer, store.journal, store.ledger;"
        f"open_database({str(path)!r}, 'supervisor').close();"
        "print([m for m in sys.modules if m.split('.')[0] in ('alembic', 'mako')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_files_are_private_and_settings_hold(tmp_path: Path) -> None:
    opened = open_database(tmp_path / "data" / "supervisor.db", "supervisor")
    with opened.begin() as conn:
        meta.set(conn, "a", "b")
        pragmas = [
            conn.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
        assert pragmas == ["wal", 2, 1]
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()}
    opened.close()
    assert set(modes) == {"supervisor.db", "supervisor.db-wal", "supervisor.db-shm"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_url_opens_the_same_database(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.db"
    by_path = open_database(path, "supervisor")
    with by_path.begin() as conn:
        first = meta.installation_id(conn)
    by_url = open_database(f"sqlite:///{path}", "supervisor")
    with by_url.begin() as conn:
        assert meta.installation_id(conn) == first
    assert len(first) == 8 and int(first, 16) >= 0
    by_path.close()
    by_url.close()


def test_a_newer_database_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.db"
    open_database(path, "supervisor").close()
    raw = sqlite3.connect(path)
    raw.execute("UPDATE supervisor_version SET version_num = '9999'")
    raw.commit()
    with pytest.raises(StoreError, match="9999") as caught:
        open_database(path, "supervisor")
    assert "newer" in caught.value.line() and "\n" not in caught.value.line()
    assert raw.execute("SELECT version_num FROM supervisor_version").fetchall() == [("9999",)]
    raw.close()


def test_what_is_not_a_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database at all, but long enough to be read as one\n" * 50)
    with pytest.raises(StoreError, match="file is not a database"):
        open_database(tmp_path / "text.db", "supervisor")
    with pytest.raises(StoreError, match=r"text\.db is not a directory"):
        open_database(tmp_path / "text.db" / "below.db", "supervisor")
    with pytest.raises(StoreError, match="names no file"):
        open_database("sqlite://", "supervisor")
    with pytest.raises(StoreError) as caught:
        open_database("nonsense://user:secret@host/x", "supervisor")
    assert "\n" not in caught.value.line() and "secret" not in caught.value.line()


@pytest.mark.posix
def test_a_read_only_directory_is_one_line() -> None:
    """Root may write anywhere, so as root the process becomes another user once its imports are done."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        code = (
            "import os\nfrom store.database import open_database\nfrom store.errors import StoreError\n"
            "import sqlalchemy.dialects.sqlite.pysqlite\n"
            "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            f"try: open_database({str(folder / 'x.db')!r}, 'supervisor')\n"
            "except StoreError as error: print(error.line())"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
        assert done.stdout == f"store {folder / 'x.db'}: Permission denied\n", done.stderr
        assert list(folder.iterdir()) == []


def test_a_block_that_raises_leaves_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.begin() as conn:
        meta.set(conn, "half", "done")
        raise ZeroDivisionError
    with database.read() as conn:
        assert meta.get(conn, "half") is None


def test_a_reader_sees_one_moment_while_a_writer_writes(database: Database) -> None:
    with database.read() as reading:
        assert meta.get(reading, "k") is None
        with database.begin() as writing:
            meta.set(writing, "k", "1")
        assert meta.get(reading, "k") is None
    with database.read() as reading:
        assert meta.get(reading, "k") == "1"


def test_a_constraint_is_a_conflict_and_undoes_its_transaction(database: Database) -> None:
    with pytest.raises(StoreConflict, match="a bot named one exists already"), database.begin() as conn:
        bots.insert_bot(conn, "two", wanted="stopped")
        bots.insert_bot(conn, "one", wanted="stopped")
        bots.insert_bot(conn, "one", wanted="stopped")
    with database.read() as conn:
        assert bots.load_all(conn) == []


def test_a_lease_has_one_holder_and_a_rising_term(database: Database) -> None:
    with database.begin() as conn:
        assert leases.take(conn, "shard", "a", now=100, seconds=10) == leases.Lease("shard", "a", 1, 110)
        assert leases.take(conn, "shard", "b", now=105, seconds=10) is None
        assert leases.take(conn, "shard", "a", now=108, seconds=10) == leases.Lease("shard", "a", 1, 118)
        assert leases.take(conn, "shard", "b", now=118, seconds=10) == leases.Lease("shard", "b", 2, 128)
        assert not leases.release(conn, "shard", "a", now=119)
        assert leases.release(conn, "shard", "b", now=119)
        assert leases.take(conn, "shard", "a", now=120, seconds=10) == leases.Lease("shard", "a", 3, 130)


def test_equity_is_kept_by_account_and_pruned(database: Database) -> None:
    from store import equity

    samples = [Sample("main", float(at), 100.0, 100.0 + at) for at in range(5)]
    with database.begin() as conn:
        equity.append(conn, [*samples, Sample("other", 9.0, 1.0, 1.0)])
        assert equity.since(conn, "main", 1.0, limit=2) == samples[2:4]
        assert equity.newest(conn, "main", 2) == samples[3:]
        assert equity.prune(conn, before=3.0, keep=100, most=2) == 2
        assert equity.prune(conn, before=3.0, keep=100, most=2) == 1
        assert equity.since(conn, "main", -1.0) == samples[3:]
        assert equity.prune(conn, before=0.0, keep=2, most=100) == 1
        assert equity.since(conn, "main", -1.0) == samples[4:]
