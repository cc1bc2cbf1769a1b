"""From a signal to orders: one position per bot, one decision per closed bar, nothing sent twice.

The same trader serves live bots and backtests; only the desk differs. It never sleeps and never sends a second time:
what was refused is reported and left, what is unknown holds the bot until it is known. A bar for which nothing was
sent, since the position was not known, may be given to it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botproc import entry
from botproc.conditions import Conditions, Report
from botproc.desk import Desk, OrderDraft, Side
from botproc.holding import Held, Holding, money_of
from botproc.hours import MarketHours
from botproc.orders import Done, Outcome, Sent, figures_of, is_mild, never_sent, reason_of, refusal_kind
from botproc.sizing import NoEntry
from botproc.strategy import Position, Signal
from broker.api import TRADE_RETCODE_MARKET_CLOSED
from protocol.botconfig import BotConfig
from protocol.errors import StablehandError
from protocol.messages import OrderResult

if TYPE_CHECKING:
    from botproc.stops import Bars


class Trader:
    """Trades one bot's signals. `report(action, text, data)` gets each history row.

    `bars` should hold the last 250 closed bars where there are so many (`stops.HISTORY`), and at least 57
    (`stops.ATR_BARS`): with fewer no position is opened. Not thread-safe: the main loop calls it.
    """

    def __init__(self, config: BotConfig, desk: Desk, report: Report) -> None:
        self._config = config
        self._desk = desk
        self._report = report
        self._conditions = Conditions(report)
        self._hours = MarketHours(desk, self._conditions)
        self._holding = Holding(desk, report, config.market)
        self._unknown: Sent | None = None
        self._decided = -1  # bar time of the last decision
        self._sent = False  # whether an order was, for that bar
        #: Bar time of the last decision, where it could not be acted on and nothing was sent for it; else -1.
        self.unsent = -1
        #: False: only closes (draining without a supervisor).
        self.entries = True

    @property
    def volume(self) -> float:
        """The bot's own view of its position, signed lots."""
        held = self._holding.current
        return held.signed if held is not None else 0.0

    @property
    def unresolved(self) -> str:
        """Id of the order whose fate is unknown; empty when there is none."""
        return self._unknown.id if self._unknown is not None else ""

    def own_position(self, *, fresh: bool) -> Position | None:
        """What the strategy is told that the bot holds; `fresh`: after asking the terminal.

        Where it cannot answer the last that is known: `on_bar` does nothing then, whatever the signal.
        """
        if fresh:
            self.watch()
        held = self._holding.current
        return None if held is None else Position(held.side, held.volume, held.price)

    def on_bar(self, signal: Signal, bars: Bars, bar_time: int, *, again: bool = False) -> Outcome:
        """Act on the signal of the closed bar that opened at `bar_time` (server seconds).

        A bar that was decided already is only watched: after a stop-out nothing is entered again on it. With `again`
        it is acted on all the same where it is `unsent`.
        """
        if bar_time <= self._decided and not (again and bar_time == self.unsent):
            return self.watch()
        self._decided, self._sent = bar_time, False
        outcome = self._act(signal, bars, bar_time)
        missed = outcome.action in ("held", "failed") and not self._sent
        self.unsent = bar_time if missed else -1
        return outcome

    def _act(self, signal: Signal, bars: Bars, bar_time: int) -> Outcome:
        before = self.watch()
        if before.action in ("held", "failed"):
            return before
        held = self._holding.current
        if signal.action == "EXIT" and held is not None:
            return self._close(held, f"EXIT: {signal.explanation}", bar_time, figures_of(signal))
        side: Side | None = {"BUY": "buy", "SELL": "sell"}.get(signal.action)  # type: ignore[assignment]
        if side is None or (held is not None and held.side == side):
            return self._outcome("none", signal.explanation)
        if held is not None:
            closed = self._close(held, f"{signal.action}: {signal.explanation}", bar_time, figures_of(signal))
            if closed.action != "closed" or not self.entries:
                return closed
        if not self.entries:
            return self._outcome("none", "entries are off")
        opened = self._open(side, signal, bars, bar_time)
        if held is not None and opened.action == "opened":
            return self._outcome("reversed", opened.text)
        return opened

    def watch(self) -> Outcome:
        """Between bars: resolve what is unknown, and tell what happened to the position without the bot."""
        if self._unknown is not None and not self._resolve(self._unknown):
            return self._outcome("held", f"order {self.unresolved} has no answer yet")
        try:
            self._holding.look()
        except StablehandError as error:
            return self._terminal_failed("position not known, nothing is done", error)
        self._conditions.end("terminal", "the terminal answers again")
        self._hours.look()
        return self._outcome("none")

    def flatten(self, reason: str, bar_time: int) -> Outcome:
        """Close the bot's position, whatever the signal."""
        before = self.watch()
        held = self._holding.current
        if before.action != "none" or held is None:
            return before
        return self._close(held, reason, bar_time, {})

    # --- orders ---------------------------------------------------------------------------------------

    def _open(self, side: Side, signal: Signal, bars: Bars, bar_time: int) -> Outcome:
        try:
            plan = entry.plan(self._config, self._desk, side, bars)
        except NoEntry as refusal:
            text = f"{signal.action} not done: {refusal.text}"
            self._conditions.begin(f"entry:{refusal.kind}", "WARNING", text, figures_of(signal))
            return self._outcome("refused", text)
        except StablehandError as error:
            return self._terminal_failed(f"{signal.action} not done", error, "entry:terminal")
        if plan.note:
            self._conditions.begin("volume", "WARNING", plan.note)
        else:
            self._conditions.end("volume")
        draft = OrderDraft(
            action="open",
            side=side,
            volume=plan.volume,
            sl=plan.stops.sl,
            tp=plan.stops.tp,
            deviation=self._config.deviation,
            comment=self._config.name[:16],
            decision=self._decision(bar_time),
            bar_time=bar_time,
        )
        data = {
            **figures_of(signal),
            "atr": plan.atr,
            "risk": plan.risk,
            "note": plan.note,
            "sl": draft.sl,
            "tp": draft.tp,
        }
        return self._send(Sent(draft, signal.explanation, data))

    def _close(self, held: Held, why: str, bar_time: int, data: dict[str, Any]) -> Outcome:
        draft = OrderDraft(
            action="close",
            side=held.side,
            volume=held.volume,
            position=held.ticket,  # without it a hedging account would open an opposite position
            deviation=self._config.deviation,
            comment=self._config.name[:16],
            decision=self._decision(bar_time),
            bar_time=bar_time,
        )
        return self._send(Sent(draft, why, data, held))

    def _send(self, sent: Sent) -> Outcome:
        self._sent, self.unsent = True, -1  # before it is: whatever comes of it, it may have been
        try:
            result = self._desk.send(sent.draft)
        except StablehandError as error:
            # Whether it left is not known here; the next look at the position tells.
            return self._terminal_failed(f"{sent.what(self._config.market)} not confirmed", error)
        if result.status == "unknown":
            self._unknown = Sent(sent.draft, sent.why, sent.data, sent.held, result.id)
            text = f"{sent.what(self._config.market)}: no answer yet; nothing is sent until its fate is known"
            self._conditions.begin("unknown", "WARNING", text, {"order_id": result.id})
            return self._outcome("held", text)
        if never_sent(sent.draft, result):
            self._sent = False  # a close is the first order of its bar: there is none before it
            return self._outcome("held", self._refused(sent, result).text)
        return self._concluded(sent, result)

    def _resolve(self, sent: Sent) -> bool:
        try:
            result = self._desk.resolve(sent.id)
        except StablehandError:
            return False  # the condition `unknown` was told when it began
        if result.status == "unknown":
            return False
        self._unknown = None
        self._conditions.end("unknown", f"order {sent.id} is known now: {result.status}")
        self._concluded(sent, result)
        return True

    def _concluded(self, sent: Sent, result: OrderResult) -> Outcome:
        if result.status != "done":
            return self._refused(sent, result)
        self._hours.opened()
        self._conditions.end_all(f"refused:{sent.draft.action}")
        return self._after_close(sent, result) if sent.held is not None else self._after_open(sent, result)

    def _after_open(self, sent: Sent, result: OrderResult) -> Outcome:
        draft = sent.draft
        try:
            held = self._holding.accept(result.position) if result.position else self._holding.settle()
        except StablehandError as error:
            held = None
            failed = self._terminal_failed("position not known after the order", error)
            if not result.deal:
                return failed
        if held is None and not result.deal:
            text = f"{sent.what(self._config.market)} accepted, but there is no fill"
            self._report("WARNING", text, {"order": result.order, "retcode": result.retcode})
            return self._outcome("refused", text)
        self._conditions.end_all("entry:")
        volume, price = result.volume or draft.volume, result.price or (held.price if held is not None else 0.0)
        stops = f"SL {draft.sl:g}" + (f", TP {draft.tp:g}" if draft.tp else "")
        text = f"opened {draft.side} {volume:g} {self._config.market} at {price:g}, {stops}: {sent.why}"
        ticket = held.ticket if held is not None else 0
        self._report(f"OPEN_{draft.side.upper()}", text, sent.told(result, volume, price, ticket))
        return self._outcome("opened", text)

    def _after_close(self, sent: Sent, result: OrderResult) -> Outcome:
        held = sent.held
        assert held is not None
        left: Held | None = None
        failure: StablehandError | None = None
        try:
            left = self._holding.settle()
        except StablehandError as error:
            failure = error
        volume = result.volume or held.volume
        money = money_of(self._holding.last_deal(held))
        text = f"closed {held.side} {volume:g} {self._config.market} at {result.price:g}"
        text += f", {money:+.2f}: {sent.why}" if money is not None else f": {sent.why}"
        data = sent.told(result, volume, result.price, held.ticket)
        if left is not None and left.identifier == held.identifier and left.volume >= held.volume:
            text = f"close of {held} {self._config.market} was answered as done, but it is still open"
            self._report("ERROR", text, data)
            return self._outcome("refused", text)
        self._report(f"CLOSE_{held.side.upper()}", text, data if money is None else {**data, "profit": money})
        if failure is not None:
            return self._terminal_failed("position not known after the close, nothing is opened", failure)
        if left is not None:
            text = f"{left} {self._config.market} is still open after the close: nothing is opened"
            self._report("WARNING", text, {"position": left.ticket, "volume": left.signed})
            return self._outcome("refused", text)
        return self._outcome("closed", text)

    def _refused(self, sent: Sent, result: OrderResult) -> Outcome:
        text = f"{sent.what(self._config.market)} refused: {reason_of(result)}"
        data = {**sent.data, "retcode": result.retcode, "volume": sent.draft.volume}
        if result.retcode == TRADE_RETCODE_MARKET_CLOSED:
            self._hours.closed(text, data)
        else:
            action = "WARNING" if is_mild(sent.draft, result) else "ERROR"
            self._conditions.begin(refusal_kind(sent.draft, result), action, text, data)
        return self._outcome("refused", text)

    # --- small things ---------------------------------------------------------------------------------

    def _terminal_failed(self, text: str, error: StablehandError, kind: str = "terminal") -> Outcome:
        """`kind`: of its own where the position was read just before, which ends the condition `terminal` each time."""
        line = f"{text}: {error.line()}"
        self._conditions.begin(kind, "ERROR", line)
        return self._outcome("failed", line)

    def _decision(self, bar_time: int) -> str:
        return f"{self._config.market}|{self._config.timeframe}|{bar_time}"

    def _outcome(self, action: Done, text: str = "") -> Outcome:
        return Outcome(action, text, self.volume)
