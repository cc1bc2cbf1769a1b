"""The sockets of the supervisor's loop: however much comes in, the loop's other work has its turn in between."""

from __future__ import annotations

import asyncio
import time

import zmq

from supervisor.runtime import sockets
from supervisor.runtime.sockets import Pump

_MESSAGES = 20


async def _batches() -> list[int]:
    """How many messages were taken in each turn of the loop, each of which takes longer than a batch may."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    batches: list[int] = []
    taken = 0

    def take(_frames: list[bytes]) -> None:
        nonlocal taken
        taken += 1
        time.sleep(2 * sockets._SLICE)

    def failed(error: Exception) -> None:
        raise error

    try:
        with context.socket(zmq.PULL) as door, context.socket(zmq.PUSH) as sender:
            door.bind("inproc://door")
            sender.connect("inproc://door")
            pump = Pump(door, take, failed)
            for _ in range(_MESSAGES):
                sender.send(b"")
            until = time.monotonic() + 10.0
            while taken < _MESSAGES and time.monotonic() < until:
                before = taken
                await asyncio.sleep(0)
                batches.append(taken - before)
            pump.close()
    finally:
        context.destroy(linger=0)
    return batches


def test_a_turn_of_the_loop_takes_one_batch_and_no_more() -> None:
    batches = asyncio.run(_batches())
    assert sum(batches) == _MESSAGES
    assert max(batches) == 1, batches
