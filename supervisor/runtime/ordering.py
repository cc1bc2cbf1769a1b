"""Who may start now, and who is restarted with whom: the policy's groups over the living registry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from protocol.programconfig import GroupConfig
from supervisor.policy import events
from supervisor.policy.fleet import AT_REST, Fleet
from supervisor.policy.groups import Group, affected, blockers, failed, start_order
from supervisor.policy.states import Bot, Cause, State
from supervisor.runtime.registry import Record, Registry


@dataclass(frozen=True, slots=True)
class _Known:
    """`after` and groups by ids, as the configuration has them now."""

    after: dict[int, tuple[int, ...]]
    groups: dict[int, Group]  # member -> its group


class Ordering:
    """Holds starts until those that they wait for are running."""

    def __init__(
        self,
        registry: Registry,
        fleet: Fleet,
        groups: Callable[[], Mapping[str, GroupConfig]],
        post: Callable[[events.Event], None],
    ) -> None:
        self._registry = registry
        self._fleet = fleet
        self._groups = groups
        self._post = post
        self.room: Callable[[Bot], bool] = lambda bot: True  # takes a place for it, where these are limited
        self._known: _Known | None = None
        self._blocked: set[int] = set()

    def changed(self) -> None:
        """Somebody was added, changed or removed: who waits for whom is looked at anew."""
        self._known = None
        if self._blocked:
            asyncio.get_running_loop().call_soon(self.release)

    def hold(self, record: Record, epoch: int, cause_id: str) -> bool:
        """Whether the start must wait; then it is told so, and released when it may begin."""
        waits = self._waits(record.bot_id)
        if not waits:
            return False
        self._blocked.add(record.bot_id)
        names = ", ".join(self._describe(one) for one in waits)
        self._post(events.Blocked(record.bot_id, epoch=epoch, reason=f"waiting for {names}", cause_id=cause_id))
        return True

    def release(self) -> None:
        """After a change: start those that wait for nobody any more."""
        for bot_id in sorted(self._blocked, key=self._importance):
            bot = self._fleet.bots.get(bot_id)
            if bot is None or bot.run == "recording":  # removed; or its Blocked is still to be decided
                self._blocked -= {bot_id} if bot is None else set()
            elif bot.state is not State.BACKOFF or bot.deadline is not None:
                self._blocked.discard(bot_id)
            elif not self._waits(bot_id) and self.room(bot):
                self._blocked.discard(bot_id)
                self._post(events.Unblocked(bot_id))

    def _importance(self, bot_id: int) -> tuple[int, int]:
        bot = self._fleet.bots.get(bot_id)
        return (0 if bot is None else -bot.priority, bot_id)

    def ended(self, before: Bot, after: Bot, cause: Cause) -> None:
        """A run has ended: restart those who are restarted with it."""
        group = self._look().groups.get(before.bot_id)
        if group is None or not failed(before, after, cause):
            return
        for one in affected(before.bot_id, group):
            self._post(events.GroupRestart(one, because=f"{before.name} failed"))

    def _waits(self, bot_id: int) -> list[int]:
        known = self._look()
        return blockers(bot_id, known.after.get(bot_id, ()), known.groups.get(bot_id), self._fleet.bots)

    def _describe(self, bot_id: int) -> str:
        bot = self._fleet.bots[bot_id]
        return f"{bot.name} ({bot.state.value})" if bot.state in AT_REST else bot.name  # the others are on their way

    def _look(self) -> _Known:
        if self._known is None:
            records = {one.name: one for one in self._registry.by_name.values()}
            after = {
                one.bot_id: tuple(records[name].bot_id for name in one.settings.after if name in records)
                for one in records.values()
            }
            groups: dict[int, Group] = {}
            for name, group in self._groups().items():
                members = start_order((one.bot_id for one in records.values() if one.settings.group == name), after)
                groups |= dict.fromkeys(members, Group(name, group.strategy, members))
            self._known = _Known(after, groups)
        return self._known
