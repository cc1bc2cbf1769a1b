"""A run is told that its history is durable, and never that another run's is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from protocol.messages import History, HistoryAck, HistoryRow, Message
from supervisor.runtime.listener import Listener
from supervisor.runtime.registry import Record, Registry, Run
from supervisor.runtime.stable import Stable


def rows(*numbers: int) -> History:
    made = [HistoryRow(seq=number, at=0.0, action="INFO", text="", data={}) for number in numbers]
    return History(token="t", rows=made)


def test_the_word_that_rows_of_the_run_before_are_durable_does_not_go_to_its_successor() -> None:
    said: list[Message] = []
    committed: list[Any] = []
    registry = Registry()
    stable = SimpleNamespace(
        bus=SimpleNamespace(send=lambda _record, message: said.append(message)),
        chronicle=SimpleNamespace(add=lambda *_, committed=None, **__: waiting.append(committed)),
        registry=registry,
    )
    waiting: list[Any] = committed
    listener = Listener(cast("Stable", stable), lock_path=lambda _: Path("lock"))
    record = Record(bot_id=1, name="b", kind="bot", wanted="running", account="main")
    record.run = Run(epoch=1, token="one", started_at=0.0, started=0.0)
    listener.heard(record, rows(1, 2))
    assert waiting[0] is None, "the last of a message speaks for all"
    record.run = Run(epoch=2, token="two", started_at=0.0, started=0.0)
    waiting.pop()()
    assert said == []
    listener.heard(record, rows(1))
    waiting.pop()()
    assert said == [HistoryAck(seq=1)]
