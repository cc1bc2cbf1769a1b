"""The order in which the terminal's thread does what is asked of it."""

from __future__ import annotations

import threading
import time

from broker.gateway.terminal_thread import TerminalThread, Urgency


def test_reads_get_their_turn_where_steps_take_longer_than_their_interval() -> None:
    steps: list[float] = []
    read = threading.Event()

    def step() -> bool:
        if not steps:
            thread.submit(Urgency.READ, read.set)
        steps.append(time.monotonic())
        time.sleep(0.02)
        return len(steps) < 200  # it ends: a thread that never gave way would end with it

    thread = TerminalThread(lambda _group: None, step, 0.01)
    thread.start()
    try:
        assert read.wait(10.0)
        assert len(steps) < 20, "the read waited for all steps"
    finally:
        assert thread.stop(10.0)
