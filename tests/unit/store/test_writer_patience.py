"""What nobody waits for may wait for company: one transaction for it and for what cannot wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import event

from store import meta
from store.database import Database, open_database
from store.writer import Writer
from tests.support import eventually


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "supervisor.db", "supervisor")
    yield opened
    opened.close()


@pytest.fixture
def writer(database: Database) -> Iterator[Writer]:
    made = Writer(database)
    yield made
    made.close()


def _note(done: list[str], name: str, _: object) -> None:
    done.append(name)


def test_the_patient_are_written_with_the_next_that_is_not(database: Database, writer: Writer) -> None:
    commits: list[None] = []
    event.listen(database.engine, "commit", lambda _conn: commits.append(None))
    done: list[str] = []
    for name in ("a", "b", "c"):
        writer.submit(partial(meta.set, key=name, value="v"), partial(_note, done, name), patience=60)
    assert not done and writer.pending == 3
    writer.submit(lambda conn: meta.set(conn, "d", "v"), lambda _: done.append("d"))
    eventually(lambda: len(done) == 4)
    assert done == ["a", "b", "c", "d"]
    assert len(commits) == 1


def test_patience_ends(writer: Writer) -> None:
    written = threading.Event()
    started = time.monotonic()
    writer.submit(lambda conn: meta.set(conn, "a", "v"), lambda _: written.set(), patience=0.1)
    assert written.wait(5)
    assert time.monotonic() - started >= 0.1


def test_closing_does_not_wait_for_patience(writer: Writer) -> None:
    answers: list[object] = []
    writer.submit(lambda conn: meta.set(conn, "a", "v"), answers.append, patience=60)
    assert writer.close(5)
    assert answers == [None]
