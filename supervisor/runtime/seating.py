"""`max_running` on the running stable: who has a place, who waits for one."""

from __future__ import annotations

from typing import Final

from supervisor.config import SupervisorConfig
from supervisor.policy.admission import Means
from supervisor.policy.rotation import Capacity, Place, plan
from supervisor.policy.states import Bot, Cause, State, Wanted
from supervisor.runtime import clock
from supervisor.runtime.registry import Record

_HOLDS_A_POSITION: Final = 10  # before every priority


class Seating:
    """Keeps the places. A bot without one is held (`stop`), whether it is wanted now or not."""

    def __init__(self, config: SupervisorConfig) -> None:
        self._max = config.max_running
        self._rotate = config.rotate_minutes * 60.0
        self._patience = config.throttle.recover_seconds
        self._seated: dict[int, float] = {}  # bot -> since when it has its place
        self._waiting: dict[int, float] = {}
        self._leaving: set[int] = set()
        self._least = _HOLDS_A_POSITION  # priority of the least important of those that could give their place back
        self.capacity = Capacity() if self._max == "auto" else Capacity(value=self._max or 0)

    @property
    def on(self) -> bool:
        """Whether places are limited."""
        return self._max is not None

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._waiting)

    @property
    def reason(self) -> str:
        """Why a bot waits, in words."""
        return f"waiting for a place: {self.capacity.value} bots run at the most"

    def holds(self, bot_id: int) -> bool:
        """Whether the bot has no place, or shall give it back."""
        return self.on and (bot_id not in self._seated or bot_id in self._leaving)

    def admit(self, bot: Bot) -> bool:
        """Give a place to one that waited for others and now may start; whether there is one.

        Without a free one only who is more important than somebody seated comes, one at a time: that one goes then.
        """
        if not self.on or bot.kind != "bot":
            return True
        free = self.capacity.value - len(self._seated)
        if free < 0 or (free == 0 and bot.priority <= self._least):
            return False
        self._seated[bot.bot_id] = clock.now()
        self._waiting.pop(bot.bot_id, None)
        return True

    def look(self, bots: list[tuple[Record, Bot, bool]], *, paused: frozenset[int], calm: bool, means: Means) -> None:
        """Plan anew. `bots`: (record, state, flat); `paused`: by the throttle. What that stopped keeps its place:
        another who came for it would take what it was stopped for."""
        now = clock.now()
        known = {bot.bot_id for _, bot, _ in bots}
        for bot_id in (set(self._seated) | set(self._waiting)) - known:
            self._drop(bot_id)
        places = [one for one in (self._place(*each, paused, now) for each in bots) if one]
        seated = sum(one.seated for one in places)
        if self._max == "auto":
            # Those that leave are counted already: each look would take as many again.
            held = sum(one.seated and one.paused and not one.leaving for one in places)
            self.capacity = self.capacity.adapt(
                seated=seated, waiting=len(places) - seated, held=held, calm=calm, room=means.room, now=now,
                patience=self._patience,
            )  # fmt: skip
        self._least = min((one.priority for one in places if one.seated and one.flat), default=_HOLDS_A_POSITION)
        found = plan(places, self.capacity.value, now, self._rotate)
        for bot_id in found.come:
            self._seated[bot_id] = now
            self._waiting.pop(bot_id, None)
        self._leaving.update(found.go)

    def _place(self, record: Record, bot: Bot, flat: bool, paused: frozenset[int], now: float) -> Place | None:
        """The bot's place in the plan; None where it is not wanted."""
        bot_id = bot.bot_id
        at_rest = bot.state in (State.STOPPED, State.FAILED)
        if at_rest and bot_id in self._leaving:
            self._drop(bot_id)  # it has given its place back, and waits from now on
        if at_rest and (bot.wanted is Wanted.STOPPED or not bot.queued):
            self._drop(bot_id)  # stopped by its operator, or ended for good: it asks for none
            return None
        if bot.state is State.BACKOFF and bot.cause is Cause.DEPENDENCY and bot.deadline is None:
            self._drop(bot_id)  # others must be running first: they may need the place
            return None
        if not at_rest and not flat:
            self._leaving.discard(bot_id)  # it got hold of something before it was paused
        if bot_id not in self._seated and not at_rest:
            self._seated[bot_id] = now  # adopted, or started before there was a plan
        seated = bot_id in self._seated
        if not seated:
            self._waiting.setdefault(bot_id, now)
        holds = record.figures is not None and bool(record.figures.volume)
        return Place(
            bot_id=bot_id,
            priority=_HOLDS_A_POSITION if holds else bot.priority,
            seated=seated,
            since=self._seated[bot_id] if seated else self._waiting[bot_id],
            flat=flat and bot.state in (State.RUNNING, State.PAUSED),
            leaving=bot_id in self._leaving,
            paused=bot_id in paused,
        )

    def _drop(self, bot_id: int) -> None:
        self._seated.pop(bot_id, None)
        self._waiting.pop(bot_id, None)
        self._leaving.discard(bot_id)
