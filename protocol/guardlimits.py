"""The limits of the guards, as they stand in the file: the same keys for a bot and for an account."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from protocol.schedule import parse_hours


class GuardLimits(BaseModel):
    """What a bot (or all bots of an account together) may do at the most. 0 is no limit, and what is not said is 0."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    max_daily_loss: float = Field(0.0, ge=0, le=1e12)
    """Loss of a server day, in the account's currency (closed today, and open now), at which entries end until the \
next server day."""
    max_drawdown_percent: float = Field(0.0, ge=0, le=100)
    """Fall from the highest point, in percent, at which entries end until `resume-trading`: of an account its equity, \
of a bot its result in percent of the account's balance."""
    max_consecutive_stop_losses: int = Field(0, ge=0, le=1000)
    """So many stop losses in a row end entries for `stop_loss_cooldown_minutes`."""
    stop_loss_cooldown_minutes: float = Field(60.0, gt=0, le=1_000_000)
    """How long entries rest after `max_consecutive_stop_losses`, in minutes of server time."""
    max_open_positions: int = Field(0, ge=0, le=100_000)
    """Positions open at the same time."""
    max_lots: float = Field(0.0, ge=0, le=1e9)
    """Lots open at the same time, long and short added up."""
    max_orders_per_minute: int = Field(0, ge=0, le=100_000)
    """Entries in any 60 seconds of server time."""
    trading_hours: tuple[str, ...] = Field((), strict=False)  # a list is what TOML and JSON have
    """Entries are allowed only then: `"Mon-Fri 08:00-17:00"`, in server time; several: in any of them."""
    calendar: str = Field("", max_length=1000)
    """File of pauses for news and holidays, relative to the configuration file: lines `from,until,reason,symbols`."""

    @field_validator("trading_hours")
    @classmethod
    def _hours(cls, hours: tuple[str, ...]) -> tuple[str, ...]:
        parse_hours(hours)
        return hours

    def guards(self) -> dict[str, Any]:
        """The limits that are set, as plain values."""
        found = {name: getattr(self, name) for name in GuardLimits.model_fields if getattr(self, name)}
        if not self.max_consecutive_stop_losses:
            del found["stop_loss_cooldown_minutes"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
