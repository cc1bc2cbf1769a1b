"""Samples of accounts, from figures to the store and back by the command."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import INVALID, StablehandError
from protocol.messages import Figures
from store import equity
from store.database import Database, open_database
from store.equity import Sample
from store.writer import Writer
from supervisor.config import load
from supervisor.policy.states import State
from supervisor.runtime.accounts import Accounts
from supervisor.runtime.commands import trading
from supervisor.runtime.equity import EquityKeeper
from supervisor.runtime.registry import Registry
from supervisor.runtime.stable import Stable


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "supervisor.db", "supervisor")
    yield opened
    opened.close()


def figures(equity: float | None, trouble: str = "") -> Figures:
    account = {} if equity is None else {"balance": 10_000.0, "equity": equity, "margin": 50.0}
    return Figures(account=account, bots=[], time=0.0, trouble=trouble)


class Flow:
    """The real accounts, keeper and writer."""

    def __init__(self, database: Database, every: float) -> None:
        self.database, self.writer = database, Writer(database)
        self.accounts = Accounts(Registry(), lambda _r, _m: True, lambda _r: State.RUNNING, lambda _r, _m: None)
        self.accounts.figures_taken = EquityKeeper(self.writer, self.accounts.figures.get, every).took

    def take(self, *worth: float | None, account: str = "main", trouble: str = "") -> None:
        for one in worth:
            self.accounts.took_figures(account, figures(one, trouble))

    def kept(self, account: str = "main") -> list[float]:
        """What is in the store, once all that was submitted is written."""
        assert self.writer.close()
        with self.database.read() as conn:
            return [one.equity for one in equity.since(conn, account, 0.0)]


def test_the_last_change_within_the_time_is_kept_when_it_is_over(database: Database) -> None:
    async def play() -> list[float]:
        flow = Flow(database, 0.2)
        flow.take(1.0, 2.0, 3.0)  # 1 is kept at once; of the others the last, although nothing comes after it
        flow.take(7.0, account="other")
        await asyncio.sleep(0.4)
        flow.take(3.0)  # as it was
        await asyncio.sleep(0.3)
        assert flow.kept() == flow.kept("main")
        return [*flow.kept(), *flow.kept("other")]

    assert asyncio.run(play()) == [1.0, 3.0, 7.0]


def test_nothing_is_kept_in_trouble_or_without_an_account(database: Database) -> None:
    async def play() -> list[float]:
        flow = Flow(database, 0.0)
        flow.take(None)
        flow.take(1.0)
        flow.take(2.0, trouble="the terminal is not connected")
        flow.take(None, trouble="the terminal is not connected")  # shows the account of before
        flow.take(3.0)
        return flow.kept()

    assert asyncio.run(play()) == [1.0, 3.0]


def test_what_changed_before_trouble_began_is_not_kept_during_it(database: Database) -> None:
    async def play() -> list[float]:
        flow = Flow(database, 0.1)
        flow.take(1.0, 2.0)
        flow.take(2.0, trouble="the terminal is not connected")
        await asyncio.sleep(0.3)
        flow.take(4.0)
        return flow.kept()

    assert asyncio.run(play()) == [1.0, 4.0]


# --- the command ----------------------------------------------------------------------------------------

ONE = '[supervisor]\ndata_dir = "var"\n[accounts.main]\nkind = "paper"\n'


def stable_of(database: Database, folder: Path, text: str) -> Stable:
    """Of a supervisor what this command needs: its configuration and its store."""
    (folder / "supervisor.toml").write_text(text, "utf-8")
    stable = object.__new__(Stable)
    stable.config, stable.database = load(folder / "supervisor.toml"), database
    return stable


def ask(stable: Stable, **args: Any) -> list[float]:
    rows = asyncio.run(trading.equity(stable, args, ""))
    assert all(row.keys() == {"account", "at", "balance", "equity", "margin"} for row in rows)
    return [row["at"] for row in rows]


def test_rows_are_the_last_or_those_after_a_moment_oldest_first(database: Database, tmp_path: Path) -> None:
    with database.begin() as conn:
        equity.append(conn, [Sample("main", 60.0 * number, 1.0, 1.0) for number in range(10)])
        equity.append(conn, [Sample("net", 30.0, 1.0, 1.0)])
    stable = stable_of(database, tmp_path, ONE)
    assert ask(stable) == [60.0 * number for number in range(10)]
    assert ask(stable, limit=2) == [480.0, 540.0]
    assert ask(stable, since=120, limit=2) == [180.0, 240.0]
    assert ask(stable, since=539.5, account="main") == [540.0]
    assert ask(stable, since=2**63) == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({}, ("name an account", "main, net")),
        ({"account": "mian"}, ("unknown account 'mian'", "did you mean 'main'?")),
        ({"account": "main", "since": -1}, ("since = -1", "seconds since 1970")),
        ({"account": "main", "since": True}, ("since = True",)),
        ({"account": "main", "since": "24h"}, ("since = '24h'",)),
        ({"account": "main", "since": float("nan")}, ("since = nan",)),
        ({"account": "main", "limit": 10_001}, ("limit = 10001", "1 to 10000")),
    ],
)  # fmt: skip
def test_wrong_arguments(database: Database, tmp_path: Path, args: dict[str, Any], words: tuple[str, ...]) -> None:
    stable = stable_of(database, tmp_path, ONE + '[accounts.net]\nkind = "paper"\n')
    with pytest.raises(StablehandError) as refused:
        ask(stable, **args)
    said = f"{refused.value.message} {refused.value.hint or ''}"
    assert refused.value.code == INVALID and all(word in said for word in words), said
