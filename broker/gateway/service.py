"""The gateway process: one service thread for all sockets, one terminal thread for all terminal calls."""

from __future__ import annotations

import json
import logging
import time
import uuid
from pathlib import Path
from typing import Any, Final

import zmq

from broker.client import NOT_ATTACHED
from broker.gateway.book import Book, FenceState
from broker.gateway.deals import Deals
from broker.gateway.execution import Executor, Pending
from broker.gateway.fencing import Fencing
from broker.gateway.hub import Hub, bind
from broker.gateway.inbox import Inbox
from broker.gateway.lockstep import Lockstep, Turn
from broker.gateway.orders import Orders
from broker.gateway.queries import Queries, QueryFailed
from broker.gateway.reading import Reader, ReadFailed, View, attached_frame
from broker.gateway.security import HANDSHAKE, Gatekeeper
from broker.gateway.sessions import Identity, Sessions
from broker.gateway.terminal_thread import TerminalThread, Urgency
from broker.paper.terminal import PaperTerminal, Step
from protocol.codec import decode, encode
from protocol.errors import BadFrame
from protocol.keys import KeyPair, secure_server
from protocol.link import HELLO_AGAIN, BusLink
from protocol.messages import (
    Attach,
    BarDone,
    Bye,
    Call,
    CallResult,
    Command,
    CommandDone,
    Detach,
    Fence,
    Message,
    Order,
    OrderQuery,
    OrderResult,
    Phase,
    Query,
    QueryResult,
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
from store.errors import StoreError
from store.ledger import fences_all
from store.writer import Writer

#: The paper terminal lives in this process: no request outlives it, so absence counts soon after a start.
SETTLE: Final = 0.25
#: Seconds that one terminal call may last; longer than any timeout of the terminal's own.
HANG_LIMIT: Final = 15.0
_PULSE: Final = 0.5
_STOP_PATIENCE: Final = 10.0
_BURST: Final = 200  # frames read in one go before the other sockets get their turn

log = logging.getLogger("stablehand.gateway")


class Gateway:
    """One account's gateway. `run` serves until a stop is asked for, and gives the exit code."""

    def __init__(
        self,
        context: zmq.Context[Any],
        spec: RunSpec,
        terminal: PaperTerminal,
        ledger: Database,
        link_factory: Any = BusLink,
    ) -> None:
        self._spec = spec
        self._terminal = terminal
        self._ledger = ledger
        self.boot = uuid.uuid4().hex[:16]
        self._progress = Progress()
        self._inbox = Inbox()
        self._writer = Writer(ledger)
        with ledger.read() as connection:
            rows = fences_all(connection).values()
        fences = [FenceState(r.bot_id, r.epoch, r.alive, r.magic, r.name) for r in rows]
        self._book = Book(self.boot, kernel_boot_id(), fences)
        # Magic -> bot. Replaced as a whole, never changed: the terminal thread reads it too.
        self._roster: dict[int, RosterEntry] = {
            f.magic: RosterEntry(bot_id=f.bot_id, name=f.name, symbol="", timeframe="", magic=f.magic, running=False)
            for f in fences
            if f.magic
        }
        self._make_terminal_side()
        self._make_sockets(context)
        self._make_service_side(terminal.lockstep)
        self._link: BusLink = link_factory(
            context, spec, self._progress, lambda m: self._inbox.post(self._from_bus, m), self._hello
        )
        self._exit: int | None = None
        self._stop_commands: list[Command] = []
        self._pulsing = False
        self._last_figures: bytes = b""
        self.dropped_frames = 0

    def _make_terminal_side(self) -> None:
        spec, terminal = self._spec, self._terminal
        self._ended = False
        self._reader = Reader(terminal)
        self._deals = Deals(terminal, self._ledger, self._bot_of)
        self._executor = Executor(
            terminal,
            self._ledger,
            self._book,
            self._deals,
            self._progress,
            settle=SETTLE,
            hang_limit=HANG_LIMIT,
        )
        self._queries = Queries(
            terminal,
            self._deals,
            self._executor,
            account=spec.account_name,
            installation=spec.installation,
            boot=self.boot,
            roster=lambda: self._roster,
            now=lambda: terminal.now,
            ended=lambda: self._ended,
        )
        self._thread = TerminalThread(self._execute, self._step, None if terminal.lockstep else terminal.interval)

    def _make_sockets(self, context: zmq.Context[Any]) -> None:
        spec = self._spec
        pair = KeyPair(spec.gateway_key, spec.gateway_secret) if spec.gateway_secret else None
        self._gatekeeper = Gatekeeper(context) if pair else None
        self._router: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        self._market: zmq.Socket[bytes] = context.socket(zmq.XPUB)
        for socket in (self._router, self._market):
            secure_server(socket, pair)
            for option, value in (
                (zmq.HANDSHAKE_IVL, int(HANDSHAKE * 1000)),
                (zmq.LINGER, 0),
                (zmq.BACKLOG, 4096),
                (zmq.SNDHWM, 20_000),
            ):
                socket.setsockopt(option, value)
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._router.setsockopt(zmq.RCVHWM, 20_000)
        self.addresses = {
            "orders": bind(self._router, spec.gateway_bind["orders"]),
            "market": bind(self._market, spec.gateway_bind["market"]),
        }

    def _make_service_side(self, lockstep: bool) -> None:
        self._hub = Hub(self._market, self.boot)
        self._lockstep = Lockstep() if lockstep else None
        self._held: dict[str, Pending] = {}  # lockstep: orders that wait for their round
        self._sessions = Sessions(self._spec.installation, self._book, self._hub.synced, self._read_for, self._reply)
        account = self._terminal.account_info()
        self._sessions.netting = account is not None and account.margin_mode == 0
        self._orders = Orders(self._book, self._ledger, self._hand_over, self._reply, lambda: self._fencing.look())
        self._fencing = Fencing(
            self._book,
            self._writer,
            post=self._inbox.post,
            send=lambda message: self._link.send(message),
            barred=self._barred,
            opened=self._opened,
            in_flight=self._orders.in_flight,
        )

    # --- the loop ----------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve. Returns the exit code."""
        self._thread.submit(Urgency.HALT, self._catch_up)
        self._thread.start()
        self._link.start()
        self._hub.say_boot()
        poller = zmq.Poller()
        for source in (self._router, self._market, self._inbox.fileno()):
            poller.register(source, zmq.POLLIN)
        pulse_at = time.monotonic()
        while self._exit is None:
            now = time.monotonic()
            if now >= pulse_at:
                pulse_at = now + _PULSE
                self._pulse()
            due = min(pulse_at, self._sessions.next_due() or pulse_at)
            ready = dict(poller.poll(max(1, int((due - now) * 1000))))
            if self._inbox.fileno() in ready:
                self._inbox.run()
            if self._market in ready:
                for token in self._hub.read_subscriptions():
                    self._sessions.retry(token=token)
            if self._router in ready:
                self._read_orders()
            if due <= time.monotonic():
                self._sessions.retry()
        return self._leave(self._exit)

    def stop(self, code: int = EXIT_OK) -> None:
        """Ask for the end: entries are refused from now on. Safe from a signal handler and any thread."""
        self._book.closing = True
        self._inbox.post(self._stop, code)

    def _stop(self, code: int) -> None:
        if self._exit is None:
            self._exit = code

    def _leave(self, code: int) -> int:
        """Refuse entries, execute what is queued to close, then close terminal and ledger, and say Bye."""
        self._book.closing = True
        held, self._held = list(self._held.values()), {}
        entries = [one.order for one in held if one.order.action != "close"]
        self._orders.drop(entries, "the gateway is leaving: closes only")
        for one in held:
            if one.order.action == "close":
                self._thread.submit_order(one)
        if not self._thread.stop(_STOP_PATIENCE):
            log.error("the terminal did not come back within %g s; leaving without it", _STOP_PATIENCE)
        self._inbox.run()
        self._writer.close()
        self._terminal.close()
        self._ledger.close()
        for command in self._stop_commands:
            self._link.send(CommandDone(id=command.id, ok=True))
        self._link.send(Bye(token=self._spec.token, reason="stopped"))
        self._link.stop(1.0)
        self._router.close(linger=200)
        self._market.close()
        if self._gatekeeper:
            self._gatekeeper.close()
        self._inbox.close()
        return code

    def _pulse(self) -> None:
        """Once in a while the service thread has the terminal thread move: if either is stuck, nothing moves."""
        self._fencing.remember()
        if not self._pulsing:
            self._pulsing = True
            self._thread.submit(Urgency.READ, self._pulse_there)

    # --- terminal thread ---------------------------------------------------------------------------

    def _catch_up(self) -> None:
        self._progress.move(Phase.IDLE, HANG_LIMIT)
        self._deals.collect()
        self._resolve()
        self._executor.flush()

    def _pulse_there(self) -> None:
        self._progress.move(Phase.IDLE, HANG_LIMIT)
        self._resolve()
        self._executor.flush()
        figures = self._queries.figures()
        frame = b"" if figures is None else encode(figures)
        if figures is not None and frame != self._last_figures:
            self._last_figures = frame
            self._link.send(figures)
        self._inbox.post(self._pulsed)

    def _pulsed(self) -> None:
        self._pulsing = False
        self._turn()

    def _resolve(self) -> None:
        if self._executor.unresolved:
            results = self._executor.resolve()
            if results:
                self._reader.changed()
                self._inbox.post(self._orders.resolved, results)

    def _step_once(self) -> None:
        self._step()

    def _step(self) -> bool:
        try:
            step = self._terminal.step()
        except StoreError as error:
            # The moment did not happen; it is tried again, in lockstep with the next pulse.
            log.error("the market stands still: %s; trying again", error.line())
            self._inbox.post(self._step_failed)
            return True
        if step is None:
            self._ended = True
            self._inbox.post(self._feed_ended)
            return False
        for bar in step.closed:
            self._book.last_closed[bar.symbol, bar.timeframe] = _open_time(bar.row)
        self._reader.changed()
        self._progress.cycles += 1
        if step.deals and self._deals.collect():
            self._executor.flush()
        self._inbox.post(self._stepped, step)
        return True

    def _execute(self, group: list[Pending]) -> None:
        self._reader.changed()
        self._executor.execute(group, self._answered)

    def _execute_round(self, group: list[Pending]) -> None:
        try:
            self._execute(group)
        finally:
            self._inbox.post(self._round_done)

    def _answered(self, pending: Pending, result: OrderResult) -> None:
        self._reader.changed()
        self._inbox.post(self._orders.done, pending, result)

    def _bot_of(self, magic: int) -> int | None:
        entry = self._roster.get(magic)
        return entry.bot_id if entry else None

    # --- service thread: what the terminal thread reports --------------------------------------------

    def _stepped(self, step: Step) -> None:
        numbers = self._hub.publish(step.time, step.closed)
        if self._lockstep:
            self._lockstep.stepped(numbers)
            self._turn()

    def _step_failed(self) -> None:
        if self._lockstep:
            self._lockstep.stepped({})

    def _feed_ended(self) -> None:
        log.info("the feed of %s has ended", self._spec.account_name)

    def _round_done(self) -> None:
        if self._lockstep:
            self._lockstep.executed()
            self._turn()

    def _turn(self) -> None:
        if self._lockstep is None or self._ended or self._exit is not None:
            return
        turn, orders = self._lockstep.next()
        if turn is Turn.STEP:
            self._thread.submit(Urgency.STEP, self._step_once)
        elif turn is Turn.EXECUTE:
            group = [self._held.pop(order.id) for order in orders]
            self._thread.submit(Urgency.ENTRY, lambda: self._execute_round(group))

    def _hand_over(self, pending: Pending) -> None:
        if self._lockstep is None:
            self._thread.submit_order(pending)
            return
        self._held[pending.id] = pending
        self._lockstep.order(pending.order)
        self._turn()

    # --- service thread: orders socket ---------------------------------------------------------------

    def _reply(self, identity: Identity, frame: bytes) -> None:
        try:
            self._router.send_multipart([identity, frame], zmq.NOBLOCK)
        except zmq.ZMQError:
            self.dropped_frames += 1  # the run is gone, or reads nothing: it asks again by id

    def _read_orders(self) -> None:
        for _ in range(_BURST):
            try:
                frames = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            try:
                self._from_run(frames)
            except BadFrame:
                self.dropped_frames += 1
            except Exception:
                self.dropped_frames += 1
                log.exception("a frame of a run could not be handled")

    def _from_run(self, frames: list[zmq.Frame]) -> None:
        identity, frame = frames[0].bytes, frames[-1].bytes
        message = decode(frame)
        claimed = getattr(message, "bot_id", None)
        if claimed is not None and self._gatekeeper and not self._gatekeeper.speaks_for(frames[-1], claimed):
            self.dropped_frames += 1
            return
        if isinstance(message, Order):
            self._orders.order(identity, self._sessions.of(identity), message, frame)
        elif isinstance(message, Call):
            self._call(identity, message)
        elif isinstance(message, BarDone):
            if self._lockstep:
                self._lockstep.bar_done(message.bot_id, message.epoch, message.bar_seq)
                self._turn()
        elif isinstance(message, Attach):
            self._sessions.ask(identity, message)
        elif isinstance(message, OrderQuery):
            self._orders.asked(identity, message)
        elif isinstance(message, Detach):
            self._detach(identity, message)
        else:
            self.dropped_frames += 1

    def _detach(self, identity: Identity, message: Detach) -> None:
        session = self._sessions.of(identity)
        if session is None or session.epoch != message.epoch or session.read_only:
            return
        self._sessions.drop(message.bot_id)
        if self._lockstep:
            self._drop(self._lockstep.leave(message.bot_id, message.epoch), "the run has detached")
            self._turn()

    def _drop(self, orders: list[Order], reason: str) -> None:
        for order in orders:
            self._held.pop(order.id, None)
        self._orders.drop(orders, reason)

    def _call(self, identity: Identity, call: Call) -> None:
        if self._sessions.of(identity) is None:
            error = [NOT_ATTACHED, "not attached to this gateway process: attach again"]
            self._reply(identity, encode(CallResult(id=call.id, error=error)))
            return

        def there() -> None:
            value, error = self._reader.call(call.fn, call.args, call.kwargs)
            frame = encode(CallResult(id=call.id, value=value, error=error))
            self._inbox.post(self._reply, identity, frame)

        self._thread.submit(Urgency.READ, there)

    def _read_for(self, identity: Identity, message: Attach) -> None:
        def there() -> None:
            try:
                now = self._terminal.now
                view = self._reader.view(message.symbol, message.timeframe, message.lookback, message.magic, now)
            except ReadFailed as error:
                self._inbox.post(self._sessions.refuse, identity, str(error))
                return
            self._book.last_closed.setdefault((message.symbol, message.timeframe), view.last_bar)
            self._inbox.post(self._attached, identity, message, view)

        self._thread.submit(Urgency.READ, there)

    def _attached(self, identity: Identity, message: Attach, view: View) -> None:
        # Every step before the read is published by now, and none after it: the number fits the bars.
        if not message.read_only and self._book.may_attach(message.bot_id, message.epoch) != "":
            self._sessions.ask(identity, message)  # a fence overtook the read
            return
        holder = self._sessions.holder(view.symbol, message.bot_id) if view.netting else None
        if holder and not message.read_only:
            self._sessions.ask(identity, message)
            return
        self._sessions.attached(identity, message)
        number = self._hub.numbers.get((view.symbol, message.timeframe), 0)
        frame = attached_frame(view, gateway_boot=self.boot, bar_seq=number, lockstep=self._lockstep is not None)
        self._reply(identity, frame)
        if self._lockstep and not message.read_only:
            dropped = self._lockstep.attach(message.bot_id, message.epoch, view.symbol, message.timeframe)
            self._drop(dropped, "the run has attached again")
            self._turn()

    # --- service thread: the bus ---------------------------------------------------------------------

    def _hello(self) -> dict[str, Any]:
        return {"ready": True, "gateway_boot": self.boot}

    def _from_bus(self, message: Message) -> None:
        if isinstance(message, Unwelcome):
            if message.reason != HELLO_AGAIN:
                log.error("the supervisor refused this gateway: %s", message.reason)
                self._stop(EXIT_UNWELCOME)
            return
        self._book.heard = True
        if isinstance(message, Fence):
            self._fencing.fence(message)
        elif isinstance(message, Roster):
            self._take_roster(message)
        elif isinstance(message, Query):
            self._query(message)
        elif isinstance(message, Command):
            self._command(message)
        elif isinstance(message, Welcome):
            self._link.send(Ready(token=self._spec.token, detail=json.dumps(self.addresses)))
            self._last_figures = b""

    def _barred(self, fence: Fence) -> None:
        if self._gatekeeper:
            self._gatekeeper.fence(fence.bot_id, fence.key, alive=fence.alive)
        self._sessions.drop(fence.bot_id, keep_epoch=fence.epoch if fence.alive else None)
        if self._lockstep:
            dropped = self._lockstep.fenced(fence.bot_id, fence.epoch, fence.alive)
            self._drop(dropped, f"fenced off: epoch {fence.epoch} of this bot is known now")
            self._turn()
        self._sessions.retry(bot_id=fence.bot_id)
        if fence.magic and fence.magic not in self._roster:
            entry = RosterEntry(
                bot_id=fence.bot_id, name=fence.name, symbol="", timeframe="", magic=fence.magic, running=False
            )
            self._roster = {**self._roster, fence.magic: entry}

    def _opened(self, bot_id: int) -> None:
        self._sessions.retry(bot_id=bot_id)

    def _take_roster(self, roster: Roster) -> None:
        # Bots that are removed stay known by their magic: their deals are still theirs.
        former = {magic: entry.model_copy(update={"running": False}) for magic, entry in self._roster.items()}
        self._roster = {**former, **{entry.magic: entry for entry in roster.bots}}
        if self._lockstep:
            self._drop(self._lockstep.roster(roster.bots), "this bot is not expected to trade any more")
            self._turn()

    def _query(self, query: Query) -> None:
        def there() -> None:
            try:
                value = self._queries.answer(query.id, query.what, query.args)
                result = QueryResult(id=query.id, ok=True, result=value)
            except QueryFailed as error:
                result = QueryResult(id=query.id, ok=False, error=str(error))
            if query.what == "close":
                self._reader.changed()
            self._link.send(result)

        self._thread.submit(Urgency.HALT if query.what == "close" else Urgency.READ, there)

    def _command(self, command: Command) -> None:
        if command.verb == "stop":
            self._stop_commands.append(command)
            self._book.closing = True
            self._stop(EXIT_OK)
        else:
            self._link.send(CommandDone(id=command.id, ok=False, error=f"a gateway cannot {command.verb}"))


def _open_time(row: bytes) -> int:
    """The first field of a record of the rates dtype."""
    return int.from_bytes(row[:8], "little", signed=True)


def ledger_path(spec: RunSpec) -> Path:
    """The gateway's own database."""
    return Path(spec.data_dir) / f"ledger-{spec.account_name}.db"


def paper_path(spec: RunSpec) -> Path:
    """The paper terminal's own database."""
    return Path(spec.data_dir) / f"paper-{spec.account_name}.db"
