"""The supervisor's conversation with the gateways: fences, rosters and questions, each answered by id."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import Any, Final

from protocol.messages import (
    Admit,
    Fence,
    Fenced,
    Figures,
    Message,
    Query,
    QueryResult,
    Roster,
    RosterEntry,
)
from supervisor.errors import GatewayUnavailable
from supervisor.policy.states import State
from supervisor.runtime import clock
from supervisor.runtime.registry import Record, Registry

_QUERY_TIMEOUT: Final = 15.0
_COMING_UP: Final = 5.0
_ON_ITS_WAY: Final = frozenset({State.STARTING, State.BACKOFF, State.ADOPTING})
_LOOK_AGAIN: Final = 0.25  # seconds
_Entry = tuple[int, str, str, str, int, bool]
FenceAnswer = Callable[[Record, Fenced], None]


class Accounts:
    """Speaks to every account's gateway by its record in the registry."""

    def __init__(
        self,
        registry: Registry,
        send: Callable[[Record, Message], bool],
        state_of: Callable[[Record], State],
        fenced: FenceAnswer,
    ) -> None:
        self._registry = registry
        self._send = send
        self._state_of = state_of
        self._fenced = fenced
        self._ids = itertools.count(1)
        self._queries: dict[str, asyncio.Future[QueryResult]] = {}
        self._wanted: dict[int, Fence] = {}  # bot -> the last fence asked for, until it is acknowledged
        self.unremembered: dict[int, Fence] = {}  # fences that are in force and not in the account's ledger
        self._rosters: dict[str, list[_Entry]] = {}
        self._entries: dict[int, _Entry] = {}  # all of them, as they were last looked at
        self._look_again: asyncio.TimerHandle | None = None
        self.figures: dict[str, Figures] = {}
        #: What a gateway must hear before any fence lets somebody trade: what is halted.
        self.first: Callable[[str], list[Query]] = lambda _account: []
        #: Told after each figures of an account that were taken.
        self.figures_taken: Callable[[str], None] = lambda _account: None

    def fence(self, record: Record, epoch: int, alive: bool, cause_id: str) -> None:
        """Ask the account's gateway to fence; asked again at each of its Hellos until it answers."""
        run = record.run
        key = run.public_key if run is not None and alive else ""
        message = Fence(
            id=f"f{next(self._ids)}",
            bot_id=record.bot_id,
            name=record.name,
            epoch=epoch,
            alive=alive,
            magic=record.magic,
            key=key,
            guards=record.config.guards() if record.config is not None and alive else {},
            cause_id=cause_id,
        )
        self._wanted[record.bot_id] = message
        self.unremembered.pop(record.bot_id, None)
        self._to_gateway(record.account, message)

    def admit(self, record: Record, key: str, *, alive: bool) -> None:
        """Tell the gateway the key of somebody who only reads in the bot's name (an analysis), and when it is over."""
        self._to_gateway(record.account, Admit(bot_id=record.bot_id, key=key, alive=alive))

    def gateway_said_hello(self, account: str) -> None:
        """A gateway is (again) there: tell it who may trade, and who is expected."""
        for first in self.first(account):
            self._to_gateway(account, first)
        self._rosters.pop(account, None)
        self.refresh_rosters()
        for bot_id, message in list(self._wanted.items()):
            record = self._registry.by_id.get(bot_id)
            if record is not None and record.account == account:
                self._to_gateway(account, message)
        # A gateway that lost its ledger, or came from a backup, must know the living as well.
        for record in self._registry.by_name.values():
            run = record.run
            if record.account == account and run is not None and not run.ended and record.bot_id not in self._wanted:
                self.fence(record, run.epoch, True, "")

    def answered(self, message: Fenced) -> None:
        """A fence stands (or was refused)."""
        asked = self._wanted.get(message.bot_id)
        record = self._registry.by_id.get(message.bot_id)
        late = self.unremembered.get(message.bot_id)
        if late is not None and late.id == message.id:  # it was in force, and is in the ledger now (or never can be)
            del self.unremembered[message.bot_id]
            if not message.ok and record is not None:
                self._fenced(record, message)
            return
        if asked is None or record is None or asked.id != message.id:
            return
        if message.ok and not message.remembered:
            self.unremembered[message.bot_id] = asked
        del self._wanted[message.bot_id]
        if message.ok:
            record.fenced = (message.epoch, asked.alive)
        self._fenced(record, message)

    def result(self, message: QueryResult) -> None:
        """The answer to a question."""
        future = self._queries.pop(message.id, None)
        if future is not None and not future.done():
            future.set_result(message)

    def took_figures(self, account: str, message: Figures) -> None:
        """The terminal's figures of the account and of its bots."""
        before = self.figures.get(account)
        if message.trouble and not message.account and before is not None:
            message = message.model_copy(update={"account": before.account})  # the last that is known
        self.figures[account] = message
        for figures in message.bots:
            record = self._registry.by_id.get(figures.bot_id)
            if record is not None:
                record.figures = figures
        self.figures_taken(account)

    async def query(self, account: str, what: str, args: dict[str, Any], cause_id: str = "",
                    timeout: float = _QUERY_TIMEOUT) -> Any:  # fmt: skip
        """Ask the account's gateway. Raises GatewayUnavailable with the reason."""
        number = f"q{next(self._ids)}"
        future: asyncio.Future[QueryResult] = asyncio.get_running_loop().create_future()
        self._queries[number] = future
        try:
            await self._coming_up(account)
            if not self._to_gateway(account, Query(id=number, what=what, args=args, cause_id=cause_id)):
                raise GatewayUnavailable(f"the gateway of account {account!r} is not up", hint="stablehand accounts")
            async with asyncio.timeout(timeout):
                answer = await future
        except TimeoutError:
            raise GatewayUnavailable(
                f"the gateway of account {account!r} did not answer within {timeout:g} s"
            ) from None
        finally:
            self._queries.pop(number, None)
        if not answer.ok:
            raise GatewayUnavailable(f"account {account!r}: {answer.error}", code="refused")
        return answer.result

    async def _coming_up(self, account: str) -> None:
        """A gateway that is on its way (a start, a restart) is waited for, within reason."""
        gateway = self._registry.gateways.get(account)
        until = clock.now() + _COMING_UP
        while gateway is not None and clock.now() < until and self._state_of(gateway) in _ON_ITS_WAY:
            if gateway.run is not None and gateway.run.route is not None:
                return
            await asyncio.sleep(0.02)

    def states_changed(self, bots: Iterable[int]) -> None:
        """After each turn of the loop that changed states: send the rosters at once where one of these is told anew.

        What most changes of state mean for a roster is nothing (of two thousand starts, two thousand times
        nothing), and to look at everybody each time would cost the square of their number. Everybody is looked at
        a little later, once for all changes of a quarter of a second.
        """
        if any(self._told_anew(bot_id) for bot_id in bots):
            self.refresh_rosters()
        elif self._look_again is None:
            self._look_again = asyncio.get_running_loop().call_later(_LOOK_AGAIN, self.refresh_rosters)

    def _told_anew(self, bot_id: int) -> bool:
        record = self._registry.by_id.get(bot_id)
        entry = self._entry(record) if record is not None else None
        return entry != self._entries.get(bot_id)

    def _entry(self, record: Record) -> _Entry | None:
        config = record.config
        if config is None:  # a program or a gateway trades nothing
            return None
        expected = record.wanted == "running" and self._state_of(record) not in _NOT_EXPECTED
        return record.bot_id, record.name, config.market, config.timeframe, record.magic, expected

    def refresh_rosters(self) -> None:
        """Send each account's roster where it changed: whom to attribute deals to, whom lockstep waits for."""
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None
        # Plain tuples are compared, and a message is made only where something did change.
        entries: dict[str, list[_Entry]] = {account: [] for account in self._registry.gateways}
        self._entries = {}
        for record in self._registry.by_name.values():
            entry = self._entry(record)
            if entry is None:
                continue
            self._entries[record.bot_id] = entry
            entries.setdefault(record.account, []).append(entry)
        for account, bots in entries.items():
            if self._rosters.get(account) != bots and self._to_gateway(account, self._roster(account, bots)):
                self._rosters[account] = bots

    def _roster(self, account: str, bots: list[_Entry]) -> Roster:
        gateway = self._registry.gateways.get(account)
        config = gateway.account_config if gateway else None
        # A gateway that was adopted has the limits of its start: the file may have changed since.
        return _roster(bots).model_copy(update={"guards": config.guards() if config else None})

    def _to_gateway(self, account: str, message: Message) -> bool:
        gateway = self._registry.gateways.get(account)
        return gateway is not None and self._send(gateway, message)


_NOT_EXPECTED: Final = frozenset({State.FAILED, State.STOPPED, State.PAUSED})


def _roster(entries: list[_Entry]) -> Roster:
    return Roster(
        bots=[
            RosterEntry(bot_id=bot_id, name=name, symbol=symbol, timeframe=timeframe, magic=magic, running=running)
            for bot_id, name, symbol, timeframe, magic, running in entries
        ]
    )
