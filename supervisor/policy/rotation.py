"""`max_running`: who has one of the places, who waits, and when they change.

Places go by priority; of equals to the one that waits longest, so that all have their turn. Only a bot that
is flat gives its place back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Place:
    """One bot that is wanted. `since`: when it got its place, or when it began to wait (monotonic seconds).

    `leaving`: it was asked to give its place back, and still has it. `paused`: it does nothing with it now.
    """

    bot_id: int
    priority: int
    seated: bool
    since: float
    flat: bool = True
    leaving: bool = False
    paused: bool = False  # by the throttle


@dataclass(frozen=True, slots=True)
class Plan:
    """Who gets a place now, and who shall give his back."""

    come: tuple[int, ...] = ()
    go: tuple[int, ...] = ()


def plan(places: Iterable[Place], capacity: int, now: float, rotate: float = 0.0) -> Plan:
    """Who comes and who goes. `rotate`: seconds after which a place goes to the next of the same priority; 0: never.

    A place is given only once it is empty, so more than `capacity` never run because of a change.
    """
    known = list(places)
    seated = [one for one in known if one.seated]
    queue = sorted((one for one in known if not one.seated), key=lambda one: (-one.priority, one.since, one.bot_id))
    free = capacity - len(seated)
    come = queue[: max(0, free)]
    queue = queue[len(come) :]
    leaving = sum(one.leaving for one in seated)
    # Whom to ask first: the least important, of equals the one that has had its place longest.
    movable = sorted(
        (one for one in seated if one.flat and not one.leaving), key=lambda one: (one.priority, one.since, one.bot_id)
    )
    # Where there are fewer places than before: first those that do nothing with theirs, for whose sake there are fewer.
    go = sorted(movable, key=lambda one: not one.paused)[: max(0, -free - leaving)]
    movable = [one for one in movable if one not in go]
    promised = leaving + len(go) + free  # places that will be empty, and are for the first in the queue
    for waiting in queue[max(0, promised) :]:
        for one in movable:
            due = rotate > 0 and one.priority == waiting.priority and now - one.since >= rotate
            if one.priority < waiting.priority or due:
                go.append(one)
                movable.remove(one)
                break
        else:
            break
    return Plan(tuple(one.bot_id for one in come), tuple(one.bot_id for one in go))


@dataclass(frozen=True, slots=True)
class Capacity:
    """`max_running = "auto"`: so many the machine was seen to bear."""

    value: int = 0
    changed_at: float = 0.0

    def adapt(
        self, *, seated: int, waiting: int, held: int, calm: bool, room: int | None, now: float, patience: float
    ) -> Capacity:
        """The capacity after a look: less when the throttle holds bots, more when all is calm and some wait.

        `room` is how many more the memory bears (None: unknown), `patience` seconds between two increases.
        """
        if self.value == 0:
            return replace(self, value=max(1, seated + room if room is not None else 16), changed_at=now)
        if held:
            fewer = max(1, seated - held)
            return replace(self, value=fewer, changed_at=now) if fewer < self.value else replace(self, changed_at=now)
        if not calm or not waiting or seated < self.value or now - self.changed_at < patience:
            return self
        more = max(1, self.value // 10)
        if room is not None:
            more = min(more, room)
        return replace(self, value=self.value + more, changed_at=now) if more > 0 else self
