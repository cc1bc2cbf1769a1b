"""The squeeze that BOLLINGER_SQUEEZE and QUANTUM_VELOCITY break out of. No strategy by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from botproc.indicators import Bands, bands, bandwidths
from botproc.strategy import StrategyParams, figure, param, side_of

if TYPE_CHECKING:
    from botproc.indicators import Values


class SqueezeParams(StrategyParams):
    """What a squeeze is."""

    length: int = param(20, ge=2, le=500, step=1, label="Band length", help="Period of the bands, in bars.")
    std: float = param(2.0, ge=0.1, le=10, step=0.1, label="Band width", help="Width in standard deviations.")
    squeeze_window: int = param(
        10, ge=2, le=500, step=1, label="Squeeze window", help="Bars over which the bandwidth is averaged."
    )
    squeeze_factor: float = param(
        0.7, ge=0.05, le=1, step=0.05, label="Squeeze factor",
        help="A squeeze is a bandwidth below this share of its average.",
    )  # fmt: skip

    @property
    def squeeze_bars(self) -> int:
        """Bars that `breakout` needs: the last, and the windows of the bars before it."""
        return self.length + self.squeeze_window


class Breakout(NamedTuple):
    """Where the close stands to the bands of the bar before."""

    side: int  # 1 above the upper one, -1 below the lower one, 0 between; 0 without a squeeze
    bands: Bands
    width: float
    mean_width: float
    text: str

    @property
    def figures(self) -> dict[str, float]:
        """By name, for the signal."""
        upper, middle, lower = self.bands
        widths = {"bandwidth": self.width, "bandwidth_mean": self.mean_width}
        return {"upper": upper, "middle": middle, "lower": lower, **widths}


def breakout(close: Values, p: SqueezeParams) -> Breakout:
    """Whether the bar before the last was in a squeeze, and the last close broke out of that bar's bands.

    A squeeze: its bandwidth is below `squeeze_factor` times the mean of the last `squeeze_window` bandwidths, its
    own among them.
    """
    before = close[:-1]
    widths = bandwidths(before, p.length, p.std, p.squeeze_window)
    width, mean = float(widths[-1]), float(widths.mean())
    around, price = bands(before, p.length, p.std), float(close[-1])
    shown = f"the bandwidth was {100 * width:.3g} % against {100 * mean:.3g} % on average"
    if not width < p.squeeze_factor * mean:
        return Breakout(0, around, width, mean, f"No squeeze: {shown}")
    side = max(side_of(price, around.upper), 0) or min(side_of(price, around.lower), 0)
    where = {1: f"above the upper band {figure(around.upper)}", -1: f"below the lower band {figure(around.lower)}"}
    inside = f"between the bands {figure(around.lower)} and {figure(around.upper)}"
    text = f"After a squeeze ({shown}) the close {figure(price)} is {where.get(side, inside)}"
    return Breakout(side, around, width, mean, text)
