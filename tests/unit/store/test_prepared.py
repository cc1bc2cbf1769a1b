"""Statements handed to the driver do what Core's would, errors included."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from sqlalchemy import bindparam, insert, select

from store.database import open_database
from store.errors import StoreConflict
from store.ledger import OrderIntent, ResultRow, add_intents, add_results, intent_of, result_of
from store.prepared import Prepared
from store.tables import order_intents

INTENT = OrderIntent(
    "i:1:1:1", 1, 1, 1, "EURUSD|H1|7", "open", {"side": "buy", "sl": 1.25, "why": "ä \ud800"}, "hash", 4, 5, 6.5
)


def test_the_same_row_as_by_core(tmp_path: Path) -> None:
    by_driver, by_core = (open_database(tmp_path / f"{name}.db", "ledger") for name in ("driver", "core"))
    with by_driver.begin() as one, by_core.begin() as other:
        add_intents(one, [INTENT])
        other.execute(insert(order_intents), [asdict(INTENT)])
    with by_driver.read() as one, by_core.read() as other:
        assert intent_of(one, INTENT.id) == intent_of(other, INTENT.id)
        rows = [conn.exec_driver_sql("SELECT * FROM order_intents").fetchall() for conn in (one, other)]
        assert rows[0] == rows[1]
    by_driver.close()
    by_core.close()


def test_a_fixed_value_of_the_statement_is_bound_beside_the_rows_own(tmp_path: Path) -> None:
    database = open_database(tmp_path / "x.db", "ledger")
    with database.begin() as conn:
        add_results(conn, [ResultRow("a", "unknown"), ResultRow("b", "done", price=1.5)])
        add_results(conn, [ResultRow("a", "done", deal=9), ResultRow("b", "refused")])
        assert result_of(conn, "a") == ResultRow("a", "done", deal=9)
        assert result_of(conn, "b") == ResultRow("b", "done", price=1.5)
        opens = Prepared(
            lambda _: select(order_intents.c.seq).where(
                order_intents.c.action == "open", order_intents.c.bot_id == bindparam("bot")
            )
        )
        assert opens.first(conn, {"bot": 1}) is None
        add_intents(conn, [INTENT])
        assert opens.first(conn, {"bot": 1}) == (1,)
    database.close()


def test_a_driver_s_error_is_the_store_s_and_undoes_the_transaction(tmp_path: Path) -> None:
    database = open_database(tmp_path / "x.db", "ledger")
    with pytest.raises(StoreConflict, match="UNIQUE"), database.begin() as conn:
        add_intents(conn, [INTENT])
        add_intents(conn, [INTENT])
    with database.read() as conn:
        assert intent_of(conn, INTENT.id) is None
    database.close()
