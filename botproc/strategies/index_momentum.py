"""INDEX_MOMENTUM: with the index while it gathers pace, and the gaps that it opens with."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np
import talib
from pydantic import model_validator

from botproc.indicators import sma
from botproc.strategy import Action, Signal, Strategy, StrategyParams, param, side_of, wilder_bars

if TYPE_CHECKING:
    import pandas as pd

_DAY: Final = 86_400
_HOUR: Final = 3_600
#: Exchange hours in New York's clock, in seconds of its day. Frankfurt is six hours ahead of it, but for the weeks
#: in which only one of the two has changed its clock.
_SESSIONS: Final = {"US": (9 * _HOUR + 1800, 16 * _HOUR), "DE": (3 * _HOUR, 11 * _HOUR + 1800)}


class IndexMomentumParams(StrategyParams):
    """Periods in bars; RSI from 0 to 100; volumes as a multiple of their mean; gaps in percent."""

    rsi: int = param(14, ge=2, le=100, step=1, label="RSI", help="Period of the RSI, in bars.")
    oversold: float = param(30, ge=0, le=50, step=1, label="Oversold", help="Nothing is sold at or below this RSI.")
    overbought: float = param(
        70, ge=50, le=100, step=1, label="Overbought", help="Nothing is bought at or above this RSI."
    )
    volume: int = param(20, ge=2, le=500, step=1, label="Volume average", help="Bars over which volume is averaged.")
    volume_multiple: float = param(
        1.3, ge=0, le=20, step=0.1, label="Volume", help="The bar's volume, as a multiple of the average."
    )
    gap: float = param(0.5, ge=0.01, le=20, step=0.1, label="Gap", help="A jump over the close before, in percent.")
    session_filter: bool = param(True, label="Session only", help="Only bars that lie in the exchange's hours.")
    session: Literal["US", "DE"] = param("US", label="Exchange", help="New York 9:30 to 16:00, or Frankfurt.")
    server_ahead: float = param(
        7, ge=-12, le=14, step=1, label="Server clock",
        help="Hours that the broker's clock is ahead of New York: 7 at most brokers, all year.",
    )  # fmt: skip
    gap_fade: bool = param(False, label="Fade gaps", help="Trade against a gap; else with it.")

    @model_validator(mode="after")
    def _room_between(self) -> IndexMomentumParams:
        if self.oversold >= self.overbought:
            raise ValueError(f"oversold ({self.oversold:g}) must be less than overbought ({self.overbought:g})")
        return self


class IndexMomentum(Strategy):
    """BUY when the RSI is between 50 and `overbought` and rising, on a volume of at least `volume_multiple` times its
    mean; SELL when it is between `oversold` and 50 and falling, on such a volume. A bar that opens more than `gap`
    percent from the close before is a signal of its own: with the gap, or against it with `gap_fade`. With
    `session_filter` only bars that lie in the exchange's hours count.

    The mean volume is that of `volume` bars, the last one included. A gap is bought below `overbought` and sold above
    `oversold` only. It comes before the momentum, which may point the other way.
    """

    id = "INDEX_MOMENTUM"
    title = "Index momentum and gaps"
    Params: ClassVar[type[StrategyParams]] = IndexMomentumParams
    columns_only = True
    params: IndexMomentumParams

    @property
    def lookback(self) -> int:
        """The RSI settled on the last bar and on the one before, or the window of the volume."""
        return max(wilder_bars(self.params.rsi) + 2, self.params.volume)

    def analyze(self, bars: pd.DataFrame) -> Signal:
        """See the class."""
        close, volume, p = self.last(bars, "close"), self.last(bars, "tick_volume"), self.params
        line, price = talib.RSI(close, p.rsi), float(close[-1])
        before, rsi = float(line[-2]), float(line[-1])
        mean = sma(volume, p.volume)
        ratio = float(volume[-1]) / mean if mean > 0 else 0.0
        gap = 100.0 * (float(self.last(bars, "open")[-1]) / float(close[-2]) - 1.0)
        figures = {"rsi": rsi, "rsi_before": before, "volume_ratio": ratio, "gap": gap}
        pace = side_of(rsi, before)
        tail = f"RSI({p.rsi}) {rsi:.2f} after {before:.2f}, volume {ratio:.2f} x its mean"
        if p.session_filter and not self._in_session(bars):
            return Signal("HOLD", price, f"Outside the hours of the {p.session} exchange: {tail}.", figures)
        action: Action = "HOLD"
        if abs(gap) > p.gap:
            wanted = -gap if p.gap_fade else gap
            if wanted > 0 and rsi < p.overbought:
                action = "BUY"
            elif wanted < 0 and rsi > p.oversold:
                action = "SELL"
            text = f"A gap of {gap:+.2f} % at the opening{', traded against' if p.gap_fade else ''}: {tail}"
        elif ratio < p.volume_multiple:
            text = f"Too little volume: {tail}"
        elif 50.0 < rsi < p.overbought and pace > 0:
            action, text = "BUY", f"Gathering pace upwards: {tail}"
        elif p.oversold < rsi < 50.0 and pace < 0:
            action, text = "SELL", f"Gathering pace downwards: {tail}"
        else:
            text = f"No momentum: {tail}"
        return Signal(action, price, f"{text}.", figures)

    def _in_session(self, bars: pd.DataFrame) -> bool:
        """Whether the last bar overlaps the exchange's hours; its length is the shortest step between the last bars."""
        times = self.last(bars, "time")[-10:]
        length = int(np.diff(times).min())
        if length >= _DAY:
            return True
        start, end = _SESSIONS[self.params.session]
        opened = (int(times[-1]) - int(self.params.server_ahead * _HOUR)) % _DAY
        # A bar over midnight is looked at from both days.
        return any(opened - day < end and opened - day + length > start for day in (0, _DAY))
