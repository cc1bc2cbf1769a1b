"""A machine for the throttle: bots that cost something, a load from elsewhere (made or recorded), and a controller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from supervisor.policy.throttle import Change, Reading, Settings, Subject, Throttle, control, treatments

Trace = Callable[[float], float]


@dataclass
class Host:
    """`trace(t)` is the CPU percent that others use, `each` what a bot uses at its full pace.

    With `recorded` the machine is what was recorded, whatever the controller does.
    """

    trace: Trace
    subjects: list[Subject]
    settings: Settings = field(default_factory=Settings)
    each: float = 1.0
    state: Throttle = field(default_factory=Throttle)
    now: float = 0.0
    changes: list[tuple[float, Change]] = field(default_factory=list)
    cpu: float = 0.0
    recorded: Callable[[float], Reading] | None = None

    def look(self, seconds: float = 2.0) -> None:
        """One sample interval."""
        given = treatments(self.state, self.settings, self.subjects)
        cost = {"": 1.0, "pause": 0.3, "stop": 0.0}
        bots = sum(self.each * cost[one.hold] / one.pace for one in given.values())
        self.cpu = min(100.0, max(0.0, self.trace(self.now) + bots))
        before = self.state
        reading = self.recorded(self.now) if self.recorded else Reading(cpu=self.cpu)
        self.state, changes = control(self.state, self.settings, reading, self.subjects, self.now)
        self.changes += [(self.now, one) for one in changes]
        self.check(before)
        self.now += seconds

    def run(self, seconds: float, every: float = 2.0) -> None:
        """Look again and again."""
        until = self.now + seconds
        while self.now < until:
            self.look(every)

    def turn(self, bot_id: int, **changes: object) -> None:
        """Something happens to a bot."""
        self.subjects = [
            replace(one, **changes) if one.bot_id == bot_id else one  # type: ignore[arg-type]
            for one in self.subjects
        ]

    def check(self, before: Throttle) -> None:
        """What holds at every moment."""
        known = {one.bot_id: one for one in self.subjects}
        held = set(self.state.held)
        for bot_id in held:
            one = known[bot_id]
            assert one.flat, "a bot with an open position is held"
            assert one.throttle and one.priority < self.settings.spare and one.most >= 3
        assert all(known[bot_id].most >= 4 for bot_id in self.state.stopped)
        for bot_id in set(self.state.stopped) - set(before.stopped):
            assert bot_id in before.paused, "stopped before it was paused"
        for bot_id in set(self.state.paused) - set(before.held):
            for one in known.values():
                may = one.flat and one.running and one.throttle and one.most >= 3
                alike = may and not one.group and not known[bot_id].group
                if alike and one.priority < known[bot_id].priority:
                    assert one.bot_id in held, "a more important bot was held first"
        for bot_id, given in treatments(self.state, self.settings, self.subjects).items():
            assert 1.0 <= given.pace <= max(1.0, known[bot_id].pace_max)


def herd(count: int, **more: object) -> list[Subject]:
    """Flat, running bots with priorities 0 to 9 in turn."""
    return [Subject(number, number % 10, flat=True, running=True, **more) for number in range(1, count + 1)]  # type: ignore[arg-type]
