"""Fences: in force at once, then durable, then acknowledged when nothing of an older epoch is under way.

Where the ledger cannot be written a fence is acknowledged all the same, as in force and NOT remembered: what it
shuts out is shut out, and the epoch that it lets in may close and do nothing else. So much is safe without a memory:
a gateway that starts again without this fence lets nobody but close before a supervisor has fenced anew. It is
written as soon as the ledger takes it, and acknowledged once more; from there on that epoch may enter too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from broker.gateway.book import Book, FenceState
from protocol.messages import Fence, Fenced
from store.ledger import FenceRow, set_fence
from store.writer import Writer


class Fencing:
    """For the service thread. `post` runs a call there; `barred` is told what a fence shuts out (before it is
    durable), `opened` which bot may attach; `in_flight` says whether an older order still runs.
    """

    def __init__(
        self,
        book: Book,
        writer: Writer,
        *,
        post: Callable[..., None],
        send: Callable[[Fenced], None],
        barred: Callable[[Fence], None],
        opened: Callable[[int], None],
        in_flight: Callable[[int, int, bool], bool],
    ) -> None:
        self._book = book
        self._writer = writer
        self._post = post
        self._send = send
        self._barred = barred
        self._opened = opened
        self._in_flight = in_flight
        self._ending: list[tuple[Fence, Fenced]] = []  # durable; an older order is still at the terminal
        self._unremembered: dict[int, Fence] = {}

    def fence(self, message: Fence) -> None:
        """A fence has come: from now on nothing older trades."""
        reason = self._book.fence(_state(message))
        if reason:
            self._send(self._answer(message, ok=False, reason=reason))
            return
        self._unremembered.pop(message.bot_id, None)
        self._barred(message)
        self._write(message, self._durable)

    def look(self) -> None:
        """An order has ended: acknowledge the fences that waited for it."""
        left = []
        for message, answer in self._ending:
            if self._in_flight(message.bot_id, message.epoch, message.alive):
                left.append((message, answer))
            else:
                self._send(answer)
        self._ending = left

    def remember(self) -> None:
        """Try again to write the fences that are in force but not in the ledger."""
        for message in list(self._unremembered.values()):
            self._write(message, self._remembered)

    def _write(self, message: Fence, then: Callable[[Fence, Any], None]) -> None:
        self._writer.submit(
            lambda connection: set_fence(
                connection, message.bot_id, message.epoch, message.alive, message.magic, message.name
            ),
            lambda outcome: self._post(then, message, outcome),
        )

    def _durable(self, message: Fence, outcome: FenceRow | Exception) -> None:
        if isinstance(outcome, Exception):
            # Shutting out is the safe direction: it holds, and is written as soon as the disk allows.
            if message.alive and not self._book.admit_closes(_state(message)):
                return  # a later fence has overtaken it, and answers for itself
            self._unremembered[message.bot_id] = message
            if message.alive:
                self._opened(message.bot_id)
            answer = self._answer(message, ok=True, remembered=False, reason=str(outcome))
        elif outcome.epoch != message.epoch or outcome.alive != message.alive:
            answer = self._answer(message, ok=False, reason=f"the ledger has epoch {outcome.epoch} fenced off")
        else:
            if self._book.confirm(_state(message)) and message.alive:
                self._opened(message.bot_id)
            answer = self._answer(message, ok=True)
        self._ending.append((message, answer))
        self.look()

    def _remembered(self, message: Fence, outcome: FenceRow | Exception) -> None:
        if isinstance(outcome, Exception) or self._unremembered.get(message.bot_id) is not message:
            return
        del self._unremembered[message.bot_id]
        if outcome.epoch == message.epoch and outcome.alive == message.alive:
            self._book.confirm(_state(message))
            self._send(self._answer(message, ok=True))
        else:  # the ledger knows better: this epoch may not even close
            self._book.fence(replace(_state(message), alive=False))
            self._send(self._answer(message, ok=False, reason=f"the ledger has epoch {outcome.epoch} fenced off"))

    def _answer(self, message: Fence, *, ok: bool, remembered: bool = True, reason: str = "") -> Fenced:
        known = self._book.fences.get(message.bot_id)
        return Fenced(
            id=message.id,
            bot_id=message.bot_id,
            epoch=message.epoch,
            ok=ok,
            remembered=remembered,
            highest_epoch=max(message.epoch if ok else 0, known.epoch if known else 0),
            reason=reason,
        )


def _state(message: Fence) -> FenceState:
    return FenceState(message.bot_id, message.epoch, message.alive, message.magic, message.name)
