"""Seeded rounds of faults, one after the other on one stage, and the audit after each.

`python -m tests.faults.rounds SEED ROUNDS [UNTIL]` plays some in a process of its own: a line of JSON for each.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final

from protocol.codec import encode
from protocol.messages import OrderQuery
from tests.faults.audit import audit
from tests.faults.crossing import ANSWERS, KILLS, POLICIES, Fault, Policy
from tests.faults.hands import again, attach, entry, outcome
from tests.faults.stage import PATIENCE, SYMBOLS, Stage
from tests.scale import IN_FLIGHT, LATE_FILL, TERMINAL_TIMEOUT
from tests.support import eventually

#: The steps of an order at which a bot is killed; those of KILLS besides.
BOT_STEPS: Final = ("decided", "sending", "answered", *(kind.removeprefix("kill_") for kind in KILLS))
OTHERS: Final = (
    "gateway_killed", "gateway_down", "bot_killed", "bot_killed_in_flight", "bot_stopped", "bot_stopped_decided",
    "bot_escaped", "requests_shuffled",
)  # fmt: skip
FAULTS: Final = (*KILLS, *ANSWERS, *(f"bot_{step}" for step in BOT_STEPS), *OTHERS)
#: Bars a second. Most of a round is waiting for the next one; where the machine is busy, and decides on none in
#: time, slower is quicker.
SPEED: Final = float(os.environ.get("STABLEHAND_BARS", "2.0"))
_HOUR: Final = 3600
#: What is looked at when all rounds of a stage are over.
_END: Final = "all bots trade at the end"
#: A client of the test's own, beside the bots.
_HAND: Final = 9


@dataclass(frozen=True)
class Round:
    """One round that was played. `failed`: what was broken, empty where all held."""

    kind: str
    policy: str
    seconds: float
    failed: str = ""


def play(seed: int, count: int, until: float = float("inf")) -> Iterator[Round]:
    """Rounds in an order that the seed gives: every kind once before any comes again.

    None begins after `until` (CLOCK_MONOTONIC).

    After a round that failed the others are played on a new stage.
    """
    chosen = random.Random(seed)
    kinds: list[str] = []
    while len(kinds) < count:
        kinds += chosen.sample(FAULTS, len(FAULTS))
    left = [(kind, _policy(kind, seed + number // len(FAULTS))) for number, kind in enumerate(kinds[:count])]
    while left and time.monotonic() < until:
        now: tuple[str, Policy] = (_END, "keep")
        began = time.monotonic()
        try:
            with Stage(speed=SPEED) as stage:
                rounds = Rounds(stage, seed + len(left))
                while left and time.monotonic() < until:
                    now, began = left.pop(0), time.monotonic()
                    stage.crossing.policy = now[1]
                    rounds.play(now[0])
                    yield Round(*now, time.monotonic() - began)
                now, began = (_END, "keep"), time.monotonic()
                rounds.all_trade()
        except Exception as error:  # whatever it is: it is told with its round, and the others are played
            traceback.print_exc()
            where = f"seed {seed}, round {count - len(left)}: {type(error).__name__}: {error}"
            yield Round(*now, time.monotonic() - began, where)


def _policy(kind: str, turn: int) -> Policy:
    """Each fault meets the policies one after the other, and each turn of all faults meets all of them."""
    return POLICIES[(FAULTS.index(kind) + turn) % len(POLICIES)]


class Rounds:
    """Bots on a market that moves, each on a symbol of its own, and what is done to them."""

    def __init__(self, stage: Stage, seed: int, bots: int = len(SYMBOLS)) -> None:
        self.stage = stage
        self.random = random.Random(seed)
        self.epochs = dict.fromkeys(range(1, 1 + bots), 1)
        for bot_id in self.epochs:
            self._start(bot_id)
        eventually(lambda: all(stage.done_orders(bot_id) for bot_id in self.epochs), PATIENCE, what="first orders")

    def play(self, kind: str) -> None:
        """One round."""
        bot_id = self.random.choice(list(self.epochs))
        if kind in KILLS or kind in ANSWERS:
            self._await(Fault(kind, delay=self._delay(kind)))
        elif kind in OTHERS:
            getattr(self, f"_{kind}")(bot_id)
        else:
            self._bot_at(bot_id, kind.removeprefix("bot_"))
        self.stage.revive()
        audit(self.stage)

    def all_trade(self) -> None:
        """At the end every bot trades: a stable that stands still would pass every audit."""
        for bot_id in self.epochs:
            self._trades(bot_id)

    def _start(self, bot_id: int) -> None:
        self.stage.start_bot(bot_id, self.epochs[bot_id], SYMBOLS[bot_id - 1])

    def _process(self, bot_id: int) -> subprocess.Popen[bytes]:
        return self.stage.bots[bot_id, self.epochs[bot_id]]

    def _delay(self, kind: str) -> float:
        if kind in ("late_answer", "late_execution"):
            return TERMINAL_TIMEOUT * self.random.uniform(1.02, 1.25)
        return TERMINAL_TIMEOUT * 0.5 if kind == "slow" else self.random.uniform(0.0, LATE_FILL)

    def _await(self, fault: Fault) -> None:
        self.stage.crossing.arm(fault)
        eventually(fault.fired.is_set, PATIENCE, what=fault.kind)
        # The gateway is started again while a request of the dead one may still be on its way.
        self.stage.revive()
        eventually(fault.done.is_set, PATIENCE, what=f"end of {fault.kind}")
        self.stage.crossing.disarm()

    def _gateway_killed(self, _bot_id: int) -> None:
        self.stage.kill_gateway()

    def _gateway_down(self, _bot_id: int) -> None:
        """For hours, by the market's clock."""
        self.stage.kill_gateway()
        for _ in range(self.random.randint(1, 12)):
            self.stage.step()

    # --- what is done to a bot -------------------------------------------------------------------------

    def _bot_at(self, bot_id: int, step: str) -> None:
        """Killed at a step of its order, and succeeded."""
        getattr(self, f"_at_{step}", self._at_crossing)(bot_id, step)
        self._process(bot_id).wait(30)
        self._succeed(bot_id)

    def _at_decided(self, bot_id: int, _step: str) -> None:
        with self.stage.held(self._process(bot_id)):
            self._process(bot_id).kill()

    def _at_sending(self, bot_id: int, _step: str) -> None:
        """Its order leaves, has left or has not, and lies before a gateway that stands still."""
        gateway = self.stage.gateway
        with self.stage.held(self._process(bot_id)):
            gateway.send_signal(signal.SIGSTOP)
        time.sleep(self.random.uniform(0.0, 0.1))  # no wait for something: the moment is the fault
        self._process(bot_id).kill()
        gateway.send_signal(signal.SIGCONT)

    def _at_answered(self, bot_id: int, _step: str) -> None:
        self._at_crossing(bot_id, "committed", late=True, delay=self.random.uniform(0.0, 0.01))

    def _at_crossing(self, bot_id: int, step: str, *, late: bool = False, delay: float = 0.0) -> None:
        process = self._process(bot_id)
        self._await(Fault(f"kill_{step}", bot_id=bot_id, victim=process.kill, late=late, delay=delay))

    def _bot_killed(self, bot_id: int) -> None:
        """At any moment."""
        self._process(bot_id).kill()
        self._process(bot_id).wait(30)
        self._succeed(bot_id)

    def _bot_killed_in_flight(self, bot_id: int) -> None:
        """The next epoch starts while the order of this one is at the terminal."""
        fault = Fault("slow", delay=min(IN_FLIGHT, TERMINAL_TIMEOUT * 0.7), bot_id=bot_id)
        self.stage.crossing.arm(fault)
        eventually(fault.fired.is_set, PATIENCE, what="an order in flight")
        self._process(bot_id).kill()
        self._process(bot_id).wait(30)
        self.epochs[bot_id] += 1
        self._start(bot_id)
        assert fault.done.is_set(), "the fence of the next epoch came before the order's end"
        self.stage.crossing.disarm()
        self._trades(bot_id)

    def _succeed(self, bot_id: int) -> None:
        self.epochs[bot_id] += 1
        self._start(bot_id)
        self._trades(bot_id)

    def _trades(self, bot_id: int) -> None:
        before = self.stage.done_orders(bot_id, self.epochs[bot_id])
        eventually(
            lambda: self.stage.done_orders(bot_id, self.epochs[bot_id]) > before,
            PATIENCE,
            what=f"an order of bot {bot_id} epoch {self.epochs[bot_id]}",
        )

    def _bars_pass(self, bot_id: int) -> None:
        market, closed = f"{SYMBOLS[bot_id - 1]}|H1", self.stage.crossing.watch.last_closed
        before = closed.get(market, 0)
        eventually(lambda: closed.get(market, 0) >= before + 2 * _HOUR, PATIENCE, what="two bars")

    def _bot_stopped(self, bot_id: int) -> None:
        """Past its bar, and continued: what it decided before is refused, not sent late."""
        process = self._process(bot_id)
        process.send_signal(signal.SIGSTOP)
        self._bars_pass(bot_id)
        process.send_signal(signal.SIGCONT)

    def _bot_stopped_decided(self, bot_id: int) -> None:
        """The same, and it had decided: the order that it then sends is of a bar long gone."""
        process = self._process(bot_id)
        with self.stage.held(process):
            process.send_signal(signal.SIGSTOP)
            before = self.stage.intents(bot_id)
        self._bars_pass(bot_id)
        assert self.stage.intents(bot_id) == before
        process.send_signal(signal.SIGCONT)

    def _bot_escaped(self, bot_id: int) -> None:
        """Its lock file is replaced, as on a second host; its successor trades; then it goes on."""
        old = self._process(bot_id)
        old.send_signal(signal.SIGSTOP)
        self.stage.lock_of(bot_id).unlink()
        self._succeed(bot_id)
        known = self.stage.intents(bot_id, self.epochs[bot_id] - 1)
        old.send_signal(signal.SIGCONT)
        self._bars_pass(bot_id)
        assert self.stage.intents(bot_id, self.epochs[bot_id] - 1) == known, "an old epoch was heard"
        if old.poll() is None:
            old.kill()
        old.wait(10)

    # --- what is done to requests ----------------------------------------------------------------------

    def _requests_shuffled(self, _bot_id: int) -> None:
        """Doubled and in any order, with questions between: nothing is done twice (the watch), all is answered."""
        hand = self.stage.hand
        if hand is None:
            hand = self.stage.hand = attach(self.stage, bot_id=_HAND)[0]
        told = again(hand, PATIENCE)
        orders = [entry(hand, told, volume=0.01), entry(hand, told, volume=0.01)]
        if told.position is not None:
            orders = [
                hand.new_order(
                    "close", symbol="EURUSD", side="buy", volume=0.01, position=told.position["ticket"],
                    decision=orders[0].decision, bar_time=orders[0].bar_time,
                )
            ]  # fmt: skip
        questions = [OrderQuery(id=one.id, bot_id=_HAND, epoch=1) for one in orders]
        frames = [encode(one) for one in [*orders, *questions] * 2]
        self.random.shuffle(frames)
        for frame in frames:
            hand._socket.send(frame)
        done = sum(outcome(hand, one.id, PATIENCE).status == "done" for one in orders)
        assert done <= 1, f"{done} of {orders} were done"


def main() -> None:
    """The command line."""
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    until = float(sys.argv[3]) if len(sys.argv) > 3 else float("inf")
    for one in play(seed, count, until):
        print(json.dumps(asdict(one)), flush=True)


if __name__ == "__main__":
    main()
