"""The keys of an account that a real MetaTrader 5 terminal holds, and which keys fit which kind of account."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Collection
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from protocol.guardlimits import GuardLimits
from protocol.remotegateway import places

PACKAGE: Final = "MetaTrader5"
#: For tests: names another module with the package's 32 functions. Not for users, and no key of the file.
MODULE_VARIABLE: Final = "STABLEHAND_MT5_MODULE"

#: Where a password may be said to lie; exactly one is given.
PASSWORD_KEYS: Final = ("password_env", "password_keyring", "password_credential")
_TERMINAL: Final = frozenset(
    {
        "path", "login", "server", *PASSWORD_KEYS, "portable", "connect_timeout_seconds", "terminal_timeout_seconds",
        "poll_seconds", "reconnect_initial_seconds", "reconnect_max_seconds",
    }
)  # fmt: skip
_REMOTE: Final = frozenset({"address", "gateway_key"})
#: Keys that a paper account has too.
_SHARED: Final = frozenset({"path", "terminal_timeout_seconds"})


class Mt5Keys(BaseModel):
    """Where a real terminal is, and how its account is logged in to."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    login: int = Field(0, ge=0, le=2**63 - 1)
    """`mt5`: number of the account."""
    server: str = Field("", max_length=200)
    """`mt5`: the broker's server, as the terminal's login window names it."""
    password_env: str = Field("", max_length=200)
    """`mt5`: name of the environment variable that holds the password."""
    password_keyring: str = Field("", max_length=200)
    """`mt5`: service under which the system's keyring holds the password, with the login as user name."""
    password_credential: str = Field("", max_length=200)
    """`mt5`: name of the systemd credential that holds the password (`LoadCredential=`)."""
    portable: bool = False
    """`mt5`: start the terminal with `/portable`: its data lie in its own folder."""
    connect_timeout_seconds: float = Field(60.0, gt=0, le=600)
    """`mt5`: how long starting the terminal and logging in may take."""
    poll_seconds: float = Field(0.25, ge=0.01, le=60)
    """`mt5`: how often the terminal is asked for new ticks; a bar is asked for once it can have closed."""
    reconnect_initial_seconds: float = Field(1.0, ge=0.01, le=600)
    """`mt5`: wait before the second attempt to connect again; doubled each time. Ten times as long after a refused
    login, so that the broker does not lock the account."""
    reconnect_max_seconds: float = Field(60.0, ge=0.01, le=3600)
    """`mt5`: the longest wait between two attempts (ten times as long after a refused login)."""
    address: str = Field("", max_length=300, pattern=r"^$|^tcp://([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):[1-9][0-9]{0,4}$")
    """`mt5-remote`: where the account's gateway listens, `tcp://HOST:PORT`; it takes that port and the next three."""
    gateway_key: str = Field("", pattern=r"^$|^[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}$")
    """`mt5-remote`: public key of that gateway; `stablehand gateway FILE --show-key` prints it there."""


def misfit(kind: str, given: Collection[str]) -> str | None:
    """The first of the keys given that an account of this kind does not have; None when all fit."""
    guards = frozenset(GuardLimits.model_fields) | {"kind"}
    for key in given:
        if key in guards:
            continue
        fits = {
            "paper": key not in (_TERMINAL | _REMOTE) - _SHARED,
            "mt5": key in _TERMINAL,
            "mt5-remote": key in _REMOTE,
        }[kind]
        if not fits:
            return key
    return None


def keys_of(kind: str) -> list[str]:
    """The keys of a kind besides the guards; of `paper` none, since there are many."""
    return sorted({"mt5": _TERMINAL, "mt5-remote": _REMOTE}.get(kind, frozenset()))


def module_name() -> str:
    """The module that stands for the terminal: the package, except in tests."""
    return os.environ.get(MODULE_VARIABLE) or PACKAGE


def module_is_there() -> bool:
    """Whether that module can be found on this system, without importing the package."""
    return module_name() != PACKAGE or importlib.util.find_spec(PACKAGE) is not None


def what_is_wrong(kind: str, login: int, passwords: Collection[str], address: str, gateway_key: str) -> str:
    """What an account of a real terminal lacks, as `key: what would be right`; empty when it is complete.

    `passwords`: the password keys that are set.
    """
    if kind == "mt5":
        if not login:
            return "login: the account's number is needed, as login = 5012345"
        if len(passwords) != 1:
            right = 'one of password_env = "NAME", password_keyring = "SERVICE", password_credential = "NAME"'
            return f"{next(iter(sorted(passwords)), 'password_env')}: where is the password? give {right}"
        if not module_is_there():
            return "kind: the package MetaTrader5 is not installed here, and exists for Windows only; run this on "\
                   'Windows, or the gateway there and kind = "mt5-remote" here (docs/metatrader5.md)'  # fmt: skip
    if kind == "mt5-remote":
        if not address:
            return 'address: where does the gateway listen? address = "tcp://HOST:5600"'
        try:
            places(address)
        except ValueError as error:
            return f"address: {error}"
        if not gateway_key:
            return "gateway_key: the gateway's public key is needed; stablehand gateway FILE --show-key prints it"
    return ""
