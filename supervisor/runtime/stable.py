"""Everything that commands act on, in one place: the parts of a running supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection

from protocol.endpoints import Endpoints
from protocol.errors import REFUSED, StablehandError
from protocol.programconfig import Settings
from store.database import Database
from store.writer import Writer
from supervisor.config import Config
from supervisor.policy import events
from supervisor.policy.fleet import Fleet
from supervisor.policy.states import Bot, State
from supervisor.runtime import clock
from supervisor.runtime.accounts import Accounts
from supervisor.runtime.bus import Bus
from supervisor.runtime.cgroups import Cgroups
from supervisor.runtime.chronicle import Chronicle
from supervisor.runtime.halts import Halts
from supervisor.runtime.launchers import Launchers
from supervisor.runtime.looplag import LoopLag
from supervisor.runtime.memory import Memory
from supervisor.runtime.ordering import Ordering
from supervisor.runtime.registry import Record, Registry
from supervisor.runtime.remote import Remote
from supervisor.runtime.sampling import Sampling
from supervisor.runtime.zap import KeyDoor

#: So many may wait at once for bots to reach a state; `control` has twice as many requests in progress.
_WAITERS: Final = 500

if TYPE_CHECKING:
    from supervisor.runtime.throttling import Throttling


@dataclass(slots=True)
class Waiter:
    """Somebody who waits until bots have reached a state."""

    reached: Callable[[], bool]
    future: asyncio.Future[bool]  # False: he is to wait no longer
    of_client: bool = False


@dataclass(slots=True)
class Stable:
    """The parts, and the few verbs that several commands share."""

    config: Config
    data_dir: Path
    endpoints: Endpoints
    installation: str
    boot: str
    started: float
    database: Database
    writer: Writer
    memory: Memory
    registry: Registry
    fleet: Fleet
    chronicle: Chronicle
    launchers: Launchers
    sampling: Sampling
    post: Callable[[events.Event], None]
    leave: Callable[[str], None]  # "stop" or "handover"
    decided: Callable[[], bool]  # whether every posted event has been decided
    door: KeyDoor | None = None  # on tcp, and with control_bind: who may connect
    remote: Remote | None = None  # with control_bind
    cut_subscribers: Callable[[], None] = lambda: None  # of events, who have shown a key
    server_key: str = ""  # public key of the secured sockets
    accounts: Accounts = field(init=False)
    bus: Bus = field(init=False)
    throttling: Throttling = field(init=False)
    cgroups: Cgroups = field(init=False)
    halts: Halts = field(init=False)
    ordering: Ordering = field(init=False)
    waiters: list[Waiter] = field(default_factory=list)
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)  # one change of configuration at a time
    loop_lag: float = 0.0
    lag: LoopLag = field(default_factory=LoopLag)
    analyses: dict[str, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    commands_waiting: dict[str, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    bad_frames: int = 0
    leaving: str = ""

    def bot(self, record: Record) -> Bot:
        """The pure state of a record."""
        return self.fleet.bots[record.bot_id]

    def knows(self, record: Record) -> bool:
        """Whether it has not been removed; of one that has, there is neither `bot` nor `state`."""
        return record.bot_id in self.fleet.bots

    def state(self, record: Record) -> State:
        """The record's state."""
        return self.fleet.bots[record.bot_id].state

    async def commit(self, write: Callable[[Connection], Any]) -> Any:
        """Write to the store and wait until it is durable. Raises StoreError."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def done(result: Any) -> None:
            loop.call_soon_threadsafe(_settle, future, result)

        self.writer.submit(write, done)
        return await future

    async def read(self, query: Callable[[Connection], Any]) -> Any:
        """Read from the store, off the loop's thread."""

        def run() -> Any:
            with self.database.read() as connection:
                return query(connection)

        return await asyncio.to_thread(run)

    async def settle(self) -> None:
        """Let everything that was posted so far be decided."""
        while not self.decided():
            await asyncio.sleep(0)

    async def wait_until(self, reached: Callable[[], bool], seconds: float, *, of_client: bool = False) -> bool:
        """Wait until `reached()` holds after some event; False when the time is over.

        `of_client`: for one who may have gone meanwhile; where too many wait so, the one who waits longest is let go.
        """
        if reached():
            return True
        if of_client:
            self.make_room_to_wait()
        waiter = Waiter(reached, asyncio.get_running_loop().create_future(), of_client)
        self.waiters.append(waiter)
        try:
            async with asyncio.timeout(seconds):
                return await waiter.future or reached()
        except TimeoutError:
            return reached()
        finally:
            self.waiters.remove(waiter)

    def refuse_while_leaving(self) -> None:
        """Raises StablehandError(refused) once this supervisor leaves: what it would begin, nobody would end."""
        if self.leaving:
            raise StablehandError("the supervisor is leaving", code=REFUSED)

    def make_room_to_wait(self) -> None:
        """Before a client waits: nobody says whether those who wait are still there, so the longest waits no more."""
        asking = [one for one in self.waiters if one.of_client and not one.future.done()]
        for waiter in asking[: max(0, len(asking) + 1 - _WAITERS)]:
            waiter.future.set_result(False)

    def wake_waiters(self) -> None:
        """Something has changed: look who has what he waits for."""
        for waiter in self.waiters:
            if waiter.future.done():
                continue
            try:
                if waiter.reached():
                    waiter.future.set_result(True)
            except Exception as error:  # a defect in what one waits for is his: the others are woken, the loop goes on
                waiter.future.set_exception(error)

    def not_remembered(self) -> str:
        """Why the store, or a ledger, refuses and what waits for it, in one line; empty while it takes everything."""
        why = self.memory.failing or self.chronicle.failing
        events = self.chronicle.waiting if why else 0
        fences = self.accounts.unremembered.values()
        parts = [self.memory.text(), f"{events} events" if events else ""]
        if fences:
            why = why or "a ledger cannot be written"
            parts.append(f"fences of {', '.join(sorted(one.name for one in fences)[:5])}")
        what = ", ".join(part for part in parts if part)
        return f"{why}; waiting: {what}" if what else why

    def uptime(self) -> float:
        """Seconds since this supervisor started."""
        return clock.now() - self.started

    def everyone(self, without: Iterable[str] = ()) -> list[Settings]:
        """Configurations of all bots and programs but those, in the order in which they became known."""
        skip = set(without)
        records = sorted(self.registry.by_name.values(), key=lambda one: one.bot_id)
        return [one.settings for one in records if one.name not in skip]


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
