"""An entry on a netting account: its symbol has one position, whoever opened it, and an order goes into that one."""

from __future__ import annotations

from broker import api
from broker.api import Terminal
from broker.structs import AccountInfo
from protocol.messages import Order


def nets(account: AccountInfo) -> bool:
    """Whether a symbol has one position only, as on exchange accounts as well."""
    return account.margin_mode != api.ACCOUNT_MARGIN_MODE_RETAIL_HEDGING


class Netting:
    """For the terminal thread. Where each entry is a position of its own nothing is asked, but for that, once."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._nets: bool | None = None

    def entry(self, order: Order) -> str:
        """Why this entry would go into a position that is not its bot's; empty when it would not.

        Orders of others that wait on the symbol are no position yet: an entry changes nothing of theirs.
        """
        if self._nets is None:
            account = self._terminal.account_info()
            if account is None:
                return self._unread("account")
            self._nets = nets(account)
        if not self._nets:
            return ""
        held = self._terminal.positions_get(symbol=order.symbol)
        if held is None:
            return self._unread(f"position on {order.symbol}")
        other = next((one for one in held if one.magic != order.magic), None)
        if other is None:
            return ""
        return f"netting: the position on {order.symbol} is not this bot's (magic {other.magic})"

    def _unread(self, what: str) -> str:
        return f"the {what} cannot be read: {self._terminal.last_error()[1]}"
