"""The supervisor's close by magic over a real paper account and a real ledger: repeated, refused, its answer lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker import api
from broker.gateway.book import Book
from broker.gateway.deals import Deals
from broker.gateway.execution import Executor
from broker.gateway.memory import Memory
from broker.gateway.queries import Queries
from protocol.progress import Progress
from store.database import open_database
from tests.papermarket import HOUR, MONDAY, flat, paper, send, step


class Account:
    """One bot (id 1, magic 10) whose market is open in the hours 0 to 9 and from 20 on; GBPUSD never closes."""

    def __init__(self, folder: Path) -> None:
        bars = {"EURUSD": flat(1.1, [*range(10), *range(20, 30)]), "GBPUSD": flat(1.3, range(30))}
        self.terminal = paper(folder, bars)
        self.ledger = open_database(folder / "ledger.db", "ledger", synchronous="OFF")
        self.start("first")

    def start(self, boot: str) -> None:
        """A gateway of this boot, as after the end of the one before."""
        deals = Deals(self.terminal, self.ledger, lambda magic: magic // 10)
        self.executor = Executor(
            self.terminal, Memory(self.ledger, deals), Book(boot, "k"), deals, Progress(), settle=0.0, hang_limit=10.0
        )
        self.queries = Queries(
            self.terminal,
            deals,
            self.executor,
            account="main",
            installation="i",
            boot=boot,
            roster=dict,
            now=lambda: self.terminal.now,
            ended=lambda: False,
        )

    def until(self, hour: int) -> None:
        while self.terminal.now < MONDAY + hour * HOUR:
            step(self.terminal)

    def open(self) -> None:
        send(self.terminal, "EURUSD", "buy", 0.1, magic=10)

    def close(self, query_id: str) -> tuple[list[tuple[str, str]], bool]:
        """(status, reason) of each position, and whether the bot is flat."""
        answer = self.queries.answer(query_id, "close", {"magic": 10, "bot_id": 1})
        return [(one["status"], one["reason"]) for one in answer["positions"]], answer["flat"]

    def exits(self) -> int:
        """How many deals have closed something."""
        return sum(deal.entry == api.DEAL_ENTRY_OUT for deal in self.terminal.history_deals_get(0, 1 << 40) or ())


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    made = Account(tmp_path)
    yield made
    made.terminal.close()
    made.ledger.close()


def test_a_close_that_was_refused_is_made_by_the_same_query_of_a_later_supervisor(account: Account) -> None:
    account.until(9)
    account.open()
    account.until(12)
    assert account.close("q1") == ([("refused", "Market closed")], False)
    account.until(20)
    # A supervisor counts its queries from one.
    assert account.close("q1") == ([("done", "")], True)


def test_a_gateway_that_is_started_again_counts_beside_its_forerunner(account: Account) -> None:
    account.until(2)
    account.open()
    assert account.close("q1") == ([("done", "")], True)
    account.open()
    account.start("second")
    assert account.close("q1") == ([("done", "")], True)
    assert account.exits() == 2


def test_a_query_that_comes_again_closes_nothing_twice(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    account.until(2)
    account.open()
    with monkeypatch.context() as deaf:
        real = account.terminal.order_send

        def swallow(request: Any) -> None:
            real(request)

        deaf.setattr(account.terminal, "order_send", swallow)
        (told,), _flat = account.close("q1")
        assert told[0] == "unknown"
    assert account.close("q1") == ([], True)
    assert [one.status for one in account.executor.resolve()] == ["done"]
    account.open()  # since then: what is open now is another position
    assert account.close("q1") == ([("done", "")], True)
    assert account.close("q1") == ([], True)
    assert account.exits() == 2
