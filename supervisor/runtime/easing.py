"""Does to the bots what throttle and places decided: pace, priority at the operating system, pause, stop.

A bot is held in steps, each confirmed: it is asked to pause, which ends its entries; then the gateway is asked
whether its magic holds anything. Only one that is flat stays paused, or is stopped next. Any other is released
at once and left alone for a while: what is unknown is never flat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from protocol.errors import StablehandError
from protocol.messages import Command
from supervisor.policy import events, shares
from supervisor.policy.fleet import AT_REST, Fleet
from supervisor.policy.states import Hold, State
from supervisor.policy.throttle import Treatment
from supervisor.runtime import clock, ospriority
from supervisor.runtime.accounts import Accounts
from supervisor.runtime.bus import Bus
from supervisor.runtime.cgroups import Cgroups
from supervisor.runtime.chronicle import Chronicle
from supervisor.runtime.registry import Record, Registry, Run

_LEAVE_ALONE: Final = 30.0  # seconds after a bot turned out not to be flat
_READY: Final = frozenset({State.RUNNING, State.PAUSED})
_ASK_TIMEOUT: Final = 5.0


@dataclass(slots=True)
class _Given:
    """What was last given to a run; 0 and -1 are unknown: an earlier supervisor may have given anything."""

    token: str
    pace: float = 1.0
    nice: int = 0
    weight: int = 0  # in its control group
    cap: float = -1.0
    memory: float = -1.0  # the limit that its group's bound is made of


class Easing:
    """Brings each bot to its treatment, a step at each call."""

    def __init__(
        self,
        registry: Registry,
        fleet: Fleet,
        bus: Bus,
        accounts: Accounts,
        chronicle: Chronicle,
        cgroups: Cgroups,
        post: Callable[[events.Event], None],
        since: float,
    ) -> None:
        """`since`: when this supervisor began (monotonic); runs that are older were launched by another."""
        self._registry = registry
        self._fleet = fleet
        self._bus = bus
        self._accounts = accounts
        self._chronicle = chronicle
        self._cgroups = cgroups
        self._post = post
        self._since = since
        self._given: dict[int, _Given] = {}
        self._flat: dict[int, int] = {}  # bot -> the epoch whose pause was confirmed flat
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._left_alone: dict[int, float] = {}
        self._sessions: dict[int, int] = {}  # pid -> nice value that its session shall have
        self._lowering: asyncio.Task[None] | None = None

    def is_flat(self, record: Record) -> bool:
        """Whether the terminal says that the bot holds nothing, and the bot too."""
        figures, run = record.figures, record.run
        if figures is None or figures.volume or figures.price:  # a hedged pair sums up to 0, and has a price
            return False
        if run is not None and not run.ended and run.beat is not None and run.beat.volume:
            return False
        return clock.now() >= self._left_alone.get(record.bot_id, 0.0)

    def apply(self, record: Record, given: Treatment, reason: str) -> None:
        """Bring one bot nearer to its treatment; `reason` is shown where it is held."""
        self._set_pace(record, given)
        self._hold(record, given.hold, reason)

    def _set_pace(self, record: Record, given: Treatment) -> None:
        run = record.run
        if run is None or run.ended or not run.pid or self._fleet.bots[record.bot_id].state not in _READY:
            if record.pace != 1.0 and (run is None or run.ended):
                record.pace = 1.0
            return
        known = self._given.get(record.bot_id)
        if known is None or known.token != run.token:
            adopted = run.started < self._since
            known = _Given(run.token, pace=0.0, nice=-1) if adopted else _Given(run.token)
            self._given[record.bot_id] = known
            record.pace = 1.0
        if known.pace != given.pace:
            message = Command(id=f"pace:{run.token}", verb="pace", args={"factor": given.pace})
            if self._bus.send(record, message):
                known.pace = record.pace = given.pace
        if known.nice != given.nice and ospriority.lower(run.pid, given.nice):
            known.nice = given.nice
            self._lower_session(run.pid, given.nice)
        # Between groups a nice value says nothing: there the weights count.
        weight = shares.weight(record.settings.priority, given.nice)
        if known.weight != weight and self._cgroups.weigh(record, weight):
            known.weight = weight
        cap = given.cpu_cap if self.is_flat(record) else 0.0  # what it holds is minded at full speed
        if known.cap != cap and self._cgroups.cap(record, cap):
            self._capped(record, run, known.cap, cap)
            known.cap = cap
        memory = record.config.memory_limit_mb if record.config is not None else 0.0
        if known.memory != memory and self._cgroups.allow(record, memory):
            known.memory = memory

    def _capped(self, record: Record, run: Run, before: float, cap: float) -> None:
        """What is judged of the run by time has to know how slow it was made."""
        if cap and self._cgroups.caps:
            run.cap, run.uncapped_at = cap, None
        elif before < 0 and run.started < self._since and self._cgroups.caps:  # an earlier supervisor may have done it
            run.cap = record.config.cpu_limit_percent if record.config is not None else 0.0
            run.uncapped_at = clock.now()
        elif before > 0:
            run.uncapped_at = clock.now()

    def _lower_session(self, pid: int, nice: int) -> None:
        if not ospriority.autogroups():
            return
        self._sessions[pid] = nice
        if self._lowering is None or self._lowering.done():
            self._lowering = asyncio.get_running_loop().create_task(self._lower_sessions(), name="sessions' priority")

    async def _lower_sessions(self) -> None:
        while self._sessions:
            pid = next(iter(self._sessions))
            nice = self._sessions.pop(pid)
            if not ospriority.lower_session(pid, nice):
                self._sessions.setdefault(pid, nice)
                await asyncio.sleep(ospriority.SESSION_STEP)
            else:
                await asyncio.sleep(0)  # the kernel takes locks for it: not many in one turn of the loop

    def _hold(self, record: Record, hold: Hold, reason: str) -> None:
        bot = self._fleet.bots[record.bot_id]
        if bot.state in _READY and not self.is_flat(record):
            hold = ""  # it trades on, whatever was decided before that was known
        if hold == "":
            if bot.held:
                self._flat.pop(record.bot_id, None)
                self._post(events.HostRelease(record.bot_id, reason=reason))
            return
        if bot.held == hold == "stop":
            return
        if hold == "stop" and bot.state in AT_REST:
            self._post(events.HostStop(record.bot_id, reason=reason))
        elif bot.held != "pause":
            if hold == "pause" or bot.state in _READY:
                self._post(events.HostPause(record.bot_id, reason=reason))
        elif bot.state is State.PAUSED and (hold == "stop" or self._flat.get(record.bot_id) != bot.epoch):
            if record.bot_id in self._asking:
                return
            task = asyncio.get_running_loop().create_task(self._confirm(record, bot.epoch, hold, reason))
            self._asking[record.bot_id] = task

    async def _confirm(self, record: Record, epoch: int, hold: Hold, reason: str) -> None:
        """Its entries are blocked: is it flat? The terminal decides."""
        try:
            found = await self._accounts.query(record.account, "positions", {"magic": record.magic},
                                               timeout=_ASK_TIMEOUT)  # fmt: skip
            mine = [one for one in found if one.get("magic") == record.magic]
            trouble = f"it holds {len(mine)} position{'s' if len(mine) > 1 else ''}" if mine else ""
        except (StablehandError, TypeError, AttributeError) as error:
            trouble = f"its position is unknown: {error}"
        finally:
            self._asking.pop(record.bot_id, None)
        bot = self._fleet.bots.get(record.bot_id)
        if bot is None or bot.epoch != epoch or bot.state is not State.PAUSED or bot.held != "pause":
            return  # another word came meanwhile
        if trouble:
            self._left_alone[record.bot_id] = clock.now() + _LEAVE_ALONE
            self._chronicle.add("info", f"not held: {trouble}", bot=record.name, bot_id=record.bot_id)
            self._post(events.HostRelease(record.bot_id, reason=trouble))
            return
        self._flat[record.bot_id] = epoch
        if hold == "stop":
            self._post(events.HostStop(record.bot_id, reason=reason))

    def forget(self, bot_id: int) -> None:
        """A bot was removed."""
        for known in (self._given, self._flat, self._left_alone):
            known.pop(bot_id, None)
