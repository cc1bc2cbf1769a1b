"""Real bots that are killed, stopped, or escape, at each step of an order; under all that brokers do to comments."""

from __future__ import annotations

from itertools import cycle

import pytest

from tests.faults.crossing import POLICIES
from tests.faults.rounds import BOT_STEPS, SPEED, Rounds
from tests.faults.stage import Stage
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
