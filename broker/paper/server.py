"""The paper terminal as a process of its own: `python -m broker.paper.server SOCKET`, its account as JSON on stdin.

As a real terminal it outlives the gateway, and a request that has arrived is finished whether or not its
sender still lives. One request at a time, in the order of their arrival. The market's clock moves only when it
is asked to. It ends when asked, at SIGTERM, or when nobody has been connected for `orphan_after` seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

from broker.api import Terminal
from broker.paper import wire
from broker.paper.terminal import PaperTerminal, Step
from protocol.botconfig import AccountConfig
from protocol.errors import StablehandError
from protocol.locks import FileLock
from store.errors import StoreError

#: The functions of MetaTrader; `step`, `hello`, `is_open` and `end` besides are the paper terminal's own.
FUNCTIONS: Final = frozenset(name for name in vars(Terminal) if not name.startswith("_"))
ORPHAN_AFTER: Final = 60.0
#: Exit code while another process holds the account.
EXIT_HELD: Final = 75
_TICK: Final = 0.5
#: A peer that sends half a frame, or reads nothing, may hold the terminal up for so long.
_PATIENCE: Final = 2.0


class Server:
    """Serves one terminal to whoever connects; for one thread."""

    def __init__(self, terminal: PaperTerminal, path: Path, *, orphan_after: float = ORPHAN_AFTER) -> None:
        self._terminal = terminal
        self._path = path
        self._orphan_after = orphan_after
        self._ending = False
        self._last: Step | None = None
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()  # a predecessor's: the lock says that it is gone
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(16)
        self._selector.register(self._listener, selectors.EVENT_READ)

    def stop(self) -> None:
        """End after the request under way. Safe from a signal handler."""
        self._ending = True

    def run(self) -> None:
        """Serve until the end."""
        alone_since = time.monotonic()
        while not self._ending:
            for key, _events in self._selector.select(_TICK):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._answer(key.fileobj)
            if len(self._selector.get_map()) > 1:
                alone_since = time.monotonic()
            elif time.monotonic() - alone_since > self._orphan_after:
                return

    def close(self) -> None:
        """Close the sockets and the account."""
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()
        self._terminal.close()

    def _accept(self) -> None:
        connection, _address = self._listener.accept()
        connection.settimeout(_PATIENCE)
        self._selector.register(connection, selectors.EVENT_READ)

    def _answer(self, connection: socket.socket) -> None:
        try:
            request = wire.receive(connection)
            answer = self._do(request)
            connection.sendall(wire.frame(answer))
        except (OSError, ValueError, KeyError, TypeError):
            # Gone, or not one of ours. What it asked for is done all the same.
            self._selector.unregister(connection)
            connection.close()

    def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        fn, args, kwargs = str(request["fn"]), request["args"], request["kwargs"]
        answer: dict[str, Any] = {"id": request["id"]}
        try:
            answer["value"] = self._perform(fn, args, kwargs)
        except StoreError as error:
            answer |= {"error": "store", "text": error.message}
        except Exception as error:  # the asker must hear of it, and the terminal must live on
            answer |= {"error": type(error).__name__, "text": str(error)}
        return answer | {"now": self._terminal.now, "last_error": self._terminal.last_error()}

    def _perform(self, fn: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        terminal = self._terminal
        if fn == "step":
            return self._step(int(args[0]))
        if fn == "hello":
            return {"lockstep": terminal.lockstep, "interval": terminal.interval, "pid": os.getpid()}
        if fn == "end":
            self._ending = True
            return True
        if fn != "is_open" and fn not in FUNCTIONS:
            raise ValueError(f"no function {fn}")
        return getattr(terminal, fn)(*args, **kwargs)

    def _step(self, seen: int) -> Step | None:
        """The step after the moment `seen`; the last one again where its answer was lost on the way."""
        if self._last is not None and 0 < seen < self._last.time:
            return self._last
        step = self._terminal.step()
        if step is not None:
            self._last = step
        return step


def main() -> int:
    """The command line: exit code EXIT_HELD, or 78 when the account cannot be used."""
    path = Path(sys.argv[1])
    told = json.load(sys.stdin)
    try:
        with FileLock(path.with_suffix(".lock")):
            terminal = PaperTerminal(
                AccountConfig.model_validate(told["account"]),
                name=told["name"],
                database=Path(told["database"]),
                base_dir=Path(told["base_dir"]),
            )
            server = Server(terminal, path, orphan_after=float(told.get("orphan_after", ORPHAN_AFTER)))
            signal.signal(signal.SIGTERM, lambda *_: server.stop())
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            try:
                server.run()
            finally:
                server.close()
    except StablehandError as error:
        sys.stderr.write(error.line() + "\n")
        return EXIT_HELD if error.code == "conflict" else 78
    return 0


if __name__ == "__main__":
    sys.exit(main())
