"""A closed bar on its way: stamped when it arrives, with the spread that the gateway gave it, and woken for in time."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zmq

import broker.feed
from botproc.receiver import Receiver
from broker.feed import Arrival, Follower, Greeting, MarketFeed, spread_frame
from broker.gateway.hub import Hub
from broker.gateway.sockets import Sockets
from protocol import topics
from protocol.messages import Attached
from protocol.progress import Progress
from protocol.spec import RunSpec
from protocol.wake import WakeFd
from tests.ports import free_ports
from tests.support import eventually


@dataclass(frozen=True)
class Closed:
    """A bar that closed."""

    symbol: str = "EURUSD"
    timeframe: str = "H1"
    row: bytes = b"x" * 60
    bid: float = 1.0
    ask: float = 1.1


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    made: zmq.Context[Any] = zmq.Context()
    yield made
    made.destroy(linger=0)


def spec(folder: Path, number: int) -> RunSpec:
    return RunSpec(
        kind="bot", token=f"t{number:03}", bot_id=number, epoch=1, name=f"bot{number}", installation="", data_dir="/",
        lock_path="", log_path="", bus=f"ipc://{folder / 'bus'}", market=f"ipc://{folder / 'market'}",
    )  # fmt: skip


@pytest.mark.parametrize(("bots", "expected"), [(49, 0.0), (60, 0.06)])
def test_a_bar_is_stamped_and_spread_over_the_bots_that_are_there(
    context: zmq.Context[Any], tmp_path: Path, bots: int, expected: float
) -> None:
    socket: zmq.Socket[bytes] = context.socket(zmq.XPUB)
    socket.bind(spec(tmp_path, 0).market)
    hub = Hub(socket, "boot", 0.5)
    feeds = [MarketFeed(context, spec(tmp_path, number), "EURUSD", "H1") for number in range(bots)]
    known: list[str] = []
    eventually(lambda: known.extend(hub.read_subscriptions()) or len(known) == bots, 10)  # type: ignore[func-returns-value]
    for feed in feeds:
        assert eventually(feed.receive, 10)[0].greeting  # said when it subscribed
    before = time.monotonic()
    hub.publish(3600, (Closed(),))
    arrivals: list[Arrival] = []
    for feed in feeds:
        arrivals += eventually(feed.receive, 10)
    assert {round(one.spread, 6) for one in arrivals} == {expected} and len(arrivals) == bots
    assert all(before <= one.received <= time.monotonic() for one in arrivals)
    bar = feeds[0].decoded(arrivals[0])
    assert bar is not None and (bar.seq, bar.row) == (1, b"x" * 60) and bar.published_mono >= before
    assert feeds[0].decoded(Arrival(b"\xc1", 0.0)) is None and feeds[0].bad_frames == 1


def test_a_run_whose_connection_broke_is_told_what_it_missed_without_waiting_for_a_bar(
    context: zmq.Context[Any], tmp_path: Path
) -> None:
    """With hourly bars the next one may be an hour away."""
    market = f"tcp://127.0.0.1:{free_ports(1)}"
    feed = MarketFeed(context, spec(tmp_path, 1).model_copy(update={"market": market}), "EURUSD", "H1")

    def bound(socket: zmq.Socket[bytes]) -> bool:
        try:
            socket.bind(market)
        except zmq.ZMQError:
            return False  # the one before has not given the port back yet
        return True

    def publisher(boot: str, bars: int) -> tuple[zmq.Socket[bytes], Greeting]:
        socket: zmq.Socket[bytes] = context.socket(zmq.XPUB)
        eventually(lambda: bound(socket), 10)
        hub = Hub(socket, boot, 0.0)
        for _ in range(bars):
            hub.publish(3600, (Closed(),))
        # The subscriber subscribes again on its own thread, when it next looks at its socket.
        arrival = eventually(lambda: (hub.read_subscriptions(), feed.receive())[1], 10)[0]
        greeting = feed.greeting(arrival)
        assert arrival.greeting and greeting is not None
        return socket, greeting

    socket, greeting = publisher("first", 2)
    attached = Attached.model_construct(gateway_boot="first", bar_seq=2)
    assert not Follower(attached).missed(greeting, "EURUSD", "H1")
    socket.close()
    socket, greeting = publisher("first", 3)  # the same process, after the network was away
    assert Follower(attached).missed(greeting, "EURUSD", "H1")
    assert not Follower(attached).missed(greeting, "EURUSD", "M5")
    socket.close()
    socket, greeting = publisher("second", 0)  # its successor, which has published nothing yet
    assert Follower(attached).missed(greeting, "EURUSD", "H1")
    assert feed.greeting(Arrival(b"\xc1", 0.0, greeting=True)) is None and feed.bad_frames == 1


class Wire:
    """A network between a run and its gateway, which can swallow everything without a word to either side."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._dead: set[socket.socket] = set()
        self._stop = threading.Event()
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def lose(self) -> None:
        """From now on nothing arrives of the connections that are there; new ones are as they should be."""
        self._dead = {one for pair in self._pairs for one in pair}

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)
        for one in (self._listener, *(one for pair in self._pairs for one in pair)):
            one.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            others = {a: b for left, right in self._pairs for a, b in ((left, right), (right, left))}
            ready, _, _ = select.select([self._listener, *others], [], [], 0.02)
            for one in ready:
                if one is self._listener:
                    near = self._listener.accept()[0]
                    self._pairs.append((near, socket.create_connection(("127.0.0.1", self._target))))
                    continue
                try:
                    data = one.recv(65536)
                    if data and one not in self._dead:
                        others[one].sendall(data)
                except OSError:
                    data = b""
                if not data:
                    self._pairs = [pair for pair in self._pairs if one not in pair]
                    for end in (one, others[one]):
                        end.close()
                    break


@pytest.fixture
def wire() -> Iterator[Callable[[int], Wire]]:
    with ExitStack() as stack:

        def make(target: int) -> Wire:
            made = Wire(target)
            stack.callback(made.close)
            return made

        yield make


def test_a_connection_that_died_without_a_word_is_made_anew_and_greeted(
    context: zmq.Context[Any], tmp_path: Path, wire: Callable[[int], Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that lost its power, a router that forgot: neither side is told."""
    monkeypatch.setattr(broker.feed, "_SIGN_OF_LIFE", 300)
    port = free_ports(4)
    addresses = {"orders": f"tcp://127.0.0.1:{port}", "market": f"tcp://127.0.0.1:{port + 1}"}
    sockets = Sockets(context, spec(tmp_path, 0).model_copy(update={"gateway_bind": addresses}))
    hub, between = Hub(sockets.market, "boot", 0.0), wire(port + 1)
    market = f"tcp://127.0.0.1:{between.port}"
    feed = MarketFeed(context, spec(tmp_path, 1).model_copy(update={"market": market}), "EURUSD", "H1")

    def heard() -> list[Arrival]:
        hub.read_subscriptions()
        return feed.receive()

    assert eventually(heard, 10)[0].greeting
    between.lose()
    hub.publish(3600, (Closed(),))
    arrival = eventually(heard, 20)[0]
    greeting = feed.greeting(arrival)
    assert greeting is not None and greeting.numbers == {("EURUSD", "H1"): 1}, "and of the bar that it has missed"
    feed.close()
    sockets.close()


def test_the_main_loop_is_woken_when_it_is_its_turn(tmp_path: Path) -> None:
    context: zmq.Context[Any] = zmq.Context()
    before = threading.active_count()
    with context.socket(zmq.XPUB) as publisher:
        publisher.linger = 0
        where = spec(tmp_path, 1).model_copy(update={"market": "inproc://market"})
        publisher.bind(where.market)
        feed, wake = MarketFeed(context, where, "EURUSD", "H1"), WakeFd()
        came: list[Arrival] = []

        def take(arrival: Arrival) -> float | None:
            came.append(arrival)
            if len(came) == 2:
                raise RuntimeError("one that fails must not make the bot deaf")
            return {1: 0.3, 3: 0.0}.get(len(came))

        receiver = Receiver(feed, take, wake)
        receiver.start()
        try:
            for _ in range(2):
                assert publisher.poll(10_000) and publisher.recv()
            topic = topics.bar("EURUSD", "H1")

            def woken(milliseconds: int) -> bool:
                found = bool(select.select([wake.fileno()], [], [], milliseconds / 1000)[0])
                wake.clear()
                return found

            publisher.send_multipart([topic, spread_frame(0.5), b"bar"])
            assert woken(10_000), "never woken"
            assert time.monotonic() - came[0].received >= 0.3 and (came[0].frame, came[0].spread) == (b"bar", 0.5)
            publisher.send(topic)  # no bar at all
            publisher.send_multipart([topic, b"bar"])
            assert woken(10_000) and [one.frame for one in came[1:]] == [b"", b"bar"]
            publisher.send_multipart([topic, b"bar"])
            eventually(lambda: len(came) == 4)
            assert not woken(300), "for what needs no waking nobody is woken"
        finally:
            publisher.close()
            receiver.stop(context)
    assert not receiver.is_alive() and feed.socket.closed and context.closed
    assert threading.active_count() == before


def test_bars_that_come_without_a_pause_do_not_put_off_their_turn(tmp_path: Path) -> None:
    context: zmq.Context[Any] = zmq.Context()
    feed, wake = MarketFeed(context, spec(tmp_path, 1), "EURUSD", "H1"), WakeFd()
    came: list[Arrival] = []

    def endless(seconds: float | None = None) -> Arrival | None:
        assert len(came) < 100, "never woken"
        return Arrival(b"bar", time.monotonic())

    feed.next = endless  # type: ignore[method-assign]

    def take(arrival: Arrival) -> float:
        came.append(arrival)
        return 0.0

    receiver = Receiver(feed, take, wake)
    receiver._next()
    receiver._next()
    assert len(came) == 1 and select.select([wake.fileno()], [], [], 0)[0]
    feed.close()
    context.term()


def test_what_a_bot_saw_of_its_last_bar_stands_in_its_heartbeats() -> None:
    progress = Progress()
    assert progress.beat(1, 0.0).bar_time == 0
    now = time.monotonic()
    progress.decided(3600, now - 0.5, now - 0.4)
    beat = progress.beat(2, 0.0)
    assert beat.bar_time == 3600 and beat.received_us == pytest.approx(100_000, abs=2)
    assert beat.published_us == int((now - 0.5) * 1e6) and 500_000 <= beat.decided_us < 10_000_000
    progress.decided(7200, 0.0, now)  # published on another machine: its clock says nothing here
    assert progress.beat(3, 0.0).bar_time == 3600
