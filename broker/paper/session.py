"""The one terminal of a process that the module's functions talk to, as a process has one in MetaTrader5."""

from __future__ import annotations

import functools
import inspect
import threading
import time
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from broker.api import (
    RES_E_AUTH_FAILED,
    RES_E_INTERNAL_FAIL_CONNECT,
    RES_E_INTERNAL_FAIL_INIT,
    RES_E_INVALID_PARAMS,
    RES_S_OK,
)
from broker.paper import places
from broker.paper.terminal import PaperTerminal
from protocol.errors import StablehandError
from protocol.locks import FileLock

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F")

_SUCCESS: Final = (RES_S_OK, "Success")
_NOT_CONNECTED: Final = (RES_E_INTERNAL_FAIL_CONNECT, "No IPC connection")
#: Steps that one call makes at most when it finds the market far behind; the rest is left out.
_MOST_STEPS: Final = 100_000


class NotConnected(Exception):
    """`initialize` has not been called, or `shutdown` has."""


class Session:
    """A terminal, its lock, the last error, and a market that goes on by itself.

    Nothing runs in the background: each call first lets the market make the steps that are due by the monotonic
    clock. Where the market waits (`bars_per_second = "max"`) only `step` moves it.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.error: tuple[int, str] = _SUCCESS
        self._terminal: PaperTerminal | None = None
        self._held: FileLock | None = None
        self._place: places.Place | None = None
        self._due = 0.0

    @property
    def terminal(self) -> PaperTerminal:
        """The terminal. Raises NotConnected."""
        if self._terminal is None:
            raise NotConnected
        return self._terminal

    def open(self, path: str | None, login: int | None, server: str | None, *, portable: bool) -> bool:
        """Open an account; the same one again is nothing. False, and an error, when that cannot be."""
        try:
            place = places.find(path, login, server, portable=portable)
        except StablehandError as error:
            wrong = isinstance(error, places.WrongLogin)
            text = f"Terminal: Authorization failed ({error.line()})" if wrong else _why(error)
            self.error = (RES_E_AUTH_FAILED if wrong else RES_E_INTERNAL_FAIL_INIT, text)
            return False
        if self._terminal is not None and self._place == place:
            self.error = _SUCCESS
            return True
        self.close()
        try:
            self._held = FileLock(place.lock)
            self._terminal = PaperTerminal(
                place.config, name=place.name, database=place.database, base_dir=place.base_dir, login=place.login,
                server=place.server,
            )  # fmt: skip
        except (StablehandError, OSError) as error:
            self.close()
            self.error = (RES_E_INTERNAL_FAIL_INIT, _why(error))
            return False
        self._place = place
        self._due = time.monotonic() + (self._terminal.interval or 0.0)
        self.error = _SUCCESS
        return True

    def close(self) -> None:
        """Leave the account; it stays in its database."""
        if self._terminal is not None:
            self._terminal.close()
        if self._held is not None:
            self._held.release()
        self._terminal = self._held = self._place = None

    def catch_up(self) -> None:
        """Let the market make the steps that are due."""
        terminal = self._terminal
        if terminal is None or terminal.interval is None:
            return
        now, steps = time.monotonic(), 0
        while self._due <= now and steps < _MOST_STEPS:
            self._due += terminal.interval
            steps += 1
            if terminal.step() is None:
                self._due = float("inf")
        self._due = max(self._due, now)

    def relogin(self, login: int, server: str | None) -> bool:
        """Change to another account of the same place."""
        if self._place is None:
            self.error = _NOT_CONNECTED
            return False
        base = self._place.base_dir
        path = base / places.INSTALLATION
        return self.open(str(path if path.is_file() else base), login, server, portable=False)


SESSION: Final = Session()
_INVALID: Final = (RES_E_INVALID_PARAMS, "Invalid arguments")


def _why(error: Exception) -> str:
    line = error.line() if isinstance(error, StablehandError) else str(error)
    return f"IPC initialize failed, {line}"


def fits(function: Callable[P, bool]) -> Callable[P, bool]:
    """Makes a function of the module that needs no connection: arguments that do not fit give False, no exception."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> bool:
        try:
            signature.bind(*args, **kwargs)
        except TypeError:
            SESSION.error = _INVALID
            return False
        return function(*args, **kwargs)

    return call


def asks(failed: F) -> Callable[[Callable[P, T]], Callable[P, T | F]]:
    """Makes a function of the module: one call at a time, the market up to now, its error kept.

    Arguments that do not fit give `failed` and "Invalid arguments", as everything that fails does: no exception.
    """

    def make(function: Callable[P, T]) -> Callable[P, T | F]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T | F:
            with SESSION.lock:
                try:
                    signature.bind(*args, **kwargs)
                except TypeError:
                    SESSION.error = _INVALID
                    return failed
                try:
                    SESSION.catch_up()
                    value = function(*args, **kwargs)
                    SESSION.error = SESSION.terminal.last_error()
                except NotConnected:
                    SESSION.error = _NOT_CONNECTED
                    return failed
                return value

        return call

    return make
