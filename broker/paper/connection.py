"""The four functions of the module that make and end a connection, and `step`.

Arguments that are wrong give False and a reason in `last_error()`. `path` and `login` may be named as well: scripts
do both.
"""

from __future__ import annotations

from typing import Any

from broker.api import RES_E_INVALID_PARAMS
from broker.paper.session import SESSION, fits


@fits
def initialize(
    path: str | None = None, *, login: int | None = None, password: str | None = None, server: str | None = None,
    timeout: int = 60_000, portable: bool = False,
) -> bool:  # fmt: skip
    """Open a paper account; see `broker.paper.places` for what `path` may be.

    `login` is the account's number; an account of a folder is made with any number at its first use. `password`
    is not looked at: there is nothing to protect. `timeout` in milliseconds: opening takes no time to speak of.
    """
    with SESSION.lock:
        if not _right(path=path, login=login, password=password, server=server, timeout=timeout):
            return False
        return SESSION.open(path, login, server, portable=bool(portable))


@fits
def login(
    login: int, *, password: str | None = None, server: str | None = None, timeout: int = 60_000
) -> bool:  # fmt: skip
    """Change to another account of the same installation or folder."""
    with SESSION.lock:
        if not _right(login=login, password=password, server=server, timeout=timeout):
            return False
        return SESSION.relogin(login, server)


def shutdown() -> None:
    """Leave the terminal. The account stays in its database."""
    with SESSION.lock:
        SESSION.close()


def last_error() -> tuple[int, str]:
    """Code and text of the last call's failure; (1, "Success") after a success."""
    return SESSION.error


def step() -> bool:
    """Not of MetaTrader: let the market make its next move now; False where the data has ended.

    Needed where the market waits: `bars_per_second = "max"`.
    """
    with SESSION.lock:
        return SESSION.terminal.step() is not None


def _right(**arguments: Any) -> bool:
    """Whether the arguments of a connection have the right types; else the last error says which has not."""
    for name, value in arguments.items():
        number = name in ("login", "timeout")
        if value is None and name != "timeout":
            continue
        right = (
            isinstance(value, int) and not isinstance(value, bool) and value > 0 if number else isinstance(value, str)
        )
        if not right:
            SESSION.error = (RES_E_INVALID_PARAMS, f'Invalid "{name}" argument')
            return False
    return True
