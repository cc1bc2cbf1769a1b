"""A bot begins only where its bars can be followed: else it would be ready, and never hear one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker import paper
from broker.api import Rates, Tick
from broker.gateway.book import Book
from broker.gateway.halting import Halting
from broker.gateway.inbox import Inbox
from broker.gateway.reading import ReadFailed, View
from broker.gateway.terminal_side import TerminalSide
from broker.market import from_bytes
from broker.mt5.terminal import Mt5Terminal
from protocol.botconfig import AccountConfig
from protocol.messages import Attach
from protocol.progress import Progress
from protocol.spec import RunSpec
from store.database import open_database
from store.writer import Writer
from tests.clockmarket import HOUR, Module, filled
from tests.papermarket import MONDAY
from tests.support import eventually

ACCOUNT: dict[str, Any] = {"kind": "mt5", "login": 7, "server": "Broker-Live", "password_env": "STABLEHAND_WATCHED"}
RUN = Attach(
    installation="i", bot_id=1, epoch=1, token="t", name="euro", symbol="EURUSD", timeframe="H1", lookback=5, magic=10
)


class Loading(Module):
    """A package that cannot give the bars of the next `empty` questions: they are being loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.empty = 0
        self.early = 0  # seconds that ticks are ahead of the bars

    def symbol_info_tick(self, name: str) -> Tick | None:
        tick = super().symbol_info_tick(name)
        assert tick is not None
        return tick._replace(time=tick.time + self.early, time_msc=tick.time_msc + 1000 * self.early)

    def copy_rates_from_pos(self, name: str, timeframe: int, start: int, count: int) -> Rates:
        rates = super().copy_rates_from_pos(name, timeframe, start, count)
        self.empty -= 1
        return rates[:0] if self.empty >= 0 else rates

    def symbol_info(self, name: str) -> Any:
        return filled(paper.SymbolInfo, name=name)

    def positions_get(self, **_: Any) -> tuple[Any, ...]:
        return ()

    def orders_get(self, **_: Any) -> tuple[Any, ...]:
        return ()

    def history_deals_get(self, *_: Any, **__: Any) -> tuple[Any, ...]:
        return ()


class Side:
    """A terminal side over it; the test is the service thread. The market is looked at seldom."""

    def __init__(self, folder: Path) -> None:
        self.module = Loading()
        account = AccountConfig.model_validate({**ACCOUNT, "poll_seconds": 60.0})
        self.terminal: Any = Mt5Terminal(
            self.module, account, file=folder / "symbols.json", base_dir=folder, tell=lambda _line, _bad: None,
            mono=lambda: self.module.mono, utc=lambda: self.module.utc,
        )  # fmt: skip
        self.inbox = Inbox()
        self.ledger = open_database(folder / "ledger.db", "ledger", synchronous="OFF")
        self.writer = Writer(self.ledger)
        halting = Halting("live", self.ledger, self.writer, folder, post=self.inbox.post, now=lambda: 0)
        spec = RunSpec(
            kind="gateway", token="gw", bot_id=1000, epoch=1, name="gateway-live", installation="i",
            data_dir=str(folder), lock_path="", log_path="", bus="", account=account, account_name="live",
            config_dir=str(folder),
        )  # fmt: skip
        self.side = TerminalSide(
            spec, "g", self.terminal, self.ledger, Book("g", "k"), Progress(), self.inbox, dict, halting
        )
        self.side.start()

    def attach(self, **changes: Any) -> View | ReadFailed:
        """What a run that attaches is told."""
        told: list[View | ReadFailed] = []
        self.side.view(RUN.model_copy(update=changes), told.append)

        def answered() -> bool:
            self.inbox.run()
            return bool(told)

        assert eventually(answered, what="an answer")
        return told[0]

    def close(self) -> None:
        assert self.side.stop(5.0)
        self.writer.close()
        self.ledger.close()
        self.terminal.close()
        self.inbox.close()


@pytest.fixture
def side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Side]:
    monkeypatch.setenv("STABLEHAND_WATCHED", "s3cret")
    made = Side(tmp_path)
    yield made
    made.close()


def last_bar(view: View | ReadFailed) -> int:
    """The hour of the last bar of a history."""
    assert isinstance(view, View), view
    return (int(from_bytes(view.bars)["time"][-1]) - MONDAY) // HOUR


def test_a_bot_whose_bars_cannot_be_followed_does_not_begin_yet(side: Side) -> None:
    side.module.empty = 1  # the question of the follower; the history itself would be there
    held = side.attach()
    assert isinstance(held, ReadFailed) and held.retry, held
    assert str(held) == "its bars cannot be followed yet"
    assert side.terminal.last_closed("EURUSD", "H1") is None
    assert last_bar(side.attach()) == 11
    assert side.terminal.last_closed("EURUSD", "H1") == MONDAY + 11 * HOUR


def test_the_history_ends_with_the_bar_that_is_followed_on(side: Side) -> None:
    """What was read before it was followed ends where the clock says, which may be a bar further."""
    side.module.go(45 * 60.0 - 1)
    side.module.early = 1  # the bar of 12 is over, and no newer one is there yet
    side.module.empty = 1
    assert isinstance(side.attach(), ReadFailed)
    assert last_bar(side.attach()) == 11
    assert side.terminal.last_closed("EURUSD", "H1") == MONDAY + 11 * HOUR


def test_who_only_reads_needs_no_bar_to_be_told(side: Side) -> None:
    side.module.empty = 1
    assert last_bar(side.attach(read_only=True)) == 11


def test_a_symbol_that_is_not_there_is_refused_for_good(side: Side) -> None:
    refused = side.attach(symbol="XAUUSD")
    assert isinstance(refused, ReadFailed) and not refused.retry and "unknown symbol XAUUSD" in str(refused)
