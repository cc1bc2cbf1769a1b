"""On whom verdicts fall when they waited: nobody at first, then who used the processor, at last everybody."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from protocol.messages import Phase
from protocol.programconfig import ProgramConfig
from protocol.progress import Progress
from supervisor.config import SupervisorConfig
from supervisor.policy import events as ev
from supervisor.policy import health
from supervisor.policy.fleet import Fleet
from supervisor.policy.health import deadline_is_a_verdict
from supervisor.policy.states import Bot, State, Wanted
from supervisor.runtime import clock, monitor
from supervisor.runtime.monitor import Monitor
from supervisor.runtime.registry import Record, Registry, Run
from supervisor.runtime.voices import VoiceState


class World:
    """Two bots that do not move: 1 uses the processor, 2 does not get it."""

    def __init__(self, patch: pytest.MonkeyPatch, longest: float) -> None:
        self.now = 1000.0
        self.cpu = {101: 5.0, 102: 5.0}
        patch.setattr(clock, "now", lambda: self.now)
        patch.setattr(monitor, "cpu_seconds", self.cpu.get)
        registry, fleet = Registry(), Fleet(Random(1))
        for number in (1, 2):
            record = Record(number, f"b{number}", "bot", "running", "main")
            record.run = Run(epoch=1, token=f"t{number}", started_at=0.0, started=0.0, pid=100 + number)
            record.run.beat_at = self.now
            registry.add(record)
            fleet.add(Bot(number, record.name, wanted=Wanted.RUNNING, state=State.RUNNING, epoch=1, run="alive"))
        self.judged: list[int] = []
        self.registry = registry
        config = SupervisorConfig.model_validate({"max_suspension_seconds": longest})
        sampling: Any = SimpleNamespace(host={"pressure": {"cpu": 99.0, "memory": 0.0}})
        self.monitor = Monitor(registry, fleet, config, sampling, self._post, lambda lag: None)

    def _post(self, event: ev.Event) -> None:
        self.judged.append(event.bot_id)

    def starved_until(self, moment: float) -> None:
        while self.now < moment:
            self.now += 1.0
            self.cpu[101] += 0.5
            self.monitor.look(0.0, self.now)  # the machine is busy each time


def test_nobody_is_judged_at_first_then_the_guilty_and_at_last_the_victims(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, longest=60.0)
    world.starved_until(1059.0)
    assert world.judged == []
    world.starved_until(1065.0)
    assert world.judged == [1]
    world.starved_until(1119.0)
    assert world.judged == [1]
    world.starved_until(1125.0)
    assert world.judged == [1, 2]


def test_who_moved_meanwhile_is_not_charged_with_what_it_used_before(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, longest=60.0)
    world.starved_until(1059.0)
    for record in world.registry.by_id.values():
        assert record.run is not None
        record.run.beat_at = world.now  # both are heard again
    world.starved_until(1069.0)
    assert world.judged == []
    world.now += 5.0  # silent again, and it uses nothing
    world.monitor.sweep(world.now)
    assert world.judged == []


def test_without_suspension_both_are_judged_when_they_are_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, longest=0.0)
    world.starved_until(1009.0)
    assert world.judged == []
    world.starved_until(1012.0)
    assert world.judged == [1, 2]


@pytest.mark.parametrize("starved", [0.0, 200.0], ids=["calm", "starved_for_longer_than_verdicts_wait"])
@pytest.mark.parametrize("longest", [0.0, 60.0])
def test_what_could_not_be_heard_is_nobodys_silence(
    monkeypatch: pytest.MonkeyPatch, longest: float, starved: float
) -> None:
    world = World(monkeypatch, longest)
    host = world.monitor._sampling.host
    host["pressure"]["cpu"] = 99.0 if starved else 0.0
    while starved > 0:
        world.now, starved = world.now + 1.0, starved - 1.0
        for record in world.registry.by_id.values():
            assert record.run is not None
            record.run.beat_at = world.now
        world.monitor.look(0.0, world.now)
    world.now += 30.0  # the supervisor is stopped, and what comes meanwhile lies in its socket
    world.monitor.look(29.5, world.now)
    assert world.judged == [] and world.monitor.doubtful(29.5)
    for _ in range(24):  # and nothing was there
        world.now += 0.5
        world.monitor.look(0.0, world.now)
    assert sorted(world.judged) == [1, 2]


def test_being_late_is_no_excuse_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that never comes in time still hears a quarter of the time."""
    world = World(monkeypatch, 0.0)
    for _ in range(35):
        world.now += 2.0
        world.monitor.look(1.5, world.now)
    assert sorted(world.judged) == [1, 2]
    assert not world.monitor.doubtful(1.5)


def programs(patch: pytest.MonkeyPatch, longest: float) -> World:
    """The same two as programs that beat over the bus: their minders are well, and they were last heard now."""
    world = World(patch, longest)
    for number, record in world.registry.by_id.items():
        record.kind = "program"
        record.program = ProgramConfig.model_validate({"name": record.name, "command": ["x"], "heartbeat": "bus"})
        assert record.run is not None
        voice = record.run.voice = VoiceState(since=world.now - 100.0, pid=100 + number)
        voice.beat, voice.beat_at = Progress().beat(1, 0.0), world.now
        record.run.pid = 200 + number
    return world


def minders_are_heard(world: World, phase: Phase = Phase.IDLE) -> None:
    for record in world.registry.by_id.values():
        assert record.run is not None
        progress = Progress()
        progress.move(phase, 30.0)
        record.run.beat, record.run.beat_at = progress.beat(1, 0.0), world.now


def test_a_program_that_does_not_beat_hangs_though_its_minder_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    world = programs(monkeypatch, longest=0.0)
    for moment, judged in ((1009.0, []), (1011.0, [1, 2])):
        world.now = moment
        minders_are_heard(world)
        world.monitor.sweep(world.now)
        assert world.judged == judged


def test_one_that_ends_by_itself_need_not_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    world = programs(monkeypatch, longest=0.0)
    world.now = 1500.0
    minders_are_heard(world, Phase.STOPPING)
    world.monitor.sweep(world.now)
    assert world.judged == []


def test_one_that_was_never_heard_has_its_start_timeout_from_the_hello(monkeypatch: pytest.MonkeyPatch) -> None:
    world = programs(monkeypatch, longest=0.0)
    run = world.registry.by_id[1].run
    assert run is not None
    run.voice = VoiceState(since=world.now)  # as after an adoption
    for moment, judged in ((1029.0, [2]), (1031.0, [2, 1])):
        world.now = moment
        minders_are_heard(world)
        world.monitor.sweep(world.now)
        assert [one for number, one in enumerate(world.judged) if one not in world.judged[:number]] == judged


def test_while_the_machine_is_starved_programs_are_judged_by_their_own_use_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = programs(monkeypatch, longest=60.0)
    for moment, judged in ((1059.0, []), (1065.0, [1]), (1119.0, [1]), (1125.0, [1, 2])):
        while world.now < moment:
            world.now += 1.0
            minders_are_heard(world)
            world.cpu[101] += 0.5
            world.monitor.look(0.0, world.now)
        assert sorted(set(world.judged)) == judged


def test_a_deadline_that_was_noticed_late_is_doubtful_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, longest=60.0)
    assert not world.monitor.doubtful(0.2)
    assert world.monitor.doubtful(30.0)
    assert world.monitor.doubtful(0.0)


@pytest.mark.parametrize(
    ("state", "run", "hello", "verdict"),
    [
        (State.ADOPTING, "alive", False, True),
        (State.STARTING, "alive", False, True),
        (State.STARTING, "alive", True, False),
        (State.STARTING, "launching", False, False),
        (State.STOPPING, "alive", True, False),
        (State.BACKOFF, "none", False, False),
        (State.RUNNING, "alive", True, False),
    ],
)
def test_which_deadlines_are_verdicts(state: State, run: Any, hello: bool, verdict: bool) -> None:
    assert deadline_is_a_verdict(Bot(1, "one", state=state, run=run, hello=hello)) is verdict


@pytest.mark.parametrize(
    ("progress_age", "cap", "uncapped_for", "allowed"),
    [
        (35.0, 0.0, None, 30.0),
        (35.0, 10.0, None, 300.0),
        (35.0, 100.0, None, 30.0),
        (35.0, 10.0, 5.0, 300.0),  # it began while it was held to the cap
        (35.0, 10.0, 40.0, 30.0),
    ],
)
def test_who_is_held_to_a_part_of_the_processor_has_as_much_longer(
    progress_age: float, cap: float, uncapped_for: float | None, allowed: float
) -> None:
    limit = health.stretched(30.0, progress_age, cap, uncapped_for)
    assert limit == allowed
    verdict = health.judge(0.1, progress_age, limit, "analyse", 1.0, 10.0)
    assert (verdict is None) == (allowed > 35.0)
