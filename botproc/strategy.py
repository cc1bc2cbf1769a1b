"""The author's API: what a strategy is, and what it answers.

A strategy is a class with typed parameters and one method, `analyze`. It sees closed bars only, oldest
first, and answers BUY, SELL, HOLD or EXIT for the last of them. It holds no state between bars: the same bars
give the same answer, so that a bot which was restarted decides as one which was not. A rule that depends on
what the bot holds is told so (`analyze_held`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, get_args

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: EXIT: close what is held, and open nothing.
Action = Literal["BUY", "SELL", "HOLD", "EXIT"]
ACTIONS: Final[tuple[str, ...]] = get_args(Action)

#: Columns of `bars`, in MetaTrader's order. `time` is the bar's opening on the server's clock, in UTC.
COLUMNS: Final = ("time", "open", "high", "low", "close", "tick_volume", "spread", "real_volume")


#: A column's values by its name.
Columns = Callable[[str], "NDArray[np.float64]"]


class StrategyParams(BaseModel):
    """Parameters of a strategy: frozen; unknown names, infinities and yes/no in place of a number are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _no_booleans_as_numbers(cls, values: Any) -> Any:
        # Otherwise `fast = true` would quietly become 1.
        if isinstance(values, dict):
            for name, value in values.items():
                known = cls.model_fields.get(name)
                if isinstance(value, bool) and known is not None and known.annotation in (int, float):
                    raise ValueError(f"{name} must be a number, not {str(value).lower()}")
        return values


def param(
    default: Any,
    *,
    ge: float | None = None,
    le: float | None = None,
    step: float | None = None,
    label: str = "",
    help: str = "",
) -> Any:
    """One parameter: its default, its bounds (inclusive), and what a form shows of it.

    `step` is the distance between two values that a form or an optimiser offers; it is not enforced.
    """
    extra: dict[str, Any] = {"label": label}
    if step is not None:
        extra["step"] = step
    return Field(default, ge=ge, le=le, description=help or None, json_schema_extra=extra)


@dataclass(frozen=True, slots=True)
class Signal:
    """What a strategy says of the last closed bar."""

    action: Action
    price: float
    """Close of that bar."""
    explanation: str
    """One sentence that a trader understands, with its figures."""
    figures: dict[str, float] = field(default_factory=dict)
    """The strategy's own figures, by name."""


@dataclass(frozen=True, slots=True)
class Position:
    """What the bot holds, as a strategy is told it."""

    side: Literal["buy", "sell"]
    volume: float
    """Lots."""
    price: float
    """Price of the entry."""


class Strategy(ABC):
    """Base of all strategies. A subclass says its `id`, `title` and `Params`, its `lookback` and its `analyze`.

    The first paragraph of the class's docstring is shown as its rule.
    """

    id: ClassVar[str] = ""
    title: ClassVar[str] = ""
    Params: ClassVar[type[StrategyParams]] = StrategyParams
    columns_only: ClassVar[bool] = False
    """Whether the rule takes from `bars` only what `last` gives: then no frame is made for it."""
    _at_hand: tuple[pd.DataFrame, Columns] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "id" not in cls.__dict__:
            cls.id = f"{cls.__module__}:{cls.__qualname__}"
        if "title" not in cls.__dict__:
            cls.title = cls.__name__
        if "columns_only" not in cls.__dict__ and {"analyze", "analyze_held"} & cls.__dict__.keys():
            cls.columns_only = False  # a rule of its own says it for itself

    def __init__(self, params: StrategyParams) -> None:
        self.params = params

    @property
    @abstractmethod
    def lookback(self) -> int:
        """How many closed bars `analyze` needs; it may not depend on any bar before them."""

    @abstractmethod
    def analyze(self, bars: pd.DataFrame) -> Signal:
        """The signal of the last row of `bars`: closed bars, oldest first, at least `lookback` of them.

        Columns as in `COLUMNS`: `time` as UTC datetimes, prices as float64. Do not change `bars`.
        """

    def analyze_held(self, bars: pd.DataFrame, position: Position | None) -> Signal:
        """The signal where the bot holds `position` (None: nothing): `analyze`, unless the rule minds it.

        A strategy with an exit of its own overrides this, and answers EXIT where the position is to be closed.
        """
        return self.analyze(bars)

    @property
    def minds_position(self) -> bool:
        """Whether the rule looks at the bot's position: then the terminal is asked for it before each decision."""
        return type(self).analyze_held is not Strategy.analyze_held

    def decide(self, bars: pd.DataFrame, position: Position | None = None, at_hand: Columns | None = None) -> Signal:
        """The signal of exactly the last `lookback` bars: what bots, backtests and `analysis` call.

        Cutting here makes the answer the same however much history is at hand. Raises ValueError when there
        are fewer bars than `lookback`, TypeError when the strategy answers something else than a Signal.

        `at_hand` gives the columns of `bars` (exactly `lookback` rows) as `last` does: who decides on thousands of
        bars has them, and taking them out of a frame costs more than most rules. Where the rule is `columns_only`
        they count, whatever `bars` holds.
        """
        needed = self._enough(bars)
        self._at_hand = (bars, at_hand) if at_hand is not None else None
        signal = self.analyze_held(bars if len(bars) == needed else bars.iloc[-needed:], position)
        if not isinstance(signal, Signal) or signal.action not in ACTIONS:
            raise TypeError(f"{self.id} answered {signal!r}; a Signal with BUY, SELL, HOLD or EXIT is wanted")
        return signal

    def last(self, bars: pd.DataFrame, column: str) -> NDArray[np.float64]:
        """The last `lookback` values of a column as a float64 array, as TA-Lib wants it. Raises ValueError.

        Of `time`: seconds of the server's clock.
        """
        if self._at_hand is not None and bars is self._at_hand[0]:
            return self._at_hand[1](column)
        needed = self._enough(bars)
        if column == "time":
            return np.asarray(pd.DatetimeIndex(bars["time"].iloc[-needed:]).as_unit("ns").asi8 / 1e9)
        return bars[column].to_numpy(dtype=np.float64)[-needed:]

    def _enough(self, bars: pd.DataFrame) -> int:
        needed = self.lookback
        if len(bars) < needed:
            raise ValueError(f"{self.id} needs {needed} closed bars; there are {len(bars)}")
        return needed


def wilder_bars(period: int) -> int:
    """Bars after which Wilder's smoothing (RSI, ATR, ADX) has forgotten what was before them.

    The weight of its seed falls by (1 - 1/period) a bar; this is where it is below 1e-6, some 14 x period
    bars, and the `period` bars that make the seed itself.
    """
    return period + math.ceil(math.log(1e-6) / math.log1p(-1.0 / period)) if period > 1 else 2


def ema_bars(period: int, left: float = 1e-3) -> int:
    """Bars after which an exponential average (2 / (period + 1)) has forgotten what was before them.

    Where the weight of its seed, the mean of the first `period` bars, is below `left`: some 4.5 x period. Of a
    seed that lies a percent from the average, a hundred-thousandth of the price is left.
    """
    return period + math.ceil(math.log(left) / math.log1p(-2.0 / (period + 1))) if period > 1 else 2


def side_of(value: float, line: float) -> int:
    """1 above the line, -1 below it, 0 on it.

    Moving averages are running sums: in a market that stands still they differ by rounding alone. What is
    nearer than a billionth is on the line, far less than a price can move.
    """
    distance = value - line
    if abs(distance) <= 1e-9 * max(abs(value), abs(line)):
        return 0
    return 1 if distance > 0 else -1


def crossing(value_before: float, line_before: float, value: float, line: float) -> int:
    """1 when `value` crossed above `line` on the last bar, -1 when below, 0 otherwise (or where one is NaN)."""
    if math.isnan(value_before + line_before + value + line):
        return 0
    before, now = side_of(value_before, line_before), side_of(value, line)
    if now > 0 and before <= 0:
        return 1
    if now < 0 and before >= 0:
        return -1
    return 0


def figure(value: float) -> str:
    """A price or an indicator in an explanation: seven significant digits, no trailing zeros."""
    return f"{value:.7g}"
