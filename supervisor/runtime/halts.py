"""What is halted: the supervisor's own memory, and what each gateway says that it enforces.

The stricter of both holds. What a gateway latched (a guard, the file HALT, the control socket) is taken over
into the store; what the store has and a gateway does not is told to it; lifting needs both.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from sqlalchemy import Connection

from protocol.errors import NOT_REMEMBERED, Refused, StablehandError
from protocol.halts import ALL, FLAT, HaltState
from protocol.messages import Query
from store import halts as halt_table
from store.errors import StoreError
from store.halts import supervisor_halts
from supervisor.runtime import clock
from supervisor.runtime.accounts import Accounts
from supervisor.runtime.chronicle import Chronicle
from supervisor.runtime.registry import Record, Registry

_PATIENCE: Final = 3.0  # seconds that a gateway may take to answer; the command line waits longer
_RETRY: Final = 1.0
_TOLD: Final = {"scope", "reason", "who", "at", "rule", "until", "flatten"}  # what a gateway is told of a halt

Commit = Callable[[Callable[[Connection], Any]], Awaitable[Any]]

log = logging.getLogger("stablehand")


class Halts:
    """The halts of all accounts. `standing`: what the store has."""

    def __init__(
        self, standing: list[HaltState], registry: Registry, accounts: Accounts, chronicle: Chronicle, commit: Commit
    ) -> None:
        self._own = {halt.key: halt for halt in standing}
        self._registry = registry
        self._accounts = accounts
        self._chronicle = chronicle
        self._commit = commit
        self._reported: dict[str, dict[str, HaltState]] = {}  # account -> what its gateway enforces
        self._lifting: set[str] = set()
        self._anew: dict[str, HaltState] = {}  # halted while they were being lifted
        self._unwritten: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.changed: Callable[[], None] = lambda: None
        accounts.first = self._first

    # --- what is ---------------------------------------------------------------------------------------

    def everything(self) -> list[HaltState]:
        """Every halt once, oldest first; as a gateway tells it, where one does."""
        found = dict(self._own)
        for reported in self._reported.values():
            for key, halt in reported.items():
                known = found.get(key)
                if known is None or known.flatten <= halt.flatten:
                    found[key] = halt
        return sorted(found.values(), key=lambda halt: halt.at)

    def lines(self) -> list[str]:
        """Every halt, for a person."""
        return [
            halt.line() + ("" if halt.remembered and halt.key not in self._unwritten else " [in force, NOT remembered]")
            for halt in self.everything()
        ]

    def of_account(self, account: str) -> list[dict[str, Any]]:
        """The halts that concern an account or one of its bots; `confirmed`: its gateway enforces it."""
        reported = self._reported.get(account, {})
        found = {key: halt for key, halt in self._own.items() if account in self.accounts_of(halt.scope)} | reported
        return [
            {**halt.model_dump(), "key": key, "text": halt.line(), "confirmed": key in reported}
            for key, halt in found.items()
        ]

    def why(self, record: Record) -> str:
        """Why a bot may not enter; empty when it may, and for a program, which enters nothing."""
        if record.program is not None:
            return ""
        for halt in (*self._own.values(), *self._reported.get(record.account, {}).values()):
            if halt.covers(record.account, record.name):
                return halt.line()
        return ""

    def accounts_of(self, scope: str) -> list[str]:
        """Accounts that a scope touches."""
        kind, _, name = scope.partition(":")
        if kind == ALL:
            return list(self._registry.gateways)
        if kind == "account":
            return [name] if name in self._registry.gateways else []
        record = self._registry.by_name.get(name)
        return [record.account] if record else []

    def flat(self, key: str) -> bool:
        """Whether every account of the halt is confirmed flat."""
        halt = self._own.get(key)
        accounts = self.accounts_of(halt.scope) if halt else []
        told = [self._reported.get(account, {}).get(key) for account in accounts]
        return all(one is not None and one.progress == FLAT for one in told)

    # --- halt --------------------------------------------------------------------------------------------

    async def halt(self, wanted: HaltState, cause: str) -> dict[str, Any]:
        """Into force at the gateways first, then remembered; what became of both."""
        known = self._own.get(wanted.key)
        halt = wanted if known is None else known.model_copy(update={"flatten": known.flatten or wanted.flatten})
        self._own[halt.key] = halt
        if halt.key in self._lifting:
            self._anew[halt.key] = halt
        names = self.accounts_of(halt.scope)
        asked = asyncio.gather(*(self._tell(name, halt, cause) for name in names))
        self._chronicle.add("halt", self._text(halt), bot=self._bot(halt), cause_id=cause, data=halt.model_dump())
        answer: dict[str, Any] = {"key": halt.key, "halt": halt.model_dump(), "remembered": True}
        try:
            await self._commit(lambda conn: halt_table.remember(supervisor_halts, conn, halt))
        except StoreError as error:
            answer |= {"remembered": False, "warning": f"in force, NOT remembered: {error.message}"}
            self._write_later(halt.key)
        answer["accounts"] = dict(zip(names, await asked, strict=True))
        self.changed()
        return answer

    def _first(self, account: str) -> list[Query]:
        """What a gateway that has just said Hello is told before anything else: it may have lost its ledger."""
        return [
            Query(id=f"halt:{halt.key}", what="halt", args=halt.model_dump(include=_TOLD))
            for halt in self._own.values()
            if account in self.accounts_of(halt.scope) and halt.key not in self._lifting
        ]

    async def _tell(self, account: str, halt: HaltState, cause: str) -> dict[str, Any]:
        args = halt.model_dump(include=_TOLD)
        try:
            async with asyncio.timeout(_PATIENCE):  # also for one that is just coming up
                result: dict[str, Any] = await self._accounts.query(account, "halt", args, cause, timeout=_PATIENCE)
        except TimeoutError:
            return {"in_force": False, "reason": f"the gateway of account {account!r} did not answer"}
        except StablehandError as error:
            # It is told again as soon as the gateway is heard of; until then it trades nothing, being away.
            return {"in_force": False, "reason": error.message}
        over = bool(result.get("over"))
        return {"in_force": not over, "over": over, "reason": "its time is over",
                "remembered": result["remembered"], "warning": result.get("warning")}  # fmt: skip

    # --- resume-trading ----------------------------------------------------------------------------------

    async def resume(self, scope: str, who: str, cause: str) -> dict[str, Any]:
        """Lift what was latched for this scope, in the store and at every gateway. Raises StablehandError.

        The store first: whatever fails afterwards, the gateway still refuses, and tells the store again.
        """
        keys = [halt.key for halt in self.everything() if halt.scope == scope]
        accounts = self.accounts_of(scope)
        for account in accounts if keys else []:
            run = self._registry.gateways[account].run
            if run is None or run.ended or run.route is None:
                raise Refused(f"lifting a halt needs the gateway of account {account!r}, which is not up",
                              hint="stablehand accounts")  # fmt: skip
        held = [self._own[key] for key in keys if key in self._own]
        self._lifting.update(keys)
        try:
            await self._lift(keys, who)
            for account in accounts if keys else []:
                await self._accounts.query(account, "lift", {"scope": scope, "who": who}, cause, timeout=_PATIENCE)
                known = self._reported.get(account, {})
                self._reported[account] = {key: halt for key, halt in known.items() if key not in keys}
        except StoreError as error:
            raise StablehandError(f"not lifted, because it could not be remembered: {error.message}",
                                  code=NOT_REMEMBERED) from None  # fmt: skip
        except StablehandError as error:
            self._anew |= {halt.key: halt for halt in held}
            raise Refused(f"still halted: {error.message}", hint=error.hint) from None
        finally:
            self._lifting.difference_update(keys)
            again = [self._anew.pop(key) for key in keys if key in self._anew]
            for halt in again:
                await self.halt(halt, cause)
        lifted = [key for key in keys if key not in {halt.key for halt in again}]
        for key in lifted:
            self._chronicle.add("resume-trading", f"lifted: {key} (by {who})", cause_id=cause, data={"key": key})
        self.changed()
        return {"lifted": lifted, "still": [halt.line() for halt in self.everything()]}

    async def _lift(self, keys: list[str], who: str) -> None:
        await self._commit(lambda conn: halt_table.lift(supervisor_halts, conn, keys, who, clock.wall()))
        for key in keys:
            self._own.pop(key, None)
            self._unwritten.discard(key)

    # --- what a gateway says -----------------------------------------------------------------------------

    def reported(self, account: str, halts: list[HaltState]) -> None:
        """A gateway tells every halt that it enforces."""
        before, now = self._reported.get(account, {}), {halt.key: halt for halt in halts}
        self._reported[account] = now
        for key, halt in now.items():
            if key not in self._own and key not in self._lifting:
                self._take_over(account, halt)
            if halt.progress == FLAT and (key not in before or before[key].progress != FLAT):
                self._chronicle.add("halt", f"account {account}: confirmed flat ({halt.scope})", bot=self._bot(halt),
                                    data=halt.model_dump())  # fmt: skip
        for key, halt in list(self._own.items()):
            if key in now and halt.flatten <= now[key].flatten:
                continue
            if key in self._lifting or account not in self.accounts_of(halt.scope):
                continue
            self._later(self._told(account, halt))
        self.changed()

    def _take_over(self, account: str, halt: HaltState) -> None:
        self._own[halt.key] = halt
        self._write_later(halt.key, at_once=True)
        data = {**halt.model_dump(), "account": account}
        self._chronicle.add("alert", self._text(halt), bot=self._bot(halt), data=data)
        for other in self.accounts_of(halt.scope):
            if other != account:
                self._later(self._told(other, halt))

    def _over(self, halt: HaltState) -> None:
        """One that ends by itself has ended."""
        if self._own.pop(halt.key, None) is None:
            return
        self._chronicle.add("resume-trading", f"over: {halt.line()}", bot=self._bot(halt), data={"key": halt.key})

        async def forget() -> None:
            try:
                await self._lift([halt.key], "its time is over")
            except StoreError as error:
                log.warning("%s is over; the store still has it: %s", halt.key, error.message)

        self._later(forget())

    async def _told(self, account: str, halt: HaltState) -> None:
        answer = await self._tell(account, halt, "")
        if answer.get("over"):
            self._over(halt)
        elif not answer["in_force"]:
            log.warning("halt %s: %s; told again when the gateway is heard of", halt.key, answer["reason"])

    # --- memory ------------------------------------------------------------------------------------------

    def _write_later(self, key: str, *, at_once: bool = False) -> None:
        """Remember what is in force as soon as the store takes it."""
        self._unwritten.add(key)

        async def write() -> None:
            await asyncio.sleep(0.0 if at_once else _RETRY)
            halt = self._own.get(key)
            if halt is None or key not in self._unwritten:
                return
            try:
                await self._commit(lambda conn: halt_table.remember(supervisor_halts, conn, halt))
                self._unwritten.discard(key)
            except StoreError as error:
                log.error("halt %s is in force, NOT remembered: %s; trying again", key, error.message)
                self._write_later(key)

        self._later(write())

    def _later(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _bot(self, halt: HaltState) -> str | None:
        kind, _, name = halt.scope.partition(":")
        return name if kind == "bot" else None

    def _text(self, halt: HaltState) -> str:
        return f"{halt.line()} (by {halt.who})" + ("; positions are being closed" if halt.flatten else "")
