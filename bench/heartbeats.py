"""How many heartbeats the supervisor's bus takes into the registry, and how late its loop is with 2,000 bots.

The bus, its socket and the registry are the supervisor's own; the bots are connections of one other process.

python -m bench.heartbeats ADDRESS      the other process: connections as stdin tells, `ready`, and at the next
                                        line the heartbeats
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import zmq

from bench.machine import ROOT
from bench.part import Figures, Part, judged, judged_table, spread
from protocol.codec import MAX_FRAME, encode, encode_heartbeat
from protocol.messages import Hello, Message
from protocol.progress import Progress
from supervisor.runtime.bus import Bus
from supervisor.runtime.registry import Record, Registry
from supervisor.runtime.sockets import server_socket

_FLOOD: Final = 200_000
_FLOODERS: Final = 100
_PACED: Final = 2000
_PACED_SECONDS: Final = 10.0
_TICK: Final = 0.01
_PATIENCE: Final = 120.0
_WANTED: Final = 50_000


def measure() -> dict[str, Any]:
    """`a_second`: heartbeats taken when they come as fast as can be; `a_cpu_second`: the same by the CPU time of the
    loop's thread, which other work on the machine changes less; `lag_ms`: how late the loop wakes at 2,000 a second;
    `taken`: of those, how many came.
    """
    flood = asyncio.run(_serve(_FLOODERS, beats=_FLOOD // _FLOODERS, pause=0.0))
    paced = asyncio.run(_serve(_PACED, beats=int(_PACED_SECONDS), pause=1.0))
    return {
        "a_second": flood["taken"] / flood["seconds"],
        "a_cpu_second": flood["taken"] / flood["cpu_seconds"], "bots": _PACED, "lag_ms": paced["lag_ms"],
        "taken": paced["taken"], "sent": _PACED * int(_PACED_SECONDS),
    }  # fmt: skip


class _Nobody:
    """A daemon that minds nothing but what was dropped."""

    def __init__(self) -> None:
        self.dropped = 0

    def hello(self, record: Record, message: Hello) -> None: ...

    def heard(self, record: Record, message: Message) -> None: ...

    def analysis_hello(self, message: Hello, reply: Any) -> bool:
        return False

    def analysis_heard(self, token: str, message: Message) -> None: ...

    def bad_frame(self, error: Exception) -> None:
        self.dropped += 1


async def _serve(count: int, beats: int, pause: float) -> dict[str, Any]:
    registry, listener = Registry(), _Nobody()
    hellos = []
    for number in range(count):
        record = Record(number + 1, f"bot-{number:04}", "bot", "running", "main")
        registry.add(record)
        run = registry.new_run(record, 1, time.time(), time.monotonic())
        hellos.append({"bot_id": record.bot_id, "name": record.name, "token": run.token})
    with tempfile.TemporaryDirectory(prefix="sh-") as folder, zmq.Context() as context:
        socket = server_socket(context, zmq.ROUTER, MAX_FRAME, unread=10_000)
        address = f"ipc://{Path(folder) / 'b'}"
        socket.bind(address)
        bus = Bus(socket, registry, listener, "bench", 1.0, keyed=False)
        bus.accepting = True
        told = json.dumps({"hellos": hellos, "beats": beats, "pause": pause})
        process = _other(address)
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(told.encode() + b"\n")
            process.stdin.flush()
            await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), _PATIENCE)
            process.stdin.write(b"go\n")
            process.stdin.flush()
            return await _watch(bus, listener, count * beats)
        finally:
            process.kill()
            process.communicate()
            bus.close()


def _other(address: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bench.heartbeats", address]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)


async def _watch(bus: Bus, listener: _Nobody, wanted: int) -> dict[str, Any]:
    until = time.monotonic() + _PATIENCE
    while not bus.heartbeats:
        await asyncio.sleep(0)
    began, cpu = time.perf_counter(), time.thread_time()
    late = []
    while bus.heartbeats < wanted and time.monotonic() < until:
        due = time.perf_counter() + _TICK
        await asyncio.sleep(_TICK)
        late.append(max(0.0, time.perf_counter() - due) * 1000)
    seconds, cpu = time.perf_counter() - began, time.thread_time() - cpu
    if bus.heartbeats < wanted or listener.dropped:
        raise RuntimeError(f"{bus.heartbeats} of {wanted} heartbeats came, {listener.dropped} were dropped")
    return {"taken": bus.heartbeats, "seconds": seconds, "cpu_seconds": cpu, "lag_ms": spread(late)}


def _beat(address: str) -> None:
    """The other process."""
    told = json.loads(sys.stdin.readline())
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, len(told["hellos"]) + 10)
    dealers = []
    for one in told["hellos"]:
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.SNDHWM, 0)
        dealer.connect(address)
        dealer.send(encode(Hello(kind="bot", epoch=1, pid=1, start_ticks=1, boot_id="", **one)))
        dealers.append(dealer)
    for dealer in dealers:
        dealer.recv()  # the Welcome
    print("ready", flush=True)
    sys.stdin.readline()
    progress, pause = Progress(), told["pause"]
    began = time.monotonic()
    for turn in range(told["beats"]):
        for at, dealer in enumerate(dealers):
            if pause:  # spread over the second, as bots are
                left = began + turn * pause + at * pause / len(dealers) - time.monotonic()
                if left > 0.001:
                    time.sleep(left)
            dealer.send(encode_heartbeat(progress.beat(turn + 1, 0.0)))
    sys.stdin.read()


def show(figures: Figures) -> str:
    """The table."""
    taken, by_cpu = figures["a_second"], figures["a_cpu_second"]
    enough = "met" if taken >= _WANTED else f"missed by {_WANTED - taken:,.0f}"
    return judged_table(
        [
            ("heartbeats taken into the registry", f"{taken:,.0f} a second", f">= {_WANTED:,}", enough),
            ("the same, by the CPU time of the loop's thread", f"{by_cpu:,.0f} a second", "", ""),
            judged(f"loop lag with {figures['bots']} bots at 1 Hz: p99", figures["lag_ms"]["p99"], 20.0, "ms"),
        ]
    )


PART: Final = Part(
    "heartbeats",
    "how many heartbeats the supervisor's bus takes, and how late its loop is with 2,000 bots",
    lambda folder, options: measure(),
    show,
)

if __name__ == "__main__":
    _beat(sys.argv[1])
