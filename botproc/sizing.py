"""How many lots: so many that a stop-out loses the share of the balance that the bot may risk.

Decimal throughout: in floats 0.3 / 0.1 is 2.9999999999999996, and a floor of that is a lot too few.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Any, Final, Literal

#: Float noise of a computed loss; money has two or three digits.
_MONEY_NOISE: Final = Decimal("1e-8")


class NoEntry(Exception):
    """No position is opened. `kind` names the condition, so that a repetition is told once; the text says why."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


@dataclass(frozen=True, slots=True)
class Sizing:
    """The volume of an entry."""

    volume: float
    """Lots: a multiple of volume_step, within volume_min, volume_max and volume_limit."""
    risk: float
    """What the stop loses with this volume, in account currency."""
    note: str = ""
    """What kept it from the volume that the risk allows, if anything did."""


def exact(value: float) -> Decimal:
    """The decimal number that a float is written as: 1e-05 is exactly 0.00001."""
    return Decimal(str(float(value)))


def lots(
    *,
    balance: float,
    risk_percent: float,
    loss_of_one_lot: float,
    info: dict[str, Any],
    min_lot: Literal["refuse", "accept"],
) -> Sizing:
    """floor(balance * risk% / 100 / loss of one lot / volume_step) * volume_step.

    `loss_of_one_lot` in account currency, positive. Raises NoEntry below volume_min (unless `min_lot` accepts
    it: then the risk is more than asked for, and the note says so) and where the figures make no sense.
    """
    step, least = exact(info["volume_step"]), exact(info["volume_min"])
    loss = exact(loss_of_one_lot).quantize(_MONEY_NOISE)
    money = exact(balance) * exact(risk_percent) / 100
    if step <= 0:
        raise NoEntry("volume_step", f"the terminal gives no volume step for {info.get('name', 'the symbol')}")
    if loss <= 0:
        raise NoEntry("loss", "one lot loses nothing at the stop: the volume cannot be computed")
    if money <= 0:
        raise NoEntry("balance", f"no money to risk: the balance is {balance:.2f}")
    volume = _floor(money / (loss * step)) * step
    wanted, note = volume, ""
    if volume < least:
        shown = f"{risk_percent:g} % of {balance:.2f} is {money:.2f}, and {least} lots would lose {loss * least:.2f}"
        if min_lot == "refuse":
            raise NoEntry("volume_min", f"the risk allows less than the smallest volume: {shown}")
        volume, note = least, f"smallest volume accepted, above the risk: {shown}"
    ceiling = _ceiling(info, step)
    if ceiling is not None and volume > ceiling:
        if ceiling < least:
            raise NoEntry("volume_limit", f"the symbol's volume limit {ceiling} is below its smallest volume {least}")
        volume, note = ceiling, f"capped at the symbol's largest volume {ceiling} (the risk allows {wanted})"
    return Sizing(float(volume), float(round(volume * loss, 2)), note)


def _floor(value: Decimal) -> Decimal:
    return value.to_integral_value(rounding=ROUND_FLOOR)


def _ceiling(info: dict[str, Any], step: Decimal) -> Decimal | None:
    """The smaller of volume_max and volume_limit (0: none), on the grid of steps."""
    caps = [exact(info.get(key) or 0.0) for key in ("volume_max", "volume_limit")]
    caps = [cap for cap in caps if cap > 0]
    return _floor(min(caps) / step) * step if caps else None
