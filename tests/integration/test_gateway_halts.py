"""A real gateway's control endpoint and its halts over the bus: who may speak there, and what they may do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from protocol.client import CommandFailed, ControlClient
from protocol.endpoints import Endpoints
from protocol.errors import StablehandError
from protocol.keys import KeyPair, new_pair
from protocol.messages import Bye, Halts
from tests.gateway_rig import Rig
from tests.support import eventually

pytestmark = pytest.mark.posix
STILL = {"bars_per_second": 0.01, "symbols": ("EURUSD", "GBPUSD")}


class Halted(Rig):
    """A rig whose gateway has a control endpoint, for `operator` alone where it is TCP."""

    def __init__(self, folder: Path, *, tcp: bool = False) -> None:
        super().__init__(folder, STILL, tcp=tcp)
        self.operator = new_pair() if tcp else None
        address = "tcp://127.0.0.1:*" if tcp else f"ipc://{folder}/control.s"
        self.spec = self.spec.model_copy(
            update={
                "gateway_bind": {**self.spec.gateway_bind, "control": address},
                "operator_key": self.operator.public if self.operator else "",
            }
        )

    def __enter__(self) -> Halted:
        return self

    def control(self, pair: KeyPair | None = None, timeout: float = 5.0) -> ControlClient:
        there = Endpoints(
            transport="ipc", bus="", control=self.addresses["control"], events="", server_key=self.spec.gateway_key
        )
        return ControlClient(endpoints=there, key=pair or self.operator, timeout=timeout)

    def reported(self) -> list[str]:
        """Keys of the last report."""
        return [halt.key for halt in self.supervisor.all(Halts)[-1].halts]


@pytest.fixture(params=[False, True], ids=["ipc", "tcp"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Halted]:
    with Halted(tmp_path, tcp=request.param) as rig:
        rig.start()
        rig.ready()
        yield rig


def test_the_control_endpoint_halts_and_lifts_nothing(rig: Halted) -> None:
    rig.supervisor.fence(1, 1, key=new_pair().public if rig.operator else "")
    with rig.control() as control:
        answer = control.request("halt", {"scope": "bot:bot1", "reason": "odd  fills", "who": "me"})
        assert answer["remembered"] and answer["halt"]["reason"] == "odd fills"
        for args, wrong in (
            ({"scope": "bot:bot2", "reason": "x"}, "did you mean 'bot1'"),
            ({"scope": "account:other", "reason": "x"}, "cannot halt"),
            ({"scope": "all", "reason": " "}, "needs a reason"),
        ):
            with pytest.raises(CommandFailed) as caught:
                control.request("halt", args)
            assert wrong in caught.value.line()
        with pytest.raises(CommandFailed, match="supervisor's memory"):
            control.request("resume-trading", {})
        with pytest.raises(CommandFailed, match="unknown command"):
            control.request("down", {})
        assert [one["scope"] for one in control.request("halts")["halts"]] == ["bot:bot1"]
    eventually(lambda: rig.reported() == ["bot:bot1"])


def test_what_is_no_request_is_dropped_and_hurts_nobody(rig: Halted) -> None:
    with rig.control() as control:
        control.request("ping")
        for frame in (b"", b"\xc1", b"\x93\x01\x02\x03", b"\x81\xa4args\x01", b"x" * 100_000):
            control._socket.send(frame)  # type: ignore[union-attr]
        with pytest.raises(CommandFailed, match="wrong argument"), rig.control() as other:
            other.request("halt", {"scope": "all", "reason": "x", "at": "noon"})
        with rig.control() as other:
            assert other.request("ping") == {"account": "main", "halts": []}


def test_over_tcp_only_the_operator_comes_in(tmp_path: Path) -> None:
    with Halted(tmp_path, tcp=True) as rig:
        rig.start()
        rig.ready()
        bot = new_pair()
        rig.supervisor.fence(1, 1, key=bot.public)
        for stranger in (bot, new_pair()):  # a bot's own key, good at the orders socket, is none here
            with rig.control(stranger, timeout=1.0) as control, pytest.raises(StablehandError):
                control.request("halt", {"scope": "all", "reason": "x"})
        assert rig.operator is not None
        orders = Endpoints(
            transport="tcp", bus="", control=rig.addresses["orders"], events="", server_key=rig.spec.gateway_key
        )
        # Nor is the operator's one at the orders socket.
        with ControlClient(endpoints=orders, key=rig.operator, timeout=1.0) as there, pytest.raises(StablehandError):
            there.request("ping")
        with rig.control() as control:
            assert control.request("halts")["halts"] == []


def test_the_supervisor_halts_and_lifts_over_the_bus_and_hears_of_it_again(tmp_path: Path) -> None:
    with Halted(tmp_path) as rig:
        process = rig.start()
        rig.ready()
        told: dict[str, Any] = rig.supervisor.query("halt", scope="all", reason="news", who="me", flatten=True)
        assert told["remembered"]
        eventually(lambda: any(halt.progress == "flat" for one in rig.supervisor.all(Halts) for halt in one.halts))
        process.kill()
        process.wait(10)
        rig.supervisor.told.clear()
        rig.start()
        rig.ready()
        (halt,) = rig.supervisor.wait(Halts).halts
        assert (halt.key, halt.reason, halt.flatten) == ("all", "news", True)
        assert rig.supervisor.query("lift", scope="all", who="me") == {"lifted": ["all"]}
        eventually(lambda: rig.reported() == [])
        # A guard's halt whose time is over is not taken up again.
        over = rig.supervisor.query("halt", scope="all", reason="x", who="guard", rule="max_daily_loss", until=1000)
        assert over["over"] and rig.reported() == []


def test_an_address_that_is_taken_is_tried_again_and_no_fault_of_the_account(tmp_path: Path) -> None:
    with Halted(tmp_path) as rig:
        taken = rig.context.socket(zmq.ROUTER)
        taken.bind(f"tcp://127.0.0.1:{20_000 + hash(str(tmp_path)) % 10_000}")
        address = taken.getsockopt_string(zmq.LAST_ENDPOINT)
        rig.spec = rig.spec.model_copy(update={"gateway_bind": {**rig.spec.gateway_bind, "control": address}})
        assert rig.start().wait(20) == 69
        assert "Address already in use" in rig.supervisor.wait(Bye).reason
        taken.close(0)
        rig.start()
        rig.ready()
