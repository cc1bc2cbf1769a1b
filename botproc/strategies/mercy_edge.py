"""MERCY_EDGE: the rule of PULSE_SYNC, with a longer trend."""

from __future__ import annotations

from typing import ClassVar

from botproc.strategies.pulse_sync import PulseSync, PulseSyncParams
from botproc.strategy import StrategyParams, param


class MercyEdgeParams(PulseSyncParams):
    """Periods, in bars."""

    trend: int = param(200, ge=2, le=1000, step=1, label="Trend", help="Period of the trend's SMA, in bars.")


class MercyEdge(PulseSync):
    """BUY when the close is above the long SMA, the MACD histogram above zero, and the stochastic's %K crosses above
    its %D; SELL when the close is below, the histogram below zero, and %K crosses below %D."""

    id = "MERCY_EDGE"
    title = "Long trend, MACD and stochastic in step"
    Params: ClassVar[type[StrategyParams]] = MercyEdgeParams
    params: MercyEdgeParams
