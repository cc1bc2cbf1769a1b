"""A bot in a backtest: what the runner of a living bot does with a closed bar, without process and sockets."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import pandas as pd

from botproc.backtest.desk import PaperDesk
from botproc.backtest.tape import Tape
from botproc.loader import build
from botproc.stops import HISTORY
from botproc.strategy import Signal
from botproc.trader import Trader
from broker.paper.terminal import PaperTerminal
from protocol.botconfig import BotConfig

log = logging.getLogger("stablehand.backtest")


@dataclass(frozen=True, slots=True)
class Note:
    """One row of a bot's history. `at` in server seconds."""

    at: int
    bot: str
    action: str
    text: str


class Seat:
    """One bot. Raises StablehandError where its strategy or parameters are wrong."""

    def __init__(self, terminal: PaperTerminal, bot_id: int, magic: int, config: BotConfig) -> None:
        self.bot_id = bot_id
        self.magic = magic
        self.config = config
        self.strategy = build(config.strategy, config.params)
        self.desk = PaperDesk(terminal, bot_id=bot_id, magic=magic, symbol=config.market)
        self.notes: list[Note] = []
        self.errors = 0
        self.decisions = 0
        self._terminal = terminal
        self._failing = ""
        self._lookback = self.strategy.lookback
        self._bars = pd.DataFrame()
        self._tape = Tape(terminal, config.market, config.timeframe, max(self._lookback, HISTORY))
        self._trader = Trader(config, self.desk, self._report)

    @property
    def market(self) -> tuple[str, str]:
        """Symbol and timeframe that it follows."""
        return self.config.market, self.config.timeframe

    def take(self, row: bytes) -> bool:
        """A bar of its market has closed; whether there are enough to decide on."""
        self._tape.append(row)
        return len(self._tape) >= self._lookback

    def look(self) -> Signal | None:
        """The strategy's signal; None where it raised, which is told once for a series of equal errors."""
        position = self._trader.own_position(fresh=self.strategy.minds_position)
        self.decisions += 1
        try:
            columns = self._tape.columns(self._lookback)
            if columns is None or not self.strategy.columns_only or len(self._bars) != self._lookback:
                self._bars = self._tape.frame(self._lookback)
            signal = self.strategy.decide(self._bars, position, columns)
        except Exception as error:
            self.errors += 1
            told = f"{type(error).__name__}: {error}"
            if told != self._failing:
                self._failing = told
                log.debug("the strategy failed", exc_info=True)
                self._report("ERROR", f"the strategy failed: {told}", {})
            return None
        self._failing = ""
        return signal

    def act(self, signal: Signal | None) -> None:
        """Trade the signal."""
        if signal is None:
            self._trader.watch()
            return
        # Only an entry looks at the bars, and its ATR at the last `HISTORY`: cutting them costs as much as deciding.
        bars = self._tape.frame(HISTORY) if signal.action in ("BUY", "SELL") else self._bars
        self._trader.on_bar(signal, bars, self._tape.last_time)

    def _report(self, action: str, text: str, data: dict[str, Any]) -> None:
        self.notes.append(Note(self._terminal.now, self.config.name, action, text))
