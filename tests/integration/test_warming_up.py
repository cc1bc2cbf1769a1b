"""A run that has too few bars, between sockets of a supervisor and a gateway that the test plays."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import zmq

from botproc import attaching
from botproc.attaching import Patience
from botproc.rehearsal import answers, bound, specification
from botproc.runner import BotRun
from broker.api import RATES_DTYPE
from protocol.codec import decode, encode, is_heartbeat
from protocol.messages import Attach, Attached, Bye, Call, Command, Message, Ready
from tests.support import eventually

pytestmark = pytest.mark.posix
HOUR = 3600
SHORT = {"ticket": 7, "identifier": 7, "type": 1, "volume": 0.3, "magic": 0, "price_open": 1.1, "sl": 0.0, "tp": 0.0}


def attached(count: int, *, late: float, position: dict[str, Any] | None) -> Attached:
    """The last `count` of 600 bars, `late` seconds after the end of the last."""
    bars = np.zeros(600, RATES_DTYPE)
    bars["time"] = np.arange(600) * HOUR
    bars["open"] = bars["high"] = bars["low"] = bars["close"] = 1.1
    return Attached(
        gateway_boot="b", symbol="EURUSD", info={}, account={}, position=position, bars=bars[-count:].tobytes(),
        bar_seq=0, time=600 * HOUR + late,
    )  # fmt: skip


class Other(threading.Thread):
    """Supervisor and gateway: each attach gets the next word, the last one again and again."""

    def __init__(self, sockets: list[zmq.Socket[bytes]], words: list[Attached]) -> None:
        super().__init__(daemon=True)
        self._sockets = sockets
        self._words = words
        self.said: list[Message] = []
        self.ended = False

    def all(self, kind: type[Any]) -> list[Any]:
        """What the run has said of this kind."""
        return [one for one in self.said if isinstance(one, kind)]

    def run(self) -> None:
        """Until the run has said goodbye."""
        while not self.ended:
            for socket in self._sockets:
                while socket.poll(2):
                    *route, frame = socket.recv_multipart()
                    if route and not is_heartbeat(frame):
                        for answer in self._answers(decode(frame)):
                            socket.send_multipart([*route, encode(answer)])
        for socket in self._sockets:
            socket.close(linger=0)

    def _answers(self, message: Message) -> list[Message]:
        self.said.append(message)
        self.ended = self.ended or isinstance(message, Bye)
        if isinstance(message, Attach):
            return [self._words.pop(0) if len(self._words) > 1 else self._words[0]]
        if isinstance(message, Ready):
            return [Command(id="1", verb="stop")]
        return answers(message)


@pytest.fixture(autouse=True)
def own_sigterm() -> Iterator[None]:
    """A run takes the signal for itself."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def play(words: list[Attached]) -> Other:
    """One run from its start until it is stopped after its first turn."""
    spec = specification()
    assert spec.bot is not None
    with zmq.Context() as context:
        other = Other(bound(context, spec), words)
        other.start()
        late = threading.Timer(20.0, os.kill, (os.getpid(), signal.SIGTERM))  # a run that never is ready ends too
        late.start()
        try:
            assert BotRun(spec, spec.bot, "").run() == 0
        finally:
            late.cancel()
        eventually(lambda: not other.is_alive(), what="the other side's end")
    return other


def test_a_run_begins_with_what_the_last_attach_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its position, and how late it is: a bar that closed hours ago is not decided on."""
    monkeypatch.setattr(attaching, "_FIRST", 0.05)
    other = play([attached(20, late=1.0, position=None), attached(600, late=5 * HOUR, position=SHORT)])
    assert [ready.position for ready in other.all(Ready)] == [SHORT]
    assert not other.all(Call), "it has looked at nothing, since it has decided on nothing"


def test_a_bar_that_closed_a_moment_ago_is_decided_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attaching, "_FIRST", 0.05)
    other = play([attached(20, late=5 * HOUR, position=None), attached(600, late=1.0, position=SHORT)])
    assert [ready.position for ready in other.all(Ready)] == [SHORT]
    assert other.all(Call)


def test_it_asks_soon_at_first_and_once_a_minute_at_last() -> None:
    now = [100.0]
    patience = Patience(endless=False, clock=lambda: now[0])
    pauses = []
    for _ in range(8):
        pauses.append(patience.left)
        now[0] += patience.left
        assert patience.left == 0.0
        patience.asked()
    assert pauses == [3.0, 6.0, 12.0, 24.0, 48.0, 60.0, 60.0, 60.0]
    assert Patience(endless=True).left > 1e9, "in lockstep nothing depends on a clock"
