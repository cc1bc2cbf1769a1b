"""The terminal that a gateway holds: what it must be able to do, and which one an account has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, cast

from broker.api import Terminal
from broker.mt5.opening import open_mt5
from broker.paper.remote import open_remote
from broker.paper.terminal import PaperTerminal, Step
from protocol.botconfig import AccountConfig
from protocol.errors import StablehandError
from protocol.spec import RunSpec

#: The embedded terminal dies with the gateway: no request outlives it, so absence counts soon after a start.
_SETTLE_EMBEDDED: Final = 0.25
_HANG_LIMIT: Final = 15.0


class HeldTerminal(Terminal, Protocol):
    """A terminal whose market a gateway moves."""

    @property
    def lockstep(self) -> bool: ...
    @property
    def interval(self) -> float | None: ...
    @property
    def now(self) -> int: ...
    def step(self) -> Step | None: ...
    def close(self) -> None: ...

    # What only a terminal that may be away has to say; `broker.steady` answers for the others.
    def tend(self) -> bool: ...
    def held(self) -> str: ...
    def barred(self, *, look: bool = False) -> str: ...
    def follow(self, symbol: str, timeframe: str) -> None: ...
    def knows(self, symbol: str) -> bool: ...
    def last_closed(self, symbol: str, timeframe: str) -> int | None: ...


#: Tells people one line; whether something is wrong since now.
Tell = Callable[[str, bool], None]


def open_terminal(spec: RunSpec, tell: Tell) -> HeldTerminal:
    """The terminal of the account. Raises StablehandError with the reason why it cannot be used.

    `tell` is called on the terminal's thread with what a real terminal's connection comes to.
    """
    if spec.account is None:
        raise StablehandError(f"gateway {spec.name} has no account to hold")
    folder, base = Path(spec.data_dir), Path(spec.config_dir)
    if spec.account.kind == "mt5":
        return cast(
            HeldTerminal, open_mt5(spec.account, name=spec.account_name, folder=folder, base_dir=base, tell=tell)
        )
    if spec.account.terminal == "process":
        # Its functions are made by name, which a protocol's check cannot see.
        return cast(HeldTerminal, open_remote(spec.account, name=spec.account_name, folder=folder, base_dir=base))
    database = folder / f"paper-{spec.account_name}.db"
    return PaperTerminal(spec.account, name=spec.account_name, database=database, base_dir=base)


def is_apart(account: AccountConfig) -> bool:
    """Whether the terminal is another process: it outlives the gateway, and does things that nobody here asked for."""
    return account.kind == "mt5" or account.terminal != "embedded"


def is_embedded(terminal: Terminal) -> bool:
    """Whether it is the paper terminal in this process: none of its answers can be lost on the way."""
    return isinstance(terminal, PaperTerminal)


def settle_of(account: AccountConfig) -> float:
    """Seconds after which the absence of a deal counts: longer than a request can still be on its way."""
    return 1.5 * account.terminal_timeout_seconds + 0.5 if is_apart(account) else _SETTLE_EMBEDDED


def hang_limit_of(account: AccountConfig) -> float:
    """Seconds that one call may last before the gateway counts as hung."""
    longest = account.terminal_timeout_seconds
    if account.kind == "mt5":
        longest = max(longest, account.connect_timeout_seconds)
    return max(_HANG_LIMIT, longest + 5.0)
