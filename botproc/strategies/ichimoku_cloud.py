"""ICHIMOKU_CLOUD: Tenkan and Kijun cross, clear of the cloud."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import model_validator

from botproc.indicators import middle_of
from botproc.strategy import Action, Signal, Strategy, StrategyParams, crossing, figure, param, side_of

if TYPE_CHECKING:
    import pandas as pd


class IchimokuCloudParams(StrategyParams):
    """Periods, in bars."""

    tenkan: int = param(9, ge=1, le=200, step=1, label="Tenkan", help="Period of the Tenkan-sen, in bars.")
    kijun: int = param(26, ge=2, le=400, step=1, label="Kijun", help="Period of the Kijun-sen; the cloud's shift too.")
    senkou: int = param(52, ge=3, le=800, step=1, label="Senkou B", help="Period of the Senkou Span B, in bars.")
    use_cloud_filter: bool = param(True, label="Cloud filter", help="Only with the close beyond both spans.")

    @model_validator(mode="after")
    def _ascending(self) -> IchimokuCloudParams:
        if not self.tenkan < self.kijun < self.senkou:
            raise ValueError(
                f"tenkan ({self.tenkan}), kijun ({self.kijun}) and senkou ({self.senkou}) must rise in this order"
            )
        return self


class IchimokuCloud(Strategy):
    """BUY when the Tenkan-sen crosses above the Kijun-sen while the close is above both spans of the cloud, SELL when
    it crosses below while the close is below both; without `use_cloud_filter` the cross alone counts.

    Each line is the middle between highest high and lowest low of its period; span A is the middle of Tenkan and
    Kijun, span B that of `senkou` bars, both drawn `kijun` bars ahead: the cloud at a bar was made so long before
    it (G. Hosoda; shifts as in MetaTrader's indicator).
    """

    id = "ICHIMOKU_CLOUD"
    title = "Ichimoku cross clear of the cloud"
    Params: ClassVar[type[StrategyParams]] = IchimokuCloudParams
    columns_only = True
    params: IchimokuCloudParams

    @property
    def lookback(self) -> int:
        """Span B, as it was made `kijun` bars ago."""
        return self.params.senkou + self.params.kijun

    def analyze(self, bars: pd.DataFrame) -> Signal:
        """See the class."""
        close, high, low = (self.last(bars, name) for name in ("close", "high", "low"))
        p, price = self.params, float(close[-1])
        tenkan, kijun = middle_of(high, low, p.tenkan), middle_of(high, low, p.kijun)
        before = middle_of(high, low, p.tenkan, 1), middle_of(high, low, p.kijun, 1)
        span_a = (middle_of(high, low, p.tenkan, p.kijun) + middle_of(high, low, p.kijun, p.kijun)) / 2.0
        span_b = middle_of(high, low, p.senkou, p.kijun)
        top, bottom = max(span_a, span_b), min(span_a, span_b)
        cross = crossing(*before, tenkan, kijun)
        clear = 1 if side_of(price, top) > 0 else -1 if side_of(price, bottom) < 0 else 0
        lines = f"Tenkan {figure(tenkan)} {('has not crossed', 'crossed above', 'crossed below')[cross]}"
        lines += f" Kijun {figure(kijun)}"
        where = ("inside", "above", "below")[clear]
        tail = f"the close {figure(price)} is {where} the cloud {figure(bottom)} to {figure(top)}"
        action: Action = "HOLD"
        if cross and (cross == clear or not p.use_cloud_filter):
            action = "BUY" if cross > 0 else "SELL"
        joint = ", and " if action != "HOLD" else ", but " if cross else "; "
        figures = {"tenkan": tenkan, "kijun": kijun, "span_a": span_a, "span_b": span_b}
        return Signal(action, price, f"{lines}{joint}{tail}.", figures)
