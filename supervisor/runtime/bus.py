"""The bus: one ROUTER that every bot and gateway speaks to.

Heartbeats go straight into the registry; everything else becomes a call of the daemon, once the Hello of
that route is accepted. Who a peer is, is said by its Hello and proved by its run token, never by its socket; where
there are keys, its key must be that run's, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import zmq

from protocol import codec
from protocol.errors import BadFrame
from protocol.messages import WIRE, Hello, Message, Unwelcome, Voice, Welcome
from supervisor.runtime import clock
from supervisor.runtime.registry import Record, Registry, Run
from supervisor.runtime.sockets import Pump
from supervisor.runtime.voices import VoiceState
from supervisor.runtime.zap import run_user

#: Said to a peer that speaks without a Hello (a new supervisor does not know the old connections).
SAY_HELLO: Final = "hello?"
_LARGEST_HELLO: Final = 16 * 1024
_FOREIGN_KEY: Final = "that is not this run's key"


class Listener(Protocol):
    """What the daemon does with the bus's messages."""

    def hello(self, record: Record, message: Hello) -> None:
        """A run said who it is, and was accepted."""

    def heard(self, record: Record, message: Message) -> None:
        """A message of a run whose Hello was accepted."""

    def analysis_hello(self, message: Hello, reply: Callable[[Message], bool]) -> bool:
        """An analysis on demand reports for its token; False when nobody asked for it."""

    def analysis_heard(self, token: str, message: Message) -> None:
        """Its result."""

    def bad_frame(self, error: Exception) -> None:
        """A frame was dropped."""


class Bus:
    """Owns the socket."""

    def __init__(
        self,
        socket: zmq.Socket[Any],
        registry: Registry,
        listener: Listener,
        boot: str,
        interval: float,
        *,
        keyed: bool,
    ) -> None:
        """`keyed`: whether each peer has proved a key."""
        self._registry = registry
        self._listener = listener
        self._welcome = Welcome(supervisor_boot=boot, heartbeat_interval=interval)
        self._analyses: dict[bytes, str] = {}  # route -> token
        self._asked: dict[bytes, float] = {}  # strangers who were asked for a Hello, and when
        self.heartbeats = 0
        self.accepting = False  # set once adoption knows every open run
        take = self._take_keyed if keyed else self._take
        self._pump = Pump(socket, take, listener.bad_frame, copy=not keyed)

    def send(self, record: Record, message: Message) -> bool:
        """Send to the record's run. False when it cannot be reached now."""
        run = record.run
        if run is None or run.route is None:
            return False
        if not self._pump.send([run.route, codec.encode(message)]):
            self._registry.unroute(run)
            return False
        return True

    def ask_hello(self, run: Run) -> None:
        """Have it greet anew, after which it sends again what was not acknowledged."""
        if run.route is not None:
            self._ask_hello(run.route)

    def close(self) -> None:
        """Close the socket."""
        self._pump.close()

    def _take_keyed(self, frames: list[zmq.Frame]) -> None:
        # ZeroMQ's own word on who proved which key; a peer cannot set it.
        self._take([frame.bytes for frame in frames], frames[-1])

    def _take(self, frames: list[bytes], proof: zmq.Frame | None = None) -> None:
        route, frame = frames[0], frames[-1]
        record = self._registry.by_route.get(route)
        if codec.is_heartbeat(frame):
            if record is None:
                if self._registry.voices.heard(route, frame, clock.now()):
                    self.heartbeats += 1
                else:
                    self._ask_hello(route)
                return
            run = record.run
            if run is not None:
                run.beat = codec.decode_heartbeat(frame)
                run.beat_at = clock.now()
                self.heartbeats += 1
            return
        if record is None and route not in self._analyses and len(frame) > _LARGEST_HELLO:
            raise BadFrame(f"{len(frame)} bytes before a Hello")  # a stranger's frame is not worth taking apart
        message = codec.decode(frame)
        user = str(proof.get("User-Id")) if proof is not None else ""
        if isinstance(message, Voice) and record is None and route not in self._analyses:
            self._voice(route, message, user)
        elif self._registry.voices.of_route(route) is not None:
            raise BadFrame(f"{type(message).__name__} of a program, which may only beat")
        elif isinstance(message, Hello):
            self._hello(route, message, user)
        elif record is not None:
            if record.run is not None:
                record.run.beat_at = clock.now()
            self._listener.heard(record, message)
        elif route in self._analyses:
            self._listener.analysis_heard(self._analyses[route], message)
        else:
            self._ask_hello(route)

    def _hello(self, route: bytes, message: Hello, user: str) -> None:
        if not self.accepting:
            self._ask_hello(route)
            return
        if not WIRE - 1 <= message.wire <= WIRE + 1:
            self._refuse(route, f"wire version {message.wire}; this supervisor speaks {WIRE}")
            return
        if message.kind == "analysis":
            if self._listener.analysis_hello(message, lambda answer: self._pump.send([route, codec.encode(answer)])):
                self._analyses[route] = message.token
                if len(self._analyses) > 1000:
                    self._analyses.pop(next(iter(self._analyses)))
            else:
                self._refuse(route, "nobody asked for this analysis")
            return
        record = self._registry.by_token.get(message.token)
        if record is None or record.run is None or record.bot_id != message.bot_id:
            self._refuse(route, "unknown run")
            return
        if record.run.epoch != message.epoch:
            self._refuse(route, f"epoch {message.epoch} is over; the run is {record.run.epoch}")
            return
        if user and user != run_user(record.bot_id):
            self._refuse(route, _FOREIGN_KEY)
            return
        self._registry.route(record, route)
        record.run.beat_at = clock.now()
        if message.voice and record.kind == "program" and record.run.voice is None:
            record.run.voice = VoiceState(since=clock.now())
        self._pump.send([route, codec.encode(self._welcome)])
        self._listener.hello(record, message)

    def _voice(self, route: bytes, message: Voice, user: str) -> None:
        """A program introduces itself. Raises BadFrame where it is refused, so that it is counted and told."""
        record = self._registry.voices.of_token(message.token)
        run = record.run if record is not None else None
        if not self.accepting or (run is not None and run.voice is None and run.route is None):
            self._ask_hello(route)  # its minder has not spoken yet
            return
        why = ""
        if not WIRE - 1 <= message.wire <= WIRE + 1:
            why = f"wire version {message.wire}; this supervisor speaks {WIRE}"
        elif record is None or run is None:
            why = "unknown run"
        elif user and user != run_user(record.bot_id):
            why = _FOREIGN_KEY
        elif self._registry.voices.of_route(route) not in (None, record):
            why = "this connection is another program's"
        elif run.voice is None:
            why = 'this run was not started with heartbeat = "bus"'
        else:
            self._registry.voices.admit(record, route, message.pid)
            self._pump.send([route, codec.encode(self._welcome)])
            return
        self._refuse(route, why)
        raise BadFrame(f"process {message.pid} may not beat here: {why}")

    def _ask_hello(self, route: bytes) -> None:
        # At most once a second each, so that a flood of strangers costs no more than reading it.
        now = clock.now()
        if now - self._asked.get(route, -1.0) < 1.0:
            return
        if len(self._asked) > 5000:
            self._asked.clear()
        self._asked[route] = now
        self._refuse(route, SAY_HELLO)

    def _refuse(self, route: bytes, reason: str) -> None:
        self._pump.send([route, codec.encode(Unwelcome(reason=reason))])


def describe_bad_frame(error: Exception) -> str:
    """One line for the log."""
    return error.message if isinstance(error, BadFrame) else f"{type(error).__name__}: {error}"
