"""Seeded rounds of faults, one after the other on one stage, and the audit after each."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from tests.faults.audit import audit
from tests.faults.crossing import ANSWERS, KILLS, POLICIES, Fault
from tests.faults.stage import SYMBOLS, Stage
from tests.scale import LATE_FILL, ORDER_ROUNDS, TERMINAL_TIMEOUT
from tests.support import eventually

pytestmark = [pytest.mark.posix, pytest.mark.acceptance]

BOT_FAULTS = ("bot_killed", "bot_killed_in_flight", "bot_stopped", "bot_escaped", "gateway_killed")
#: STABLEHAND_SEED repeats a run that failed, or makes another.
SEED = int(os.environ.get("STABLEHAND_SEED", "1"))
FAULTS = (*KILLS, *ANSWERS, *BOT_FAULTS)
#: Most of a round is waiting for the next bar.
SPEED = 2.0


class Rounds:
    """Two bots on a market that moves, and what is done to them."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.random = random.Random(seed)
        self.epochs = dict.fromkeys(range(1, 1 + len(SYMBOLS)), 1)
        for bot_id in self.epochs:
            self._start(bot_id)
        eventually(lambda: all(stage.done_orders(bot_id) for bot_id in self.epochs), 60.0, what="first orders")

    def play(self, kind: str) -> None:
        """One round."""
        bot_id = self.random.choice(list(self.epochs))
        if kind in BOT_FAULTS:
            getattr(self, f"_{kind}")(bot_id)
        else:
            self._at_the_crossing(kind)
        self.stage.revive()
        audit(self.stage)

    def _start(self, bot_id: int) -> None:
        self.stage.start_bot(bot_id, self.epochs[bot_id], SYMBOLS[bot_id - 1])

    def _process(self, bot_id: int) -> int:
        return self.stage.bots[bot_id, self.epochs[bot_id]].pid

    def _at_the_crossing(self, kind: str) -> None:
        delay = self.random.uniform(0.0, LATE_FILL)
        if kind in ("late_answer", "late_execution"):
            delay = TERMINAL_TIMEOUT * self.random.uniform(1.02, 1.25)
        if kind == "slow":
            delay = TERMINAL_TIMEOUT * 0.5
        self._await(Fault(kind, delay=delay))

    def _await(self, fault: Fault) -> Fault:
        self.stage.crossing.arm(fault)
        eventually(fault.fired.is_set, 30.0, what=fault.kind)
        # The gateway is started again while a request of the dead one may still be on its way.
        self.stage.revive()
        eventually(fault.done.is_set, 60.0, what=f"end of {fault.kind}")
        self.stage.crossing.disarm()
        return fault

    def _gateway_killed(self, _bot_id: int) -> None:
        self.stage.kill_gateway()

    def _bot_killed(self, bot_id: int) -> None:
        process = self.stage.bots[bot_id, self.epochs[bot_id]]
        process.kill()
        process.wait(10)
        self._succeed(bot_id)

    def _bot_killed_in_flight(self, bot_id: int) -> None:
        process = self.stage.bots[bot_id, self.epochs[bot_id]]
        fault = Fault("slow", delay=TERMINAL_TIMEOUT * 0.6, fits=lambda request: request["magic"] == bot_id * 10)
        self.stage.crossing.arm(fault)
        eventually(fault.fired.is_set, 30.0, what="an order in flight")
        process.kill()
        process.wait(10)
        self._succeed(bot_id)
        assert fault.done.is_set(), "the fence of the next epoch came before the order's end"
        self.stage.crossing.disarm()

    def _succeed(self, bot_id: int) -> None:
        self.epochs[bot_id] += 1
        self._start(bot_id)
        self._trades(bot_id)

    def _trades(self, bot_id: int) -> None:
        before = self.stage.done_orders(bot_id, self.epochs[bot_id])
        eventually(
            lambda: self.stage.done_orders(bot_id, self.epochs[bot_id]) > before,
            60.0,
            what=f"an order of bot {bot_id} epoch {self.epochs[bot_id]}",
        )

    def _bot_stopped(self, bot_id: int) -> None:
        """Past its bar, and continued: what it decided before is refused, not sent late."""
        process = self.stage.bots[bot_id, self.epochs[bot_id]]
        process.send_signal(signal.SIGSTOP)
        symbol, closed = SYMBOLS[bot_id - 1], self.stage.crossing.last_closed
        before = closed.get(symbol, 0)
        eventually(lambda: closed.get(symbol, 0) >= before + 2 * 3600, 30.0, what="two bars")
        process.send_signal(signal.SIGCONT)

    def _bot_escaped(self, bot_id: int) -> None:
        """Its lock file is replaced, as on a second host; its successor trades; then it goes on."""
        old = self.stage.bots[bot_id, self.epochs[bot_id]]
        old.send_signal(signal.SIGSTOP)
        self.stage.lock_of(bot_id).unlink()
        self._succeed(bot_id)
        before = len(self.stage.crossing.last_closed) and self.stage.crossing.last_closed[SYMBOLS[bot_id - 1]]
        old.send_signal(signal.SIGCONT)
        eventually(
            lambda: self.stage.crossing.last_closed[SYMBOLS[bot_id - 1]] >= before + 2 * 3600, 30.0, what="two bars"
        )
        if old.poll() is None:
            old.kill()
        old.wait(10)


@pytest.mark.xfail(
    reason="the fault kill_uncommitted does not fire in some rounds; not known yet: the product or the test",
    strict=False,
)
@pytest.mark.timeout(0 if ORDER_ROUNDS > 30 else 240)
def test_random_faults() -> None:
    """Every kind of fault once, in an order that the seed gives; with more rounds, kinds as they fall."""
    shuffled = random.Random(SEED)
    kinds = shuffled.sample(FAULTS, len(FAULTS))[:ORDER_ROUNDS]
    kinds += shuffled.choices(FAULTS, k=ORDER_ROUNDS - len(kinds))
    with Stage(speed=SPEED) as stage:
        rounds = Rounds(stage, SEED)
        for number, kind in enumerate(kinds):
            stage.crossing.policy = shuffled.choice(POLICIES)
            began = time.monotonic()
            try:
                rounds.play(kind)
            except AssertionError as error:
                where = f"seed {SEED}, round {number}, {kind}, comments {stage.crossing.policy}, {stage.folder}"
                raise AssertionError(f"{where}: {error}") from error
            print(f"round {number}: {kind} {time.monotonic() - began:.1f} s")
        # A stage on which nothing happens would pass as well.
        assert sum(stage.crossing.sent.values()) >= len(kinds)
