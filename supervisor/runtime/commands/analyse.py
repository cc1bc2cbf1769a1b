"""analysis: what a bot's strategy says now; a bot that does not run is asked through a process of its own."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Final

from protocol import keys
from protocol.errors import REFUSED, TIMEOUT, StablehandError
from protocol.messages import Command
from supervisor.policy.states import State
from supervisor.runtime.commands.select import select
from supervisor.runtime.registry import Record
from supervisor.runtime.specs import SpecMaker
from supervisor.runtime.stable import Stable
from supervisor.runtime.zap import BUS, KeyDoor

_TIMEOUT: Final = 20.0
_PROCESSES: Final = 4  # at once: who looks at all that do not run must not fill the machine


class Analyses:
    """Runs analyses on demand."""

    def __init__(self, stable: Stable, specs: SpecMaker, door: KeyDoor | None) -> None:
        self._stable = stable
        self._specs = specs
        self._door = door  # on tcp
        self._room = asyncio.Semaphore(_PROCESSES)
        self._under_way: dict[int, asyncio.Task[dict[str, Any]]] = {}  # bot id -> its analysis on demand

    async def analysis(self, stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
        """`{signal, price, explanation, figures, bar_time, at, live}`."""
        record = select(stable, {"bots": [args.get("bot")]})[0]
        if record.program is not None:
            raise StablehandError(f"{record.name} is a program: it has no strategy to analyse with", code=REFUSED)
        live = stable.state(record) in (State.RUNNING, State.PAUSED)
        result = await (self._live(record, cause) if live else self._shared(record))
        return {"name": record.name, **result, "live": live}

    async def _shared(self, record: Record) -> dict[str, Any]:
        """One process for all who ask about this bot meanwhile."""
        task = self._under_way.get(record.bot_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._in_turn(record))
            self._under_way[record.bot_id] = task
            task.add_done_callback(lambda done: self._over(record, done))
        return await asyncio.shield(task)

    def _over(self, record: Record, task: asyncio.Task[dict[str, Any]]) -> None:
        del self._under_way[record.bot_id]
        if not task.cancelled():
            task.exception()  # whoever asked may be gone: then nobody else takes it

    async def _in_turn(self, record: Record) -> dict[str, Any]:
        try:
            async with asyncio.timeout(_TIMEOUT):
                await self._room.acquire()
        except TimeoutError:
            raise StablehandError(f"{record.name}: too many analyses are under way", code=REFUSED,
                                  hint="try again") from None  # fmt: skip
        try:
            return await self._on_demand(record)
        finally:
            self._room.release()

    async def _live(self, record: Record, cause: str) -> dict[str, Any]:
        number = f"a:{secrets.token_hex(8)}"
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._stable.commands_waiting[number] = future
        try:
            if not self._stable.bus.send(record, Command(id=number, verb="analyse", cause_id=cause)):
                raise StablehandError(f"{record.name} cannot be reached now", code=REFUSED)
            return await _answer(future, record)
        finally:
            self._stable.commands_waiting.pop(number, None)

    async def _on_demand(self, record: Record) -> dict[str, Any]:
        token = secrets.token_hex(16)
        pair = None
        if self._door is not None:
            pair = keys.new_pair()
            self._door.admit(pair.public, record.name, BUS)
            self._stable.accounts.admit(record, pair.public, alive=True)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._stable.analyses[token] = future
        launcher = ""
        try:
            launcher, reply = await self._stable.launchers.launch(self._specs.analysis(record, token, pair))
            if not reply.get("ok"):
                raise StablehandError(f"the analysis could not start: {reply.get('error')}", code=REFUSED)
            return await _answer(future, record)
        finally:
            self._stable.analyses.pop(token, None)
            if self._door is not None and pair is not None:
                self._door.forget(pair.public)
                self._stable.accounts.admit(record, pair.public, alive=False)
            if launcher and not (future.done() and not future.cancelled()):
                self._stable.launchers.signal(launcher, token, 9, group=True)


async def _answer(future: asyncio.Future[dict[str, Any]], record: Record) -> dict[str, Any]:
    try:
        async with asyncio.timeout(_TIMEOUT):
            done = await future
    except TimeoutError:
        raise StablehandError(f"{record.name}: no analysis within {_TIMEOUT:g} s", code=TIMEOUT,
                              hint="is the account's gateway up? stablehand accounts") from None  # fmt: skip
    if not done["ok"]:
        raise StablehandError(f"{record.name}: {done['error']}", code=REFUSED)
    return dict(done["result"])
