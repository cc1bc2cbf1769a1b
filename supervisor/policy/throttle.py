"""Keeps the bots within the machine's means: a controller with hysteresis, in four levels.

Level 1 stretches the pace of the less important bots, level 2 also lowers their priority at the operating
system, level 3 pauses flat ones, the least important first and a share at a time, level 4 stops them likewise.
Back it goes in reverse, more slowly: a step down needs `recover` seconds of calm, twice as many each time that
the trouble came back soon after one. So a load that only fits without the bots that are held does not make
the stable swing.

Pure: readings, bots and the time come in, the next state and what was changed go out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from supervisor.policy.states import Hold

MOST_PATIENCE: Final = 16.0
_NICE: Final = 2  # the level from which the operating system is asked, too
_PAUSE: Final = 3
_STOP: Final = 4
_UNITS: Final = {
    "cpu": "%",
    "memory": "%",
    "pressure": "%",
    "loop_lag": "s",
    "network": "MB/s",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """The machine now. Percent, seconds of lag, megabytes a second; None is unknown, and counts for nothing."""

    cpu: float | None = None
    memory: float | None = None
    pressure: float | None = None
    loop_lag: float | None = None
    network: float | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """`targets` by the names of a Reading; what is not there is not watched. Times in seconds."""

    targets: Mapping[str, float] = field(default_factory=lambda: {"cpu": 90.0, "memory": 90.0})
    react: float = 10.0  # above a target for so long: a step up
    recover: float = 30.0  # well below all of them for so long: a step down
    release: float = 0.85  # "well below": this share of a target
    pace: float = 4.0  # the longest stretch
    nice: int = 10  # the lowest priority at the operating system
    most: int = 4  # the highest level
    spare: int = 9  # bots of this priority and above are left alone
    share: float = 0.1  # of the bots that may be held: so many at a time


@dataclass(frozen=True, slots=True)
class Subject:
    """One bot that is wanted. `flat`: the terminal says that it holds nothing. `running`: RUNNING now."""

    bot_id: int
    priority: int
    flat: bool
    running: bool
    group: str = ""  # its bots are held and released together
    throttle: bool = True
    pace_max: float = 100.0
    most: int = 4  # the highest level that may be applied to it: 1 paced, 2 lower priority, 3 paused, 4 stopped


@dataclass(frozen=True, slots=True)
class Treatment:
    """What is done to one bot."""

    pace: float = 1.0
    nice: int = 0
    hold: Hold = ""
    cpu_cap: float = 0.0  # percent of one core that the kernel lets it have; 0: no bound


@dataclass(frozen=True, slots=True)
class Change:
    """One step, for the journal: which bots it concerns, and the figures that it was taken for."""

    direction: Literal["up", "down"]
    level: int
    what: Literal["pace", "nice", "pause", "stop"]
    bots: tuple[int, ...]
    figures: str


@dataclass(frozen=True, slots=True)
class Throttle:
    """The controller. `strain` is the worst reading in shares of its target, smoothed; None while unknown."""

    base: int = 0  # 0, 1: paced, 2: lower priority, too
    paused: tuple[int, ...] = ()  # in the order in which they were taken
    stopped: tuple[int, ...] = ()
    strain: float | None = None
    worst: str = ""
    looked_at: float | None = None
    high_since: float | None = None
    low_since: float | None = None
    changed_at: float | None = None
    eased_at: float | None = None
    patience: float = 1.0  # how many times `recover` a step down takes

    @property
    def level(self) -> int:
        """0 to 4."""
        return 4 if self.stopped else 3 if self.paused else self.base

    @property
    def held(self) -> tuple[int, ...]:
        """Bots that are paused or stopped."""
        return self.paused + self.stopped


def strain_of(reading: Reading, targets: Mapping[str, float]) -> tuple[float | None, str]:
    """(worst reading in shares of its target, which it is); None where nothing that is watched is known."""
    worst, name = None, ""
    for key, target in targets.items():
        value: float | None = getattr(reading, key)
        if value is not None and target > 0 and (worst is None or value / target > worst):
            worst, name = value / target, key
    return worst, name


def control(
    state: Throttle, settings: Settings, reading: Reading, subjects: Iterable[Subject], now: float
) -> tuple[Throttle, list[Change]]:
    """The state after this look at the machine, with the steps that were taken (one, at the most).

    `now` is monotonic seconds. A bot that holds something, or is gone, is let go at once whatever the level.
    """
    known = {one.bot_id: one for one in subjects}
    state = _let_go(state, known)
    state = _observe(state, settings, reading, now)
    figures = figures_of(state, settings, reading)
    since = max(state.high_since or 0.0, state.changed_at or 0.0)
    if state.high_since is not None and now - since >= settings.react:
        return _up(state, settings, list(known.values()), now, figures)
    since = max(state.low_since or 0.0, state.changed_at or 0.0)
    if state.low_since is not None and now - since >= settings.recover * state.patience:
        return _down(state, settings, known, now, figures)
    return state, []


def treatments(state: Throttle, settings: Settings, subjects: Iterable[Subject]) -> dict[int, Treatment]:
    """What each bot gets now. The less important a bot, the more it is stretched."""
    level = state.level
    paused, stopped = set(state.paused), set(state.stopped)
    found = {}
    for one in subjects:
        if level == 0 or not one.throttle or one.most == 0 or one.priority >= settings.spare:
            found[one.bot_id] = Treatment()
            continue
        weight = (settings.spare - one.priority) / settings.spare
        stretch = (settings.pace - 1.0) * weight * (0.5 if level == 1 else 1.0)
        found[one.bot_id] = Treatment(
            pace=round(min(1.0 + stretch, max(1.0, one.pace_max)), 2),
            nice=max(1, round(settings.nice * weight)) if min(level, one.most) >= _NICE and settings.nice else 0,
            hold="stop" if one.bot_id in stopped else "pause" if one.bot_id in paused else "",
        )
    return found


def figures_of(state: Throttle, settings: Settings, reading: Reading) -> str:
    """The worst reading and its target: `cpu 97 % (target 90)`."""
    if not state.worst:
        return "nothing is known of the machine"
    value, target = getattr(reading, state.worst), settings.targets[state.worst]
    shown = "unknown" if value is None else f"{value:.3g} {_UNITS[state.worst]}"
    return f"{state.worst.replace('_', ' ')} {shown} (target {target:g})"


def _observe(state: Throttle, settings: Settings, reading: Reading, now: float) -> Throttle:
    raw, worst = strain_of(reading, settings.targets)
    if raw is None:  # the unknown is neither good nor bad news
        return replace(state, strain=None, high_since=None, low_since=None, looked_at=None)
    strain = raw
    if state.strain is not None and state.looked_at is not None:
        passed = max(0.0, now - state.looked_at)
        strain = state.strain + (raw - state.strain) * passed / (passed + settings.react / 2)
    high, low = strain > 1.0, strain < settings.release
    calm = 4 * settings.recover * state.patience
    quiet = state.level == 0 and (state.changed_at is None or now - state.changed_at >= calm)
    return replace(
        state,
        strain=strain,
        worst=worst,
        looked_at=now,
        high_since=(now if state.high_since is None else state.high_since) if high else None,
        low_since=(now if state.low_since is None else state.low_since) if low else None,
        patience=1.0 if quiet and not high else state.patience,
    )


def _let_go(state: Throttle, known: Mapping[int, Subject]) -> Throttle:
    """Without bots that hold something now, that are gone, or that may no longer be throttled."""

    def may(one: Subject, level: int) -> bool:
        return one.flat and one.throttle and one.most >= level

    def stay(ids: tuple[int, ...], level: int) -> tuple[int, ...]:
        torn = {one.group for one in known.values() if one.group and not may(one, level)}
        own = {one.bot_id for one in known.values() if may(one, level) and one.group not in torn}
        return tuple(bot_id for bot_id in ids if bot_id in own)

    paused, stopped = stay(state.paused, _PAUSE), stay(state.stopped, _STOP)
    same = len(paused) == len(state.paused) and len(stopped) == len(state.stopped)
    return state if same else replace(state, paused=paused, stopped=stopped)


def _units(subjects: list[Subject], settings: Settings) -> list[tuple[int, ...]]:
    """Bots that may be held, as groups (or alone), least important first, of equals the last added first."""
    groups: dict[str, list[Subject]] = {}
    for one in subjects:
        groups.setdefault(one.group or f"\0{one.bot_id}", []).append(one)
    free = [
        (max(one.priority for one in members), [one.bot_id for one in members])
        for members in groups.values()
        if all(one.throttle and one.flat and one.most >= _PAUSE for one in members)
        and any(one.running for one in members)
    ]
    return [tuple(ids) for priority, ids in sorted(free, key=lambda one: (one[0], -min(one[1])))
            if priority < settings.spare]  # fmt: skip


def _portion(settings: Settings, among: int) -> int:
    return max(1, round(settings.share * among))


def _up(
    state: Throttle, settings: Settings, subjects: list[Subject], now: float, figures: str
) -> tuple[Throttle, list[Change]]:
    touched = tuple(one.bot_id for one in subjects if one.throttle and one.priority < settings.spare)
    relapse = state.eased_at is not None and now - state.eased_at < 2 * settings.recover * state.patience
    patience = min(MOST_PATIENCE, state.patience * 2) if relapse else state.patience
    eased = None if relapse else state.eased_at  # one relapse counts once
    after = replace(state, changed_at=now, patience=patience, eased_at=eased)
    if not touched or (state.base < _NICE and state.base >= settings.most):
        return state, []
    if state.base < _NICE:
        after = replace(after, base=state.base + 1)
        return after, [Change("up", after.level, "pace" if after.base == 1 else "nice", touched, figures)]
    held = set(state.held)
    units = [unit for unit in _units(subjects, settings) if not held.intersection(unit)]
    if units and settings.most > _NICE:
        among = len(units) + len(state.held)
        taken = tuple(bot_id for unit in units[: _portion(settings, among)] for bot_id in unit)
        after = replace(after, paused=state.paused + taken)
        return after, [Change("up", after.level, "pause", taken, figures)]
    torn = {one.group or one.bot_id for one in subjects if one.most < _STOP}  # a group is stopped as a whole
    free = {one.bot_id for one in subjects if (one.group or one.bot_id) not in torn}
    may_stop = tuple(bot_id for bot_id in state.paused if bot_id in free)
    if may_stop and settings.most > _PAUSE:
        taken = _whole(may_stop[: _portion(settings, len(state.held))], may_stop, subjects)
        after = replace(after, paused=_without(state.paused, taken), stopped=state.stopped + taken)
        return after, [Change("up", after.level, "stop", taken, figures)]
    return state, []


def _down(
    state: Throttle, settings: Settings, known: Mapping[int, Subject], now: float, figures: str
) -> tuple[Throttle, list[Change]]:
    after = replace(state, changed_at=now, eased_at=now)
    subjects = list(known.values())
    if state.stopped:
        taken = _whole(state.stopped[-_portion(settings, len(state.held)) :], state.stopped, subjects)
        after = replace(after, stopped=_without(state.stopped, taken), paused=state.paused + taken)
        return after, [Change("down", after.level, "stop", taken, figures)]
    if state.paused:
        among = sum(one.throttle and one.priority < settings.spare for one in subjects)
        taken = _whole(state.paused[-_portion(settings, among) :], state.paused, subjects)
        after = replace(after, paused=_without(state.paused, taken))
        return after, [Change("down", after.level, "pause", taken, figures)]
    if state.base:
        touched = tuple(one.bot_id for one in subjects if one.throttle and one.priority < settings.spare)
        after = replace(after, base=state.base - 1)
        return after, [Change("down", after.level, "nice" if state.base == _NICE else "pace", touched, figures)]
    return state, []


def _whole(chosen: tuple[int, ...], among: tuple[int, ...], subjects: list[Subject]) -> tuple[int, ...]:
    """The chosen ones with the rest of their groups."""
    group_of = {one.bot_id: one.group for one in subjects}
    groups = {group_of.get(bot_id) for bot_id in chosen} - {None, ""}
    return tuple(one for one in among if one in chosen or group_of.get(one) in groups)


def _without(ids: tuple[int, ...], taken: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(one for one in ids if one not in taken)
