"""A gateway on another host behind its relay, as real processes, over a line that breaks for moments."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from broker.gateway.relay import STABLE_KEY
from protocol.botconfig import AccountConfig
from protocol.keys import load_or_create
from protocol.messages import Fenced, Query, QueryResult, Ready
from protocol.remotegateway import places
from tests.gateway_rig import Rig, Supervisor
from tests.ports import free_ports
from tests.support import eventually
from tests.tcpline import TcpLine

pytestmark = pytest.mark.posix

STILL: dict[str, Any] = {"bars_per_second": 0.01, "symbols": ("EURUSD",)}


class Remote(Rig):
    """The gateway keeps its things in `there`, the relay in `here`; `line` is between them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, STILL, tcp=True)
        first = free_ports(5)
        self.line = TcpLine(first + 4, first)
        self._address = f"tcp://127.0.0.1:{first}"
        self._link = f"tcp://127.0.0.1:{first + 4}"

    def start_both(self) -> None:
        """Until the relay says that the gateway is there."""
        here, there, both = self.folder / "here", self.folder / "there", self.spec
        there.mkdir()
        self.spec = both.model_copy(
            update={
                "data_dir": str(there), "lock_path": str(there / "lock"), "gateway_bind": places(self._address),
                "server_key": load_or_create(here, STABLE_KEY).public, "bus": "",
            }
        )  # fmt: skip
        self.start()
        account = {"kind": "mt5-remote", "address": self._address, "gateway_key": both.gateway_key}
        self.spec = both.model_copy(
            update={
                "data_dir": str(here), "gateway_bind": {"link": self._link}, "gateway_secret": "",
                "account": AccountConfig.model_validate(account),
            }
        )  # fmt: skip
        self.start()
        self.supervisor.wait(Ready, timeout=20.0)

    def sees_it_cut(self) -> None:
        """The relay has heard of the cut, and of all that was said to it before."""
        before = len(self._refused())

        def asked() -> bool:
            self.supervisor.say(Query(id=uuid.uuid4().hex, what="positions"))
            return len(self._refused()) > before

        eventually(asked, every=0.05, what="a question that the relay cannot pass on")

    def _refused(self) -> list[QueryResult]:
        return self.supervisor.all(QueryResult, lambda one: not one.ok and "does not answer" in one.error)

    def close(self) -> None:
        super().close()
        self.line.close()


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Remote]:
    with Remote(tmp_path) as made:
        made.start_both()
        yield made


def test_a_fence_that_is_lost_in_a_break_which_nobody_notices_is_told_again(remote: Remote) -> None:
    supervisor = remote.supervisor
    assert json.loads(supervisor.all(Ready)[0].detail).keys() >= {"orders", "market"}
    assert supervisor.fence(1, 1).ok
    for bot_id in (2, 3):  # the second time shows that the first one came to an end
        greeted = len(supervisor.hellos)
        remote.line.cut()
        remote.sees_it_cut()
        supervisor.send_fence(bot_id, 1)
        remote.sees_it_cut()
        remote.line.mend()
        eventually(partial(more_than, supervisor, greeted), 10.0, what="a Hello")
        assert not supervisor.all(Fenced, partial(is_of, bot_id))
        supervisor.fence_again()  # as at each Hello
        assert supervisor.wait(Fenced, partial(is_of, bot_id)).ok
        # One for the connection; and one for the silence, on a machine so slow that there was one.
        assert len(supervisor.hellos) <= greeted + 2


def more_than(supervisor: Supervisor, count: int) -> bool:
    return len(supervisor.hellos) > count


def is_of(bot_id: int, fenced: Fenced) -> bool:
    return fenced.bot_id == bot_id
