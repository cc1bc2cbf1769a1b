"""The orders socket: what runs say, and whom lockstep waits for."""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

import zmq

from broker.client import NOT_ATTACHED
from broker.gateway.book import Book
from broker.gateway.hub import Hub
from broker.gateway.lockstep import Lockstep, Turn
from broker.gateway.memory import Pending
from broker.gateway.netting import nets
from broker.gateway.orders import Orders
from broker.gateway.reading import ReadFailed, View, attached_frame
from broker.gateway.sessions import Identity, Sessions
from broker.gateway.sockets import Sockets
from broker.gateway.terminal_side import TerminalSide
from broker.paper.terminal import Step
from protocol.codec import decode, encode
from protocol.errors import BadFrame
from protocol.messages import Admit, Attach, BarDone, Call, CallResult, Detach, Fence, Order, OrderQuery, RosterEntry
from protocol.seldom import Seldom
from protocol.spec import RunSpec
from store.database import Database

_BURST: Final = 200  # frames read in one go before the other sockets get their turn

log = logging.getLogger("stablehand.gateway")


class FrontDoor:
    """For the service thread: sessions, orders, lockstep and the market feed, wired to the terminal side."""

    def __init__(
        self, spec: RunSpec, boot: str, book: Book, ledger: Database, side: TerminalSide, sockets: Sockets
    ) -> None:
        self._boot = boot
        self._book = book
        self._side = side
        self._sockets = sockets
        most_ms = 0 if side.terminal.lockstep or spec.account is None else spec.account.candle_spread_ms
        self.hub = Hub(sockets.market, boot, most_ms / 1000)
        self.lockstep = Lockstep() if side.terminal.lockstep else None
        self._may_complain = Seldom()
        self._held: dict[str, Pending] = {}  # lockstep: orders that wait for their round
        self.sessions = Sessions(spec.installation, book, self.hub.synced, self._read_for, sockets.reply)
        account = side.terminal.account_info()
        self.sessions.netting = account is not None and nets(account)
        self.orders = Orders(book, ledger, self._hand_over, sockets.reply)
        side.on_step = self._stepped
        side.on_round = self._round_done
        side.on_answer = self.orders.done
        side.on_resolved = self.orders.resolved

    # --- lockstep --------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Have the terminal do what comes next, if anything does."""
        if self.lockstep is None or self._side.ended or self._book.closing:
            return
        turn, orders = self.lockstep.next()
        if turn is Turn.STEP:
            self._side.step()
        elif turn is Turn.EXECUTE:
            self._side.round([self._held.pop(order.id) for order in orders])

    def roster(self, bots: list[RosterEntry]) -> None:
        """Whom lockstep waits for."""
        if self.lockstep:
            self._drop(self.lockstep.roster(bots), "this bot is not expected to trade any more")
            self.turn()

    def barred(self, fence: Fence) -> None:
        """A fence shuts older epochs out: their runs are not attached any more, their orders are dropped."""
        if self._sockets.gatekeeper:
            self._sockets.gatekeeper.fence(fence.bot_id, fence.key, alive=fence.alive)
        self.sessions.drop(fence.bot_id, keep_epoch=fence.epoch if fence.alive else None)
        if self.lockstep:
            dropped = self.lockstep.fenced(fence.bot_id, fence.epoch, fence.alive)
            self._drop(dropped, f"fenced off: epoch {fence.epoch} of this bot is known now")
            self.turn()
        self.sessions.retry(bot_id=fence.bot_id)

    def admit(self, message: Admit) -> None:
        """A reader may come in, or has gone."""
        if self._sockets.gatekeeper:
            self._sockets.gatekeeper.admit(message.bot_id, message.key, alive=message.alive)

    def leave(self) -> None:
        """The gateway ends: what is held for a round is refused, except closes, which are executed."""
        held, self._held = list(self._held.values()), {}
        entries = [one.order for one in held if one.order.action != "close"]
        self.orders.drop(entries, "the gateway is leaving: closes only")
        for one in held:
            if one.order.action == "close":
                self._side.order(one)

    def _hand_over(self, pending: Pending) -> None:
        if self.lockstep is None:
            self._side.order(pending)
            return
        self._held[pending.id] = pending
        self.lockstep.order(pending.order)
        self.turn()

    def _stepped(self, step: Step | None) -> None:
        numbers = self.hub.publish(step.time, step.closed, step.missed) if step else {}
        if self.lockstep:
            self.lockstep.stepped(numbers)
            if step:
                self.turn()

    def _round_done(self) -> None:
        if self.lockstep:
            self.lockstep.executed()
            self.turn()

    def _drop(self, orders: list[Order], reason: str) -> None:
        for order in orders:
            self._held.pop(order.id, None)
        self.orders.drop(orders, reason)

    # --- frames ----------------------------------------------------------------------------------------

    def read(self) -> None:
        """Handle what runs have sent. A bad frame is counted and dropped."""
        for _ in range(_BURST):
            try:
                frames = self._sockets.orders.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            try:
                self._handle(frames)
            except BadFrame:
                self._sockets.dropped += 1
            except Exception:
                self._sockets.dropped += 1
                if self._may_complain():  # with its traceback: it is a defect of ours
                    log.exception("a frame of a run could not be handled (%d dropped so far)", self._sockets.dropped)

    def _handle(self, frames: list[zmq.Frame]) -> None:
        identity, frame = frames[0].bytes, frames[-1].bytes
        message = decode(frame)
        speaker = getattr(message, "bot_id", None)
        reading = isinstance(message, Attach) and message.read_only
        if speaker is not None and not self._sockets.speaks_for(frames[-1], speaker, reading=reading):
            self._sockets.dropped += 1
        elif isinstance(message, Order):
            self.orders.order(identity, self.sessions.of(identity), message, frame)
        elif isinstance(message, Call):
            self._call(identity, message)
        elif isinstance(message, BarDone):
            if self.lockstep:
                self.lockstep.bar_done(message.bot_id, message.epoch, message.bar_seq)
                self.turn()
        elif isinstance(message, Attach):
            self.sessions.ask(identity, message)
        elif isinstance(message, OrderQuery):
            self.orders.asked(identity, message)
        elif isinstance(message, Detach):
            self._detach(identity, message)
        else:
            self._sockets.dropped += 1

    def _call(self, identity: Identity, call: Call) -> None:
        if self.sessions.of(identity) is None:
            error = [NOT_ATTACHED, "not attached to this gateway process: attach again"]
            self._sockets.reply(identity, encode(CallResult(id=call.id, error=error)))
        else:
            self._side.call(call, partial(self._sockets.reply, identity))

    def _detach(self, identity: Identity, message: Detach) -> None:
        session = self.sessions.of(identity)
        if session is None or session.epoch != message.epoch or session.read_only:
            return
        self.sessions.drop(message.bot_id)
        if self.lockstep:
            self._drop(self.lockstep.leave(message.bot_id, message.epoch), "the run has detached")
            self.turn()

    def _read_for(self, identity: Identity, message: Attach) -> None:
        self._side.view(message, partial(self._attach, identity, message))

    def _attach(self, identity: Identity, message: Attach, view: View | ReadFailed) -> None:
        # Every step before the read is published by now, and none after it: the number fits the bars.
        if isinstance(view, ReadFailed):
            self.sessions.refuse(identity, str(view), retry=view.retry)
            return
        self.sessions.netting = view.netting  # not known before where the terminal was away
        if self.sessions.overtaken(message):
            self.sessions.ask(identity, message)  # by a fence, or by another bot on a netting account
            return
        self.sessions.attached(identity, message)
        number = self.hub.numbers.get((view.symbol, message.timeframe), 0)
        lockstep = self.lockstep is not None
        frame = attached_frame(view, gateway_boot=self._boot, bar_seq=number, lockstep=lockstep)
        self._sockets.reply(identity, frame)
        if self.lockstep and not message.read_only:
            dropped = self.lockstep.attach(message.bot_id, message.epoch, view.symbol, message.timeframe)
            self._drop(dropped, "the run has attached again")
            self.turn()
