"""Real bots that are killed, stopped, or escape, at each step of an order; under all that brokers do to comments."""

from __future__ import annotations

import signal
import threading
from itertools import cycle

import pytest

from tests.faults.crossing import POLICIES
from tests.faults.rounds import BOT_STEPS, SPEED, Rounds
from tests.faults.stage import SYMBOLS, Stage
from tests.support import eventually

pytestmark = [pytest.mark.posix, pytest.mark.acceptance]


def test_a_bot_killed_at_each_step_of_its_order() -> None:
    """Before its order left, while it leaves, at every step in gateway and terminal, and when it is answered.

    Its successor finds what was done, and trades on; the audit after each step finds every deal once.
    """
    policies = cycle(POLICIES)
    with Stage(speed=SPEED) as stage:
        rounds = Rounds(stage, 1, bots=1)
        for step in BOT_STEPS:
            stage.crossing.policy = next(policies)
            rounds.play(f"bot_{step}")
        assert rounds.epochs[1] == 1 + len(BOT_STEPS)


def test_a_bot_that_stood_still_or_escaped_sends_nothing_stale() -> None:
    """Stopped past its bar, with its decision made, and no successor; and escaped its lock, with one."""
    with Stage(speed=SPEED) as stage:
        rounds = Rounds(stage, 1, bots=1)
        rounds.play("bot_stopped_decided")
        log = stage.folder / "bot1-1.log"
        # It may close late; what it then wants to open is refused for its bar.
        eventually(lambda: "the last closed one is of" in log.read_text("utf-8"), 20.0, what="a refusal")
        rounds.play("bot_escaped")
        assert rounds.epochs[1] == 2


def test_a_hold_is_not_taken_for_the_one_before(request: pytest.FixtureRequest) -> None:
    """Of the stage itself: a bot that stood still through the end of one hold goes on, and meets the next."""
    with Stage(speed=2.0) as stage:
        process = stage.start_bot(1, 1, SYMBOLS[0])
        with stage.held(process):
            process.send_signal(signal.SIGSTOP)
        go_on = threading.Timer(0.5, process.send_signal, (signal.SIGCONT,))
        request.addfinalizer(go_on.join)
        go_on.start()
        with stage.held(process):
            pass
