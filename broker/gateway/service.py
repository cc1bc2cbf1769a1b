"""The gateway's service thread: one loop over all sockets, and what the supervisor says over the bus."""

from __future__ import annotations

import json
import logging
import time
import uuid
from pathlib import Path
from typing import Any, Final

import zmq

from broker.gateway.book import Book, FenceState
from broker.gateway.fencing import Fencing
from broker.gateway.frontdoor import FrontDoor
from broker.gateway.halting import Halting
from broker.gateway.halting_desk import HaltDesk
from broker.gateway.inbox import Inbox
from broker.gateway.servedlink import ServedLink
from broker.gateway.sockets import Sockets
from broker.gateway.terminal_side import TerminalSide
from broker.gateway.terminals import HeldTerminal
from broker.gateway.told import Told
from broker.guards import Limits
from protocol.codec import encode
from protocol.link import HELLO_AGAIN, BusLink
from protocol.messages import (
    Admit,
    Bye,
    Command,
    CommandDone,
    Fence,
    Figures,
    Message,
    Query,
    Ready,
    Roster,
    RosterEntry,
    Unwelcome,
    Welcome,
)
from protocol.process import kernel_boot_id
from protocol.progress import Progress
from protocol.spec import EXIT_OK, EXIT_UNWELCOME, RunSpec
from store.database import Database
from store.ledger import fences_all
from store.writer import Writer

_PULSE: Final = 0.5
_FIGURES: Final = 1.0  # seconds between two Figures, at least
_STOP_PATIENCE: Final = 10.0

log = logging.getLogger("stablehand.gateway")


class Gateway:
    """One account's gateway. `run` serves until a stop is asked for, and gives the exit code.

    It takes over the terminal and the ledger, and closes them. Raises zmq.ZMQError when an address is taken.
    """

    def __init__(
        self, context: zmq.Context[Any], spec: RunSpec, terminal: HeldTerminal, ledger: Database, told: Told
    ) -> None:
        self._spec = spec
        self._terminal = terminal
        self._ledger = ledger
        self.boot = uuid.uuid4().hex[:16]
        self._inbox = Inbox()
        progress = Progress()
        with ledger.read() as connection:
            rows = fences_all(connection).values()
        fences = [FenceState(r.bot_id, r.epoch, r.alive, r.magic, r.name) for r in rows]
        self._book = Book(self.boot, kernel_boot_id(), fences)
        # Magic -> bot. Replaced as a whole, never changed: the terminal thread reads it too.
        self._roster = {fence.magic: _known(fence) for fence in fences if fence.magic}
        self._writer = Writer(ledger)
        self._halting = Halting(
            spec.account_name,
            ledger,
            self._writer,
            Path(spec.data_dir),
            post=self._inbox.post,
            now=lambda: terminal.now,
        )
        self._book.halted = self._halting.why
        self._side = TerminalSide(
            spec, self.boot, terminal, ledger, self._book, progress, self._inbox, lambda: self._roster, self._halting
        )
        self._halting.flatten, self._halting.lifted = self._side.flatten, self._side.lifted
        self._sockets = Sockets(context, spec)
        self._door = FrontDoor(spec, self.boot, self._book, ledger, self._side, self._sockets)
        # One that runs by itself is come to; one of an installation goes to its supervisor.
        self._link: BusLink | ServedLink = (
            ServedLink(context, spec, self._hear, self._hello)
            if "link" in spec.gateway_bind
            else BusLink(context, spec, progress, self._hear, self._hello)
        )
        told.to(self._link.history)
        self._desk = HaltDesk(self._halting, spec.account_name, lambda: {one.name for one in self._roster.values()})
        self._halting.changed = self._tell_halts
        self._fencing = Fencing(
            self._book,
            self._writer,
            post=self._inbox.post,
            send=self._link.send,
            barred=self._barred,
            opened=lambda bot_id: self._door.sessions.retry(bot_id=bot_id),
            in_flight=self._door.orders.in_flight,
        )
        self._door.orders.on_end = self._fencing.look
        self._side.on_pulse = self._pulsed
        self._exit: int | None = None
        self._stop_commands: list[Command] = []
        self._pulsing = False
        self._figures: tuple[float, bytes] = (0.0, b"")  # when, and what was told last
        self._trouble = ""  # that was told with it

    def run(self) -> int:
        """Serve. Returns the exit code."""
        self._side.start()
        self._link.start()
        poller = zmq.Poller()
        for source in (self._sockets.orders, self._sockets.market, self._sockets.control, self._inbox.fileno()):
            if source is not None:
                poller.register(source, zmq.POLLIN)
        sessions = self._door.sessions
        pulse_at = time.monotonic()
        while self._exit is None:
            now = time.monotonic()
            if now >= pulse_at:
                pulse_at = now + _PULSE
                self._pulse()
            due = min(pulse_at, sessions.next_due() or pulse_at)
            ready = dict(poller.poll(max(1, int((due - now) * 1000))))
            if self._inbox.fileno() in ready:
                self._inbox.run()
            if self._sockets.market in ready:
                for name in self._door.hub.read_subscriptions():
                    sessions.retry(name=name)
            if self._sockets.control is not None and self._sockets.control in ready:
                self._desk.read(self._sockets.control)
            if self._sockets.orders in ready:
                self._door.read()
            if due <= time.monotonic():
                sessions.retry()
        return self._leave(self._exit)

    def stop(self, code: int = EXIT_OK) -> None:
        """Ask for the end: entries are refused from now on. Safe from a signal handler and any thread."""
        self._book.closing = True
        self._inbox.post(self._end, code)

    def _end(self, code: int) -> None:
        if self._exit is None:
            self._exit = code

    def _leave(self, code: int) -> int:
        """Refuse entries, execute what is queued to close, then close terminal and ledger, and say Bye."""
        self._book.closing = True
        self._door.leave()
        if not self._side.stop(_STOP_PATIENCE):
            log.error("the terminal did not come back within %g s; leaving without it", _STOP_PATIENCE)
        self._inbox.run()
        self._writer.close()
        self._inbox.run()
        self._side.terminal.close()
        self._ledger.close()
        for command in self._stop_commands:
            self._link.send(CommandDone(id=command.id, ok=True))
        self._link.send(Bye(token=self._spec.token, reason="stopped"))
        self._link.stop(1.0)
        self._sockets.close()
        self._inbox.close()
        return code

    # --- the pulse -------------------------------------------------------------------------------------

    def _pulse(self) -> None:
        """Once in a while this thread has the terminal's thread move: if either is stuck, nothing moves."""
        self._fencing.remember()
        self._halting.pulse()
        if not self._pulsing:
            self._pulsing = True
            self._side.pulse()

    def _pulsed(self, figures: Figures | None) -> None:
        self._pulsing = False
        self._door.turn()  # a step that failed is tried again
        now = time.monotonic()
        trouble = self._terminal.barred()
        if figures is None and trouble:  # the account's own figures stay those of before
            figures = Figures(account={}, bots=[], time=float(self._terminal.now), connected=False)
        if figures is not None and trouble:
            figures = figures.model_copy(update={"trouble": trouble, "connected": not self._terminal.held()})
        # Without a supervisor nothing is queued for it: it is told anew once it has come back.
        soon = now - self._figures[0] < _FIGURES and trouble == self._trouble  # a change of that is told at once
        if figures is None or soon or self._link.orphaned_for() > 0:
            return
        figures = figures.model_copy(update={"refused_keys": self._sockets.refused_keys})
        frame = encode(figures)
        if frame != self._figures[1]:
            self._figures, self._trouble = (now, frame), trouble
            self._link.send(figures)

    def _tell_halts(self) -> None:
        if self._link.orphaned_for() <= 0:  # else it is told at the next Welcome
            self._link.send(self._desk.report())

    # --- the bus ---------------------------------------------------------------------------------------

    def _hello(self) -> dict[str, Any]:
        return {"ready": True, "gateway_boot": self.boot}

    def _hear(self, message: Message) -> None:
        self._inbox.post(self._from_bus, message)

    def _from_bus(self, message: Message) -> None:
        if isinstance(message, Unwelcome):
            if message.reason != HELLO_AGAIN:
                log.error("the supervisor refused this gateway: %s", message.reason)
                self._end(EXIT_UNWELCOME)
            return
        self._book.heard = True
        if isinstance(message, Fence):
            # Before the fence can open anything: what this run may do.
            known = self._book.fences.get(message.bot_id)
            if known is None or message.epoch >= known.epoch:
                self._side.guarding.limit(message.bot_id, Limits.of(message.guards))
            self._fencing.fence(message)
        elif isinstance(message, Admit):
            self._door.admit(message)
        elif isinstance(message, Roster):
            self._take_roster(message)
        elif isinstance(message, Query) and message.what in HaltDesk.QUESTIONS:
            self._desk.query(message, self._link.send)
        elif isinstance(message, Query):
            self._side.query(message, self._link.send)
        elif isinstance(message, Command):
            self._command(message)
        elif isinstance(message, Welcome):
            self._link.send(Ready(token=self._spec.token, detail=json.dumps(self._sockets.addresses)))
            self._link.send(self._desk.report())
            self._figures = (0.0, b"")  # a new supervisor has heard nothing yet

    def _barred(self, fence: Fence) -> None:
        self._door.barred(fence)
        if fence.magic and fence.magic not in self._roster:
            state = FenceState(fence.bot_id, fence.epoch, fence.alive, fence.magic, fence.name)
            self._roster = {**self._roster, fence.magic: _known(state)}

    def _take_roster(self, roster: Roster) -> None:
        if roster.guards is not None:
            self._side.guarding.limit_account(Limits.of(roster.guards))
        # Bots that are removed stay known by their magic: their deals are still theirs.
        former = {magic: entry.model_copy(update={"running": False}) for magic, entry in self._roster.items()}
        self._roster = {**former, **{entry.magic: entry for entry in roster.bots}}
        self._door.roster(roster.bots)
        self._side.follow()

    def _command(self, command: Command) -> None:
        if command.verb == "stop":
            self._stop_commands.append(command)
            self._book.closing = True
            self._end(EXIT_OK)
        else:
            self._link.send(CommandDone(id=command.id, ok=False, error=f"a gateway cannot {command.verb}"))


def _known(fence: FenceState) -> RosterEntry:
    """A bot of which only the fence is known: enough to attribute its deals."""
    return RosterEntry(bot_id=fence.bot_id, name=fence.name, symbol="", timeframe="", magic=fence.magic, running=False)
