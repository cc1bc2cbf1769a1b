"""The journal's way in, with a real store that refuses for a while."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from store.database import open_database
from store.writer import Writer
from supervisor.runtime import chronicle as module
from supervisor.runtime.chronicle import Chronicle

Play = Callable[[Chronicle, sqlite3.Connection], Awaitable[None]]


def played(path: Path, play: Play) -> list[tuple[Any, ...]]:
    """The journal after it: (type, text, number in its run's history)."""

    async def run() -> None:
        database = open_database(path, "supervisor", busy_timeout=0.05)
        writer = Writer(database)
        try:
            with closing(sqlite3.connect(path, isolation_level=None, timeout=5.0)) as other:
                await play(Chronicle(writer, 0), other)
        finally:
            await asyncio.to_thread(writer.close)
            database.close()

    asyncio.run(run())
    with closing(sqlite3.connect(path)) as store:
        return store.execute("SELECT type, text, run_seq FROM journal ORDER BY seq").fetchall()


async def written(made: Chronicle) -> None:
    for _ in range(2000):
        if made.flushed():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{made.waiting} wait: {made.failing}")


def row(made: Chronicle, number: int, acknowledged: list[int]) -> None:
    made.add("history", f"row {number}", bot="b", bot_id=3, epoch=5, run_seq=number,
             committed=lambda: acknowledged.append(number))  # fmt: skip


def test_a_run_whose_rows_were_dropped_forgets_none_of_them_and_sends_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_KEPT", 10)
    acknowledged: list[int] = []
    asked: list[tuple[int, int]] = []

    async def play(made: Chronicle, other: sqlite3.Connection) -> None:
        made.ask_again = asked.append
        other.execute("BEGIN IMMEDIATE")
        made.add("info", "nobody's")
        for number in range(1, 16):
            row(made, number, acknowledged)
        await asyncio.sleep(0.3)
        assert made.failing and not acknowledged
        other.execute("COMMIT")
        await written(made)
        assert acknowledged == [] and asked == [(3, 5)], "what it has still, it must not forget"
        for numbers in (range(1, 9), range(9, 16)):  # as the run does, once it is greeted anew
            for number in numbers:
                row(made, number, acknowledged)
            await written(made)

    found = played(tmp_path / "supervisor.db", play)
    assert sorted(number for _, _, number in found if number) == list(range(1, 16))
    assert acknowledged == list(range(1, 16))
    assert [text for kind, text, _ in found if kind == "alert"] == [
        "1 events are lost: the store refused them, or too many had to wait for it"
    ]


def test_a_row_that_nobody_can_write_holds_up_no_other(tmp_path: Path) -> None:
    acknowledged: list[int] = []

    async def play(made: Chronicle, other: sqlite3.Connection) -> None:
        row(made, 1, acknowledged)
        made.add("history", "no time", bot="b", bot_id=3, epoch=5, run_seq=2, at=float("nan"),
                 committed=lambda: acknowledged.append(2))  # fmt: skip
        row(made, 3, acknowledged)
        await written(made)
        assert not made.failing

    found = played(tmp_path / "supervisor.db", play)
    assert [number for _, _, number in found if number] == [1, 3] and acknowledged == [1, 2, 3]
    assert [kind for kind, _, _ in found].count("alert") == 1


def test_what_the_run_itself_gave_up_is_told_as_lost_and_the_rest_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_KEPT", 10)
    acknowledged: list[int] = []

    async def play(made: Chronicle, other: sqlite3.Connection) -> None:
        other.execute("BEGIN IMMEDIATE")
        for number in range(1, 16):
            row(made, number, acknowledged)
        await asyncio.sleep(0.2)
        other.execute("COMMIT")
        await written(made)
        made.has_from((3, 5), 4)  # rows 1 to 3 it does not have any more
        for number in range(4, 13):
            row(made, number, acknowledged)
        await written(made)
        made.add("info", "and on")
        await written(made)
        made.forget((3, 5))

    found = played(tmp_path / "supervisor.db", play)
    assert sorted(number for _, _, number in found if number) == list(range(4, 16))
    assert acknowledged[-9:] == list(range(4, 13))
    assert [text.split(" events")[0] for kind, text, _ in found if kind == "alert"] == ["3"]


def test_what_was_dropped_of_a_run_that_ended_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 10)

    async def play(made: Chronicle, other: sqlite3.Connection) -> None:
        other.execute("BEGIN IMMEDIATE")
        for number in range(1, 16):
            row(made, number, [])
        await asyncio.sleep(0.2)
        made.forget((3, 5))
        other.execute("COMMIT")
        await written(made)

    found = played(tmp_path / "supervisor.db", play)
    lost = 15 - len([number for _, _, number in found if number])
    assert lost and [text.split(" events")[0] for kind, text, _ in found if kind == "alert"] == [str(lost)]
