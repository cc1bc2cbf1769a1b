"""All bots together: one `apply`, one next deadline, the epochs."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import replace
from random import Random

from supervisor.policy.events import Deadline, Event, StandDown
from supervisor.policy.instructions import Instruction
from supervisor.policy.lifecycle import decide
from supervisor.policy.states import Bot, State, StopMode

#: States without a process and without a start under way.
AT_REST = frozenset({State.STOPPED, State.FAILED})


class Fleet:
    """The bots of one supervisor by id. `apply` costs O(log n) for the deadline, the rest is constant."""

    def __init__(self, rng: Random, bots: Iterable[Bot] = ()) -> None:
        self.bots: dict[int, Bot] = {}
        self._rng = rng
        # (deadline, bot id); entries that no longer match the bot's deadline are dropped when they surface.
        self._heap: list[tuple[float, int]] = []
        for bot in bots:
            self.add(bot)

    def add(self, bot: Bot) -> None:
        """Take a bot in. Raises ValueError when the id is taken: ids are never reused."""
        if bot.bot_id in self.bots:
            raise ValueError(f"bot id {bot.bot_id} is taken by {self.bots[bot.bot_id].name}")
        self.bots[bot.bot_id] = bot
        self._push(bot)

    def remove(self, bot_id: int) -> Bot:
        """Let a bot go. Raises ValueError while it is not at rest, KeyError when it is unknown."""
        bot = self.bots[bot_id]
        if bot.state not in AT_REST:
            raise ValueError(f"{bot.name} is {bot.state}; only a bot at rest can be removed")
        return self.bots.pop(bot_id)

    def configure(self, bot_id: int, **changes: object) -> Bot:
        """Other `name`, `limits`, `priority`, or a higher `floor`. Raises ValueError for anything else."""
        if wrong := set(changes) - {"name", "limits", "priority", "floor"}:
            raise ValueError(f"not configuration: {', '.join(sorted(wrong))}")
        bot: Bot = replace(self.bots[bot_id], **changes)  # type: ignore[arg-type]
        if bot.floor < self.bots[bot_id].floor:
            raise ValueError(f"{bot.name}: epochs only rise")
        self.bots[bot_id] = bot
        return bot

    def apply(self, event: Event, now: float) -> list[Instruction]:
        """Decide about one event. News of a bot that was removed gives nothing. Raises InvalidTransition."""
        before = self.bots.get(event.bot_id)
        if before is None:
            return []
        after, instructions = decide(before, event, now, self._rng)
        if after is not before:
            self.bots[event.bot_id] = after
            if after.deadline != before.deadline:
                self._push(after)
        return instructions

    def next_deadline(self) -> float | None:
        """The earliest moment at which a bot is due; None when nothing is timed."""
        self._skip_stale()
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[int]:
        """Bots whose deadline has passed, earliest first. They stay due until their Deadline is applied."""
        found: list[int] = []
        taken: list[tuple[float, int]] = []
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)
            if self._valid(entry) and entry not in taken[-1:]:
                taken.append(entry)
                found.append(entry[1])
        for entry in taken:
            heapq.heappush(self._heap, entry)
        return found

    def tick(self, now: float) -> list[Instruction]:
        """Apply a Deadline to every bot that is due."""
        return [instruction for bot_id in self.due(now) for instruction in self.apply(Deadline(bot_id), now)]

    def stop_all(self, now: float, *, mode: StopMode = "keep", cause_id: str = "") -> list[Instruction]:
        """The supervisor leaves: end every bot's run, all at once. `wanted` stays. Gateways are left alone."""
        ids = [bot.bot_id for bot in self.bots.values() if bot.kind != "gateway"]
        return [i for bot_id in ids for i in self.apply(StandDown(bot_id, mode, cause_id=cause_id), now)]

    def stop_gateways(self, now: float, *, mode: StopMode = "keep", cause_id: str = "") -> list[Instruction]:
        """Likewise for the gateways, which leave last."""
        ids = [bot.bot_id for bot in self.bots.values() if bot.kind == "gateway"]
        return [i for bot_id in ids for i in self.apply(StandDown(bot_id, mode, cause_id=cause_id), now)]

    def next_epoch(self, bot_id: int) -> int:
        """The epoch that the bot's next run would get; only rises."""
        return self.bots[bot_id].next_epoch

    def start_order(self, bot_ids: Iterable[int]) -> list[int]:
        """Highest priority first, then by id: the order in which starts are let in."""
        return sorted(bot_ids, key=lambda bot_id: (-self.bots[bot_id].priority, bot_id))

    def at_rest(self, *, gateways: bool = False) -> bool:
        """Whether no bot or program (or: no gateway) has a process or a start under way."""
        return all(bot.state in AT_REST for bot in self.bots.values() if (bot.kind == "gateway") is gateways)

    def _push(self, bot: Bot) -> None:
        if bot.deadline is not None:
            heapq.heappush(self._heap, (bot.deadline, bot.bot_id))
        if len(self._heap) > 4 * len(self.bots) + 64:
            self._heap = [(b.deadline, b.bot_id) for b in self.bots.values() if b.deadline is not None]
            heapq.heapify(self._heap)

    def _valid(self, entry: tuple[float, int]) -> bool:
        bot = self.bots.get(entry[1])
        return bot is not None and bot.deadline == entry[0]

    def _skip_stale(self) -> None:
        while self._heap and not self._valid(self._heap[0]):
            heapq.heappop(self._heap)
