"""One run of a bot in this process, between sockets of a supervisor and a gateway that the test plays."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import zmq

from botproc.rehearsal import answers, bound, specification
from botproc.runner import BotRun
from broker.api import RATES_DTYPE
from broker.feed import spread_frame
from protocol import topics
from protocol.botconfig import BotConfig
from protocol.codec import decode, encode, is_heartbeat
from protocol.messages import Attach, Attached, Bar, Bye, Message
from tests.support import eventually

HOUR = 3600
#: A TradePosition that is a bot's own.
SHORT: dict[str, Any] = {
    "ticket": 7, "identifier": 7, "type": 1, "volume": 0.3, "magic": 0, "price_open": 1.1, "sl": 0.0, "tp": 0.0,
}  # fmt: skip


def rates(first: int, count: int) -> Any:
    """Hours in which nothing happens, the first of them number `first`."""
    bars = np.zeros(count, RATES_DTYPE)
    bars["time"] = np.arange(first, first + count) * HOUR
    bars["open"] = bars["high"] = bars["low"] = bars["close"] = 1.1
    return bars


def attached(count: int, *, late: float, position: dict[str, Any] | None, lockstep: bool = False) -> Attached:
    """The last `count` of 600 bars, `late` seconds after the end of the last."""
    return Attached(
        gateway_boot="b", symbol="EURUSD", info={}, account={}, position=position,
        bars=rates(600 - count, count).tobytes(), bar_seq=0, lockstep=lockstep, time=600 * HOUR + late,
    )  # fmt: skip


class Other(threading.Thread):
    """Supervisor and gateway: each attach gets the next word, the last one again and again.

    `hear` is told what the run says, on this thread; what it gives is answered on the same socket.
    """

    def __init__(self, sockets: list[zmq.Socket[bytes]], words: Sequence[Attached]) -> None:
        super().__init__(daemon=True)
        self._bus, self._orders, self._market = sockets
        self._words = list(words)
        self._route: list[bytes] = []
        self._later: deque[Message] = deque()
        self._bars = 0
        self.hear: Callable[[Message], list[Message]] = lambda _message: []
        self.said: list[Message] = []
        self._ended = False

    def all(self, kind: type[Any]) -> list[Any]:
        """What the run has said of this kind."""
        return [one for one in self.said if isinstance(one, kind)]

    def command(self, message: Message) -> None:
        """Have the supervisor say this."""
        self._later.append(message)

    def publish(self) -> None:
        """The bar that follows the history has closed."""
        self._bars += 1
        bar = Bar(
            gateway_boot="b", symbol="EURUSD", timeframe="H1", seq=self._bars,
            row=rates(599 + self._bars, 1).tobytes(), bid=1.1, ask=1.1, time=(600.0 + self._bars) * HOUR,
        )  # fmt: skip
        self._market.send_multipart([topics.bar("EURUSD", "H1"), spread_frame(0.0), encode(bar)])

    def run(self) -> None:
        """Until the run has said goodbye."""
        sockets = (self._bus, self._orders, self._market)
        while not self._ended:
            for socket in sockets:
                while socket.poll(2):
                    *route, frame = socket.recv_multipart()
                    if socket is self._bus:
                        self._route = route
                    if route and not is_heartbeat(frame):
                        for answer in self._answers(decode(frame)):
                            socket.send_multipart([*route, encode(answer)])
            while self._later:
                self._bus.send_multipart([*self._route, encode(self._later.popleft())])
        for socket in sockets:
            socket.close(linger=0)

    def _answers(self, message: Message) -> list[Message]:
        self.said.append(message)
        self._ended = self._ended or isinstance(message, Bye)
        if isinstance(message, Attach):
            return [self._words.pop(0) if len(self._words) > 1 else self._words[0]]
        return answers(message) + self.hear(message)


def play(words: Sequence[Attached], hear: Callable[[Other, Message], list[Message]], **bot: Any) -> Other:
    """One run from its start until it is told to stop; `hear` is `Other.hear`, and has to see to the end."""
    config = BotConfig.model_validate({"name": "bot", "market": "EURUSD", "strategy": "MA_CROSSOVER", **bot})
    spec = specification().model_copy(update={"bot": config})
    before = signal.getsignal(signal.SIGTERM)  # a run takes it for itself
    with zmq.Context() as context:
        other = Other(bound(context, spec), words)
        other.hear = lambda message: hear(other, message)
        other.start()
        late = threading.Timer(20.0, os.kill, (os.getpid(), signal.SIGTERM))  # a run that nobody stops ends too
        late.start()
        try:
            assert BotRun(spec, config, "").run() == 0
        finally:
            late.cancel()
            signal.signal(signal.SIGTERM, before)
        eventually(lambda: not other.is_alive(), what="the other side's end")
    return other
