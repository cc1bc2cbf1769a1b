"""The link against a real ROUTER that plays the supervisor."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import zmq

from protocol.codec import decode, decode_heartbeat, encode, is_heartbeat
from protocol.link import HELLO_AGAIN, BusLink, Progress
from protocol.messages import (
    Bye,
    Command,
    CommandDone,
    Heartbeat,
    Hello,
    History,
    HistoryAck,
    Message,
    Phase,
    Unwelcome,
    Welcome,
)
from protocol.spec import RunSpec
from tests.support import eventually


class Bus:
    """The supervisor's side: binds, collects, answers."""

    def __init__(self, context: zmq.Context[Any], address: str) -> None:
        self.socket = context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.bind(address)
        self.got: list[tuple[bytes, Message | Heartbeat]] = []

    def read(self) -> None:
        while self.socket.poll(5):
            peer, frame = self.socket.recv_multipart()
            self.got.append((peer, decode_heartbeat(frame) if is_heartbeat(frame) else decode(frame)))

    def all(self, kind: type) -> list[Any]:
        self.read()
        return [message for _, message in self.got if isinstance(message, kind)]

    def say(self, message: Message) -> None:
        peer = next(peer for peer, m in reversed(self.got) if isinstance(m, Hello))
        self.socket.send_multipart([peer, encode(message)])

    def welcome(self, boot: str = "one", hellos: int = 1) -> None:
        eventually(lambda: len(self.all(Hello)) >= hellos)
        self.say(Welcome(supervisor_boot=boot, heartbeat_interval=0.05))

    def close(self) -> None:
        self.socket.close(0)


class Child:
    def __init__(self, context: zmq.Context[Any], address: str, tick: Callable[[], object] | None = None) -> None:
        self.spec = RunSpec(
            kind="bot",
            token="t1",
            bot_id=3,
            epoch=9,
            name="b",
            installation="x",
            data_dir="/nowhere",
            lock_path="/nowhere/l",
            log_path="/nowhere/b.log",
            bus=address,
            heartbeat_interval=0.05,
        )
        self.progress = Progress()
        self.messages: list[Message] = []
        self.ready = False
        self.link = BusLink(
            context, self.spec, self.progress, self.messages.append,
            lambda: {"ready": self.ready, "paused": False}, tick,
        )  # fmt: skip
        self.link.start()


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    made: zmq.Context[Any] = zmq.Context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"ipc://{tmp_path / 'bus'}"


@pytest.fixture
def pair(context: zmq.Context[Any], address: str) -> Iterator[tuple[Bus, Child]]:
    bus, child = Bus(context, address), Child(context, address)
    yield bus, child
    child.link.stop(0.1)
    bus.close()


def test_hello_names_the_run_and_nothing_is_said_before_welcome(pair: tuple[Bus, Child]) -> None:
    bus, child = pair
    child.link.send(Bye(token="t1", reason="early"))
    (hello,) = eventually(lambda: bus.all(Hello))
    assert (hello.token, hello.epoch, hello.pid) == ("t1", 9, os.getpid())
    assert bus.all(Bye) == [] and bus.all(Heartbeat) == []
    bus.welcome()
    assert eventually(lambda: bus.all(Bye))[0].reason == "early"
    assert child.link.orphaned_for() == 0.0


def test_heartbeats_tell_the_progress_of_the_main_loop(pair: tuple[Bus, Child]) -> None:
    bus, child = pair
    child.progress.move(Phase.ANALYSE, 7.5)
    child.progress.cycles, child.progress.volume = 42, -0.25
    bus.welcome()
    eventually(lambda: len(bus.all(Heartbeat)) >= 3)
    beats: list[Heartbeat] = bus.all(Heartbeat)
    assert [b.seq for b in beats[:3]] == [1, 2, 3]
    last = beats[-1]
    assert (last.phase, last.cycles, last.volume, last.limit_ms) == (Phase.ANALYSE, 42, -0.25, 7500)
    assert beats[2].progress_age_ms > beats[0].progress_age_ms  # nothing moved between them
    child.progress.touch()
    after = len(bus.all(Heartbeat))
    fresh: list[Heartbeat] = eventually(lambda: bus.all(Heartbeat)[after:])
    assert fresh[0].progress_age_ms < last.progress_age_ms


def test_a_beat_and_its_tick_share_one_wake_up(
    context: zmq.Context[Any], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that has slept for a second finds its caches cold: waking costs more than what it does then."""
    turns: list[float] = []
    timeout = BusLink._timeout

    def counted(link: BusLink) -> float:
        turns.append(timeout(link))
        return turns[-1]

    monkeypatch.setattr(BusLink, "_timeout", counted)
    ticks: list[int] = []
    bus, child = Bus(context, address), Child(context, address, lambda: ticks.append(1))
    try:
        bus.welcome()
        eventually(lambda: len(bus.all(Heartbeat)) >= 3)
        beats, ticked, turned = len(bus.all(Heartbeat)), len(ticks), len(turns)
        eventually(lambda: len(bus.all(Heartbeat)) >= beats + 24)
        more = len(bus.all(Heartbeat)) - beats
        # The counts are not of one moment: two wake-ups for each would be twice as many.
        assert len(turns) - turned <= 1.4 * more and len(ticks) - ticked >= 0.6 * more
    finally:
        child.link.stop(0.1)
        bus.close()


def test_history_is_sent_again_to_the_next_supervisor_until_acknowledged(
    context: zmq.Context[Any], address: str
) -> None:
    bus, child = Bus(context, address), Child(context, address)
    try:
        bus.welcome()
        for text in ("first", "second", "third"):
            child.link.history("INFO", text)
        eventually(lambda: [r.seq for h in bus.all(History) for r in h.rows] == [1, 2, 3])
        bus.say(HistoryAck(seq=1))
        bus.say(Command(id="c", verb="pause"))
        eventually(lambda: any(isinstance(m, Command) for m in child.messages))  # so the ack was read too
        bus.close()
        eventually(lambda: child.link.orphaned_for() > 0.0)
        child.ready = True
        bus = Bus(context, address)
        bus.welcome(boot="two")
        rows = eventually(lambda: [r for h in bus.all(History) for r in h.rows])
        assert [(r.seq, r.text) for r in rows] == [(2, "second"), (3, "third")]
        (hello,) = bus.all(Hello)
        assert hello.ready and hello.history_from == 2
        assert child.link.orphaned_for() == 0.0
    finally:
        child.link.stop(0.1)
        bus.close()


def test_asked_for_hello_it_says_it_again_and_a_refusal_is_passed_on(pair: tuple[Bus, Child]) -> None:
    bus, child = pair
    bus.welcome()
    eventually(lambda: bus.all(Heartbeat))
    bus.say(Unwelcome(reason=HELLO_AGAIN))
    eventually(lambda: len(bus.all(Hello)) == 2)
    assert not any(isinstance(m, Unwelcome) for m in child.messages)
    bus.say(Unwelcome(reason="epoch 9 is old"))
    refusal = eventually(lambda: [m for m in child.messages if isinstance(m, Unwelcome)])
    assert refusal[0].reason == "epoch 9 is old"


def test_stop_flushes_what_is_queued_and_ends_the_thread(pair: tuple[Bus, Child]) -> None:
    bus, child = pair
    bus.welcome()
    eventually(lambda: child.link.orphaned_for() == 0.0)
    for number in range(300):  # more than the pipe holds
        child.link.send(Bye(token="t1", reason=str(number)))
    stopper = threading.Thread(target=child.link.stop, args=(5.0,))
    stopper.start()
    eventually(lambda: len(bus.all(Bye)) == 300)
    stopper.join(5)
    assert [b.reason for b in bus.all(Bye)] == [str(n) for n in range(300)]
    assert not child.link.is_alive()


def test_what_cannot_be_sent_ends_no_heartbeat_and_leaves_no_gap(pair: tuple[Bus, Child]) -> None:
    bus, child = pair
    bus.welcome()
    child.link.history("ERROR", "a name of the file system: \udcff", figure=numpy.int64(7))
    deep: list[Any] = []
    for _ in range(600):
        deep = [deep]
    child.link.history("ERROR", "too much", number=2**70)
    child.link.history("ERROR", "too deep", number=deep)
    for number in range(4, 20):
        child.link.history("INFO", "long " * 100_000, number=number)
    child.link.send(CommandDone(id="c", ok=False, error="bad \ud800", result={"figure": numpy.float32(0.5)}))
    child.link.send(CommandDone(id="d", ok=True, result={"number": deep}))
    child.link.send(Bye(token="t1", reason="last"))
    assert eventually(lambda: bus.all(Bye))[0].reason == "last"
    rows = [row for told in bus.all(History) for row in told.rows]
    assert [row.seq for row in rows] == list(range(1, 20))
    assert rows[0].text.endswith("\\udcff") and rows[0].data == {"figure": 7}
    assert "[[[[" in rows[2].data["unsendable"]
    assert [row.data["number"] for row in rows[3:]] == list(range(4, 20)) and len(rows[-1].text) == 500_000
    (done,) = bus.all(CommandDone)
    assert done.error == "bad \\ud800" and done.result == {"figure": 0.5}
    before = len(bus.all(Heartbeat))
    eventually(lambda: len(bus.all(Heartbeat)) > before + 3, what="it beats on")
