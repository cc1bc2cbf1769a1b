"""How a function of the terminal answers: a value, or None and a reason in `last_error`; never an exception."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

from broker.api import (
    RES_E_AUTO_TRADING_DISABLED,
    RES_E_FAIL,
    RES_E_INTERNAL_FAIL_CONNECT,
    RES_E_INVALID_PARAMS,
    RES_E_NOT_FOUND,
    RES_E_UNSUPPORTED,
    RES_S_OK,
)

_TEXTS: Final = {
    RES_S_OK: "Success",
    RES_E_FAIL: "Terminal: Call failed",
    RES_E_INVALID_PARAMS: "Terminal: Invalid params",
    RES_E_NOT_FOUND: "Terminal: Not found",
    RES_E_UNSUPPORTED: "Terminal: Unsupported",
    RES_E_AUTO_TRADING_DISABLED: "Auto-Trading using Python API disabled in Terminal",
    RES_E_INTERNAL_FAIL_CONNECT: "No IPC connection",
}

SUCCESS: Final = (RES_S_OK, _TEXTS[RES_S_OK])

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F")
S = TypeVar("S", bound="Answering")


class Answering(Protocol):
    """What has functions of the terminal: it is connected or not, and keeps the last error."""

    connected: bool
    error: tuple[int, str]


class Failed(Exception):
    """Ends a terminal function: its caller gets None (or False), and `last_error` this code and text."""

    def __init__(self, code: int, text: str | None = None) -> None:
        super().__init__(code, text)
        self.error = (code, text or _TEXTS[code])


def answers(function: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T | None]:
    """Makes a function of the terminal: it sets `last_error`, and answers None after Failed or offline."""
    return answers_or(None)(function)


def answers_or(failed: F) -> Callable[[Callable[Concatenate[S, P], T]], Callable[Concatenate[S, P], T | F]]:
    """The same with another answer than None for a failure."""

    def make(function: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T | F]:
        @functools.wraps(function)
        def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T | F:
            try:
                if not self.connected:
                    raise Failed(RES_E_INTERNAL_FAIL_CONNECT)
                value = function(self, *args, **kwargs)
            except Failed as failure:
                self.error = failure.error
                return failed
            self.error = SUCCESS
            return value

        return call

    return make
