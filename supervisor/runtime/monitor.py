"""Looks at the heartbeats a few times a second, and at the loop's own lag; hangs become events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from protocol.messages import Phase
from protocol.process import cpu_seconds
from supervisor.config import SupervisorConfig
from supervisor.policy import events, health
from supervisor.policy.fleet import Fleet
from supervisor.policy.health import Suspect, Suspension
from supervisor.policy.states import State
from supervisor.runtime import clock
from supervisor.runtime.registry import Record, Registry, Run
from supervisor.runtime.sampling import Sampling
from supervisor.runtime.voices import VoiceState

_SWEEP: Final = 0.5
_LAG: Final = 1.0  # seconds that the loop may be late before its own verdicts are doubtful
_DEAF: Final = 60.0  # seconds at a stretch that its being late is an excuse for those whose deadline has passed
_STARVED_PRESSURE: Final = 80.0  # percent of time in which some task waited for the CPU or for memory
_JUDGED: Final = frozenset({State.STARTING, State.RUNNING, State.PAUSED})
_PHASES: Final = {phase.value: phase.name.lower() for phase in Phase} | {
    Phase.NOT_READY.value: "without READY=1",
    Phase.WATCHED.value: "without WATCHDOG=1",
}


class Still(NamedTuple):
    """A run that does not move."""

    record: Record
    run: Run
    verdict: str
    pid: int  # whose use of the processor tells the cause of a trouble from its victims


class Monitor:
    """Judges who hangs."""

    def __init__(
        self,
        registry: Registry,
        fleet: Fleet,
        config: SupervisorConfig,
        sampling: Sampling,
        post: Callable[[events.Event], None],
        lag: Callable[[float], None],
    ) -> None:
        self._registry = registry
        self._fleet = fleet
        self._config = config
        self._sampling = sampling
        self._post = post
        self._lag = lag
        self._suspension = Suspension(longest=config.max_suspension_seconds)
        self._deaf = Suspension(longest=_DEAF)  # for deadlines that are verdicts
        self._used: dict[str, float] = {}  # run token -> CPU seconds when it was first suspected under suspension

    async def run(self) -> None:
        """Sweep until cancelled."""
        before = clock.now()
        while True:
            await asyncio.sleep(_SWEEP)
            # From look to look: also what passed while the last sweep was under way, or after it, is noticed.
            now = clock.now()
            late, before = max(0.0, now - before - _SWEEP), now
            self.look(late, now)

    def look(self, late: float, now: float) -> None:
        """At the machine, at this loop, which came `late` seconds after its time, and at every run."""
        self._lag(late)
        self._heard_nothing(late, now)
        self._suspension = self._suspension.observe(self._starved(), now)
        self.sweep(now)

    def _heard_nothing(self, late: float, now: float) -> None:
        """The loop was late, stopped perhaps: what a run may have said meanwhile lies in a socket that nobody read.

        So this time is nobody's silence. It is granted however long the machine was starved before, when verdicts no
        longer wait.
        """
        self._deaf = self._deaf.observe(late > _LAG, now)
        if late <= _LAG:
            return
        for record in self._registry.by_id.values():
            run = record.run
            if run is None:
                continue
            if run.beat_at:
                run.beat_at = min(now, run.beat_at + late)
            if run.voice is not None:
                run.voice.since = min(now, run.voice.since + late)
                run.voice.beat_at = min(now, run.voice.beat_at + late)

    def doubtful(self, late: float) -> bool:
        """Whether a deadline that is a verdict waits. `late`: seconds after its time at which the loop came to it,
        which says as much of the loop as a sweep that is late."""
        now = clock.now()
        if late > _LAG:
            self._deaf = self._deaf.observe(True, now)
        return self._deaf.active(now) or self._suspension.active(now)

    def sweep(self, now: float) -> None:
        """Post a Hung for every run that does not move, or remember it as a suspect while verdicts wait."""
        found = list(self._motionless(now))
        if self._suspension.since is None or not self._suspension.longest:
            self._used.clear()
            for one in found:
                self._judge(one)
            return
        # One that has moved since it was first suspected begins anew: what it used in between was honest work.
        self._used = {one.run.token: self._used.get(one.run.token, cpu_seconds(one.pid) or 0.0) for one in found}
        if not self._suspension.exhausted(now):
            return
        if not self._suspension.victims_wait(now):
            guilty = [one.record.bot_id for one in found]
        else:
            suspects = [
                Suspect(one.record.bot_id, (cpu_seconds(one.pid) or 0.0) - self._used[one.run.token], one.verdict)
                for one in found
            ]
            guilty = [suspect.bot_id for suspect in health.after_suspension(suspects)]
        by_id = {one.record.bot_id: one for one in found}
        for bot_id in guilty:  # the heaviest first
            self._judge(by_id[bot_id])

    def _judge(self, one: Still) -> None:
        one.run.beat_at = 0.0  # judged once
        self._post(events.Hung(one.record.bot_id, epoch=one.run.epoch, detail=one.verdict))

    def _motionless(self, now: float) -> Iterator[Still]:
        interval, patience = self._config.heartbeat_interval_seconds, self._config.heartbeat_timeout_seconds
        for record in self._registry.by_id.values():
            run = record.run
            if run is None or run.ended or not run.beat_at or self._fleet.bots[record.bot_id].state not in _JUDGED:
                continue
            beat = run.beat
            moved = beat.progress_age_ms / 1000 if beat else 0.0
            uncapped_for = None if run.uncapped_at is None else now - run.uncapped_at
            verdict = health.judge(
                now - run.beat_at,
                moved,
                health.stretched(beat.limit_ms / 1000, moved, run.cap, uncapped_for) if beat else 0.0,
                _PHASES.get(beat.phase, "busy") if beat else "silent",
                interval,
                patience,
                beat.lag_ms / 1000 if beat else 0.0,
            )
            if verdict is not None:
                yield Still(record, run, verdict, run.pid)
            elif run.voice is not None and (beat is None or beat.phase != Phase.STOPPING):
                verdict = self._of_voice(run.voice, record.settings.start_timeout_seconds, now)
                if verdict is not None:
                    yield Still(record, run, verdict, run.voice.pid or run.pid)

    def _of_voice(self, voice: VoiceState, start_timeout: float, now: float) -> str | None:
        return health.judge_voice(
            now - voice.beat_at if voice.beat is not None else None,
            now - voice.since,
            voice.beat.progress_age_ms / 1000 if voice.beat else 0.0,
            voice.beat.limit_ms / 1000 if voice.beat else 0.0,
            self._config.heartbeat_interval_seconds,
            self._config.heartbeat_timeout_seconds,
            start_timeout,
        )

    def _starved(self) -> bool:
        pressure = self._sampling.host.get("pressure") or {}
        return bool(max(pressure.get("cpu", 0.0), pressure.get("memory", 0.0)) > _STARVED_PRESSURE)
