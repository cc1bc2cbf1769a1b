"""What the bot holds, as the terminal tells it, compared with what the bot did itself.

The broker is the truth. A stop or a target that was hit, and a hand that moved something, are noticed at the
next look and told once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from botproc.conditions import Report
from botproc.desk import Desk, Side
from broker.api import DEAL_ENTRY_IN, DEAL_REASON_SL, DEAL_REASON_SO, DEAL_REASON_TP, POSITION_TYPE_BUY
from protocol.errors import StablehandError

_BROKER_CLOSES: Final = {
    DEAL_REASON_SL: "stop loss hit",
    DEAL_REASON_TP: "take profit hit",
    DEAL_REASON_SO: "stop out",
}


@dataclass(frozen=True, slots=True)
class Held:
    """An open position: lots, prices; `identifier` names it for life, the ticket can change on netting accounts."""

    ticket: int
    identifier: int
    side: Side
    volume: float
    price: float
    sl: float
    tp: float

    @property
    def signed(self) -> float:
        """Lots, + long and - short."""
        return self.volume if self.side == "buy" else -self.volume

    def __str__(self) -> str:
        return f"{self.side} {self.volume:g} at {self.price:g} (#{self.ticket})"


def held_of(position: dict[str, Any]) -> Held:
    """A TradePosition as the bot keeps it."""
    ticket = int(position["ticket"])
    return Held(
        ticket=ticket,
        identifier=int(position.get("identifier") or ticket),
        side="buy" if position["type"] == POSITION_TYPE_BUY else "sell",
        volume=float(position["volume"]),
        price=float(position.get("price_open") or 0.0),
        sl=float(position.get("sl") or 0.0),
        tp=float(position.get("tp") or 0.0),
    )


def signed_of(position: dict[str, Any] | None) -> float:
    """A TradePosition's volume in lots, + long and - short; 0 without one."""
    return 0.0 if position is None else held_of(position).signed


def money_of(deal: dict[str, Any] | None) -> float | None:
    """What a deal brought: profit, commission, swap and fee together, in account currency."""
    if deal is None:
        return None
    return round(sum(float(deal.get(key) or 0.0) for key in ("profit", "commission", "swap", "fee")), 2)


class Holding:
    """The bot's position. `current` is what the last look said; `known` is False until the first one."""

    def __init__(self, desk: Desk, report: Report, symbol: str) -> None:
        self._desk = desk
        self._report = report
        self._symbol = symbol
        self.current: Held | None = None
        self.known = False

    def look(self) -> Held | None:
        """Ask the terminal and tell what changed without the bot. Raises StablehandError: position unknown."""
        position = self._desk.position()
        now = None if position is None else held_of(position)
        before, knew = self.current, self.known
        self.current, self.known = now, True
        if not knew:
            if now is not None:
                self._report("INFO", f"holds {now} {self._symbol} from before", {"position": now.ticket})
        elif before is not None and (now is None or now.identifier != before.identifier):
            self._gone(before)
            if now is not None:
                self._strange(f"a position that this bot did not open: {now} {self._symbol}; it is its own now", now)
        elif before is None and now is not None:
            self._strange(f"a position that this bot did not open: {now} {self._symbol}; it is its own now", now)
        elif before is not None and now is not None and _shape(now) != _shape(before):
            text = f"position #{before.ticket} was changed from outside: {_changes(before, now)}"
            self._report("WARNING", text, {"position": now.ticket, "volume": now.signed})
        return now

    def settle(self) -> Held | None:
        """Take the terminal's word after the bot's own order, without remark. Raises StablehandError."""
        self.known = False
        position = self._desk.position()
        self.current = None if position is None else held_of(position)
        self.known = True
        return self.current

    def accept(self, position: dict[str, Any]) -> Held:
        """The position as an order's answer tells it."""
        self.current, self.known = held_of(position), True
        return self.current

    def last_deal(self, held: Held) -> dict[str, Any] | None:
        """The position's newest deal, None where it cannot be told: nothing is decided by it."""
        try:
            return self._desk.last_deal(held.identifier)
        except StablehandError:
            return None

    def _gone(self, before: Held) -> None:
        deal = self.last_deal(before)
        reason = -1 if deal is None else int(deal.get("reason", -1))
        left = deal is not None and deal.get("entry") != DEAL_ENTRY_IN
        if deal is not None and left and reason in _BROKER_CLOSES:
            money, price = money_of(deal), float(deal.get("price") or 0.0)
            text = f"{_BROKER_CLOSES[reason]}: {before} {self._symbol} closed at {price:g}, {money:+.2f}"
            data = {"position": before.ticket, "deal": int(deal.get("ticket", 0)), "volume": before.volume}
            self._report(
                f"CLOSE_{before.side.upper()}",
                text,
                {**data, "price": price, "profit": money, "reason": _BROKER_CLOSES[reason]},
            )
            return
        how = "closed from outside" if left else "gone, and no deal says why"
        self._report("WARNING", f"position {before} {self._symbol} is {how}", {"position": before.ticket})

    def _strange(self, text: str, now: Held) -> None:
        self._report("WARNING", text, {"position": now.ticket, "volume": now.signed})


def _shape(held: Held) -> tuple[object, ...]:
    return (held.ticket, held.side, round(held.volume, 8), held.sl, held.tp)


def _changes(before: Held, now: Held) -> str:
    pairs = [(name, getattr(before, name), getattr(now, name)) for name in ("ticket", "side", "volume", "sl", "tp")]
    return ", ".join(f"{name} {old} -> {new}" for name, old, new in pairs if old != new)
