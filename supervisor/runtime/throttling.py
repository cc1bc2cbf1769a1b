"""Keeps the running stable within the machine's means: throttle, places, limits and the gate of starts together.

It looks with every sample of the probe, and a few times a second where places are limited; what it decides is
pure (`policy/throttle`, `policy/rotation`, `policy/limits`, `policy/admission`).
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import Any, Final

from supervisor.config import ThrottleConfig
from supervisor.policy.admission import Means, learned
from supervisor.policy.states import State, Wanted
from supervisor.policy.throttle import (
    Change,
    Reading,
    Settings,
    Subject,
    Throttle,
    Treatment,
    control,
    figures_of,
    treatments,
)
from supervisor.runtime import clock
from supervisor.runtime.admitting import Admitting
from supervisor.runtime.easing import Easing
from supervisor.runtime.registry import Record
from supervisor.runtime.seating import Seating
from supervisor.runtime.stable import Stable
from supervisor.runtime.watching import Watching

_SEATS_LOOK: Final = 0.25
_STALE: Final = 4.0  # sample intervals after which figures are unknown
#: Bytes of a bot, until the first is measured: one that is forked shares most of its pages, a spawned one none.
_FIRST_GUESS: Final = 12_000_000
_FIRST_GUESS_SPAWNED: Final = 70_000_000
_FIRST_SAMPLE: Final = 5.0  # seconds that `max_running = "auto"` waits for figures of the machine
_MOST: Final = {"pace": 1, "priority": 2, "pause": 3, "stop": 4}
_WORDS: Final = {
    ("pace", "up"): "the pace of {n} is stretched",
    ("pace", "down"): "{n} at their own pace again",
    ("nice", "up"): "the operating system's priority of {n} is lowered",
    ("nice", "down"): "{n} at their usual priority again",
    ("pause", "up"): "{n} flat ones pause",
    ("pause", "down"): "{n} trade again",
    ("stop", "up"): "{n} paused ones are stopped",
    ("stop", "down"): "{n} are started again",
}


class Throttling:
    """The stable's sense of measure."""

    def __init__(self, stable: Stable) -> None:
        self._stable = stable
        config = stable.config.supervisor
        self._config = config.throttle
        self._interval = config.sample_interval_seconds
        self.settings = settings_of(config.throttle)
        self.state = Throttle()
        self.seats = Seating(config)
        self.per_bot = _FIRST_GUESS if config.launch != "spawn" and sys.platform == "linux" else _FIRST_GUESS_SPAWNED
        self.watching = Watching(stable.chronicle, stable.post)
        self.easing = Easing(
            stable.registry,
            stable.fleet,
            stable.bus,
            stable.accounts,
            stable.chronicle,
            stable.cgroups,
            stable.post,
            stable.started,
        )
        self.admitting = Admitting(
            stable.registry, stable.state, lambda record: stable.bot(record).cause, self.means, stable.post
        )
        self._figures = ""

    async def run(self) -> None:
        """Mind the places, until cancelled. The rest is called by the probe's samples."""
        while self.seats.on:
            self._mind_places()
            await asyncio.sleep(_SEATS_LOOK)

    def sampled(self) -> None:
        """A sample has come: look at the machine, and at every bot."""
        stable = self._stable
        if stable.leaving:
            return
        seen = []
        for record in stable.registry.by_name.values():
            if record.config is None:  # a program is not the stable's to measure
                continue
            sample, run = record.sample, record.run
            if run is not None and not run.ended and sample is not None and sample.uss_bytes:
                seen.append(sample.uss_bytes)
            self.watching.look(record, stable.state(record), flat=self.easing.is_flat(record))
        self.per_bot = learned(self.per_bot, seen)
        if self._config.enabled:
            reading = self.reading()
            self.state, changes = control(self.state, self.settings, reading, self._subjects(), clock.now())
            self._figures = figures_of(self.state, self.settings, reading)
            for change in changes:
                self._tell(change)
        self._apply()

    def means(self) -> Means:
        """What the machine has left for starts."""
        host = self._stable.sampling.host if self._fresh() else {}
        return Means(host.get("memory_available"), host.get("memory_total"), self.per_bot, self._stable.loop_lag)

    def reading(self) -> Reading:
        """The machine's figures; what is old is unknown."""
        fresh, lag = self._fresh(), self._stable.loop_lag
        host = self._stable.sampling.host if fresh else {}
        pressure = host.get("pressure")
        sent, received = host.get("network_sent_per_s"), host.get("network_received_per_s")
        return Reading(
            cpu=host.get("cpu_percent"),
            memory=host.get("memory_percent"),
            pressure=max(pressure.values()) if pressure else None,
            # Without the other figures a loop in time is no sign of calm; one that is late is bad news all the same.
            loop_lag=lag if fresh or lag > self._config.loop_lag else None,
            network=(sent + received) / 1e6 if sent is not None and received is not None else None,
        )

    def describe(self) -> dict[str, Any]:
        """For the command `host`."""
        return {
            "enabled": self._config.enabled,
            "level": self.state.level,
            "strain": None if self.state.strain is None else round(self.state.strain, 3),
            "figures": self._figures,
            "paused": len(self.state.paused),
            "stopped": len(self.state.stopped),
            "places": self.seats.capacity.value if self.seats.on else None,
            "waiting_for_a_place": self.seats.waiting,
            "waiting_to_start": self.admitting.waiting,
            "starts_held_by": self.admitting.holds,
            "start_window": int(self.admitting.gate.window),
            "memory_per_bot": self.per_bot,
        }

    def _fresh(self) -> bool:
        at = self._stable.sampling.sampled_at
        return at is not None and clock.now() - at <= _STALE * self._interval

    def _subjects(self) -> list[Subject]:
        stable, found = self._stable, []
        lockstep = {name for name, one in stable.config.accounts.items() if one.bars_per_second == "max"}
        for record in stable.registry.by_name.values():
            bot, config = stable.bot(record), record.config
            if config is None or bot.wanted is Wanted.STOPPED or self.seats.holds(bot.bot_id):
                continue
            found.append(
                Subject(
                    bot_id=bot.bot_id,
                    priority=config.priority,
                    flat=self.easing.is_flat(record),
                    running=bot.state is State.RUNNING and bot.wanted is Wanted.RUNNING,
                    group=config.throttle_group,
                    # In lockstep the feed waits for every bot: it is as fast as the machine, and never too fast.
                    throttle=config.throttle and record.account not in lockstep,
                    pace_max=config.pace_max,
                    most=_MOST[config.throttle_most],
                )
            )
        return found

    def _apply(self) -> None:
        given = treatments(self.state, self.settings, self._subjects())
        for record in self._stable.registry.by_name.values():
            if record.config is None:  # a program has no pace, cannot pause, and needs no place
                continue
            one = given.get(record.bot_id, Treatment())
            if self.watching.eased(record):
                pace = min(self.settings.pace, record.config.pace_max)
                one = replace(one, pace=max(one.pace, pace), nice=max(one.nice, self.settings.nice),
                              cpu_cap=record.config.cpu_limit_percent)  # fmt: skip
            self._apply_to(record, one)

    def _apply_to(self, record: Record, one: Treatment) -> None:
        reason = f"held for the machine's sake: {self._figures}"
        if self.seats.holds(record.bot_id):
            one, reason = replace(one, hold="stop"), self.seats.reason
        self.easing.apply(record, one, reason)

    def _mind_places(self) -> None:
        stable = self._stable
        if stable.leaving:
            return
        known = [one for one in stable.registry.by_name.values() if one.config is not None]
        bots = [(one, stable.bot(one), self.easing.is_flat(one)) for one in known]
        means = self.means()
        if not self.seats.capacity.value and means.room is None and stable.uptime() < _FIRST_SAMPLE:
            return
        calm = self.state.level == 0 and self.state.low_since is not None
        self.seats.look(bots, paused=frozenset(self.state.paused), calm=calm, means=means)
        stable.ordering.release()  # there may be places now for some who waited for others
        self._apply()

    def _tell(self, change: Change) -> None:
        registry = self._stable.registry
        names = [registry.by_id[one].name for one in change.bots if one in registry.by_id]
        count = f"{len(names)} bot{'s' if len(names) != 1 else ''}"
        what = _WORDS[change.what, change.direction].format(n=count)
        self._stable.chronicle.add(
            "throttle",
            f"level {change.level}: {change.figures}; {what}",
            data={"level": change.level, "direction": change.direction, "what": change.what, "bots": names[:1000]},
        )


def settings_of(config: ThrottleConfig) -> Settings:
    """The controller's settings as the file gives them."""
    targets = {key: getattr(config, key) for key in ("cpu", "memory", "pressure", "loop_lag", "network")}
    return Settings(
        targets={key: value for key, value in targets.items() if value > 0},
        react=config.react_seconds,
        recover=config.recover_seconds,
        release=config.release_percent / 100,
        pace=config.pace,
        nice=config.nice,
        most=config.max_level,
        spare=config.spare_priority,
        share=config.share_percent / 100,
    )
