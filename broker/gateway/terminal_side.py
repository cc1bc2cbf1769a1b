"""Everything that happens on the terminal thread, and what it reports to the service thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from broker.gateway.book import Book
from broker.gateway.deals import Deals
from broker.gateway.execution import Executor
from broker.gateway.guarding import Guarding
from broker.gateway.halting import Halting
from broker.gateway.halting_flat import Flattener
from broker.gateway.inbox import Inbox
from broker.gateway.memory import Memory, Pending
from broker.gateway.queries import Queries, QueryFailed
from broker.gateway.reading import Reader, ReadFailed, View
from broker.gateway.terminal_thread import TerminalThread, Urgency
from broker.gateway.terminals import HeldTerminal, hang_limit_of, is_apart, settle_of
from broker.guards import Limits
from broker.paper.terminal import Step
from protocol.codec import encode
from protocol.halts import HaltState
from protocol.messages import Attach, Call, CallResult, Figures, OrderResult, Phase, Query, QueryResult, RosterEntry
from protocol.progress import Progress
from protocol.spec import RunSpec
from store.database import Database
from store.errors import StoreError

log = logging.getLogger("stablehand.gateway")


class TerminalSide:
    """The terminal and its thread. Every public method may be called from the service thread: it submits.

    Answers come back through the inbox. Set the hooks before `start`.
    """

    def __init__(
        self,
        spec: RunSpec,
        boot: str,
        terminal: HeldTerminal,
        ledger: Database,
        book: Book,
        progress: Progress,
        inbox: Inbox,
        roster: Callable[[], dict[int, RosterEntry]],
        halting: Halting,
    ) -> None:
        self.terminal = terminal
        self._book = book
        self._progress = progress
        self._inbox = inbox
        self._roster = roster
        self._halting = halting
        self.ended = False  # the feed has no further step
        self._reader = Reader(terminal, terminal.last_closed, terminal.knows)
        self._deals = Deals(terminal, ledger, self._bot_of)
        self._memory = Memory(ledger, self._deals)
        account = spec.account
        assert account is not None
        self._hang_limit = hang_limit_of(account)
        # The embedded terminal tells of every deal with the step or the order that made it.
        self._must_look = is_apart(account)
        self._may_be_away = account.kind == "mt5"
        self._executor = Executor(
            terminal,
            self._memory,
            book,
            self._deals,
            progress,
            settle=settle_of(account),
            hang_limit=self._hang_limit,
        )
        self._queries = Queries(
            terminal,
            self._deals,
            self._executor,
            account=spec.account_name,
            installation=spec.installation,
            boot=boot,
            roster=roster,
            now=lambda: terminal.now,
            ended=lambda: self.ended,
        )
        self._flattener = Flattener(
            terminal,
            self._executor,
            account=spec.account_name,
            installation=spec.installation,
            boot=boot,
            roster=roster,
            halts=halting.flattening,
            tell=lambda key, text: inbox.post(halting.progress, key, text),
        )
        self.guarding = Guarding(
            terminal,
            ledger,
            account=spec.account_name,
            limits=Limits.of(spec.account.guards() if spec.account else {}),
            folder=Path(spec.config_dir),
            roster=roster,
            now=lambda: terminal.now,
            latch=halting.latch,
            holds=halting.holds,
            forgiven=halting.forgiven,
        )
        self._executor.guard = self.guarding.entry
        self._executor.bar = self._barred
        interval = None if terminal.lockstep else terminal.interval
        self._thread = TerminalThread(self._execute, self._step, interval)
        self.on_step: Callable[[Step | None], None] = lambda _step: None  # None: it failed, and may be tried again
        self.on_answer: Callable[[Pending, OrderResult], None] = lambda _pending, _result: None
        self.on_round: Callable[[], None] = lambda: None
        self.on_resolved: Callable[[Sequence[OrderResult]], None] = lambda _results: None
        self.on_pulse: Callable[[Figures | None], None] = lambda _figures: None

    # --- from the service thread ---------------------------------------------------------------------

    def start(self) -> None:
        """Begin: deals are copied and lost answers looked for before anything else."""
        self._thread.submit(Urgency.HALT, self._catch_up)
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Run what is queued and end the thread; False when the terminal does not come back."""
        ended = self._thread.stop(timeout)
        if ended:
            self.guarding.remember(force=True)
        return ended

    def flatten(self) -> None:
        """Have what is halted with `flatten` closed, ahead of everything else."""
        self._thread.submit(Urgency.HALT, self._flatten)

    def lifted(self, halt: HaltState) -> None:
        """A halt was lifted."""

        def there() -> None:
            try:
                self.guarding.lifted(halt)
            finally:
                self._halting.measured_anew(halt)

        self._thread.submit(Urgency.HALT, there)

    def order(self, pending: Pending) -> None:
        """Have an order executed as soon as it is its turn."""
        self._thread.submit_order(pending)

    def round(self, group: list[Pending]) -> None:
        """Lockstep: have these orders executed in this order; `on_round` follows the last answer."""

        def there() -> None:
            try:
                self._execute(group)
            finally:
                self._inbox.post(self.on_round)

        self._thread.submit(Urgency.ENTRY, there)

    def step(self) -> None:
        """Lockstep: have the feed make its next step."""

        def there() -> None:
            self._step()

        self._thread.submit(Urgency.STEP, there)

    def follow(self) -> None:
        """The roster is another: have the bars of its bots told, also of those that have not attached yet."""
        if self._may_be_away:
            self._thread.submit(Urgency.READ, self._follow)

    def pulse(self) -> None:
        """Have the thread show that it moves, finish what is left over, and read the figures."""
        self._thread.submit(Urgency.READ, self._pulse)

    def call(self, call: Call, answer: Callable[[bytes], None]) -> None:
        """A bot's read; `answer` gets the frame on the service thread."""

        def there() -> None:
            value, error = self._reader.call(call.fn, call.args, call.kwargs)
            self._inbox.post(answer, encode(CallResult(id=call.id, value=value, error=error, clock=time.monotonic())))

        self._thread.submit(Urgency.READ, there)

    def view(self, message: Attach, answer: Callable[[View | ReadFailed], None]) -> None:
        """What a run is told at its attach; `answer` gets it, or why not, on the service thread."""

        def there() -> None:
            try:
                held = self.terminal.held()
                if held:
                    raise ReadFailed(held, retry=True)
                unknown = "" if message.read_only else self._executor.holds(message.bot_id)
                if unknown:
                    # Its position may still change by that order: a run begins with one that is known.
                    raise ReadFailed(f"the outcome of order {unknown} is not known yet", retry=True)
                self.terminal.follow(message.symbol, message.timeframe)
                view = self._reader.view(
                    message.symbol, message.timeframe, message.lookback, message.magic, self.terminal.now
                )
                self._check_followed(message)
            except ReadFailed as error:
                self._inbox.post(answer, error)
                return
            self._book.last_closed.setdefault((message.symbol, message.timeframe), view.last_bar)
            self._inbox.post(answer, view)

        self._thread.submit(Urgency.READ, there)

    def query(self, query: Query, answer: Callable[[QueryResult], None]) -> None:
        """A question of the supervisor's; closing goes before everything else."""

        def there() -> None:
            try:
                value: Any = self._queries.answer(query.id, query.what, query.args)
                result = QueryResult(id=query.id, ok=True, result=value)
            except QueryFailed as error:
                result = QueryResult(id=query.id, ok=False, error=str(error))
            except Exception as error:  # the supervisor must hear of it, whatever it was
                log.exception("query %s failed", query.what)
                result = QueryResult(id=query.id, ok=False, error=f"{type(error).__name__}: {error}")
            if query.what == "close":
                self._reader.changed()
            self._inbox.post(answer, result)

        self._thread.submit(Urgency.HALT if query.what == "close" else Urgency.READ, there)

    # --- on the terminal thread ------------------------------------------------------------------------

    def _catch_up(self) -> None:
        self._progress.move(Phase.IDLE, self._hang_limit)
        self._tend()
        if not self.terminal.held():
            self._deals.collect()
        self._resolve()
        self._flatten()
        self._memory.flush()

    def _pulse(self) -> None:
        self._progress.move(Phase.IDLE, self._hang_limit)
        figures = None
        try:
            self._tend()
            self._resolve()
            if self._must_look and not self.terminal.held():
                self._deals.collect()
            self._flatten()
            if not self.terminal.lockstep:  # there only the market's own moments count, so that it comes out alike
                self._guard()
            self.guarding.remember()
            self._memory.flush()
            figures = self._queries.figures()
        finally:
            self._inbox.post(self.on_pulse, figures)

    def _tend(self) -> None:
        """See to the connection; what happened while there was none is read before anything is sent."""
        if self.terminal.tend():
            self._deals.looked = False
            self._reader.changed()
            self._deals.collect()
        if self._may_be_away:
            self._follow()  # what could not be followed a moment ago may be there now

    def _follow(self) -> None:
        """Runs that an earlier gateway served hear by the next bar that there is another, and attach to it."""
        if self.terminal.held():
            return
        wanted = {(one.symbol, one.timeframe) for one in self._roster().values() if one.running and one.symbol}
        for symbol, timeframe in sorted(wanted):
            if self.terminal.last_closed(symbol, timeframe) is None:
                self.terminal.follow(symbol, timeframe)

    def _check_followed(self, message: Attach) -> None:
        """Raises ReadFailed where nobody would tell this run a bar: it would be ready, and deaf without a word.

        Following is asked for before the history is read and says nothing of a failure, which may pass until then.
        """
        if not self._may_be_away or self.terminal.last_closed(message.symbol, message.timeframe) is not None:
            return
        self._reader.changed()  # what was read may end with another bar than what is followed later begins with
        if not message.read_only:
            raise ReadFailed("its bars cannot be followed yet", retry=True)

    def _barred(self, look: bool) -> str:
        reason = self.terminal.barred(look=look)
        if not reason and self._may_be_away and not self._deals.looked:
            return "the deals of the account have not been read yet"
        return reason

    def _resolve(self) -> None:
        if self._executor.unresolved:
            results = self._executor.resolve()
            if results:
                self._reader.changed()
                self._inbox.post(self.on_resolved, results)

    def _step(self) -> bool:
        try:
            step = self.terminal.step()
        except StoreError as error:
            # The moment did not happen: it is tried again, in lockstep with the next pulse.
            log.error("the market stands still: %s; trying again", error.line())
            self._inbox.post(self.on_step, None)
            return True
        if step is None:
            self.ended = True
            log.info("the feed has ended")
            return False
        for bar in step.closed:
            # The first field of a record of the rates dtype is its opening time.
            opened = int.from_bytes(bar.row[:8], "little", signed=True)
            self._book.last_closed[bar.symbol, bar.timeframe] = opened
        self._reader.changed()
        self._progress.cycles += 1
        if step.deals and self._deals.collect():
            self._memory.flush()
        self._flatten()
        self._guard()
        self._inbox.post(self.on_step, step)
        return True

    def _flatten(self) -> None:
        try:
            if self._flattener.look():
                self._reader.changed()
        except Exception:
            log.exception("a flatten failed; trying again")  # the market goes on meanwhile

    def _guard(self) -> None:
        try:
            self.guarding.look()
        except Exception:
            log.exception("the guards failed; each entry asks them again")

    def _execute(self, group: list[Pending]) -> None:
        self._executor.execute(group, self._answered)
        self._reader.changed()

    def _answered(self, pending: Pending, result: OrderResult) -> None:
        self._reader.changed()
        self._inbox.post(self.on_answer, pending, result)

    def _bot_of(self, magic: int) -> int | None:
        entry = self._roster().get(magic)
        return entry.bot_id if entry else None
