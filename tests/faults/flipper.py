"""A strategy that always has a reason to trade: it turns its position on every bar."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from botproc.strategy import Signal, Strategy

if TYPE_CHECKING:
    import pandas as pd

#: The folder in which a test holds runs between their decision and their order, by a file named as their pid.
HOLDS = "STABLEHAND_TEST_HOLDS"


def _which(hold: Path) -> str:
    with suppress(FileNotFoundError):
        return hold.read_text()
    return ""


class Flipper(Strategy):
    """BUY on bars of even hours, SELL on those of odd ones."""

    @property
    def lookback(self) -> int:
        """The last bar says all."""
        return 2

    def analyze(self, bars: pd.DataFrame) -> Signal:
        """See the class."""
        hour = int(bars["time"].iloc[-1].timestamp()) // 3600
        hold = Path(os.environ[HOLDS]) / str(os.getpid())
        which = _which(hold)
        if which:
            hold.with_suffix(".held").write_text(which)
            # One that stood still may find another hold here than the one that it was held by.
            while _which(hold) == which:
                time.sleep(0.002)
        return Signal("BUY" if hour % 2 == 0 else "SELL", float(bars["close"].iloc[-1]), f"hour {hour}")
