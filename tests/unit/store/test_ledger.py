"""The ledger: fences never sink, an answer given stays, an id is used once, deals are booked once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from store import ledger
from store.database import open_database
from store.errors import StoreConflict
from store.ledger import DealRow, FenceRow, OrderIntent, ResultRow


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[Connection]:
    opened = open_database(tmp_path / "ledger.db", "ledger")
    with opened.begin() as connection:
        yield connection
    opened.close()


def intent(seq: int, *, epoch: int = 1, decision: str = "EURUSD|H1|1", action: str = "open") -> OrderIntent:
    return OrderIntent(
        f"i:1:{epoch}:{seq}", 1, epoch, seq, decision, action, {"volume": 0.1}, "hash", 10, 20, float(seq)
    )


def deal(ticket: int, magic: int, profit: float, *, bot_id: int | None = None, **more: float) -> DealRow:
    money = {"commission": 0.0, "swap": 0.0, "fee": 0.0} | more
    return DealRow(
        ticket=ticket, order=1, time=1, time_msc=1000, type=0, entry=0, magic=magic, position_id=1, reason=3,
        volume=0.1, price=1.1, profit=profit, symbol="EURUSD", comment="", external_id="", bot_id=bot_id, **money,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "stands"),
    [
        ([(5, True)], (5, True)),
        ([(5, True), (6, True)], (6, True)),
        ([(5, True), (4, True)], (5, True)),
        ([(5, True), (4, False)], (5, True)),
        ([(5, True), (5, False)], (5, False)),
        ([(5, False), (5, True)], (5, False)),
        ([(5, False), (6, True)], (6, True)),
        ([(5, True), (5, False), (5, False), (4, True)], (5, False)),
    ],
)
def test_a_fence_never_sinks(words: list[tuple[int, bool]], stands: tuple[int, bool], conn: Connection) -> None:
    ledger.set_fence(conn, 8, 1, True, 800, "other")
    for epoch, alive in words:
        answer = ledger.set_fence(conn, 7, epoch, alive, 700, "bot")
    assert answer == FenceRow(7, *stands, 700, "bot")
    assert ledger.fences_all(conn) == {7: answer, 8: FenceRow(8, 1, True, 800, "other")}


def test_an_intent_is_unresolved_until_it_is_answered(conn: Connection) -> None:
    intents = [intent(1), intent(2), intent(3)]
    ledger.add_intents(conn, intents)
    assert ledger.unresolved(conn) == intents
    unknown = ResultRow("i:1:1:1", "unknown", reason="no answer", at=5.0)
    done = ResultRow("i:1:1:2", "done", 10009, 31, 30, 0.1, 1.1, "", 5.0)
    ledger.add_results(conn, [unknown, done])
    assert [one.seq for one in ledger.unresolved(conn)] == [1, 3]
    resolved = ResultRow("i:1:1:1", "done", 10009, 33, 32, 0.1, 1.1, "found by ticket", 6.0)
    late = ResultRow("i:1:1:2", "refused", reason="late and wrong", at=7.0)
    ledger.add_results(conn, [resolved, late])
    assert (ledger.result_of(conn, "i:1:1:1"), ledger.result_of(conn, "i:1:1:2")) == (resolved, done)
    assert [one.seq for one in ledger.unresolved(conn)] == [3]
    assert ledger.intent_of(conn, "i:1:1:3") == intents[2]
    assert ledger.intent_of(conn, "none") is None


def test_an_id_that_was_refused_unseen_stays_refused(conn: Connection) -> None:
    tomb = ledger.refuse_id(conn, "i:1:1:1", at=4.0)
    assert tomb == ResultRow("i:1:1:1", "refused", reason="never received", at=4.0)
    assert ledger.refuse_id(conn, "i:1:1:1", at=9.0) == tomb
    with pytest.raises(StoreConflict, match="i:1:1:1 has an answer already"):
        ledger.add_intents(conn, [intent(2), intent(1)])
    assert ledger.unresolved(conn) == []


def test_an_id_that_is_on_its_way_is_not_refused(conn: Connection) -> None:
    ledger.add_intents(conn, [intent(1)])
    assert ledger.refuse_id(conn, "i:1:1:1", at=4.0) is None
    assert len(ledger.unresolved(conn)) == 1


def test_an_id_is_used_once(tmp_path: Path) -> None:
    opened = open_database(tmp_path / "ledger.db", "ledger")
    with opened.begin() as conn:
        ledger.add_intents(conn, [intent(1)])
    with pytest.raises(StoreConflict), opened.begin() as conn:
        ledger.add_intents(conn, [intent(2), intent(1)])
    with opened.read() as conn:
        assert ledger.unresolved(conn) == [intent(1)]
    opened.close()


def test_the_entry_of_a_decision_is_found_in_any_epoch(conn: Connection) -> None:
    close = intent(1, decision="d2", action="close")
    entry = intent(1, epoch=2, decision="d2")
    ledger.add_intents(conn, [close])
    assert ledger.entry_for_decision(conn, 1, "d2") is None
    ledger.add_intents(conn, [entry, intent(2, epoch=2, decision="d3")])
    assert ledger.entry_for_decision(conn, 1, "d2") == entry.id
    assert ledger.entry_for_decision(conn, 2, "d2") is None


def test_deals_are_booked_once_and_summed_by_magic(conn: Connection) -> None:
    assert ledger.last_deal_ticket(conn) == 0
    ledger.add_deals(conn, [deal(1, 0, 10_000.0), deal(2, 700, 5.25, bot_id=7, commission=-0.5)])
    ledger.add_deals(conn, [deal(2, 700, 99.0, bot_id=7), deal(3, 700, -1.0, bot_id=7, swap=-0.25, fee=-0.1)])
    assert ledger.last_deal_ticket(conn) == 3
    assert ledger.realised_by_magic(conn) == {0: 10_000.0, 700: 3.4}
    assert [one.ticket for one in ledger.all_deals(conn)] == [1, 2, 3]
    assert [one.profit for one in ledger.all_deals(conn, bot_id=7)] == [5.25, -1.0]


@pytest.mark.parametrize("magic", [2**63 - 1, 2**63, 2**64 - 1])
def test_a_deal_of_a_foreign_expert_may_have_any_magic_of_64_bits(magic: int, conn: Connection) -> None:
    row = deal(1, magic, 2.5)
    ledger.add_deals(conn, [row, deal(2, magic, 1.0)])
    assert ledger.all_deals(conn)[0] == row
    assert ledger.realised_by_magic(conn) == {magic: 3.5}


def test_a_deal_is_taken_from_the_terminals_own_fields() -> None:
    row = deal(4, 700, 1.0)
    fields = {name: getattr(row, name) for name in DealRow.__dataclass_fields__ if name != "bot_id"}
    assert DealRow.of({**fields, "added_in_a_later_build": 1}, None) == row
