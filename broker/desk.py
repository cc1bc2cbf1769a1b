"""What trading needs of a gateway, and what can go wrong with it."""

from __future__ import annotations

from typing import Any, Final, Protocol

from protocol.errors import StablehandError
from protocol.messages import Order, OrderResult

#: Error code of a read by a connection that the gateway does not know (it was started anew): attach again.
NOT_ATTACHED: Final = -20001
#: What the gateway says of an order that it has accepted and not answered yet.
UNDER_WAY: Final = "under way"
#: How the gateway's reason begins for an order that it does not send while the outcome of another is not known.
HELD: Final = "held: "
#: The reason of an order that has not left, because there was no connection.
NOT_CONNECTED: Final = "gateway is not connected; nothing was sent"


class GatewayDown(StablehandError):
    """The gateway does not answer, or not yet. Nothing is decided: try again."""

    code = "unavailable"


class Woken(GatewayDown):
    """The wait was left early, because there is something else to do (a stop, a pause)."""


class AttachDenied(StablehandError):
    """The gateway will not open the account to this run: no retry helps."""

    code = "refused"


class TerminalFailed(StablehandError):
    """The terminal answered None or False: an error, never "nothing there". `number` is its last_error code."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(f"terminal: {text} ({number})")
        self.number = number


class HasFileno(Protocol):
    """Anything that a poller can watch."""

    def fileno(self) -> int:
        """The descriptor, readable when the main loop should look up."""


class TerminalDesk(Protocol):
    """What trading needs of the gateway; the live one is GatewayClient."""

    def call(self, fn: str, *args: Any, timeout: float = 5.0, **kwargs: Any) -> Any:
        """A read of the terminal."""

    def send(self, order: Order, timeout: float = 10.0) -> OrderResult:
        """One order, sent once."""

    def resolve(self, order_id: str, timeout: float = 5.0) -> OrderResult:
        """What became of an order."""
