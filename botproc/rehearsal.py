"""A run of a bot played through beforehand, against a pretended supervisor and gateway.

A forked process copies each page that it writes to when it first does so, and that is most of what a start
costs. A spare that has played a start, an analysis and an end has these pages already. The launcher plays one
too, before it forks anybody: what is set up at the first use (caches, symbols of libraries, the interpreter's
quickened code) is set up once. Only our own parts are played, never a user's strategy, and nothing is written,
locked or logged.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import zmq

from botproc import logs
from botproc.runner import BotRun
from broker.api import RATES_DTYPE
from protocol.botconfig import BotConfig
from protocol.codec import decode, encode, is_heartbeat
from protocol.messages import Attach, Attached, Command, Hello, History, HistoryAck, Message, Welcome
from protocol.spec import RunSpec

_LONGEST: Final = 10  # seconds; a rehearsal that takes longer is ended by the kernel
_PATIENCE: Final = 5000  # ms that the other side waits for a word
_BARS: Final = 600


def rehearse(longest: int = _LONGEST) -> None:
    """Play one run, an analysis with it. After `longest` seconds SIGALRM ends it, and its process with it."""
    spec = specification()
    with _aside(longest), zmq.Context() as context:
        sockets = bound(context, spec)
        other = threading.Thread(target=_answer, args=(sockets,), name="rehearsal")
        other.start()
        BotRun(spec, _config(spec), "").run()
        other.join()


def specification(folder: str = "") -> RunSpec:
    """Of a bot that knows nobody but the other side of a rehearsal; its files, where it has any, in this folder."""
    name = f"ipc://@stablehand-rehearsal-{os.getpid()}"  # an abstract name: nothing is left of it, however this ends
    return RunSpec.model_validate(
        {
            "kind": "bot",
            "token": "rehearsal",
            "bot_id": 0,
            "epoch": 1,
            "name": "rehearsal",
            "installation": "",
            "data_dir": folder or "/",
            "lock_path": folder and f"{folder}/bot.lock",
            "log_path": folder and f"{folder}/bot.log",
            "bus": f"{name}-bus",
            "orders": f"{name}-orders",
            "market": f"{name}-market",
            "bot": {"name": "rehearsal", "market": "EURUSD", "strategy": "MA_CROSSOVER"},
        }
    )


def _config(spec: RunSpec) -> BotConfig:
    assert spec.bot is not None
    return spec.bot


def bound(context: zmq.Context[Any], spec: RunSpec) -> list[zmq.Socket[bytes]]:
    """The sockets of supervisor and gateway."""
    sockets = [context.socket(kind) for kind in (zmq.ROUTER, zmq.ROUTER, zmq.XPUB)]
    for socket, address in zip(sockets, (spec.bus, spec.orders, spec.market), strict=True):
        socket.linger = 0
        socket.bind(address)
    return sockets


@contextmanager
def _aside(longest: int) -> Iterator[None]:
    """Nothing is logged, and the process ends when it takes too long; afterwards all is as it was before."""
    on_term = signal.getsignal(signal.SIGTERM)
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(longest)
    try:
        yield
        record = logging.LogRecord("stablehand", logging.INFO, "", 0, "%s: %s", ("START", ""), None)
        json.loads(logs.JsonLines(pid=0).format(record))
    finally:
        gc.collect()  # what was played with refers to itself, and holds descriptors
        signal.alarm(0)
        signal.signal(signal.SIGTERM, on_term)
        logging.disable(logging.NOTSET)


def _answer(sockets: list[zmq.Socket[bytes]]) -> None:
    """Be supervisor and gateway until the bot's last rows of history have come."""
    bus, orders, market = sockets
    poller = zmq.Poller()
    for socket in sockets:
        poller.register(socket, zmq.POLLIN)
    ended = False
    while not ended:
        ready: dict[Any, int] = dict(poller.poll(_PATIENCE))
        if not ready:
            break
        if market in ready:
            market.recv_multipart()
        for socket in (bus, orders):
            if socket in ready:
                route, frame = socket.recv_multipart()
                if is_heartbeat(frame):
                    continue
                message = decode(frame)
                work = [Command(id="1", verb="analyse"), Command(id="2", verb="stop")]
                for answer in answers(message) + (work if message.t == "ready" else []):
                    socket.send_multipart([route, encode(answer)])
                ended = ended or message.t == "bye"
    for socket in sockets:
        socket.close(linger=0)


def answers(message: Message, heartbeat_interval: float = 1.0) -> list[Message]:
    """What supervisor and gateway say to a message until the bot is ready."""
    match message:
        case Hello():
            return [Welcome(supervisor_boot="", heartbeat_interval=heartbeat_interval)]
        case Attach():
            return [_attached(message)]
        case History():
            return [HistoryAck(seq=message.rows[-1].seq)]
    return []


def _attached(message: Attach) -> Attached:
    bars = np.zeros(_BARS, RATES_DTYPE)
    bars["time"] = np.arange(_BARS) * 3600
    middle = 1.0 + 0.01 * np.sin(np.arange(_BARS) / 20)
    bars["open"] = bars["close"] = middle
    bars["high"], bars["low"] = middle + 0.001, middle - 0.001
    return Attached(
        gateway_boot="",
        symbol=message.symbol,
        info={},
        account={},
        position=None,
        bars=bars.tobytes(),
        bar_seq=0,
        time=float(_BARS * 3600 + 1e6),
    )
