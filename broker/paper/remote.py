"""The gateway's side of a paper terminal in another process: the same functions, and what can go wrong with them.

As with a real terminal a call may find no connection or lose it, or get no answer in time: then it gives None
(False where the function answers yes or no), and `last_error` says -10004, -10002 or -10005. Whether what was
asked has been done is then unknown. An answer that comes too late is never taken for another's: its connection
is given up.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from broker.api import (
    RES_E_INTERNAL_FAIL_CONNECT,
    RES_E_INTERNAL_FAIL_RECEIVE,
    RES_E_INTERNAL_FAIL_TIMEOUT,
    RES_S_OK,
)
from broker.paper import wire
from broker.paper.server import EXIT_HELD, FUNCTIONS
from broker.paper.terminal import Step
from broker.steady import Steady
from protocol.botconfig import AccountConfig
from protocol.errors import InvalidInput
from store.errors import StoreError

_YES_OR_NO: Final = frozenset(
    {"initialize", "login", "symbol_select", "market_book_add", "market_book_release", "shutdown"}
)
_START: Final = 20.0  # seconds for the process to come up


class RemoteTerminal(Steady):
    """For one thread. `timeout`: seconds that a call may take.

    The 32 functions are made on demand: each asks the other process by its name.
    """

    def __init__(self, path: Path, *, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._connection: socket.socket | None = None
        self._number = 0
        self._seen = 0  # moment of the last step that arrived
        self._error: tuple[int, str] = (RES_S_OK, "Success")
        self.now = 0
        self.lockstep = False
        self.interval: float | None = None
        self.pid = 0

    def hello(self) -> bool:
        """Ask what it is; whether it answered."""
        told = self._ask("hello", (), {})
        if told is None:
            return False
        self.lockstep, self.interval, self.pid = bool(told["lockstep"]), told["interval"], int(told["pid"])
        return True

    def step(self) -> Step | None:
        """As PaperTerminal.step. Raises StoreError when there is no answer; asked again, no step is left out."""
        step = self._ask("step", (self._seen,), {}, lost=StoreError("the terminal's process does not answer"))
        if isinstance(step, Step):
            self._seen = step.time
            return step
        return None

    def is_open(self, symbol: str) -> bool:
        """Whether the symbol's market is open."""
        return bool(self._ask("is_open", (symbol,), {}))

    def last_error(self) -> tuple[int, str]:
        """Of the last call: its own failure, or what the terminal said."""
        return self._error

    def close(self) -> None:
        """An orderly end: the process closes the account and leaves."""
        self._ask("end", (), {})
        self._drop()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in FUNCTIONS:
            raise AttributeError(name)
        failed = False if name in _YES_OR_NO else None

        def call(*args: Any, **kwargs: Any) -> Any:
            value = self._ask(name, args, kwargs)
            return failed if value is None else value

        return call

    def _ask(self, fn: str, args: Any, kwargs: Any, *, lost: Exception | None = None) -> Any:
        self._number += 1
        try:
            answer = self._exchange({"id": self._number, "fn": fn, "args": list(args), "kwargs": kwargs})
        except OSError as error:
            connected = self._connection is not None
            self._drop()
            if isinstance(error, TimeoutError):
                self._error = (RES_E_INTERNAL_FAIL_TIMEOUT, "Internal timeout")
            elif connected:
                self._error = (RES_E_INTERNAL_FAIL_RECEIVE, "IPC recv failed")
            else:
                self._error = (RES_E_INTERNAL_FAIL_CONNECT, "No IPC connection")
            if lost is not None:
                raise lost from error
            return None
        self.now = answer["now"]
        self._error = answer["last_error"]
        if "error" in answer:
            text = f"{answer['error']}: {answer['text']}"
            raise StoreError(answer["text"]) if answer["error"] == "store" else RuntimeError(text)
        return answer["value"]

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._connection is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(str(self._path))
            except OSError:
                connection.close()
                raise ConnectionRefusedError(f"nobody listens at {self._path}") from None
            self._connection = connection
        until = time.monotonic() + self._timeout
        self._connection.settimeout(self._timeout)
        self._connection.sendall(wire.frame(request))
        while True:
            self._connection.settimeout(max(0.001, until - time.monotonic()))
            answer: dict[str, Any] = wire.receive(self._connection)
            if answer.get("id") == request["id"]:  # one that came twice is the answer to nothing
                return answer

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def open_remote(account: AccountConfig, *, name: str, folder: Path, base_dir: Path) -> RemoteTerminal:
    """The account's terminal in its own process, started where none listens. Raises InvalidInput."""
    if not hasattr(socket, "AF_UNIX"):
        raise InvalidInput('terminal = "process" needs unix sockets', hint='use terminal = "embedded"')
    path = folder / f"paper-{name}.sock"
    if len(os.fsencode(path)) > 100:
        raise InvalidInput(f"{path} is too long for a unix socket", hint="use a shorter data_dir")
    terminal = RemoteTerminal(path, timeout=account.terminal_timeout_seconds)
    if terminal.hello():
        return terminal
    process = subprocess.Popen(
        [sys.executable, "-m", "broker.paper.server", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    assert process.stdin is not None
    database = folder / f"paper-{name}.db"
    told = {"account": account.model_dump(), "name": name, "database": str(database), "base_dir": str(base_dir)}
    process.stdin.write(json.dumps(told))
    process.stdin.close()
    until = time.monotonic() + _START
    while time.monotonic() < until:
        if terminal.hello():
            return terminal
        # A terminal that is there, and only slow to answer, holds the account's lock: it is asked again.
        if process.poll() not in (None, EXIT_HELD):
            raise InvalidInput(f"account {name}: its terminal ended with code {process.returncode}; see its log")
        time.sleep(0.05)
    if process.poll() == EXIT_HELD:
        raise InvalidInput(f"account {name}: another terminal holds it, and does not answer within {_START:g} s")
    process.kill()
    process.wait(5)
    raise InvalidInput(f"account {name}: its terminal did not come up within {_START:g} s")
