"""A real gateway in a process of its own, a supervisor that the test plays, and clients."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import zmq

from broker.client import GatewayClient, MarketFeed
from protocol.botconfig import AccountConfig
from protocol.codec import decode, encode, is_heartbeat, pack
from protocol.keys import KeyPair, new_pair
from protocol.messages import (
    Attached,
    Command,
    Fence,
    Fenced,
    Hello,
    Message,
    Query,
    QueryResult,
    Ready,
    Roster,
    RosterEntry,
    Welcome,
)
from protocol.spec import RunSpec
from tests.support import eventually

M = TypeVar("M", bound=Message)
_CHILD = """
import logging, sys, time, msgpack
later = float(sys.argv[1])
if later:  # before anything takes the clocks by name
    clocks = time.monotonic, time.time
    time.monotonic, time.time = (lambda clock=clock: clock() + later for clock in clocks)
logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
from protocol.spec import RunSpec
from protocol.locks import FileLock, LockHeld
from pathlib import Path
from broker.gateway import main
spec = RunSpec.model_validate(msgpack.unpackb(sys.stdin.buffer.read()))
try:
    lock = FileLock(Path(spec.lock_path))
except LockHeld:
    sys.exit(75)
sys.exit(main(spec))
"""


class Supervisor:
    """The bus, as the gateway sees it: it welcomes, remembers what it is told, and says what the test wants."""

    def __init__(self, context: zmq.Context[Any], address: str) -> None:
        self._socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.bind(address)
        self._lock = threading.Lock()
        self._outbox: list[Message] = []
        self._peer = b""
        self._gateway = False
        self._stop = threading.Event()
        self.welcoming = True
        self.told: list[Message] = []
        self.hellos: list[Hello] = []
        self._fences: dict[int, Fence] = {}  # bot -> the last one
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def say(self, message: Message) -> None:
        """Send to the gateway."""
        with self._lock:
            self._outbox.append(message)

    def all(self, kind: type[M], fits: Callable[[M], bool] = lambda _: True) -> list[M]:
        """Messages of that kind so far."""
        return [one for one in list(self.told) if isinstance(one, kind) and fits(one)]

    def wait(self, kind: type[M], fits: Callable[[M], bool] = lambda _: True, timeout: float = 10.0) -> M:
        """The first message of that kind that fits."""
        return eventually(lambda: self.all(kind, fits), timeout, what=kind.__name__)[0]

    def fence(
        self, bot_id: int, epoch: int, *, alive: bool = True, magic: int = 0, key: str = "", timeout: float = 10.0
    ) -> Fenced:
        """Fence, and the acknowledgement."""
        number = self.send_fence(bot_id, epoch, alive=alive, magic=magic, key=key)
        return self.wait(Fenced, lambda one: one.id == number, timeout)

    def send_fence(self, bot_id: int, epoch: int, *, alive: bool = True, magic: int = 0, key: str = "") -> str:
        """Fence without waiting; the request's id."""
        fence = self._fences[bot_id] = Fence(
            id=uuid.uuid4().hex, bot_id=bot_id, name=f"bot{bot_id}", epoch=epoch, alive=alive,
            magic=magic or bot_id * 10, key=key,
        )  # fmt: skip
        self.say(fence)
        return fence.id

    def fence_again(self) -> None:
        """Say every bot's last fence to a new gateway, as a supervisor does: before it, entries are refused."""
        for bot_id, fence in self._fences.items():
            again = self._fences[bot_id] = fence.model_copy(update={"id": uuid.uuid4().hex})
            self.say(again)

    def roster(self, *bots: tuple[int, str], timeframe: str = "H1") -> None:
        """(bot id, symbol) of the running bots."""
        entries = [RosterEntry(bot_id=b, name=f"bot{b}", symbol=s, timeframe=timeframe, magic=b * 10) for b, s in bots]
        self.say(Roster(bots=entries))

    def query(self, what: str, **args: Any) -> Any:
        """A question and its answer."""
        number = uuid.uuid4().hex
        self.say(Query(id=number, what=what, args=args))
        answer = self.wait(QueryResult, lambda one: one.id == number)
        assert answer.ok, answer.error
        return answer.result

    def stop_gateway(self) -> None:
        """The stop command."""
        self.say(Command(id=uuid.uuid4().hex, verb="stop"))

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._socket.poll(2):
                peer, frame = self._socket.recv_multipart()
                if is_heartbeat(frame):
                    continue
                message: Message = decode(frame)
                if isinstance(message, Hello):
                    self.hellos.append(message)
                    if not self.welcoming:
                        continue
                    welcome = Welcome(supervisor_boot="test", heartbeat_interval=0.5)
                    # The gateway, where there is one; on a bus of bots alone the one that came last.
                    self._gateway = self._gateway or message.kind == "gateway"
                    if message.kind == "gateway" or not self._gateway:
                        self._peer = peer
                    self._socket.send_multipart([peer, encode(welcome)])
                elif peer == self._peer:  # what bots tell is not asked for here
                    self.told.append(message)
            if self._peer:
                with self._lock:
                    out, self._outbox = self._outbox, []
                for each in out:
                    self._send(each)
        self._socket.close()

    def _send(self, message: Message) -> None:
        self._socket.send_multipart([self._peer, encode(message)])


class Rig:
    """Everything for one account in `folder`. A context manager: it leaves no process behind."""

    def __init__(self, folder: Path, account: dict[str, Any], *, tcp: bool = False) -> None:
        self.folder = folder
        self.context: zmq.Context[Any] = zmq.Context()
        self.gateway_pair = new_pair() if tcp else None
        where = {name: "tcp://127.0.0.1:*" if tcp else f"ipc://{folder}/{name}.s" for name in ("orders", "market")}
        self.spec = RunSpec(
            kind="gateway", token="gw", bot_id=1000, epoch=1, name="gateway-main", installation="inst",
            data_dir=str(folder), lock_path=str(folder / "locks" / "main"), log_path=str(folder / "gw.log"),
            bus=f"ipc://{folder}/bus.s", gateway_bind=where,
            gateway_key=self.gateway_pair.public if self.gateway_pair else "",
            gateway_secret=self.gateway_pair.secret if self.gateway_pair else "",
            heartbeat_interval=0.5, account=AccountConfig(**account), account_name="main", config_dir=str(folder),
        )  # fmt: skip
        self.supervisor = Supervisor(self.context, self.spec.bus)
        self.addresses = where
        self.processes: list[subprocess.Popen[bytes]] = []
        self._clients: list[Any] = []

    def start(self, *, later: float = 0.0) -> subprocess.Popen[bytes]:
        """Start a gateway process. `later`: its clocks are so many seconds ahead of everybody else's."""
        process = subprocess.Popen([sys.executable, "-c", _CHILD, str(later)], stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(pack(self.spec.model_dump()))
        process.stdin.close()
        self.processes.append(process)
        return process

    def ready(self) -> dict[str, str]:
        """Wait until the gateway has said where it is."""
        import json

        detail = self.supervisor.wait(Ready, timeout=20.0).detail
        self.addresses = json.loads(detail)
        return self.addresses

    def bot_spec(self, bot_id: int, epoch: int, pair: KeyPair | None = None) -> RunSpec:
        """What a bot's run is told."""
        return RunSpec(
            kind="bot", token=f"run-{bot_id}-{epoch}", bot_id=bot_id, epoch=epoch, name=f"bot{bot_id}",
            installation="inst", magic=bot_id * 10, data_dir=str(self.folder), lock_path="", log_path="",
            bus=self.spec.bus, orders=self.addresses["orders"], market=self.addresses["market"],
            public_key=pair.public if pair else "", secret_key=pair.secret if pair else "",
            gateway_key=self.spec.gateway_key,
        )  # fmt: skip

    def client(self, bot_id: int, epoch: int, pair: KeyPair | None = None) -> GatewayClient:
        """The orders socket of a run."""
        client = GatewayClient(self.context, self.bot_spec(bot_id, epoch, pair))
        self._clients.append(client)
        return client

    def feed(self, bot_id: int, epoch: int, symbol: str, timeframe: str = "H1") -> MarketFeed:
        """Its subscription."""
        feed = MarketFeed(self.context, self.bot_spec(bot_id, epoch), symbol, timeframe)
        self._clients.append(feed)
        return feed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(10)
        for client in self._clients:
            client.close()
        self.supervisor.close()
        self.context.destroy(linger=0)


def last_bar_time(attached: Attached) -> int:
    """Open time of the last closed bar that the attach told."""
    from broker.market import from_bytes

    return int(from_bytes(attached.bars)["time"][-1])


__all__ = ["Rig", "Supervisor", "last_bar_time"]
