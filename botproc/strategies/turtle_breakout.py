"""TURTLE_BREAKOUT: in at a new high, out at a lesser low."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import model_validator

from botproc.strategy import Position, Signal, Strategy, StrategyParams, figure, param

if TYPE_CHECKING:
    import pandas as pd


class TurtleBreakoutParams(StrategyParams):
    """Lengths of the two channels, in bars."""

    entry: int = param(20, ge=2, le=500, step=1, label="Entry channel", help="Bars of the channel to break out of.")
    exit: int = param(10, ge=1, le=500, step=1, label="Exit channel", help="Bars of the channel that ends a trade.")

    @model_validator(mode="after")
    def _exit_within_entry(self) -> TurtleBreakoutParams:
        if self.exit > self.entry:
            raise ValueError(f"exit ({self.exit}) must not be more than entry ({self.entry})")
        return self


class TurtleBreakout(Strategy):
    """BUY when the close is above the highest high of the `entry` bars before, SELL when it is below their lowest
    low; EXIT when a long position closes below the lowest low of the `exit` bars before, a short one above their
    highest high."""

    id = "TURTLE_BREAKOUT"
    title = "Turtle breakout"
    Params: ClassVar[type[StrategyParams]] = TurtleBreakoutParams
    columns_only = True
    params: TurtleBreakoutParams

    @property
    def lookback(self) -> int:
        """The entry channel, and the bar that breaks it."""
        return self.params.entry + 1

    def analyze(self, bars: pd.DataFrame) -> Signal:
        """See the class: for a bot that holds nothing."""
        return self.analyze_held(bars, None)

    def analyze_held(self, bars: pd.DataFrame, position: Position | None) -> Signal:
        """See the class. A breakout of the entry channel comes before the exit: the trader turns the position."""
        p, price = self.params, float(self.last(bars, "close")[-1])
        high, low = self.last(bars, "high")[:-1], self.last(bars, "low")[:-1]
        top, bottom = float(high[-p.entry :].max()), float(low[-p.entry :].min())
        exit_top, exit_bottom = float(high[-p.exit :].max()), float(low[-p.exit :].min())
        figures = {"top": top, "bottom": bottom, "exit_top": exit_top, "exit_bottom": exit_bottom}
        close = f"The close {figure(price)} is"
        if price > top:
            return Signal("BUY", price, f"{close} above the high {figure(top)} of {p.entry} bars.", figures)
        if price < bottom:
            return Signal("SELL", price, f"{close} below the low {figure(bottom)} of {p.entry} bars.", figures)
        if position is not None and position.side == "buy" and price < exit_bottom:
            text = f"{close} below the low {figure(exit_bottom)} of {p.exit} bars: the long position ends."
            return Signal("EXIT", price, text, figures)
        if position is not None and position.side == "sell" and price > exit_top:
            text = f"{close} above the high {figure(exit_top)} of {p.exit} bars: the short position ends."
            return Signal("EXIT", price, text, figures)
        text = f"{close} inside the channel {figure(bottom)} to {figure(top)} of {p.entry} bars."
        return Signal("HOLD", price, text, figures)
