"""A lift beside the terminal's thread: what that is doing meanwhile does not undo it, and the guards go on after it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.gateway.book import Book
from broker.gateway.halting import Halting
from broker.gateway.inbox import Inbox
from broker.gateway.terminal_side import TerminalSide
from protocol.botconfig import AccountConfig
from protocol.progress import Progress
from protocol.spec import RunSpec
from store.database import open_database
from store.writer import Writer
from tests.papermarket import HOUR, MONDAY, flat, paper, send, step
from tests.support import eventually

#: 0.1 lots: each step of a hundredth is 100, one percent of the account.
BARS = {"GBPUSD": [*flat(1.3, range(5)), *flat(1.29, range(5, 10)), *flat(1.28, range(10, 20))]}


class Side:
    """A terminal side with its thread; the test is the service thread, and moves the market."""

    def __init__(self, folder: Path) -> None:
        self.terminal = paper(folder, BARS)
        while self.terminal.now < MONDAY + 2 * HOUR:
            step(self.terminal)
        send(self.terminal, "GBPUSD", "buy", 0.1, magic=10)
        self.inbox = Inbox()
        self.ledger = open_database(folder / "ledger.db", "ledger", synchronous="OFF")
        self.writer = Writer(self.ledger)
        self.halting = Halting(
            "main", self.ledger, self.writer, folder, post=self.inbox.post, now=lambda: self.terminal.now
        )
        account = AccountConfig.model_validate({"symbols": ("GBPUSD",), "max_drawdown_percent": 0.5})
        spec = RunSpec(
            kind="gateway", token="gw", bot_id=1000, epoch=1, name="gateway-main", installation="i",
            data_dir=str(folder), lock_path="", log_path="", bus="", account=account, account_name="main",
            config_dir=str(folder),
        )  # fmt: skip
        book = Book("g", "k")
        self.side = TerminalSide(
            spec, "g", self.terminal, self.ledger, book, Progress(), self.inbox, dict, self.halting
        )  # fmt: skip
        self.halting.lifted = self.side.lifted
        self.steps = 0
        self.side.on_step = self._stepped
        self.side.start()

    def _stepped(self, _step: Any) -> None:
        self.steps += 1

    def turn(self, until: Callable[[], Any]) -> Any:
        """Run what is posted until something holds."""

        def look() -> Any:
            self.inbox.run()
            return until()

        return eventually(look)

    def until(self, hour: int) -> None:
        while self.terminal.now < MONDAY + hour * HOUR:
            self.step()

    def step(self) -> None:
        """One step of the market, from its beginning to its end."""
        before = self.steps
        self.side.step()
        self.turn(lambda: self.steps > before)

    def lift(self) -> list[str]:
        """Lift the account's halts, as far as the service thread is concerned; their keys."""
        told: list[list[str]] = []
        self.halting.lift("account:main", "me", lambda keys, _error: told.append(keys))
        self.turn(lambda: told)
        return told[0]

    def standing(self) -> list[str]:
        return [halt.key for halt in self.halting.standing()]

    def close(self) -> None:
        assert self.side.stop(5.0)
        self.writer.close()
        self.ledger.close()
        self.terminal.close()
        self.inbox.close()


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Side]:
    made = Side(tmp_path)
    yield made
    made.close()


class Pause:
    """A call that stands still after its first answer until `go`."""

    def __init__(self, real: Callable[..., Any]) -> None:
        self._real = real
        self.inside, self.go = threading.Event(), threading.Event()

    def __call__(self, *args: Any) -> Any:
        answer = self._real(*args)
        self.inside.set()
        assert self.go.wait(10.0)
        return answer


@pytest.mark.parametrize("place", ["account_info", "_holds", "_forgiven"])
def test_a_look_of_the_guards_that_is_under_way_does_not_latch_what_is_lifted(
    place: str, side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawdown = ["account:main/max_drawdown_percent"]
    side.until(4)
    assert side.standing() == []
    side.until(6)
    assert side.standing() == drawdown
    asked: Any = side.terminal if place == "account_info" else side.side.guarding
    pause = Pause(getattr(asked, place))
    with monkeypatch.context() as patch:
        patch.setattr(asked, place, pause)
        before = side.steps
        side.side.step()
        assert pause.inside.wait(10.0)
        assert side.lift() == drawdown
        pause.go.set()
        side.turn(lambda: side.steps > before)
    assert side.standing() == [], "judged by the peak of before"
    side.until(9)
    assert side.standing() == [], "the fall is measured from the lift on"
    side.until(12)
    assert side.standing() == drawdown, "and has a limit as before"
