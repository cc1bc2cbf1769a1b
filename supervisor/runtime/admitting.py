"""The queue before a start: the most important first, as many at once as the machine bears."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Final

from supervisor.policy import events
from supervisor.policy.admission import Gate, Means, quota
from supervisor.policy.instructions import RecordIntent
from supervisor.policy.states import Cause, State
from supervisor.runtime import clock
from supervisor.runtime.registry import Record, Registry

_LOOK: Final = 0.005  # seconds between two looks while somebody waits
_LOOKED_AT: Final = 64  # of those under way, the oldest so many are looked at: they arrive about in their order
_SWEEP: Final = 0.1  # seconds between two looks at all of them, and at all that wait
_LOOK_LATER: Final = 0.1  # while nothing may start anyway
_BATCH: Final = 4  # a commit for each start alone would cost more than the wait: a part of the window at a time


class Admitting:
    """Holds intents back until there is room; a bot that is no longer wanted leaves the queue unrecorded."""

    def __init__(
        self,
        registry: Registry,
        state_of: Callable[[Record], State],
        cause_of: Callable[[Record], Cause | None],
        means: Callable[[], Means],
        post: Callable[[events.Event], None],
    ) -> None:
        self._registry = registry
        self._state_of = state_of
        self._cause_of = cause_of
        self._means = means
        self._post = post
        self.start: Callable[[Record, RecordIntent], None] = lambda record, instruction: None
        self.gate = Gate()
        self.holds = ""  # why some wait
        self._numbers = itertools.count()
        self._queue: list[tuple[int, int, RecordIntent]] = []
        self._names: set[int] = set()  # bots in the queue
        self._under_way: dict[int, int] = {}  # bot -> epoch
        self._swept = float("-inf")
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None

    def reason(self, bot_id: int) -> str:
        """Why this bot waits to be let in; empty where it does not."""
        return f"waiting to start: {self.holds}" if bot_id in self._names and self.holds else ""

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    def ask(self, instruction: RecordIntent) -> None:
        """Somebody wants to start. Those of one turn of the loop are ordered before the first is let in."""
        self._names.add(instruction.bot_id)
        heapq.heappush(self._queue, (-instruction.priority, next(self._numbers), instruction))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._timer = None
        now = clock.now()
        whole = now >= self._swept + _SWEEP
        if whole:
            self._swept = now
            self._drop_unwanted()
        self._settle(now, len(self._under_way) if whole else _LOOKED_AT)
        means = self._means()
        self.gate = self.gate.lagging(means.lag, now)
        waiting, under_way = len(self._queue), len(self._under_way)
        allowed, self.holds = quota(self.gate, means, waiting=waiting, under_way=under_way, now=now)
        if allowed < min(waiting, int(self.gate.window) // _BATCH) and under_way > allowed:
            allowed = 0
        for _ in range(allowed):
            _, _, instruction = heapq.heappop(self._queue)
            self._names.discard(instruction.bot_id)
            record = self._wanted(instruction)
            if record is None:
                self._refuse(instruction)
                continue
            self._under_way[record.bot_id] = instruction.epoch
            self.start(record, instruction)
        if self._queue:
            later = _LOOK if self._under_way else _LOOK_LATER
            self._timer = asyncio.get_running_loop().call_later(later, self._look)

    def _settle(self, now: float, most: int) -> None:
        """Who came up, and whose process could not be made; of the `most` that are longest under way."""
        arrived, failed = 0, False
        for bot_id, epoch in list(itertools.islice(self._under_way.items(), most)):
            record = self._registry.by_id.get(bot_id)
            run = record.run if record is not None else None
            silent = run is not None and run.epoch == epoch and not run.ended and not run.beat_at
            if record is not None and silent and self._state_of(record) in (State.STARTING, State.STOPPING):
                continue
            del self._under_way[bot_id]
            if run is not None and run.beat_at:
                arrived += 1
            elif record is not None and self._state_of(record) is State.BACKOFF:
                failed |= self._cause_of(record) is Cause.LAUNCH
        self.gate = self.gate.arrived(arrived)
        if failed:  # many that fail together are one failure of the machine
            self.gate = self.gate.failed(now)

    def _drop_unwanted(self) -> None:
        gone = [one for one in self._queue if self._wanted(one[2]) is None]
        if not gone:
            return
        numbers = {number for _, number, _ in gone}
        self._queue = [one for one in self._queue if one[1] not in numbers]
        heapq.heapify(self._queue)
        for _, _, instruction in gone:
            self._names.discard(instruction.bot_id)
            self._refuse(instruction)

    def _wanted(self, instruction: RecordIntent) -> Record | None:
        """The bot that is to start; None when it was told to stop or was removed meanwhile."""
        record = self._registry.by_id.get(instruction.bot_id)
        return None if record is None or self._state_of(record) is State.STOPPING else record

    def _refuse(self, instruction: RecordIntent) -> None:
        cause = instruction.cause_id
        self._post(events.RecordFailed(instruction.bot_id, instruction.epoch, "no longer wanted", cause_id=cause))
