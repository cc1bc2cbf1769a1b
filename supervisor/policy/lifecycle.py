"""`decide`: the one door through which anything happens to a bot."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from supervisor.policy.events import AdoptStarted, Deadline, Event, RunEvent
from supervisor.policy.instructions import Instruction, Note
from supervisor.policy.states import STORY_LENGTH, Bot, State
from supervisor.policy.steps import InvalidTransition
from supervisor.policy.table import TABLE

__all__ = ["TABLE", "InvalidTransition", "decide", "is_stale"]

#: States in which something that was begun is still under way; its command is named in what follows.
_UNDER_WAY = frozenset({State.STARTING, State.STOPPING, State.ADOPTING, State.BACKOFF})


def is_stale(bot: Bot, event: Event) -> bool:
    """Whether the event is of another run than the bot's, or a deadline that was moved meanwhile."""
    return isinstance(event, RunEvent) and event.epoch != bot.epoch and type(event) is not AdoptStarted


def decide(bot: Bot, event: Event, now: float, rng: Random) -> tuple[Bot, list[Instruction]]:
    """What becomes of the bot, and what the runtime shall do about it.

    `now` is monotonic seconds. Stale events, deadlines that are not due and ignored cells give the very same
    bot and no instruction. Each change of state or epoch adds exactly one Note of type `state`. Raises
    InvalidTransition for what cannot happen.
    """
    if is_stale(bot, event):
        return bot, []
    if type(event) is Deadline and (bot.deadline is None or now < bot.deadline):
        return bot, []
    cell = TABLE[bot.state, type(event)]
    if cell.kind == "impossible":
        raise InvalidTransition(bot, event, cell.text)
    if cell.run is None:
        return bot, []
    after, instructions = cell.run(bot, event, now, rng)
    if after is bot and not instructions:
        return bot, []
    cause_id = event.cause_id or bot.cause_id
    if after.state is not bot.state or after.epoch != bot.epoch:
        data = {
            "from": str(bot.state),
            "to": str(after.state),
            "wanted": str(after.wanted),
            "epoch": after.epoch,
            "cause": str(after.cause) if after.cause else "",
        }
        instructions.append(Note(bot.bot_id, "state", after.reason or str(after.state), data))
    if cause_id:
        instructions = [replace(instruction, cause_id=cause_id) for instruction in instructions]
    line = f"{now:.3f} {bot.state} {type(event).__name__} -> {after.state}"
    story = (*bot.story[1 - STORY_LENGTH :], line)
    return replace(after, story=story, cause_id=cause_id if after.state in _UNDER_WAY else ""), instructions
