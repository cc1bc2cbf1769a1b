"""The journal within its bounds, of a real supervisor, with a client that reads slowly."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from protocol.client import ControlClient
from tests.acceptance.test_programs import program
from tests.daemon import Daemon, config_text
from tests.support import eventually

pytestmark = pytest.mark.acceptance
_ROWS = 1_000
_BEFORE = 4_000


def test_the_journal_keeps_its_size_while_a_client_lags_who_is_told_of_the_gap(
    stable: Callable[..., Daemon],
) -> None:
    bots = "".join(program(f"p{number}", "import time; time.sleep(600)") for number in range(2))
    daemon = stable(config_text(supervisor=f"journal_rows = {_ROWS}\n", bots=bots)).start()
    daemon.wait_all("running")
    assert daemon.down() == 0
    with sqlite3.connect(daemon.data_dir / "supervisor.db") as store:  # a long life, in short
        store.executemany(
            "INSERT INTO journal (at, type, text, data, cause_id) VALUES (strftime('%s'), 'info', ?, '{}', '')",
            [(f"row {number}",) for number in range(_BEFORE)],
        )
    store.close()
    daemon.start()
    daemon.wait_all("running")
    with ControlClient(daemon.data_dir) as client:
        slow = client.follow(since=5)
        told = next(slow)  # begun, and not read on
        eventually(lambda: daemon.ask("events", limit=1)["first"] > _BEFORE - _ROWS, 20, what="pruned after the start")
        page = daemon.ask("events", since=5, limit=10_000)
        assert len(page["events"]) <= _ROWS * 1.1 and page["events"][0]["seq"] == page["first"]
        oldest = page["first"]
        while daemon.ask("events", limit=1)["last"] < page["last"] + _ROWS // 5:  # it grows, and is cut as it grows
            daemon.ask("restart", all=True, wait=10)
        eventually(lambda: daemon.ask("events", limit=1)["first"] > oldest, 20, what="pruned while somebody lags")
        last = daemon.ask("events", limit=1)["last"]
        seen = [told]
        while seen[-1]["seq"] < last:
            seen.append(next(slow))
        del slow  # its socket closes with it
        numbers = [one["seq"] for one in seen]
        assert numbers == sorted(set(numbers))
        gaps = [one for one in seen if one["type"] == "gap"]
        assert gaps and all(one["data"]["first"] == one["seq"] + 1 for one in gaps)
        assert all(one["data"]["after"] in (5, *numbers) for one in gaps)
