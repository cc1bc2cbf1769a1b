"""The main loop of a bot: attach, warm up, and then a cycle for each closed bar, until it is told to stop.

Commands arrive on the link's thread, bars on the receiver's, which hand them over and wake this loop. Everything that
decides or trades happens here, on the process's main thread.
"""

from __future__ import annotations

import logging
import select
import signal
import time
from collections import deque
from typing import Any, Final

import zmq

from botproc import logs
from botproc.analyst import Analyst
from botproc.attaching import Attaching, Patience
from botproc.holding import signed_of
from botproc.livedesk import LiveDesk
from botproc.loader import build
from botproc.market import Market
from botproc.ondemand import run_analysis
from botproc.orders import Outcome
from botproc.orphan import Orphan, is_flat
from botproc.rawlog import cut
from botproc.secondtry import SecondTry
from botproc.stops import HISTORY
from botproc.strategy import Signal, Strategy
from botproc.trader import Trader
from broker.api import Rates
from broker.client import AttachDenied
from protocol.botconfig import BotConfig
from protocol.errors import InvalidInput
from protocol.link import BusLink
from protocol.messages import Bar, Bye, Command, CommandDone, Message, Phase, Ready, Unwelcome, Waiting
from protocol.progress import Progress
from protocol.spec import EXIT_OK, EXIT_STRATEGY, EXIT_UNWELCOME, RunSpec
from protocol.wake import WakeFd

__all__ = ["BotRun", "run_analysis", "run_bot"]

_LATE_AT_MOST: Final = 5.0  # seconds by which a start of many puts a decision off
_FLUSH: Final = 0.5
_CLOSE_AGAIN: Final = 60.0  # seconds, at most, between attempts to close without a supervisor
_NOT_ATTACHED: Final = Outcome("failed", "the gateway has not let it in yet")

log = logging.getLogger("stablehand.runner")


def run_bot(spec: RunSpec, code_hash: str = "") -> int:
    """Live one run of a bot; its exit code. Call it in a process of its own, after the fork."""
    assert spec.bot is not None
    return BotRun(spec, spec.bot, code_hash).run()


class _End(Exception):
    """The run ends: with this exit code, for this reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class BotRun:
    """One run."""

    def __init__(self, spec: RunSpec, config: BotConfig, code_hash: str) -> None:
        self._spec = spec
        self._config = config
        self._wake = WakeFd()
        self._progress = Progress()
        self._inbox: deque[Message] = deque()
        self._context: zmq.Context[Any] = zmq.Context(io_threads=1)
        self._ready = False
        self._paused = False
        self._pace = 1.0
        self._told_waiting = ""
        self._decided = -1  # bar time of the last decision of this run
        self._second = SecondTry(config.order_ttl_seconds)
        self._decided_at = float("-inf")  # when it last decided, monotonic
        self._stop_reason = ""
        self._current: Bar | None = None  # published, and not yet answered
        self._next_check = 0.0
        # Made once: each new Path puts its parts among the interpreter's interned strings. Where one is made with each
        # heartbeat their table is full within the hour, and made anew: two megabytes that were shared till then.
        output = logs.raw_path(spec.log_path)
        self._link = BusLink(
            self._context,
            spec,
            self._progress,
            self._receive,
            lambda: {"ready": self._ready, "paused": self._paused, "code_hash": code_hash},
            lambda: cut(output, 1, spec.log_max_bytes, spec.log_backups),
        )
        self._orphan = Orphan(config.on_orphan, spec.orphan_after, min(config.check_interval_seconds, _CLOSE_AGAIN))

    def run(self) -> int:
        """Until the end; the exit code."""
        signal.signal(signal.SIGTERM, self._on_term)
        if hasattr(signal, "SIGBREAK"):
            signal.signal(signal.SIGBREAK, self._on_term)  # Windows: what the spawner sends for a graceful stop
        self._progress.move(Phase.BOOT, self._config.cycle_timeout_seconds)
        self._link.start()
        try:
            strategy = self._build()
            self._market = Market(self._context, self._spec, self._config, max(strategy.lookback, HISTORY), self._wake)
            self._analyst = Analyst(strategy, self._progress, self._config.cycle_timeout_seconds, self._report)
            self._attaching = Attaching(
                self._market, self._progress, self._waiting, self._report, wait=self._wait, obey=self._obey
            )
            self._start(strategy)
            self._hold_back()
            while True:
                self._turn()
        except _End as end:
            return self._leave(end)

    # --- from the start to Ready -------------------------------------------------------------------

    def _build(self) -> Strategy:
        try:
            return build(self._config.strategy, self._config.params)
        except InvalidInput as error:
            log.error("%s", error.line(), exc_info=error.__cause__)
            self._report("ERROR", error.line(), {})
            raise _End(EXIT_STRATEGY, error.line()) from None

    def _start(self, strategy: Strategy) -> None:
        self._attach()
        self._desk = LiveDesk(self._market.client, self._attached, self._spec.magic, self._progress)
        self._trader = Trader(self._config, self._desk, self._report)
        self._trader.entries = self._orphan.entries
        self._warm_up(strategy.lookback)
        self._progress.volume = signed_of(self._attached.position)
        self._ready = True
        self._tell_ready()
        self._report("START", f"{self._config.strategy} on {self._attached.symbol} {self._config.timeframe}", {})
        self._next_check = time.monotonic() + self._interval()
        if self._current is None and not self._market.just_closed(self._attached):
            self._decided = self._market.window.last_time

    def _warm_up(self, needed: int) -> None:
        """Until there are bars enough: those that are published, and those that the terminal has loaded since."""
        patience = Patience(endless=self._market.lockstep)
        while len(self._market.window) < needed:
            if self._follow():
                continue
            if not patience.left:
                patience.asked()
                self._attach_again()
                continue
            self._progress.move(Phase.WARMUP, self._idle_limit())
            self._waiting("warmup", f"{len(self._market.window)} of {needed} bars")
            self._wait(min(self._interval(), patience.left))

    def _hold_back(self) -> None:
        """Where many start at once, the first cycle waits until the others are up; commands are obeyed.

        Not with an open position, which is minded at once, and not in lockstep, where all wait for each other. A bar
        that closes meanwhile ends it.
        """
        until = time.monotonic() + self._spec.first_work_after
        if self._market.window.last_time > self._decided:  # one that has just closed is to be decided on
            until = min(until, time.monotonic() + _LATE_AT_MOST)
        if self._attached.position is not None or self._attached.lockstep:
            return
        while (left := until - time.monotonic()) > 0:
            self._progress.move(Phase.IDLE, self._idle_limit())
            self._wait(left)
            if self._follow():
                return

    def _attach(self) -> None:
        self._market.lost = True  # bars must not cut it short
        try:
            self._attached = self._attaching.attach()
        except AttachDenied as error:
            raise _End(EXIT_STRATEGY, f"the gateway refuses this bot: {error.line()}") from None

    def _tell_ready(self, detail: str = "") -> None:
        self._told_waiting = ""
        self._link.send(Ready(token=self._spec.token, position=self._attached.position, detail=detail))

    # --- the loop ----------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Decide on a new bar, or look at the position when the interval has passed; then wait."""
        bar_time = self._market.window.last_time
        if bar_time > self._decided and not self._paused and self._in_pace():
            self._decided = bar_time
            self._cycle(decide=True)
        elif self._second.due(bar_time):
            self._try_again(bar_time)
        elif time.monotonic() >= self._next_check:
            self._cycle(decide=False)
        if self._desk.down:
            self._market.lost = True
        if not self._follow():
            phase = Phase.PAUSED if self._paused else Phase.IDLE
            self._progress.move(phase, self._idle_limit())
            self._wait(max(0.0, min(self._next_check, self._second.at) - time.monotonic()))

    def _follow(self) -> bool:
        """Take the next bar, attaching again where one is missing; whether there was something new.

        The bar is answered (lockstep) only when its decision is done: at the next call. Without lockstep only
        the newest of several is decided on: the gateway would refuse orders of the others.
        """
        bar, self._current = self._current, None
        if bar is not None:
            self._market.answered(bar)
        if self._market.lost:
            self._attach_again()
            return True
        while (bar := self._market.take()) is not None:
            self._current = bar
            if self._market.lockstep:
                break
        if self._current is not None and self._paused:
            self._decided = self._market.window.last_time  # a bar of the pause is not decided on afterwards
        return self._current is not None or self._market.lost

    def _attach_again(self) -> None:
        if self._market.lost:
            log.warning("the gateway was lost, or bars of it: attaching again")
        self._attach()
        self._desk.take(self._attached)
        if not self._ready:
            return
        self._tell_ready("attached again")
        if not self._market.just_closed(self._attached):
            self._decided = max(self._decided, self._market.window.last_time)
            self._second.forget()

    def _in_pace(self) -> bool:
        """Whether a paced bot may think about a new bar now. One that holds something is never paced.

        Bars that close faster than the stretched interval are thinned out: the newest is decided on.
        """
        stretch = self._config.check_interval_seconds * (self._pace - 1.0)
        if stretch <= 0 or self._progress.volume or self._market.lockstep:
            return True
        return time.monotonic() >= self._decided_at + stretch

    def _try_again(self, bar_time: int) -> None:
        """The position first: while that is not known there is nothing to decide on."""
        self._progress.move(Phase.TRADE, self._config.cycle_timeout_seconds)
        if self._trader.watch().action in ("held", "failed"):
            self._second.want(bar_time, self._market.closed)
        else:
            self._cycle(decide=True, again=True)

    def _cycle(self, *, decide: bool, again: bool = False) -> None:
        bar_time = self._market.window.last_time
        if decide:
            self._decided_at = time.monotonic()
            self._second.forget()
        self._next_check = time.monotonic() + self._interval()
        found = self._look() if decide else None
        if found is not None and self._current is not None:
            self._progress.decided(bar_time, self._current.published_mono, self._market.received)
        self._progress.move(Phase.TRADE, self._config.cycle_timeout_seconds)
        if found is not None:
            self._trader.on_bar(*found, bar_time, again=again)
            idle = found[0].action == "HOLD" and not self._analyst.minds_position
            if self._trader.unsent == bar_time and not idle and not self._market.lockstep:
                self._second.want(bar_time, self._market.closed)
        else:
            self._trader.watch()
        self._progress.volume = self._trader.volume
        self._progress.cycles += 1

    def _wait(self, seconds: float) -> None:
        """Until woken, or for so long; then obey what came."""
        orphaned = self._link.orphaned_for() > 0.0
        # A supervisor that dies meanwhile wakes nobody, and what then is to be done is due at a moment of its own.
        longest = 1.0 if orphaned else self._spec.orphan_after if self._config.on_orphan != "continue" else seconds
        select.select([self._wake.fileno()], [], [], min(seconds, longest))
        self._obey()

    def _obey(self) -> None:
        self._wake.clear()
        while self._inbox:
            message = self._inbox.popleft()
            if isinstance(message, Command):
                self._command(message)
            elif isinstance(message, Unwelcome):
                raise _End(EXIT_UNWELCOME, f"the supervisor refused this run: {message.reason}")
        if self._stop_reason:
            raise _End(EXIT_OK, self._stop_reason)
        self._mind_orphanhood()

    # --- commands ----------------------------------------------------------------------------------

    def _command(self, command: Command) -> None:
        ok, result, error = True, {}, ""
        if command.verb == "stop":
            self._stop_reason = self._stop_reason or "stopped by command"
        elif command.verb in ("pause", "resume"):
            self._paused = command.verb == "pause"
            self._second.forget()
            if self._ready:
                self._progress.move(Phase.PAUSED if self._paused else Phase.IDLE, self._idle_limit())
        elif command.verb == "pace":
            self._pace = max(1.0, float(command.args.get("factor", 1.0)))
            self._next_check = time.monotonic() + self._interval()
        elif not self._ready:
            ok, error = False, "the bot has not enough bars yet"
        elif self._look() is None:
            ok, error = False, f"the strategy failed: {self._analyst.failing}"
        else:
            result = self._analyst.last
        self._link.send(CommandDone(id=command.id, ok=ok, result=result, error=error))

    def _mind_orphanhood(self) -> None:
        step = self._orphan.step(self._link.orphaned_for())
        if step == "":
            return
        trader: Trader | None = getattr(self, "_trader", None)
        if step != "again":
            self._report("WARNING", f"without a supervisor: {step}", {})
            if trader is not None:
                trader.entries = self._orphan.entries
        if step in ("close", "again"):
            outcome = _NOT_ATTACHED
            if trader is not None:
                outcome = trader.flatten("without a supervisor", self._market.window.last_time)
            if is_flat(outcome):
                raise _End(EXIT_OK, "without a supervisor: closed and ended")
            line = self._orphan.stays_open(outcome, self._config.market)
            if line:
                self._report("WARNING", line, {"volume": outcome.volume})

    # --- small things ------------------------------------------------------------------------------

    def _look(self) -> tuple[Signal, Rates] | None:
        position = self._trader.own_position(fresh=self._analyst.minds_position)
        return self._analyst.look(self._market.window, position)

    def _receive(self, message: Message) -> None:
        """On the link's thread. A Welcome wakes nobody: an attach that waits would begin anew."""
        if isinstance(message, Command | Unwelcome):
            self._inbox.append(message)
            self._wake.set()

    def _on_term(self, *_: Any) -> None:
        self._stop_reason = "SIGTERM"
        self._wake.set()

    def _report(self, action: str, text: str, data: dict[str, Any]) -> None:
        log.info("%s: %s", action, text, extra={"data": data} if data else None)
        self._link.history(action, text, **data)

    def _waiting(self, reason: Any, detail: str) -> None:
        if detail != self._told_waiting:
            self._told_waiting = detail
            self._link.send(Waiting(token=self._spec.token, reason=reason, detail=detail))

    def _interval(self) -> float:
        pace = 1.0 if self._progress.volume else self._pace  # an open position is minded as often as ever
        return self._config.check_interval_seconds * pace

    def _idle_limit(self) -> float:
        return self._interval() + self._config.cycle_timeout_seconds

    def _leave(self, end: _End) -> int:
        """Say goodbye, in order: history, gateway, supervisor."""
        self._progress.move(Phase.STOPPING, self._config.stop_timeout_seconds)
        self._report("STOP", end.reason, {})
        market = getattr(self, "_market", None)
        if market is not None:
            market.client.detach()
            market.client.close()
        self._link.send(Bye(token=self._spec.token, reason=end.reason))
        self._link.stop(_FLUSH)
        if market is not None:
            market.close()
        else:
            self._context.destroy()
        return end.code
