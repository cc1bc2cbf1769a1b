"""Real processes fed with noise: a launcher's frames, a gateway's orders and market, a supervisor's requests."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from protocol.client import CommandFailed
from protocol.codec import encode
from protocol.endpoints import Endpoints
from protocol.errors import INTERNAL
from protocol.messages import Attach, BarDone, Call, Detach, Message, Order, OrderQuery, Ready
from supervisor.runtime.control import VIEWERS
from tests.daemon import Daemon, bot_text, config_text
from tests.fuzz.shapes import frames, maps, model, some, values
from tests.gateway_rig import Rig
from tests.launchers import Launchers

pytestmark = [pytest.mark.posix]

_OPS = ["launch", "signal", "ack", "list", "hello", "stale", "catalogue", "validate", "nonsense", "handle"]
_KEYS = ["spec", "signal", "token", "names", "strategy", "params", "after", "group"]
_requests = st.builds(
    lambda op, number, rest: {**rest, "op": op, "id": number},
    st.sampled_from(_OPS) | values, values, st.dictionaries(st.sampled_from(_KEYS), values, max_size=4),
)  # fmt: skip


def test_a_launcher_stands(tmp_path: Path) -> None:
    launchers = Launchers(tmp_path, "fork")
    try:
        process = launchers.start()
        line = launchers.connect()
        spec = launchers.spec(1)
        pid = launchers.launch(line, spec)["pid"]

        @some
        @given(st.lists(frames | st.builds(msgpack.packb, _requests), max_size=20))
        def noise(sent: list[bytes]) -> None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as made:
                made.connect(str(launchers.path))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # an empty frame is a good-bye
                    for frame in sent:
                        made.send(frame)
            assert process.poll() is None

        noise()
        assert [run["pid"] for run in line.ask("list", timeout=60.0)["runs"]] == [pid]
        assert "Traceback" not in launchers.errors()
    finally:
        launchers.clean()


#: What a run may say, with the numbers and names of runs that are there, and any other value beside them.
_said = st.one_of(*(model(kind) for kind in (Attach, Order, OrderQuery, Call, BarDone, Detach)))
_FUNCTIONS = ["account_info", "positions_get", "order_calc_margin", "order_send", "copy_rates_from_pos", "symbol_info",
              "history_deals_get", "shutdown", "__class__"]  # fmt: skip
_near = st.fixed_dictionaries(
    {},
    optional={
        "bot_id": st.integers(0, 2), "epoch": st.integers(0, 2), "installation": st.just("inst"), "magic": st.just(10),
        "symbol": st.sampled_from(["EURUSD", "eurusd", "NONE"]), "timeframe": st.sampled_from(["H1", "M1", "X"]),
        "lookback": st.integers(-1, 100) | st.just(2**62), "wire": st.just(1),
        "fn": st.sampled_from(_FUNCTIONS),
        "order_ttl": st.sampled_from([0.0, -1.0, 1e300]),
    },
)  # fmt: skip


def test_a_gateway_stands(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Rig(tmp_path, {"seed": 7, "symbols": ["EURUSD"], "bars_per_second": 5}) as rig:
        process = rig.start()
        rig.supervisor.wait(Ready, timeout=60.0)
        rig.ready()
        rig.supervisor.fence(1, 1)
        trading = rig.client(1, 1)
        trading.attach("EURUSD", "H1", 50, timeout=5.0)
        with rig.context.socket(zmq.DEALER) as orders, rig.context.socket(zmq.XSUB) as market:
            orders.linger = market.linger = 0
            orders.connect(rig.addresses["orders"])
            market.connect(rig.addresses["market"])

            @some
            @given(st.lists(frames | st.builds(_as_near, _said, _near), max_size=10), st.binary(max_size=60))
            def noise(sent: list[bytes], topic: bytes) -> None:
                for frame in sent:
                    orders.send(frame)
                market.send(b"\1" + topic)
                while orders.poll(0):
                    orders.recv_multipart()
                assert process.poll() is None

            noise()
        assert trading.call("account_info", timeout=30.0)["balance"] > 0
    told = capfd.readouterr().err
    assert "Traceback" not in told, told[:3000]


def _as_near(message: Message, near: dict[str, Any]) -> bytes:
    known = type(message).model_fields
    return encode(message.model_copy(update={key: value for key, value in near.items() if key in known}))


_CHANGING = ["start", "stop", "restart", "pause", "resume", "add", "update", "remove", "reload", "halt",
             "resume-trading", "keys", "key_add", "key_revoke", "backup"]  # fmt: skip
_WORDS = ["bots", "all", "where", "wait", "mode", "set", "updates", "positions", "bot", "account", "limit", "since",
          "lines", "minutes", "reason", "who", "scope", "name", "role", "public_key", "to", "output",
          "apply"]  # fmt: skip
_words = st.sampled_from(_WORDS)
_arguments = st.dictionaries(_words, values | st.sampled_from(["one", ["one"], "main", 1, -1, 10**18]), max_size=4)


def test_a_supervisor_answers_every_request_and_none_is_a_defect(stable: Callable[..., Daemon]) -> None:
    daemon = stable(config_text(bots=bot_text("one") + bot_text("two", "GBPUSD"))).start()
    daemon.wait_all("running")
    log = daemon.data_dir / "logs" / "supervisor.log"

    @some
    @given(st.lists(st.tuples(st.sampled_from([*sorted(VIEWERS), *_CHANGING]), _arguments | maps), max_size=5))
    def noise(asked: list[tuple[str, dict[str, Any]]]) -> None:
        for command, args in asked:
            if args.get("wait"):
                args = {**args, "wait": 0.01}
            if command == "backup":
                args = {**args, "to": "relative"}  # it would be written
            try:
                daemon.ask(
                    command, 60.0, **{key: value for key, value in args.items() if key not in ("command", "timeout")}
                )
            except CommandFailed as error:
                assert error.code != INTERNAL, f"{command} {args}: {error}\n{log.read_text()[-3000:]}"

    noise()
    with zmq.Context() as context, context.socket(zmq.DEALER) as made:
        made.linger = 0
        made.connect(Endpoints.load(daemon.data_dir).control)

        @some
        @given(st.lists(frames, max_size=10))
        def frames_(sent: list[bytes]) -> None:
            for frame in sent:
                made.send(frame)
            while made.poll(0):
                made.recv_multipart()

        frames_()
    assert daemon.ask("ping", 60.0)["pid"] == daemon.pid
    assert "Traceback" not in log.read_text()
