"""Places on a simulated stable: whatever happens, never too many run, and the most important do."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from supervisor.config import SupervisorConfig
from supervisor.policy import events as ev
from supervisor.policy.admission import Means
from supervisor.policy.fleet import Fleet
from supervisor.policy.states import Bot, State, Wanted
from supervisor.runtime import clock
from supervisor.runtime.registry import Record
from supervisor.runtime.seating import Seating


class Stable:
    """Bots that come up at once; `look` does what the runtime does a few times a second."""

    def __init__(self, priorities: list[int], places: int | str, rotate: float = 0.0) -> None:
        self.now = 1000.0
        config = SupervisorConfig.model_validate({"max_running": places, "rotate_minutes": rotate})
        self.seats = Seating(config)
        self.fleet = Fleet(Random(1))
        self.records = {}
        self.holding: set[int] = set()
        self.paused: set[int] = set()  # by the throttle
        self.stopped: set[int] = set()  # by the throttle
        self.most = 0
        for number, priority in enumerate(priorities, 1):
            self.fleet.add(Bot(number, f"b{number}", priority=priority))
            self.records[number] = Record(number, f"b{number}", "bot", "running", "main")
            self.apply(ev.HostStop(number, "waiting"))
            self.apply(ev.WantRunning(number))

    def apply(self, event: ev.Event) -> None:
        self.fleet.apply(event, self.now)
        for _ in range(3):  # a restart is a stop and a start
            bot = self.fleet.bots[event.bot_id]
            if bot.state is State.STARTING:
                for news in (ev.Recorded(bot.bot_id, bot.epoch), ev.Launched(bot.bot_id, bot.epoch, 1),
                             ev.HelloSeen(bot.bot_id, bot.epoch, ready=True)):  # fmt: skip
                    self.fleet.apply(news, self.now)
            elif bot.state is State.STOPPING:
                self.fleet.apply(ev.Exited(bot.bot_id, bot.epoch, 0, 0, 0), self.now)
        self.most = max(self.most, len(self.running()))

    def running(self) -> set[int]:
        return {bot.bot_id for bot in self.fleet.bots.values() if bot.state in (State.RUNNING, State.PAUSED)}

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += 0.25
            bots = [(self.records[one.bot_id], one, one.bot_id not in self.holding) for one in self.fleet.bots.values()]
            self.seats.look(bots, paused=frozenset(self.paused), calm=True, means=Means())
            for bot in list(self.fleet.bots.values()):
                self._bring(bot)

    def _bring(self, bot: Bot) -> None:
        if bot.bot_id in self.stopped:
            if bot.held != "stop":
                self.apply(ev.HostStop(bot.bot_id, "throttled"))
        elif not self.seats.holds(bot.bot_id):
            if bot.held:
                self.apply(ev.HostRelease(bot.bot_id))
        elif bot.held != "stop" and (bot.state is State.STOPPED or bot.bot_id not in self.holding):
            self.apply(ev.HostStop(bot.bot_id, "waiting"))


@pytest.fixture(autouse=True)
def simulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Stable]]:
    made: dict[str, Stable] = {}
    monkeypatch.setattr(clock, "now", lambda: made["stable"].now if made else 0.0)
    yield made


def test_whatever_operators_do_never_more_run_than_there_are_places(simulated: dict[str, Stable]) -> None:
    for seed in range(8):
        rng = Random(seed)
        stable = simulated["stable"] = Stable([rng.randrange(10) for _ in range(12)], 4)
        for _ in range(100):
            bot_id = rng.randrange(1, 13)
            stable.apply(rng.choice([ev.WantRunning(bot_id), ev.WantStopped(bot_id), ev.Restart(bot_id),
                                     ev.WantPaused(bot_id)]))  # fmt: skip
            if rng.random() < 0.2 and bot_id in stable.running():
                stable.holding ^= {bot_id}
            stable.look()
        assert stable.most <= 4
        stable.holding.clear()
        stable.look(60)
        wanted = [one for one in stable.fleet.bots.values() if one.wanted is not Wanted.STOPPED]
        running = stable.running()
        assert len(running) == min(4, len(wanted)), seed
        least = min((stable.fleet.bots[one].priority for one in running), default=9)
        assert all(one.priority <= least for one in wanted if one.bot_id not in running), seed


def test_who_got_a_position_while_he_was_leaving_stays(simulated: dict[str, Stable]) -> None:
    stable = simulated["stable"] = Stable([5, 1], 1)
    stable.look(4)
    assert stable.running() == {1}
    stable.apply(ev.WantStopped(1))
    stable.look(4)
    assert stable.running() == {2}
    stable.holding.add(2)
    stable.apply(ev.WantRunning(1))
    stable.look(8)
    assert stable.running() == {2}, "a bot with an open position keeps its place"
    stable.holding.clear()
    stable.look(8)
    assert stable.running() == {1}


def test_equals_take_turns(simulated: dict[str, Stable]) -> None:
    stable = simulated["stable"] = Stable([5] * 6, 2, rotate=0.1)
    had = dict.fromkeys(range(1, 7), 0)
    for _ in range(800):
        stable.look()
        for one in stable.running():
            had[one] += 1
    assert min(had.values()) > 0.8 * max(had.values()), had


def test_whom_the_throttle_stopped_keeps_his_place_so_that_fewer_run(simulated: dict[str, Stable]) -> None:
    stable = simulated["stable"] = Stable([5] * 6, 3)
    stable.look(8)
    assert stable.running() == {1, 2, 3}
    stable.stopped = {3}
    stable.look(80)
    assert stable.running() == {1, 2}, "nobody came for the place: he would take what the other was stopped for"
    stable.stopped = set()
    stable.look(8)
    assert stable.running() == {1, 2, 3}


def test_as_many_fewer_as_were_paused_and_these(simulated: dict[str, Stable]) -> None:
    """With `max_running = "auto"`: each look saw the same pauses again, and took as many again, down to one."""
    stable = simulated["stable"] = Stable([5] * 16 + [9] * 4, "auto")
    stable.look(8)
    before = stable.running()
    assert len(before) == 16
    stable.paused = set(sorted(before)[8:10])
    stable.look(80)
    assert stable.running() == before - stable.paused and stable.seats.capacity.value == 14
    assert {17, 18, 19, 20} < stable.running()


def test_who_matters_less_and_may_not_be_paused_makes_no_more_places_go(simulated: dict[str, Stable]) -> None:
    """Those that were paused go, come back for who matters less, and as many places are gone as were paused."""
    stable = simulated["stable"] = Stable([1] * 6 + [5] * 6, "auto")
    stable.look(8)
    assert len(stable.running()) == 12
    stable.paused = {7, 8, 9}
    for _ in range(80):
        stable.look()
        # As the throttle does: whom the places hold is not its own any more.
        stable.paused = {one for one in stable.paused if not stable.seats.holds(one)}
    assert stable.seats.capacity.value == 9
    assert set(range(7, 13)) < stable.running() and len(stable.running()) == 9
