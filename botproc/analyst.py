"""Runs a bot's strategy on its window: counts, times and reports; an error in it never ends the bot."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from botproc.strategy import Position, Signal, Strategy
from botproc.window import Window
from broker.api import Rates
from protocol.messages import Phase, SignalCode
from protocol.progress import Progress

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("stablehand.analyst")


class Analyst:
    """`report(action, text, data)` gets a history row for the first of a series of equal errors."""

    def __init__(
        self,
        strategy: Strategy,
        progress: Progress,
        cycle_timeout: float,
        report: Callable[[str, str, dict[str, Any]], None],
    ) -> None:
        self._strategy = strategy
        self._progress = progress
        self._cycle_timeout = cycle_timeout
        self._report = report
        self._lookback = strategy.lookback
        self.minds_position = strategy.minds_position
        self.failing = ""  # the error of the last analysis, in one line; empty where it did not fail
        self.last: dict[str, Any] = {}  # the last analysis as `as_dict` has it

    def look(self, window: Window, position: Position | None) -> tuple[Signal, Rates] | None:
        """The signal of the last closed bar for a bot that holds `position`, and the bars it was made of.

        None when the strategy raised.
        """
        self._progress.move(Phase.ANALYSE, self._cycle_timeout)
        try:
            signal = self._decide(window, position)
        except Exception as error:
            self._progress.errors += 1
            self._progress.last_signal = SignalCode.ERROR
            log.exception("the strategy failed on the bar of %d", window.last_time)
            told = f"{type(error).__name__}: {error}"
            if told != self.failing:
                self.failing = told
                self._report("ERROR", f"the strategy failed: {told}", {"bar_time": window.last_time})
            return None
        self.failing = ""
        self._progress.last_signal = SignalCode[signal.action]
        self.last = as_dict(signal, window.last_time)
        return signal, window.rates

    def _decide(self, window: Window, position: Position | None) -> Signal:
        needed = self._lookback
        if not self._strategy.columns_only or len(window) < needed:
            return self._strategy.decide(window.frame(), position)
        # A frame costs such a rule nothing but memory: its first one takes 700 pages that are the bot's own.
        bars = cast("pd.DataFrame", window.rates[-needed:])
        return self._strategy.decide(bars, position, window.columns(needed))


def as_dict(signal: Signal, bar_time: int) -> dict[str, Any]:
    """An analysis as plain values: `{signal, price, explanation, figures, bar_time, at}`."""
    return {
        "signal": signal.action,
        "price": float(signal.price),
        "explanation": signal.explanation,
        "figures": {name: float(value) for name, value in signal.figures.items()},
        "bar_time": bar_time,
        "at": time.time(),
    }
