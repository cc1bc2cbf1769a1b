"""The log of a database that is written with every order has its length before the first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from store import meta, room
from store.database import open_database
from store.room import ROOM

_WRITES = """
import os, sys
from pathlib import Path
from store import meta
from store.database import open_database
database = open_database(Path(sys.argv[1]), "ledger", keep=True)
for number in range(20):
    with database.begin() as connection:
        meta.set(connection, f"key {number}", "x" * 2000)
os._exit(9)
"""


def wal(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


def test_commits_do_not_make_the_log_longer(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    database = open_database(path, "ledger", keep=True)
    before = wal(path)
    assert before >= ROOM
    for number in range(50):
        with database.begin() as connection:
            meta.set(connection, f"key {number}", "x" * 5000)
    assert wal(path) == before
    database.close()


def test_what_a_killed_process_committed_is_there(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", _WRITES, str(path)], check=False).returncode == 9
    assert wal(path) >= ROOM
    database = open_database(path, "ledger", keep=True)
    with database.read() as connection:
        assert all(meta.get(connection, f"key {number}") == "x" * 2000 for number in range(20))
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    database.close()


def test_a_disk_without_plenty_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_PLENTY", 10**9)
    path = tmp_path / "ledger.db"
    database = open_database(path, "ledger", keep=True)
    assert wal(path) < ROOM
    database.close()
