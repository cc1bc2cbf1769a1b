"""start, stop, restart, pause, resume: they change what is wanted, and answer at once or when it is so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from protocol.errors import INVALID, REFUSED, StablehandError
from store import bots as bot_table
from store.errors import StoreError
from supervisor.policy import events
from supervisor.policy.states import State
from supervisor.runtime.commands.positions import close_positions
from supervisor.runtime.commands.select import select
from supervisor.runtime.registry import Record
from supervisor.runtime.stable import Stable

_ALIVE: Final = frozenset({State.STARTING, State.RUNNING, State.PAUSED, State.BACKOFF, State.ADOPTING})
_LONGEST_WAIT: Final = 86_400.0
_MODES: Final = ("keep", "close", "kill")


async def start(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """Wanted running. A bot that runs (or is on its way) is left alone; one in quarantine gets a clean slate."""
    return await _want(stable, args, cause, "running", _is_up, State.RUNNING, events.WantRunning)


async def pause(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """Wanted paused: alive, watching, not trading."""
    chosen = select(stable, args)
    programs = [one.name for one in chosen if one.program is not None]
    bots = [one for one in chosen if one.program is None]
    answer = await _want(stable, {**args, "_chosen": bots}, cause, "paused", _never, State.PAUSED, events.WantPaused)
    if args.get("bots"):  # with --all it was not meant
        answer["failed"].update(dict.fromkeys(programs, "a program cannot be paused; use stop"))
    return answer


async def resume(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """A paused bot trades again; one that is stopped stays so, and says so."""
    chosen = select(stable, args)
    stopped = [one.name for one in chosen if one.wanted == "stopped"]
    rest = [one for one in chosen if one.wanted != "stopped"]
    answer = await _want(stable, {**args, "_chosen": rest}, cause, "running", _is_up, State.RUNNING, events.WantRunning)
    answer["failed"].update(dict.fromkeys(stopped, "it is stopped, not paused; use start"))
    return answer


async def restart(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """A fresh run of each. One that was stopped is wanted running from now on; with `unless_stopped` it stays so."""
    stable.refuse_while_leaving()
    _patience(args)
    chosen = _free(select(stable, args))
    stopped = [one for one in chosen if one.wanted == "stopped" and args.get("unless_stopped")]
    chosen = [one for one in chosen if one not in stopped]
    overtaken = await _promise(stable, chosen, "running", [one for one in chosen if one.wanted == "stopped"])
    chosen = [one for one in chosen if one.name not in overtaken]
    before = {one.bot_id: stable.bot(one).epoch for one in chosen}
    for record in chosen:
        stable.post(events.Restart(record.bot_id, cause_id=cause))

    def reached(record: Record) -> bool:
        bot = stable.bot(record)
        aim = State.PAUSED if record.wanted == "paused" else State.RUNNING
        return bot.epoch > before[record.bot_id] and bot.state is aim

    already = [one.name for one in stopped]
    answer: dict[str, Any] = {"done": [one.name for one in chosen], "already": already, "failed": overtaken}
    await _wait(stable, args, chosen, reached, answer)
    return answer


async def stop(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """Wanted stopped. It acts first and is remembered as soon as the disk accepts.

    `mode`: `keep` the positions with their stops, `close` them (by the gateway, once the bot is fenced out),
    or `kill` the process at once.
    """
    _patience(args)
    chosen = select(stable, args)
    mode = args.get("mode", "keep")
    if mode not in _MODES:
        raise StablehandError(f"unknown mode {mode!r}", hint=f"known: {', '.join(_MODES)}", code=INVALID)
    closing = [one for one in chosen if one.program is None] if mode == "close" else []
    for record in closing:  # before the message: from here on it enters nothing, however it takes the news
        if stable.bot(record).epoch:
            stable.accounts.fence(record, stable.bot(record).epoch, False, cause)
    already = [
        one.name
        for one in chosen
        if one.wanted == "stopped" and stable.state(one) is State.STOPPED and not one.promised
    ]
    acting = [one for one in chosen if one.name not in already]
    for record in acting:
        record.wanted = "stopped"
        record.stops += 1
        stable.post(events.WantStopped(record.bot_id, mode="kill" if mode == "kill" else "keep", cause_id=cause))
    answer: dict[str, Any] = {"done": [one.name for one in acting], "already": already, "failed": {}}
    try:
        ids = [one.bot_id for one in acting]
        await stable.commit(lambda conn: bot_table.set_wanted(conn, ids, "stopped"))
        for record in acting:
            stable.memory.said_again(record)
    except StoreError as error:
        for record in acting:
            stable.memory.wanted(record)
        answer["warning"] = f"in force, NOT remembered: {error.message}"
    if mode == "close":
        told = await asyncio.gather(*(close_positions(stable, one, cause) for one in closing))
        answer["closed"] = {one.name: text for one, (ok, text) in zip(closing, told, strict=True) if ok}
        answer["failed"] |= {one.name: text for one, (ok, text) in zip(closing, told, strict=True) if not ok}
    await _wait(stable, args, acting, lambda one: stable.state(one) is State.STOPPED, answer)
    return answer


async def _want(
    stable: Stable,
    args: dict[str, Any],
    cause: str,
    wanted: str,
    is_already: Callable[[Stable, Record], bool],
    aim: State,
    event: Callable[..., events.Event],
) -> dict[str, Any]:
    stable.refuse_while_leaving()
    _patience(args)
    chosen: list[Record] = _free(args["_chosen"] if "_chosen" in args else select(stable, args))
    already = [
        one
        for one in chosen
        if one.wanted == wanted and (is_already(stable, one) or stable.state(one) is aim) and not one.promised
    ]
    acting = [one for one in chosen if one not in already]
    overtaken = await _promise(stable, acting, wanted, acting)
    acting = [one for one in acting if one.name not in overtaken]
    for record in acting:
        stable.post(event(record.bot_id, cause_id=cause))
    answer: dict[str, Any] = {
        "done": [one.name for one in acting],
        "already": [one.name for one in already],
        "failed": overtaken,
    }
    chosen = [one for one in chosen if one.name not in overtaken]
    await _wait(stable, args, chosen, lambda one: stable.state(one) is aim, answer)
    return answer


async def _promise(stable: Stable, acting: list[Record], wanted: str, changed: list[Record]) -> dict[str, str]:
    """Remember what is wanted of `changed`, before it is acted on: an unremembered start would be a surprise after a
    reboot. Those of `acting` that were told to stop meanwhile, each with the line that says so: a stop acts at once
    and is written after this, so it is the last word on the disk, and must be the last one here."""
    before = {one.bot_id: one.stops for one in acting}
    for record in changed:
        record.promised += 1
    try:
        if changed:
            ids = [one.bot_id for one in changed]
            await stable.commit(lambda conn: bot_table.set_wanted(conn, ids, wanted))
    finally:
        for record in changed:
            record.promised -= 1
    overtaken = {one.name: "it was told to stop meanwhile" for one in acting if one.stops != before[one.bot_id]}
    for record in changed:
        if record.name in overtaken:
            stable.memory.wanted(record)  # the stop may take long to be written: a remove does that at its end
            continue
        record.wanted = wanted
        stable.memory.said_again(record)
    return overtaken


async def _wait(
    stable: Stable,
    args: dict[str, Any],
    chosen: list[Record],
    reached: Callable[[Record], bool],
    answer: dict[str, Any],
) -> None:
    seconds = _patience(args)
    if seconds is None:
        return

    def settled(record: Record) -> bool:
        if not stable.knows(record):
            return True  # removed meanwhile
        state = stable.state(record)
        return reached(record) or state is State.FAILED or (record.wanted == "stopped" and state is State.STOPPED)

    left = list(chosen)

    def all_settled() -> bool:
        # Asked after every change: those that have settled are looked at again only when no other is left.
        while left and settled(left[-1]):
            left.pop()
        if not left:
            left.extend(one for one in chosen if not settled(one))
        return not left

    await stable.settle()  # what was just asked for may still be waiting to be decided
    await stable.wait_until(all_settled, seconds, of_client=True)
    there = [one for one in chosen if stable.knows(one)]
    answer["reached"] = [one.name for one in there if reached(one)]
    answer["missed"] = {
        one.name: stable.bot(one).reason or f"still {stable.state(one).value}" for one in there if not reached(one)
    } | {one.name: "it was removed" for one in chosen if not stable.knows(one)}


def _patience(args: dict[str, Any]) -> float | None:
    """How long the caller waits; looked at before anything is done."""
    seconds = args.get("wait")
    if seconds is None:
        return None
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds <= _LONGEST_WAIT:
        raise StablehandError(f"wait = {seconds!r}: a number of seconds from 0 to {_LONGEST_WAIT:g}", code=INVALID)
    return float(seconds)


def _free(chosen: list[Record]) -> list[Record]:
    """These, unless one is just being removed."""
    for record in chosen:
        if record.removing:
            raise StablehandError(f"{record.name} is being removed", code=REFUSED)
    return chosen


def _is_up(stable: Stable, record: Record) -> bool:
    return stable.state(record) in _ALIVE


def _never(stable: Stable, record: Record) -> bool:
    return False
