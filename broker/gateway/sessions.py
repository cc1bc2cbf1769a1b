"""Which runs are attached, and which wait for it: for their fence, or for their subscription to be in force."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from broker.feed import sync_name
from broker.gateway.book import Book
from protocol.codec import encode
from protocol.messages import WIRE, Attach, AttachRefused, Message

#: A run without a market feed (a tool) is answered after so many seconds; a gap shows in the bar numbers anyway.
_SYNC_WAIT: Final = 1.0
_READERS_KEPT: Final = 1_000

Identity = bytes


@dataclass(frozen=True, slots=True)
class Session:
    """One attached run."""

    identity: Identity
    bot_id: int
    epoch: int
    name: str
    symbol: str
    magic: int
    ttl: float
    read_only: bool


@dataclass(frozen=True, slots=True)
class _Waiting:
    identity: Identity
    message: Attach
    since: float


class Sessions:
    """For the service thread. `synced` says whether a run's subscriptions are in force; `read` has the terminal
    thread read what the run is told; `reply` sends a frame.
    """

    def __init__(
        self,
        installation: str,
        book: Book,
        synced: Callable[[str], bool],
        read: Callable[[Identity, Attach], None],
        reply: Callable[[Identity, bytes], None],
    ) -> None:
        self._installation = installation
        self._book = book
        self._synced = synced
        self._read = read
        self._reply = reply
        self._runs: dict[int, Session] = {}  # by bot
        self._by_identity: dict[Identity, Session] = {}
        self._readers: OrderedDict[Identity, Session] = OrderedDict()
        self._waiting: dict[str, _Waiting] = {}  # by the run's `sync_name`: its last Attach
        self.netting = False

    def of(self, identity: Identity) -> Session | None:
        """The run behind a connection."""
        return self._by_identity.get(identity) or self._readers.get(identity)

    def ask(self, identity: Identity, message: Attach) -> None:
        """An Attach: answered now, refused, or kept until it can be answered."""
        reason = self._never(message)
        if reason:
            self._waiting.pop(sync_name(message.token), None)
            self.refuse(identity, reason)
            return
        name = sync_name(message.token)
        before = self._waiting.get(name)
        # One that asks again and again has waited since it asked first.
        since = before.since if before is not None and before.identity == identity else time.monotonic()
        self._waiting[name] = _Waiting(identity, message, since)
        self._try(name)

    def retry(self, *, bot_id: int | None = None, name: str | None = None) -> None:
        """A fence was confirmed, a subscription came in force, or time has passed: look at those who wait."""
        if name is not None:
            names = [name] if name in self._waiting else []
        else:
            names = [
                each for each, waiting in self._waiting.items() if bot_id is None or waiting.message.bot_id == bot_id
            ]
        for each in names:
            self._try(each)

    def next_due(self) -> float | None:
        """When somebody has waited long enough for its subscription (monotonic seconds)."""
        due = [waiting.since + _SYNC_WAIT for waiting in self._waiting.values() if self._fence_stands(waiting)]
        return min(due, default=None)

    def attached(self, identity: Identity, message: Attach) -> Session:
        """The run has its answer: from now on this connection speaks for it."""
        session = Session(
            identity=identity,
            bot_id=message.bot_id,
            epoch=message.epoch,
            name=message.name,
            symbol=message.symbol,
            magic=message.magic,
            ttl=message.order_ttl,
            read_only=message.read_only,
        )
        if message.read_only:
            self._readers[identity] = session
            while len(self._readers) > _READERS_KEPT:
                self._readers.popitem(last=False)
            return session
        self.drop(message.bot_id)
        self._runs[message.bot_id] = session
        self._by_identity[identity] = session
        return session

    def drop(self, bot_id: int, *, keep_epoch: int | None = None) -> None:
        """The bot's run is no longer attached (detached, fenced off), unless it is of `keep_epoch`."""
        session = self._runs.get(bot_id)
        if session is not None and session.epoch != keep_epoch:
            del self._runs[bot_id]
            self._by_identity.pop(session.identity, None)

    def holder(self, symbol: str, bot_id: int) -> str | None:
        """The name of another bot that trades this symbol."""
        for session in self._runs.values():
            if session.symbol == symbol and session.bot_id != bot_id:
                return session.name
        return None

    def overtaken(self, message: Attach) -> bool:
        """Whether the answer to this Attach has changed while the terminal was read."""
        if message.read_only:
            return False
        return bool(self._never(message)) or self._book.may_attach(message.bot_id, message.epoch) != ""

    def refuse(self, identity: Identity, reason: str, *, retry: bool = False) -> None:
        """Answer an Attach with no, or not now."""
        self.say(identity, AttachRefused(reason=reason, retry=retry))

    def say(self, identity: Identity, message: Message) -> None:
        """Send a message to a connection."""
        self._reply(identity, encode(message))

    def _never(self, message: Attach) -> str:
        if not WIRE - 1 <= message.wire <= WIRE:
            return f"wire version {message.wire}; this gateway speaks {WIRE}"
        if message.installation != self._installation:
            return f"installation {message.installation} is not {self._installation}"
        if message.read_only:
            return ""
        reason = self._book.may_attach(message.bot_id, message.epoch)
        if reason:
            return reason
        if self.netting:
            holder = self.holder(message.symbol, message.bot_id)
            if holder is not None:
                return f"{message.symbol} is traded by {holder}: a netting account has one position per symbol"
        return ""

    def _fence_stands(self, waiting: _Waiting) -> bool:
        message = waiting.message
        return message.read_only or self._book.may_attach(message.bot_id, message.epoch) == ""

    def _try(self, name: str) -> None:
        waiting = self._waiting[name]
        reason = self._never(waiting.message)
        if reason:
            del self._waiting[name]
            self.refuse(waiting.identity, reason)
            return
        if not self._fence_stands(waiting):
            return
        late = time.monotonic() - waiting.since >= _SYNC_WAIT
        if waiting.message.read_only or late or self._synced(name):
            del self._waiting[name]
            self._read(waiting.identity, waiting.message)
