"""The executor against a real paper account and a ledger that fails when the test says so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Connection

from broker import api
from broker.gateway.book import Book, FenceState
from broker.gateway.deals import Deals
from broker.gateway.execution import Executor
from broker.gateway.memory import NOT_REMEMBERED, Memory, Pending
from broker.paper.terminal import PaperTerminal
from protocol.botconfig import AccountConfig
from protocol.messages import Order, OrderResult
from protocol.progress import Progress
from store.database import Database, open_database
from store.errors import StoreError
from store.ledger import all_deals, result_of


class Bench:
    """One account, one bot (id 1, magic 10) and the parts of the terminal side that trade."""

    def __init__(self, folder: Path, **account: Any) -> None:
        self.ledger: Database = open_database(folder / "ledger.db", "ledger", synchronous="OFF")
        self.terminal = PaperTerminal(
            AccountConfig.model_validate({"symbols": ("EURUSD",), **account}),
            name="m",
            database=folder / "paper.db",
            base_dir=folder,
        )
        self.book = Book("g", "kernel", [FenceState(1, 1, True, 10)])
        self.book.heard = True
        self.book.last_closed["EURUSD", "H1"] = 3600
        self.again()
        self.count = 0

    def again(self) -> Executor:
        """The parts that remember in memory, as after a crash of the gateway."""
        self.deals = Deals(self.terminal, self.ledger, lambda magic: 1 if magic == 10 else None)
        self.memory = Memory(self.ledger, self.deals)
        self.executor = Executor(
            self.terminal, self.memory, self.book, self.deals, Progress(), settle=0.0, hang_limit=10.0
        )
        return self.executor

    def order(self, **changes: Any) -> Pending:
        self.count += 1
        fields: dict[str, Any] = {
            "installation": "i", "bot_id": 1, "epoch": 1, "seq": self.count, "gateway_boot": "g",
            "decision": "EURUSD|H1|3600", "bar_time": 3600, "decided_at": 0.0,
            "decided_mono": time.monotonic(), "boot_id": "kernel",
            "action": "open", "symbol": "EURUSD", "volume": 0.1, "magic": 10,
        }  # fmt: skip
        order = Order(**{**fields, **changes})
        return Pending(order, order.id, "digest", 30.0)

    def run(self, *group: Pending) -> list[OrderResult]:
        results: dict[str, OrderResult] = {}
        self.executor.execute(group, lambda pending, result: results.update({pending.id: result}))
        return [results[pending.id] for pending in group]

    def open(self) -> OrderResult:
        return self.run(self.order())[0]

    def by_hand(self, kind: int, volume: float, **changes: Any) -> int:
        """A deal of somebody else's; its order."""
        request = {"action": api.TRADE_ACTION_DEAL, "symbol": "EURUSD", "volume": volume, "type": kind, "magic": 77}
        answer = self.terminal.order_send({**request, **changes})
        assert answer is not None and answer.retcode == api.TRADE_RETCODE_DONE, answer
        return int(answer.order)

    def on_the_next_bar(self, **changes: Any) -> OrderResult:
        """An entry: a bar's decision has but one."""
        self.book.last_closed["EURUSD", "H1"] += 3600
        bar_time = self.book.last_closed["EURUSD", "H1"]
        return self.run(self.order(decision=f"EURUSD|H1|{bar_time}", bar_time=bar_time, **changes))[0]

    def held(self) -> list[tuple[int, float, float]]:
        """Magic, volume and stop loss of what is open."""
        return [(one.magic, one.volume, one.sl) for one in self.terminal.positions_get() or ()]

    def close(self) -> None:
        self.terminal.close()
        self.ledger.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def netting(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, margin_mode="netting")
    yield bench
    bench.close()


def break_ledger(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def refuse() -> Iterator[Connection]:
        raise StoreError("store ledger: disk is full")
        yield

    monkeypatch.setattr(bench.ledger, "begin", refuse)


def test_a_fence_that_falls_in_the_middle_of_a_group_bars_the_rest(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = bench.order(), bench.order(decision="other|H1|0", action="close", position=1)
    send = bench.terminal.order_send

    def send_and_fence(request: Any) -> Any:
        bench.book.fence(FenceState(1, 1, False, 10))
        return send(request)

    monkeypatch.setattr(bench.terminal, "order_send", send_and_fence)
    done, refused = bench.run(first, second)
    assert done.status == "done", "the one in flight ends"
    assert "fenced off" in refused.reason


def test_the_ledger_refuses_a_second_entry_for_a_decision_that_the_book_forgot(bench: Bench) -> None:
    assert bench.open().status == "done"
    again = bench.open()
    assert again.status == "refused"
    assert "has had its entry: i:1:1:1" in again.reason


def test_unremembered_entries_are_refused_and_closes_are_made(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = bench.open()
    assert opened.position is not None
    ticket = opened.position["ticket"]
    with monkeypatch.context() as broken:
        break_ledger(bench, broken)
        entry = bench.run(bench.order(decision="EURUSD|H1|x"))[0]
        move = bench.run(bench.order(action="modify", position=ticket, sl=0.5))[0]
        close = bench.order(action="close", side="buy", position=ticket)
        closed = bench.run(close)[0]
    assert entry.status == "refused"
    assert move.status == "refused"
    assert "disk is full" in move.reason
    assert closed.status == "done"
    assert NOT_REMEMBERED in closed.reason
    assert bench.terminal.positions_get() == ()
    # As soon as the disk allows, the ledger knows it too.
    assert bench.memory.flush()
    with bench.ledger.read() as connection:
        row = result_of(connection, close.id)
    assert row is not None
    assert (row.status, row.deal) == ("done", closed.deal)


def test_one_lost_answer_holds_the_account_until_it_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    send = bench.terminal.order_send

    def swallow(request: Any) -> None:
        send(request)

    lost, next_one = bench.order(), bench.order(decision="EURUSD|H1|x", action="close", position=1)
    monkeypatch.setattr(bench.terminal, "order_send", swallow)
    unknown, held = bench.run(lost, next_one)
    monkeypatch.setattr(bench.terminal, "order_send", send)
    assert unknown.status == "unknown"
    assert "held" in held.reason
    found = bench.executor.resolve()
    assert [(one.id, one.status) for one in found] == [(lost.id, "done")]
    assert found[0].position is not None
    assert bench.executor.unresolved == []


class Apart:
    """The terminal as one in another process is: the same functions, but not the terminal itself."""

    def __init__(self, terminal: PaperTerminal) -> None:
        self._terminal = terminal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._terminal, name)


@pytest.mark.parametrize("apart", [False, True])
def test_a_timeout_of_the_embedded_terminal_is_a_refusal_and_holds_nobody(tmp_path: Path, apart: bool) -> None:
    """One in another process may have lost the answer: what it says of a timeout is found out."""
    bench = Bench(tmp_path, latency_ms=500, order_timeout_ms=400)
    if apart:
        bench.terminal = cast(PaperTerminal, Apart(bench.terminal))
        bench.again()
    results = [bench.open(), bench.on_the_next_bar()]
    waiting = bench.executor.unresolved
    bench.close()
    assert results[0].retcode == api.TRADE_RETCODE_TIMEOUT
    if apart:
        assert results[0].status == "unknown" and "held" in results[1].reason and len(waiting) == 1
    else:
        assert [one.status for one in results] == ["refused", "refused"] and results[1].retcode == 10012
        assert waiting == []


def lose(bench: Bench, monkeypatch: pytest.MonkeyPatch, *, executed: bool) -> Pending:
    """An order whose answer is lost."""
    send = bench.terminal.order_send
    lost = bench.order()
    with monkeypatch.context() as deaf:
        deaf.setattr(bench.terminal, "order_send", lambda request: (send(request), None)[1] if executed else None)
        assert bench.run(lost)[0].status == "unknown"
    return lost


def test_a_lost_order_is_clear_once_it_is_found_though_the_ledger_cannot_be_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = lose(bench, monkeypatch, executed=True)
    with monkeypatch.context() as broken:
        break_ledger(bench, broken)
        (found,) = bench.executor.resolve()
        assert (found.id, found.status, found.volume) == (lost.id, "done", 0.1)
        assert NOT_REMEMBERED in found.reason
        assert bench.executor.resolve() == [], "it is found once"
        assert found.position is not None
        close = bench.order(action="close", side="buy", position=found.position["ticket"])
        assert bench.run(close)[0].status == "done", "nothing is held any more"
    assert bench.memory.flush()
    with bench.ledger.read() as connection:
        rows = [result_of(connection, pending.id) for pending in (lost, close)]
    assert [(row.status, row.deal > 0) for row in rows if row is not None] == [("done", True), ("done", True)]
    assert rows[0] is not None
    assert (rows[0].deal, rows[0].order) == (found.deal, found.order)


def test_after_a_crash_before_it_was_written_a_lost_order_is_found_anew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = lose(bench, monkeypatch, executed=True)
    with monkeypatch.context() as broken:
        break_ledger(bench, broken)
        (found,) = bench.executor.resolve()
    assert [intent.id for intent in bench.again().unresolved] == [lost.id]
    (again,) = bench.executor.resolve()
    assert (again.id, again.status, again.deal) == (lost.id, "done", found.deal)
    assert bench.again().unresolved == []


def test_a_deal_is_not_taken_for_an_earlier_order_whose_refusal_was_not_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = lose(bench, monkeypatch, executed=False)
    with monkeypatch.context() as broken:
        break_ledger(bench, broken)
        assert [one.status for one in bench.executor.resolve()] == ["refused"]
    bench.book.last_closed["EURUSD", "H1"] = 7200
    later = bench.order(decision="EURUSD|H1|7200", bar_time=7200)
    with monkeypatch.context() as killed:
        killed.setattr(bench.memory, "remember", lambda _results: False)  # killed between the send and the commit
        done = bench.run(later)[0]
    assert done.status == "done"
    resolved = bench.again().resolve()
    assert [(one.id, one.status, one.deal) for one in resolved] == [(later.id, "done", done.deal)]
    with bench.ledger.read() as connection:
        row = result_of(connection, lost.id)
    assert row is not None
    assert row.status == "refused"


def test_deals_of_an_expert_with_the_magic_minus_one_do_not_keep_results_out_of_the_ledger(bench: Bench) -> None:
    tick = bench.terminal.symbol_info_tick("EURUSD")
    assert tick is not None
    foreign = {
        "action": api.TRADE_ACTION_DEAL, "type": api.ORDER_TYPE_BUY, "symbol": "EURUSD", "volume": 0.1,
        "price": tick.ask, "magic": 2**64 - 1,
    }  # fmt: skip
    answer = bench.terminal.order_send(foreign)
    assert answer is not None
    assert answer.retcode == api.TRADE_RETCODE_DONE
    order = bench.order()
    done = bench.run(order)[0]
    assert (done.status, done.reason) == ("done", "")
    with bench.ledger.read() as connection:
        assert result_of(connection, order.id) is not None
        assert {deal.magic: deal.bot_id for deal in all_deals(connection)} == {0: None, 2**64 - 1: None, 10: 1}
    realised = bench.deals.realised
    bench.again()
    assert bench.deals.realised == realised, "the same after a restart"


def test_absence_counts_only_when_the_terminal_is_connected(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    send = bench.terminal.order_send
    monkeypatch.setattr(bench.terminal, "order_send", lambda request: None)
    pending = bench.order()
    assert bench.run(pending)[0].status == "unknown"
    monkeypatch.setattr(bench.terminal, "order_send", send)
    bench.terminal.shutdown()
    assert bench.executor.resolve() == []
    bench.terminal.initialize()
    resolved = bench.executor.resolve()
    assert [(one.id, one.status) for one in resolved] == [(pending.id, "refused")]
    assert bench.terminal.positions_get() == ()


def test_none_from_the_terminal_is_never_no_position(bench: Bench) -> None:
    opened = bench.open()
    assert opened.position is not None
    close = bench.order(action="close", side="buy", position=opened.position["ticket"])
    bench.terminal.shutdown()
    result = bench.run(close)[0]
    bench.terminal.initialize()
    assert result.status == "refused"
    assert "cannot be read" in result.reason
    assert len(bench.terminal.positions_get() or ()) == 1


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_on_a_netting_account_no_entry_goes_into_the_position_of_another(netting: Bench, side: str) -> None:
    netting.by_hand(api.ORDER_TYPE_BUY, 0.2)
    before = netting.held()
    result = netting.run(netting.order(side=side, sl=0.5 if side == "buy" else 2.5))[0]
    assert (result.status, result.retcode) == ("refused", 0)
    assert result.reason == "netting: the position on EURUSD is not this bot's (magic 77)"
    assert netting.held() == before == [(77, 0.2, 0.0)]
    netting.by_hand(api.ORDER_TYPE_SELL, 0.2)
    assert netting.on_the_next_bar(side=side).status == "done", "it is gone: free again"


def test_on_a_netting_account_a_bot_adds_to_its_own_position(netting: Bench) -> None:
    assert netting.open().status == "done"
    assert netting.on_the_next_bar().status == "done"
    assert netting.held() == [(10, 0.2, 0.0)]


def test_an_order_of_another_that_waits_bars_no_entry_until_it_is_a_position(netting: Bench) -> None:
    tick = netting.terminal.symbol_info_tick("EURUSD")
    assert tick is not None
    far = {"action": api.TRADE_ACTION_PENDING, "price": round(tick.bid / 2, 5)}
    waiting = netting.by_hand(api.ORDER_TYPE_BUY_LIMIT, 0.3, **far)
    opened = netting.open()
    assert opened.status == "done" and opened.position is not None and opened.position["volume"] == 0.1
    assert [one.ticket for one in netting.terminal.orders_get() or ()] == [waiting]


@pytest.mark.parametrize(("fn", "what"), [("account_info", "account"), ("positions_get", "position on EURUSD")])
def test_what_a_netting_account_does_not_say_is_never_no_position(
    netting: Bench, monkeypatch: pytest.MonkeyPatch, fn: str, what: str
) -> None:
    with monkeypatch.context() as silent:
        silent.setattr(netting.terminal, fn, lambda **_: None)
        refused = netting.open()
    assert refused.status == "refused" and refused.reason.startswith(f"the {what} cannot be read")
    assert netting.held() == []
    assert netting.on_the_next_bar().status == "done"


def test_an_exchange_account_has_one_position_a_symbol_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    account = bench.terminal.account_info()
    assert account is not None
    exchange = account._replace(margin_mode=api.ACCOUNT_MARGIN_MODE_EXCHANGE)
    monkeypatch.setattr(bench.terminal, "account_info", lambda: exchange)
    bench.by_hand(api.ORDER_TYPE_BUY, 0.2)
    assert "is not this bot's (magic 77)" in bench.open().reason


def test_where_each_entry_is_a_position_nothing_is_asked_before_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.by_hand(api.ORDER_TYPE_BUY, 0.2)
    assert bench.open().status == "done"

    def fail(**_: Any) -> None:
        raise AssertionError("asked on the way of an order")

    send = bench.terminal.order_send

    def sent(request: Any) -> Any:
        monkeypatch.undo()  # what is asked after the send is another matter
        return send(request)

    monkeypatch.setattr(bench.terminal, "account_info", fail)
    monkeypatch.setattr(bench.terminal, "positions_get", fail)
    monkeypatch.setattr(bench.terminal, "order_send", sent)
    assert bench.on_the_next_bar().status == "done"
