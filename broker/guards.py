"""The guards' rules: what a bot or an account may do, judged by its deals, positions, figures and the time. Pure.

All times are seconds of the terminal's server clock, all money is in the account's currency. A `Trip` is latched
by whoever asks; a refusal holds for the one entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, NamedTuple

from broker import api
from broker.structs import TradeDeal
from protocol.schedule import Pause, Window, open_at, parse_hours, pause_at

DAY: Final = 86_400
MINUTE: Final = 60
_LOT: Final = 1e-9
_EXITS: Final = frozenset({api.DEAL_ENTRY_OUT, api.DEAL_ENTRY_INOUT, api.DEAL_ENTRY_OUT_BY})
_STOPS: Final = frozenset({api.DEAL_REASON_SL, api.DEAL_REASON_SO})
_FUNDING: Final = frozenset({api.DEAL_TYPE_BALANCE, api.DEAL_TYPE_CREDIT})


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that are set; None (or empty) is no limit. See `protocol.guardlimits` for what each means."""

    max_daily_loss: float | None = None
    max_drawdown_percent: float | None = None
    max_consecutive_stop_losses: int | None = None
    stop_loss_cooldown_minutes: float = 60.0
    max_open_positions: int | None = None
    max_lots: float | None = None
    max_orders_per_minute: int | None = None
    trading_hours: tuple[Window, ...] = ()
    calendar: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Limits:
        """The limits out of plain values; keys that are not known are ignored (a newer supervisor's)."""
        known = {name: values[name] for name in (each.name for each in fields(cls)) if values.get(name)}
        if "trading_hours" in known:
            known["trading_hours"] = parse_hours(known["trading_hours"])
        return cls(**known)

    @property
    def any(self) -> bool:
        """Whether anything is limited."""
        return self != _NONE

    @property
    def watches(self) -> bool:
        """Whether a limit can be broken without an entry being asked for."""
        return bool(self.max_daily_loss or self.max_drawdown_percent or self.max_consecutive_stop_losses)


_NONE: Final = Limits()


class Done(NamedTuple):
    """What the guards keep of a deal."""

    time: int
    money: float  # profit, commission, swap and fee
    entered: bool
    left: bool
    stopped: bool  # by its stop loss, or by the broker's stop-out

    @classmethod
    def of(cls, deal: TradeDeal) -> Done | None:
        """Of a deal; None of a deposit, a withdrawal or a credit, which is no result of trading."""
        if deal.type in _FUNDING:
            return None
        left = deal.entry in _EXITS and deal.type in (api.DEAL_TYPE_BUY, api.DEAL_TYPE_SELL)
        return cls(
            time=deal.time,
            money=deal.profit + deal.commission + deal.swap + deal.fee,
            entered=deal.entry == api.DEAL_ENTRY_IN and deal.type in (api.DEAL_TYPE_BUY, api.DEAL_TYPE_SELL),
            left=left,
            stopped=left and deal.reason in _STOPS,
        )


@dataclass(frozen=True, slots=True)
class Tally:
    """What the deals so far amount to. `rest_until`: end of the last cool-down, 0 without one."""

    day: int = 0
    today: float = 0.0  # realised on that server day
    total: float = 0.0
    streak: int = 0
    rest_until: int = 0

    def add(self, deal: Done, limits: Limits) -> Tally:
        """The tally after one more deal; deals come in the order of their times."""
        day = deal.time // DAY
        today = (self.today if day == self.day else 0.0) + deal.money
        after = replace(self, day=day, today=today, total=self.total + deal.money)
        if not deal.left or deal.time < self.rest_until:
            return after
        streak = self.streak + 1 if deal.stopped and deal.money < 0 else 0
        if limits.max_consecutive_stop_losses and streak >= limits.max_consecutive_stop_losses:
            rest = deal.time + int(limits.stop_loss_cooldown_minutes * MINUTE)
            return replace(after, streak=0, rest_until=rest)
        return replace(after, streak=streak)

    def lost_today(self, floating: float, now: int) -> float:
        """Loss of the server day: what was closed at a loss today and what is open at a loss; 0 in profit."""
        realised = self.today if now // DAY == self.day else 0.0
        return max(0.0, -(realised + floating))


@dataclass(frozen=True, slots=True)
class Facts:
    """A bot's or an account's situation at one moment."""

    now: int
    positions: int = 0
    lots: float = 0.0
    floating: float = 0.0
    worth: float = 0.0  # equity of an account, result of a bot (realised and floating)
    peak: float = 0.0  # the highest worth so far
    base: float = 0.0  # what a fall from the peak is measured against: the peak, or the account's balance
    recent: Sequence[int] = field(default_factory=tuple)  # times of the last entries


class Trip(NamedTuple):
    """A limit that is broken. `until`: server seconds at which it holds no longer by itself; 0: never."""

    rule: str
    reason: str
    until: int


def trips(limits: Limits, tally: Tally, facts: Facts) -> list[Trip]:
    """The limits that are broken whatever is asked for next."""
    found = []
    lost = tally.lost_today(facts.floating, facts.now)
    if limits.max_daily_loss and lost >= limits.max_daily_loss:
        tomorrow = (facts.now // DAY + 1) * DAY
        text = f"lost {lost:.2f} today; at most {limits.max_daily_loss:g}; until the next server day"
        found.append(Trip("max_daily_loss", text, tomorrow))
    fall = facts.peak - facts.worth
    if limits.max_drawdown_percent and facts.base > 0 and fall > 0:
        percent = 100.0 * fall / facts.base
        if percent >= limits.max_drawdown_percent:
            text = f"{percent:.2f} % ({fall:.2f}) below the highest point; at most {limits.max_drawdown_percent:g} %"
            found.append(Trip("max_drawdown_percent", text, 0))
    if limits.max_consecutive_stop_losses and facts.now < tally.rest_until:
        text = (
            f"{limits.max_consecutive_stop_losses} stop losses in a row; "
            f"entries rest for {limits.stop_loss_cooldown_minutes:g} minutes of server time"
        )
        found.append(Trip("max_consecutive_stop_losses", text, tally.rest_until))
    return found


def refuses(limits: Limits, facts: Facts, symbol: str, volume: float, pauses: Iterable[Pause] = ()) -> str:
    """Why this one entry is refused; empty when it is not."""
    if limits.max_open_positions and facts.positions >= limits.max_open_positions:
        return f"max_open_positions: {facts.positions} open; at most {limits.max_open_positions}"
    if limits.max_lots and facts.lots + volume > limits.max_lots + _LOT:
        return f"max_lots: {facts.lots:g} open and {volume:g} more; at most {limits.max_lots:g}"
    if limits.max_orders_per_minute:
        count = sum(1 for moment in facts.recent if facts.now - moment < MINUTE)
        if count >= limits.max_orders_per_minute:
            return f"max_orders_per_minute: {count} in the last minute; at most {limits.max_orders_per_minute}"
    if not open_at(limits.trading_hours, facts.now):
        return "trading_hours: no entries at this server time"
    pause = pause_at(pauses, symbol, facts.now)
    return f"calendar: {pause.reason}" if pause is not None else ""
