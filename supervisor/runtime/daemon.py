"""The supervisor's loop: one queue of events in, instructions out, their results back as events."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from supervisor.policy import events, instructions
from supervisor.policy.fleet import AT_REST
from supervisor.policy.health import deadline_is_a_verdict
from supervisor.policy.states import State
from supervisor.policy.steps import InvalidTransition
from supervisor.runtime import clock
from supervisor.runtime.monitor import Monitor
from supervisor.runtime.perform import Performer
from supervisor.runtime.retention import Retention
from supervisor.runtime.stable import Stable

log = logging.getLogger("stablehand")

_SLICE: Final = 200  # events decided before sockets and timers get a turn
_WAITING_VERDICT: Final = 0.25  # seconds after which a verdict that had to wait is looked at again
_GATEWAY_PATIENCE: Final = 15.0
#: What begins a run, or may; and what changes whether others wait for a bot.
_BEGINNING: Final = (events.WantRunning, events.WantPaused, events.Restart, events.Reconfigured)
_WANTS: Final = (events.WantRunning, events.WantPaused, events.WantStopped)
_LAST_SECONDS: Final = 20.0  # to write what is left, and for launchers and sockets to close


class EventQueue:
    """Takes events from anywhere on the loop, and decides them in order, a slice at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: deque[events.Event] = deque()
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for: float | None = None  # monotonic; how late the loop is when it comes to a deadline
        self.doubtful: Callable[[float], bool] = lambda late: False  # whether deadlines that are verdicts wait
        self._stable: Stable | None = None
        self._performer: Performer | None = None

    def connect(self, stable: Stable, performer: Performer) -> None:
        """From now on events are decided."""
        self._stable, self._performer = stable, performer
        self._soon()

    def post(self, event: events.Event) -> None:
        """Something has happened. What would begin a run is dropped while everything is being stopped."""
        if self._stable is not None and self._stable.leaving == "stop" and isinstance(event, _BEGINNING):
            return
        self._queue.append(event)
        self._soon()

    @property
    def empty(self) -> bool:
        """Whether everything is decided."""
        return not self._queue

    def _soon(self) -> None:
        if not self._scheduled and self._stable is not None:
            self._scheduled = True
            self._loop.call_soon(self._decide)

    def _decide(self) -> None:
        self._scheduled = False
        stable = self._stable
        assert stable is not None
        now = clock.now()
        changed: set[int] = set()
        wanted = False  # whether something else is wanted now, which may let others go on
        due = stable.fleet.due(now)
        late = now - self._armed_for if due and self._armed_for is not None else 0.0
        waits = bool(due) and self.doubtful(late)
        waiting = False
        for bot_id in due:
            if waits and deadline_is_a_verdict(stable.fleet.bots[bot_id]):
                waiting = True  # its Hello may lie in a socket that was not read yet
            elif self._apply(events.Deadline(bot_id), now):
                changed.add(bot_id)
        for _ in range(min(len(self._queue), _SLICE)):
            event = self._queue.popleft()
            wanted |= isinstance(event, _WANTS)
            if self._apply(event, now):
                changed.add(event.bot_id)
        if changed or wanted:
            stable.ordering.release()
        if changed:
            stable.accounts.states_changed(changed)
            stable.wake_waiters()
        self._arm(now + _WAITING_VERDICT if waiting else 0.0)
        if self._queue:
            self._soon()

    def _apply(self, event: events.Event, now: float) -> bool:
        """Decide one event and perform what follows; whether a state changed."""
        assert self._stable is not None and self._performer is not None
        stable = self._stable
        before = stable.fleet.bots.get(event.bot_id)
        try:
            todo = stable.fleet.apply(event, now)
        except InvalidTransition as error:
            # A defect, told with the bot's story; the other bots must not pay for it.
            log.error("%s", error)
            self._stable.chronicle.add("alert", str(error), bot_id=event.bot_id)
            return False
        changed = False
        for instruction in todo:
            self._performer.perform(instruction)
            if isinstance(instruction, instructions.RecordEnd) and before is not None:
                stable.ordering.ended(before, stable.fleet.bots[event.bot_id], instruction.cause)
            changed |= isinstance(instruction, instructions.Note) and instruction.type == "state"
        return changed

    def _arm(self, not_before: float) -> None:
        assert self._stable is not None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed_for = due = self._stable.fleet.next_deadline()
        if due is not None:
            self._armed_for = due = max(due, not_before)
            self._timer = self._loop.call_later(max(0.0, due - clock.now()), self._soon)


class Daemon:
    """A running supervisor: its parts, its side tasks, and how it leaves."""

    def __init__(self, stable: Stable, queue: EventQueue, performer: Performer, monitor: Monitor) -> None:
        self._stable = stable
        self._queue = queue
        self._performer = performer
        self._monitor = monitor
        queue.doubtful = monitor.doubtful
        self._leave = asyncio.Event()
        self._hard = False
        self.side: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}  # tasks beside the daemon's own
        self.leaving: Callable[[float], None] = lambda seconds: None  # told once, with how long it may take

    def leave(self, how: str) -> None:
        """Stop everything and end (`stop`), leave the bots trading and end (`handover`), or become the next image
        of this process (`renew`). `stop` twice: kill."""
        stable = self._stable
        if stable.leaving == "stop" and how == "stop":
            self._hard = True
            for record in list(stable.registry.by_id.values()):
                self._queue.post(events.StandDown(record.bot_id, mode="kill"))
        stable.leaving = stable.leaving or how
        self._leave.set()

    async def run(self) -> None:
        """Until it is told to leave, and until all that it stops has ended."""
        side = [
            asyncio.create_task(self._stable.sampling.run(), name="probe"),
            asyncio.create_task(self._monitor.run(), name="monitor"),
            asyncio.create_task(self._stable.lag.run(), name="lag"),
            asyncio.create_task(Retention(self._stable).run(), name="retention"),
            *(asyncio.create_task(work(), name=name) for name, work in self.side.items()),
            asyncio.create_task(self._stable.throttling.run(), name="places"),
        ]
        for task in side:
            task.add_done_callback(_watched)
        try:
            await self._leave.wait()
            self.leaving(self._patience() + _GATEWAY_PATIENCE + _LAST_SECONDS)
            if self._stable.leaving == "stop":
                await self._stop_everything()
        finally:
            for task in side:
                task.cancel()
            await asyncio.gather(*side, return_exceptions=True)

    async def _stop_everything(self) -> None:
        """Bots first, all at once; gateways when the last bot has ended; launchers when all is reaped."""
        stable = self._stable
        bots = list(stable.registry.by_name.values())
        for record in bots:
            self._queue.post(events.StandDown(record.bot_id))
        await stable.settle()  # those that were stopped already change no state, and would wake nobody
        await stable.wait_until(lambda: self._queue.empty and stable.fleet.at_rest(), self._patience())
        gateways = list(stable.registry.gateways.values())
        for record in gateways:
            self._queue.post(events.StandDown(record.bot_id))
        await stable.settle()
        await stable.wait_until(lambda: self._queue.empty and stable.fleet.at_rest(gateways=True), _GATEWAY_PATIENCE)
        left = [one.name for one in (*bots, *gateways) if stable.state(one) not in AT_REST]
        if left:
            log.error("not ended in time: %s", ", ".join(left))
        await stable.wait_until(lambda: False, 0.0)
        await self._flush()
        await stable.launchers.retire()

    def _patience(self) -> float:
        """Seconds that the bots may take to stop, all at once."""
        bots = self._stable.registry.by_name.values()
        return max((one.settings.stop_timeout_seconds for one in bots), default=0.0) + 10.0

    async def _flush(self, timeout: float = 5.0) -> None:
        until = clock.now() + timeout
        stable = self._stable
        while clock.now() < until and not (
            stable.chronicle.flushed() and stable.memory.flushed() and stable.writer.pending == 0
        ):
            await asyncio.sleep(0.005)
        left = stable.not_remembered()
        if left:
            log.error("left without being remembered: %s", left)


def running(stable: Stable) -> int:
    """How many bots are running or paused."""
    return sum(stable.state(one) in (State.RUNNING, State.PAUSED) for one in stable.registry.by_name.values())


def _watched(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("side task %s ended: %r", task.get_name(), task.exception())
