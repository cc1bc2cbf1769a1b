"""What can be wrong with a connection to a terminal, and the line that says so and what to do about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from broker import api
from broker.mt5 import takeover
from protocol.locks import LockHeld


class Kind(Enum):
    """What can be wrong."""

    IPC = "ipc"  # no connection to the terminal's process
    MISSING = "missing"  # there is no terminal where it should be
    LOGIN = "login"  # the broker or the terminal refused the login
    VERSION = "version"
    API_OFF = "api off"  # Python is shut out in the terminal's options
    TAKEN = "taken"  # another gateway of this host holds the account
    SECRET = "secret"  # the password cannot be read
    OTHER_ACCOUNT = "other account"
    FAILING = "failing"  # it is connected to, and cannot answer what account it is
    OFFLINE = "offline"  # the terminal has no connection to the broker
    BUTTON_OFF = "button off"  # algorithmic trading is switched off in the terminal
    EXPERTS_OFF = "experts off"  # the server takes no orders of programs
    READ_ONLY = "read only"  # an investor's password, or an account that may not trade


#: Nothing can be read: the terminal is opened again.
CLOSED: Final = frozenset({Kind.IPC, Kind.MISSING, Kind.LOGIN, Kind.VERSION, Kind.API_OFF, Kind.SECRET, Kind.TAKEN})
CAREFULLY: Final = frozenset({Kind.LOGIN, Kind.VERSION, Kind.SECRET})
#: What is read belongs to somebody else, or may be old: no bot begins.
HOLDING: Final = CLOSED | {Kind.OTHER_ACCOUNT, Kind.OFFLINE, Kind.FAILING}
#: What the terminal shows may have stood still meanwhile: when it is over, what was missed is still loaded.
STALE: Final = CLOSED | {Kind.OFFLINE}
#: What a look has found, and only a look can find to be over: those that fail say nothing of it.
SEEN: Final = frozenset({Kind.OTHER_ACCOUNT, Kind.API_OFF, Kind.OFFLINE})


@dataclass(frozen=True, slots=True)
class Account:
    """Whose terminal it should be, and how patiently it is opened again (seconds)."""

    login: int
    server: str
    path: str
    first_wait: float = 1.0
    longest_wait: float = 60.0


def kind_of(code: int) -> Kind | None:
    """What a code of `last_error` says of the connection; None: nothing."""
    if code <= api.RES_E_INTERNAL_FAIL:
        return Kind.IPC
    return {
        api.RES_E_AUTH_FAILED: Kind.LOGIN,
        api.RES_E_INVALID_VERSION: Kind.VERSION,
        api.RES_E_AUTO_TRADING_DISABLED: Kind.API_OFF,
    }.get(code)


def line_of(kind: Kind, account: Account, code: int, text: str, login: int = 0) -> str:
    """What is wrong, and what to do about it."""
    said = f" ({code}: {text})" if text else ""
    at = f" at {account.server}" if account.server else ""
    match kind:
        case Kind.IPC:
            return f"no connection to the terminal{said}; it is started and connected to again by itself"
        case Kind.MISSING:
            return f"there is no terminal at {account.path}; install it there, or mend `path`"
        case Kind.LOGIN:
            return f"login {account.login}{at} was refused{said}; check login, server and password"
        case Kind.VERSION:
            return f"terminal and package MetaTrader5 do not fit{said}; update both"
        case Kind.API_OFF:
            return (
                "the terminal shuts Python out; clear Tools > Options > Expert Advisors > "
                "Disable algorithmic trading via external Python API"
            )
        case Kind.SECRET | Kind.TAKEN:
            return text
        case Kind.OTHER_ACCOUNT:
            return f"the terminal is logged in to {login}, not to {account.login}; nothing is sent until it is back"
        case Kind.FAILING:
            return f"the terminal does not say whose account it has{said}; it is asked again by itself"
        case Kind.OFFLINE:
            return "the terminal has no connection to the broker's server; waiting for it"
        case Kind.BUTTON_OFF:
            return "algorithmic trading is switched off in the terminal; press Algo Trading in its toolbar"
        case Kind.EXPERTS_OFF:
            return f"the server takes no orders of programs on {account.login}; ask the broker"
        case Kind.READ_ONLY:
            return f"login {account.login} may only read; log in with the trading password, not the investor's"


def taken(account: Account, error: LockHeld | OSError) -> str:
    """Why the account's lock on this host cannot be had: who holds it, and what to do."""
    if isinstance(error, LockHeld):
        return (
            f"{_whose(account)} has a gateway on this host already ({holder(error)}); stop that one: this one waits, "
            f"and takes over when it has been gone for {takeover.SECONDS:g} s"
        )
    return (
        f"{_whose(account)} cannot be locked on this host: {error.filename}: {error.strerror}; it is another user's: "
        "stop the gateway there and remove the file"
    )


def gone(account: Account, by: str) -> str:
    """Why an account's lock is not kept though it could be had. `by`: who had it until a moment ago."""
    return (
        f"{_whose(account)} had another gateway on this host ({by}), which may come back; this one waits, "
        f"and takes over when it has been gone for {takeover.SECONDS:g} s"
    )


def holder(error: LockHeld | OSError) -> str:
    """Who holds an account's lock."""
    if not isinstance(error, LockHeld):
        return "another user's"
    process = f"process {error.pid}" if error.pid else "another process"
    return process + (f", data in {error.note}" if error.note else "")


def _whose(account: Account) -> str:
    return f"login {account.login} at {account.server}" if account.server else f"login {account.login}"
