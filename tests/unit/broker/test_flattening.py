"""Flatten and guards over a real paper account and a real ledger: markets that close, restarts, lifted limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broker import api
from broker.gateway.book import Book
from broker.gateway.deals import Deals
from broker.gateway.execution import Executor
from broker.gateway.guarding import Guarding
from broker.gateway.halting_flat import Flattener
from broker.gateway.memory import Memory
from broker.guards import Limits
from broker.paper.terminal import PaperTerminal
from protocol.halts import HaltState
from protocol.messages import Order, RosterEntry
from protocol.progress import Progress
from store.database import open_database
from tests.papermarket import HOUR, MONDAY, flat, paper, send, step

#: Hours 0 to 9, closed until 20, then open again; GBPUSD never closes.
BARS = {"EURUSD": flat(1.1, [*range(10), *range(20, 30)]), "GBPUSD": flat(1.3, range(30))}


class Account:
    """Bots `one` (magic 10) and `two` (magic 20) on one account; what is latched is kept in `latched`."""

    def __init__(self, folder: Path, terminal: PaperTerminal, limits: dict[str, Any] | None = None) -> None:
        self.folder = folder
        self.terminal = terminal
        self.ledger = open_database(folder / "ledger.db", "ledger", synchronous="OFF")
        self.latched: dict[str, HaltState] = {}
        self.forgiven: set[str] = set()
        self.said: list[tuple[str, str]] = []
        self.halts: tuple[HaltState, ...] = ()
        self.roster = {
            magic: RosterEntry(bot_id=magic // 10, name=name, symbol="", timeframe="", magic=magic)
            for magic, name in ((10, "one"), (20, "two"))
        }
        deals = Deals(terminal, self.ledger, lambda magic: magic // 10)
        self.executor = Executor(
            terminal, Memory(self.ledger, deals), Book("g", "k"), deals, Progress(), settle=0.0, hang_limit=10.0
        )
        self.flattener = Flattener(
            terminal,
            self.executor,
            account="main",
            installation="i",
            boot="g",
            roster=lambda: self.roster,
            halts=lambda: self.halts,
            tell=lambda key, text: self.said.append((key, text)),
        )
        self.guarding = self.guard_again(limits or {})

    def guard_again(self, limits: dict[str, Any]) -> Guarding:
        """The guards as after a restart of the gateway."""
        self.guarding = Guarding(
            self.terminal,
            self.ledger,
            account="main",
            limits=Limits.of(limits),
            folder=self.folder,
            roster=lambda: self.roster,
            now=lambda: self.terminal.now,
            latch=lambda halt: self.latched.update({halt.key: halt}),
            holds=lambda key: key in self.latched,
            forgiven=lambda key: key in self.forgiven,
        )
        return self.guarding

    def halt(self, scope: str) -> None:
        self.halts = (HaltState(scope=scope, reason="x", who="me", at=0.0, flatten=True),)

    def entry(self, magic: int = 10, symbol: str = "GBPUSD", volume: float = 0.1) -> str:
        """What the guards say to an entry."""
        return self.guarding.entry(
            Order(
                installation="i", bot_id=magic // 10, epoch=1, seq=1, gateway_boot="g", decision="", bar_time=0,
                decided_at=0.0, decided_mono=0.0, action="open", symbol=symbol, volume=volume, magic=magic,
            )
        )  # fmt: skip

    def open(self, magic: int, symbol: str = "GBPUSD", volume: float = 0.1, **more: Any) -> int:
        return send(self.terminal, symbol, "buy", volume, magic=magic, **more).order

    def magics(self) -> list[int]:
        return sorted(one.magic for one in self.terminal.positions_get() or ())

    def until(self, hour: int) -> None:
        while self.terminal.now < MONDAY + hour * HOUR:
            step(self.terminal)


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    made = Account(tmp_path, paper(tmp_path, BARS))
    yield made
    made.terminal.close()
    made.ledger.close()


def test_a_halt_closes_its_scope_by_magic_and_nothing_else(account: Account) -> None:
    account.until(2)
    for magic in (10, 10, 20, 0):
        account.open(magic)
    assert account.flattener.look() is False  # nothing is halted
    account.halt("bot:one")
    assert account.flattener.look()
    assert account.magics() == [0, 20]
    assert account.said[-1] == ("bot:one", "flat")
    account.halt("account:main")
    account.flattener.look()
    assert account.magics() == [0]  # opened by hand: left alone
    account.open(20)  # what comes late is closed as well
    account.flattener.look()
    assert account.magics() == [0]


def test_a_closed_market_is_waited_for(account: Account) -> None:
    account.until(9)
    account.open(10, "EURUSD")
    account.open(20, "GBPUSD")
    account.until(12)
    assert not account.terminal.is_open("EURUSD")
    account.halt("all")
    account.flattener.look()
    assert account.magics() == [10]
    key, said = account.said[-1]
    assert key == "all" and "1 left (EURUSD" in said and "market closed" in said
    assert account.flattener.look() is False  # nothing is sent into a closed market
    account.until(20)
    assert account.flattener.look()
    assert account.magics() == [] and account.said[-1] == ("all", "flat")


def test_a_terminal_that_does_not_answer_is_never_flat(account: Account) -> None:
    account.until(2)
    account.halt("all")
    account.terminal.shutdown()
    account.flattener.look()
    assert "does not answer" in account.said[-1][1]
    account.terminal.initialize()
    account.flattener.look()
    assert account.said[-1] == ("all", "flat")


class WithPending:
    """The account's terminal, and a pending order of each bot, which the paper terminal has none of yet."""

    def __init__(self, terminal: PaperTerminal) -> None:
        self._terminal = terminal
        self.pending = {
            number: SimpleNamespace(ticket=number, magic=magic, symbol="GBPUSD")
            for number, magic in ((501, 10), (502, 20))
        }
        self.refusing = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._terminal, name)

    def orders_get(self) -> tuple[Any, ...]:
        return tuple(self.pending.values())

    def order_send(self, request: dict[str, Any]) -> Any:
        assert request["action"] == api.TRADE_ACTION_REMOVE
        if self.refusing:
            return SimpleNamespace(retcode=api.TRADE_RETCODE_FROZEN, comment="frozen")
        del self.pending[request["order"]]
        return SimpleNamespace(retcode=api.TRADE_RETCODE_DONE, comment="")


def test_pending_orders_are_cancelled_before_it_is_flat(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.gateway.halting_flat._FIRST_WAIT", 0.0)
    account.until(2)
    terminal: Any = WithPending(account.terminal)
    account.flattener._terminal = terminal
    account.halt("bot:one")
    account.flattener.look()
    assert "1 left (GBPUSD 501: frozen)" in account.said[-1][1]
    terminal.refusing = False
    account.flattener.look()
    assert list(terminal.pending) == [502]
    assert account.said[-1] == ("bot:one", "flat")


def test_limits_that_nobody_told_are_no_licence(account: Account) -> None:
    assert "not known yet" in account.entry()
    account.guarding.limit(1, Limits())
    assert account.entry() == ""


def test_guards_that_cannot_see_refuse(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    account.guarding.limit(1, Limits(max_daily_loss=5.0))
    account.terminal.shutdown()
    assert "cannot read the positions" in account.entry()
    account.terminal.initialize()
    with monkeypatch.context() as patch:
        patch.setattr(account.terminal, "history_deals_get", lambda *_: None)
        assert "cannot read the deals" in account.entry()
    with monkeypatch.context() as patch:
        patch.setattr(account.terminal, "history_deals_get", lambda *_: [None])
        assert "the guards failed: AttributeError" in account.entry()
    assert account.entry() == ""


def test_positions_lots_and_orders_of_bot_and_account(account: Account) -> None:
    account.until(2)
    account.guarding.limit(1, Limits(max_open_positions=1))
    account.guarding.limit(2, Limits(max_orders_per_minute=1))
    account.guard_again({})
    account.guarding.limit_account(Limits(max_lots=0.5))
    account.guarding.limit(1, Limits(max_open_positions=1))
    account.guarding.limit(2, Limits(max_orders_per_minute=1))
    assert account.entry(10) == ""
    account.open(10)
    assert account.entry(10) == "guard of bot one: max_open_positions: 1 open; at most 1"
    assert account.entry(20, volume=0.4) == ""
    assert "max_orders_per_minute" in account.entry(20, volume=0.4)
    assert account.entry(20, volume=0.5).startswith("guard of account main: max_lots")
    account.until(3)
    assert account.entry(20) == ""
    account.open(20)
    # After a restart the deals say what was entered in this minute.
    account.guard_again({})
    account.guarding.limit(2, Limits(max_orders_per_minute=1))
    assert "max_orders_per_minute" in account.entry(20)
    assert account.latched == {}


def test_a_daily_loss_is_latched_until_the_next_server_day(tmp_path: Path) -> None:
    bars = {"GBPUSD": [*flat(1.3, range(5)), *flat(1.29, range(5, 40))]}
    account = Account(tmp_path, paper(tmp_path, bars), {"max_daily_loss": 50.0})
    account.guarding.limit(1, Limits())
    account.until(2)
    account.open(10)
    account.guarding.look()
    assert account.latched == {}
    account.until(6)
    account.guarding.look()
    (key,) = account.latched
    assert key == f"account:main/max_daily_loss@{MONDAY + 24 * HOUR}"
    assert "max_daily_loss: lost" in account.entry()
    account.latched.clear()
    account.forgiven.add(key)
    assert account.entry() == ""  # somebody lifted it: it is not judged again on that day
    account.until(24)
    # What is open has the loss still: on the next day it counts again.
    assert "max_daily_loss" in account.entry()
    account.terminal.close()
    account.ledger.close()


def test_a_drawdown_is_measured_from_a_point_that_a_restart_remembers_and_a_lift_resets(tmp_path: Path) -> None:
    bars = {"GBPUSD": [*flat(1.3, range(5)), *flat(1.35, range(5, 10)), *flat(1.34, range(10, 40))]}
    limits = {"max_drawdown_percent": 0.5}
    account = Account(tmp_path, paper(tmp_path, bars), limits)
    account.guarding.limit(1, Limits())
    account.until(2)
    account.open(10)  # 0.1 lots: a hundredth is 100
    account.until(6)
    account.guarding.look()
    account.guarding.remember(force=True)
    account.until(11)
    guarding = account.guard_again(limits)
    guarding.look()
    assert list(account.latched) == ["account:main/max_drawdown_percent"]
    halt = account.latched.popitem()[1]
    guarding.lifted(halt)
    guarding.look()
    assert account.latched == {}
    account.guard_again(limits).look()
    assert account.latched == {}
    account.terminal.close()
    account.ledger.close()


def test_stop_losses_in_a_row_are_read_from_the_deals(tmp_path: Path) -> None:
    bars = {"GBPUSD": [*flat(1.3, range(3)), *flat(1.29, range(3, 6)), *flat(1.28, range(6, 20))]}
    account = Account(tmp_path, paper(tmp_path, bars))
    limits = Limits(max_consecutive_stop_losses=2, stop_loss_cooldown_minutes=180)
    account.until(1)
    account.open(10, sl=1.295)
    account.until(4)
    account.open(10, sl=1.285)
    account.guarding.limit(1, limits)
    assert account.entry() == ""
    account.until(7)
    account.guarding.look()
    (halt,) = account.latched.values()
    assert (halt.scope, halt.rule) == ("bot:one", "max_consecutive_stop_losses")
    assert MONDAY + 9 * HOUR <= halt.until <= MONDAY + 10 * HOUR
    account.latched.clear()
    restarted = account.guard_again({})
    restarted.limit(1, limits)
    assert "2 stop losses in a row" in account.entry()
    account.latched.clear()
    account.until(10)
    assert account.entry() == ""
    account.terminal.close()
    account.ledger.close()


def test_a_calendar_is_read_again_and_a_broken_one_stops_entries(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.gateway.calendars.LOOK", 0.0)
    account.until(2)
    account.guarding.limit(1, Limits(calendar="news.csv"))
    assert "cannot be used: No such file" in account.entry()
    (account.folder / "news.csv").write_text("2024-01-01,2024-01-01,New Year\n")
    assert account.entry() == "guard of bot one: calendar: New Year"
    (account.folder / "news.csv").write_text("2025-01-01,2025-01-01,another year, far away\n")
    assert account.entry() == ""
    (account.folder / "news.csv").write_text("nonsense\n")
    assert "line 1" in account.entry()
