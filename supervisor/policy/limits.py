"""What one bot may use: memory, CPU, open files; and what is done about one that uses more.

First a warning, then a fresh run as soon as the bot is flat, and for memory, in the end, whatever it holds:
what it would take from the others weighs more, and its stops stand at the broker. A bot that a fresh run does
not cure is put in quarantine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

HOUR: Final = 3600.0
_FILES: Final = 0.9

Step = Literal["warn", "ease", "restart", "kill", "quarantine"]


@dataclass(frozen=True, slots=True)
class Allowance:
    """Bytes of memory, percent of one core, descriptors; 0: no limit. Times in seconds."""

    memory: int = 0
    memory_seconds: float = 30.0
    cpu: float = 0.0
    cpu_seconds: float = 60.0
    open_files: int = 0
    restarts: int = 3  # limit restarts in an hour; one more is quarantine


@dataclass(frozen=True, slots=True)
class Use:
    """What a run uses now; None is unknown. `flat`: it holds nothing."""

    epoch: int
    memory: int | None = None
    cpu: float | None = None
    open_files: int | None = None
    flat: bool = False


@dataclass(frozen=True, slots=True)
class Over:
    """One limit: since when it is exceeded, and what was done about it."""

    since: float | None = None
    done: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Watch:
    """What is remembered of one bot."""

    epoch: int = 0
    memory: Over = Over()
    cpu: Over = Over()
    files: Over = Over()
    restarts: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done, and the figures it is done for."""

    step: Step
    what: Literal["memory", "cpu", "open files"]
    detail: str


def judge(watch: Watch, allowance: Allowance, use: Use, now: float) -> tuple[Watch, list[Verdict]]:
    """What becomes of one bot after a sample. An unknown figure changes nothing.

    Memory over its limit: a warning after `memory_seconds`, a fresh run after twice as long when the bot is flat,
    and after four times as long at once. CPU: a warning and a slower pace, then a fresh run when it is flat.
    Of a run that was given up nothing more is said.
    """
    if use.epoch != watch.epoch:
        watch = Watch(epoch=use.epoch, restarts=watch.restarts)
    watch = replace(watch, restarts=tuple(at for at in watch.restarts if now - at < HOUR))
    if _given_up(watch):
        return watch, []
    found: list[Verdict] = []
    if allowance.memory and use.memory is not None:
        text = f"memory {use.memory / 1e6:.0f} MB, {allowance.memory / 1e6:.0f} allowed"
        plan: list[tuple[float, Step]] = [(1, "warn"), (2, "restart"), (4, "kill")]
        over, step = _step(watch.memory, use.memory > allowance.memory, plan, allowance.memory_seconds, use.flat, now)
        watch = replace(watch, memory=over)
        found += [Verdict(step, "memory", _since(text, over, now))] if step else []
    if allowance.cpu and use.cpu is not None:
        text = f"cpu {use.cpu:.0f} %, {allowance.cpu:g} allowed"
        plan = [(1, "ease"), (2, "restart")]
        over, step = _step(watch.cpu, use.cpu > allowance.cpu, plan, allowance.cpu_seconds, use.flat, now)
        watch = replace(watch, cpu=over)
        found += [Verdict(step, "cpu", _since(text, over, now))] if step else []
    if allowance.open_files and use.open_files is not None:
        high = use.open_files > _FILES * allowance.open_files
        over, step = _step(watch.files, high, [(0, "warn")], 0.0, use.flat, now)
        watch = replace(watch, files=over)
        text = f"{use.open_files} open files, {allowance.open_files} allowed"
        found += [Verdict(step, "open files", text)] if step else []
    return _guard(watch, allowance, found, now)


def _step(
    over: Over, exceeded: bool, plan: list[tuple[float, Step]], unit: float, flat: bool, now: float
) -> tuple[Over, Step | None]:
    """The next step of a plan `[(units of time, step)]`. A restart waits until the bot is flat."""
    if not exceeded:
        return Over(), None
    since = now if over.since is None else over.since
    over = replace(over, since=since)
    for units, step in plan:
        if step in over.done or now - since < units * unit or (step == "restart" and not flat):
            continue
        return replace(over, done=(*over.done, step)), step
    return over, None


def _since(text: str, over: Over, now: float) -> str:
    return text if over.since is None else f"{text}, for {now - over.since:.0f} s"


def _given_up(watch: Watch) -> bool:
    return "kill" in watch.memory.done or "quarantine" in watch.cpu.done


def _guard(watch: Watch, allowance: Allowance, found: list[Verdict], now: float) -> tuple[Watch, list[Verdict]]:
    """Not more than `restarts` fresh runs an hour: then quarantine."""
    ends = [one for one in found if one.step in ("restart", "kill")]
    if not ends:
        return watch, found
    first = ends[0]
    rest = [one for one in found if one not in ends]
    if len(watch.restarts) >= allowance.restarts:
        detail = f"{first.detail}; {len(watch.restarts)} fresh runs in an hour did not help"
        watch = replace(watch, cpu=replace(watch.cpu, done=(*watch.cpu.done, "quarantine")))
        return watch, [*rest, Verdict("quarantine", first.what, detail)]
    # A kill that follows a polite restart of the same run is the same restart.
    again = "restart" in watch.memory.done and first.step == "kill"
    return replace(watch, restarts=watch.restarts if again else (*watch.restarts, now)), [*rest, first]
