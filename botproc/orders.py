"""An order under way, and how its answer is told; what became of a bar."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from botproc.desk import OrderDraft
from botproc.holding import Held
from botproc.strategy import Signal
from broker import api
from broker.desk import HELD, NOT_CONNECTED
from protocol.messages import OrderResult

_RETCODES: Final[dict[int, str]] = {
    value: name.removeprefix("TRADE_RETCODE_").lower().replace("_", " ")
    for name, value in vars(api).items()
    if name.startswith("TRADE_RETCODE_")
}
#: The market moved, or the gateway itself refused: nothing is wrong with the bot.
_MILD: Final = frozenset(
    {
        0,
        api.TRADE_RETCODE_REQUOTE,
        api.TRADE_RETCODE_PRICE_CHANGED,
        api.TRADE_RETCODE_PRICE_OFF,
    }
)


Done = Literal["none", "opened", "closed", "reversed", "refused", "held", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a bar."""

    action: Done
    """`refused`: an order or an entry was. `held`: an order's fate is unknown, this one's or that of one which this one
    would have to wait for. `failed`: no terminal."""
    text: str = ""
    volume: float = 0.0
    """The bot's position afterwards, signed lots, as far as it is known."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent, and what is told of it once its fate is known."""

    draft: OrderDraft
    why: str
    data: dict[str, Any]
    held: Held | None = None
    """Close: what is closed."""
    id: str = ""
    """Known once it was answered."""

    def what(self, symbol: str) -> str:
        """The order in words."""
        return f"{self.draft.action} of {self.draft.side} {self.draft.volume:g} {symbol}"

    def told(self, result: OrderResult, volume: float, price: float, ticket: int) -> dict[str, Any]:
        """Data of the history row of a fill."""
        numbers = {"position": ticket, "order": result.order, "deal": result.deal, "volume": volume, "price": price}
        return {**self.data, **numbers, "decision": self.draft.decision}


def reason_of(result: OrderResult) -> str:
    """Why an order was refused: MetaTrader's retcode in words, and the reason that came with it."""
    name = _RETCODES.get(result.retcode, "")
    code = f"{name} ({result.retcode})" if name else ""
    if code and result.reason and result.reason.casefold() != name:
        return f"{code}: {result.reason}"
    return code or result.reason or "no reason given"


def refusal_kind(draft: OrderDraft, result: OrderResult) -> str:
    """Names the condition: the same reason with other figures is the same one."""
    return f"refused:{draft.action}:{result.retcode}:{re.sub(r'[0-9.]+', '#', result.reason)}"


def never_sent(draft: OrderDraft, result: OrderResult) -> bool:
    """Whether a close is known not to have reached the terminal, for a reason that passes.

    Of an entry nothing is known so surely: the ledger may have it already as the one of its decision.
    """
    return draft.action == "close" and result.status == "refused" and result.reason.startswith((HELD, NOT_CONNECTED))


def is_mild(draft: OrderDraft, result: OrderResult) -> bool:
    """An entry missed for an ordinary reason. A close that was refused never is: the position stays open."""
    return draft.action == "open" and result.retcode in _MILD


def figures_of(signal: Signal) -> dict[str, Any]:
    """A signal as data of a history row; a figure that is not a number is None."""
    return {
        "signal": signal.action,
        "signal_price": float(signal.price),
        "figures": {name: float(value) if math.isfinite(value) else None for name, value in signal.figures.items()},
    }
