"""The lifecycle against a simulated world with any interleaving of trouble."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from supervisor.policy import events as ev
from supervisor.policy.states import Limits, State, Wanted
from supervisor.policy.table import TABLE
from tests.unit.policy.world import World


class Lifecycle(RuleBasedStateMachine):
    """Every rule is something that the outside may do at any time."""

    world: World

    @initialize(
        restart=st.sampled_from(["permanent", "permanent", "transient", "temporary"]),
        intensity=st.sampled_from([0, 1, 3, 5]),
        kind=st.sampled_from(["bot", "bot", "bot", "gateway"]),
        highest=st.sampled_from([0, 0, 7]),
        steps=st.integers(0, 12),
    )
    def begin(self, restart: Any, intensity: int, kind: Any, highest: int, steps: int) -> None:
        self.world = World(Limits(restart=restart, intensity=intensity), kind=kind, gateway_highest=highest)
        self.world.apply(ev.WantRunning(1))
        self.goes_well(steps)

    # Without this a random walk would hardly ever bring a bot up, and most of the table would stay unseen.
    @rule(steps=st.integers(1, 12))
    def goes_well(self, steps: int) -> None:
        for _ in range(steps):
            self.world.advance(wait=False)

    @rule(steps=st.integers(1, 12))
    def goes_well_later(self, steps: int) -> None:
        for _ in range(steps):
            self.world.advance()

    # --- operators ---------------------------------------------------------------------------------

    @rule(kind=st.sampled_from([ev.WantRunning, ev.WantPaused, ev.Restart, ev.Reconfigured]))
    def ask(self, kind: type[ev.Event]) -> None:
        self.world.apply(kind(1))

    @rule(kind=st.sampled_from([ev.WantStopped, ev.StandDown]), mode=st.sampled_from(["keep", "kill"]))
    def stop(self, kind: type[Any], mode: str) -> None:
        self.world.apply(kind(1, mode))

    # --- the host ------------------------------------------------------------------------------------

    @rule(kind=st.sampled_from([ev.HostPause, ev.HostStop, ev.HostRelease]))
    def host(self, kind: type[Any]) -> None:
        self.world.apply(kind(1, "cpu 97 %"))

    @precondition(lambda self: self.world.bot.run == "alive")
    @rule(step=st.sampled_from(["restart", "kill", "quarantine"]))
    def limit(self, step: Any) -> None:
        self.world.apply(ev.LimitHit(1, self.world.bot.epoch, "memory 600 MB, 500 allowed", step))

    # --- disk, launcher, gateway, lock -------------------------------------------------------------

    @precondition(lambda self: self.world.intents)
    @rule(ok=st.sampled_from([True, True, True, False]))
    def disk(self, ok: bool) -> None:
        self.world.record(ok)

    @precondition(lambda self: self.world.launches)
    @rule(outcome=st.sampled_from(["ok", "ok", "deaf", "failed"]))
    def launcher(self, outcome: str) -> None:
        self.world.launch(outcome)

    @precondition(lambda self: self.world.fences)
    @rule()
    def gateway(self) -> None:
        self.world.fence()

    @rule()
    def gateway_learns(self) -> None:
        self.world.gateway_highest += 2

    @precondition(lambda self: not self.world.lock_holder and not self.world.alive)
    @rule()
    def lock_taken(self) -> None:
        self.world.lock_holder = 77

    @precondition(lambda self: self.world.confirms)
    @rule()
    def lock_freed(self) -> None:
        self.world.confirm()

    # --- processes ---------------------------------------------------------------------------------

    @precondition(lambda self: any(not p.hung for p in self.world.alive))
    @rule()
    def hello(self) -> None:
        process = next(p for p in self.world.alive if not p.hung)
        process.spoke = True
        self.world.news.append(ev.HelloSeen(1, process.epoch, process.ready, process.paused))

    @precondition(lambda self: any(p.spoke and not p.hung for p in self.world.alive))
    @rule()
    def ready(self) -> None:
        process = next(p for p in self.world.alive if p.spoke)
        process.ready = True
        self.world.news.append(ev.ReadySeen(1, process.epoch))

    @precondition(lambda self: any(p.spoke for p in self.world.alive))
    @rule(reason=st.sampled_from(["dependency", "warmup"]))
    def waiting(self, reason: str) -> None:
        self.world.news.append(ev.WaitingFor(1, self.world.alive[0].epoch, reason, "gateway does not answer"))

    @precondition(lambda self: self.world.alive)
    @rule(how=st.sampled_from([(0, 0), (1, 0), (-1, 9), (65, 0), (78, 0), (75, 0)]), known=st.booleans())
    def dies(self, how: tuple[int, int], known: bool) -> None:
        self.world.die(self.world.alive[0], code=how[0], signal=how[1], known=known)

    @precondition(lambda self: self.world.alive)
    @rule(deaf=st.booleans())
    def hangs(self, deaf: bool) -> None:
        self.world.alive[0].hung = True
        self.world.alive[0].deaf = deaf

    @precondition(lambda self: self.world.bot.hello and self.world.bot.run == "alive")
    @rule()
    def judged(self) -> None:
        self.world.news.append(ev.Hung(1, self.world.bot.epoch, "no heartbeat for 6 s"))

    # --- news, in any order; time; another supervisor ------------------------------------------------

    @precondition(lambda self: self.world.news)
    @rule(where=st.integers(0, 50), again=st.sampled_from([False, False, False, True]))
    def news_arrives(self, where: int, again: bool) -> None:
        event = self.world.news.pop(where % len(self.world.news))
        self.world.apply(event)
        # Launchers tell an end until it is acknowledged, bots say Hello after each reconnection.
        if again and isinstance(event, ev.Exited | ev.Gone | ev.HelloSeen | ev.LockHeld | ev.PauseDone):
            self.world.news.append(event)

    @rule(seconds=st.sampled_from([0.1, 0.6, 1.0, 5.0, 9.999, 10.001, 31.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds
        for bot_id in self.world.fleet.due(self.world.now):
            self.world.apply(ev.Deadline(bot_id))

    @rule()
    def supervisor_replaced(self) -> None:
        self.world.replace_supervisor()

    # --- what must hold ------------------------------------------------------------------------------

    @invariant()
    def sound(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.check()
        for before, name, after in self.world.met:
            cell = TABLE[before, next(kind for kind in ev.EVENTS if kind.__name__ == name)]
            assert after is before or after in cell.targets, f"{before} + {name} led to {after}, undeclared"

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.settle()
        bot = self.world.bot
        reached = {
            Wanted.RUNNING: State.RUNNING,
            Wanted.PAUSED: State.PAUSED,
            Wanted.STOPPED: State.STOPPED,
        }[bot.aim]
        if bot.state is not reached:
            assert bot.state in (State.FAILED, State.STOPPED), bot.story
            assert bot.reason, bot.story
        assert bool(self.world.alive) == (bot.state in (State.RUNNING, State.PAUSED))
        if self.world.alive:
            assert self.world.alive[0].paused == (bot.state is State.PAUSED)


Lifecycle.TestCase.settings = settings(
    max_examples=int(os.environ.get("STABLEHAND_EXAMPLES", "150")),
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestLifecycle = Lifecycle.TestCase
