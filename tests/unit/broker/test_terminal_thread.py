"""The order in which the terminal's thread does what is asked of it."""

from __future__ import annotations

import threading
import time

from broker.gateway.terminal_thread import TerminalThread, Urgency


def test_reads_get_their_turn_where_steps_take_longer_than_their_interval() -> None:
    steps: list[float] = []
    before: list[int] = []  # steps that went before the read
    read = threading.Event()

    def job() -> None:
        before.append(len(steps))
        read.set()

    def step() -> bool:
        if not steps:
            thread.submit(Urgency.READ, job)
        steps.append(time.monotonic())
        time.sleep(0.02)
        return len(steps) < 200  # it ends: a thread that never gave way would end with it

    thread = TerminalThread(lambda _group: None, step, 0.01)
    thread.start()
    try:
        assert read.wait(10.0)
        assert before[0] < 20, "the read waited for all steps"
    finally:
        assert thread.stop(10.0)


def test_one_stall_does_not_silence_the_market_once_more_for_as_long() -> None:
    steps: list[tuple[float, float]] = []  # when it began, when it ended
    three = threading.Event()

    def step() -> bool:
        began = time.monotonic()
        if not steps:
            time.sleep(3.0)
            thread.submit(Urgency.READ, lambda: None)  # it waits behind the step
        steps.append((began, time.monotonic()))
        if len(steps) == 3:
            three.set()
        return len(steps) < 3

    thread = TerminalThread(lambda _group: None, step, 0.05)
    thread.start()
    try:
        assert three.wait(20.0)
        assert steps[1][0] - steps[0][1] < 2.0, "the market waited out the stall a second time"
    finally:
        assert thread.stop(10.0)
