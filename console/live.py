"""`stablehand up` in a terminal: the supervisor as a child, and the table of the stable above the prompt.

The child's own lines are taken through pipes and written above the table, so that neither breaks the other.
Ctrl-C reaches the child as well, since both stand in the terminal's foreground; this side only waits for it.
"""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import IO, Any, Final, NamedTuple

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from console import screen
from console.settings import Site
from console.up import command, ping
from protocol.client import ControlClient
from protocol.errors import StablehandError

_TICK: Final = 0.1
_REFRESH: Final = 0.5
_FOOTER: Final = "Ctrl-C stops everything"
_STOPPING: Final = "stopping everything…"


class _Line(NamedTuple):
    text: str
    is_error: bool


class Supervisor:
    """The child process, its lines, and what it answers."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.lines: queue.SimpleQueue[_Line] = queue.SimpleQueue()
        self.stopping = False
        self.process = subprocess.Popen(
            command(site), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
        self._client: ControlClient | None = None
        self._readers = [
            threading.Thread(target=self._read, args=(stream, is_error), daemon=True)
            for stream, is_error in ((self.process.stdout, False), (self.process.stderr, True))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str], is_error: bool) -> None:
        for line in stream:
            self.lines.put(_Line(line.rstrip("\r\n"), is_error))

    def taken(self) -> list[_Line]:
        """The lines that came since."""
        lines = []
        with suppress(queue.Empty):
            while True:
                lines.append(self.lines.get_nowait())
        return lines

    def look(self) -> screen.Snapshot | None:
        """What it tells now; None while it does not answer."""
        pong = ping(self.site, self.process.pid) if self._client is None else None
        try:
            if self._client is None:
                if pong is None:
                    return None
                self._client = ControlClient(self.site.data_dir, timeout=2.0)
            pong = pong or self._client.ping()
            bots = self._client.status()
        except StablehandError:
            self.leave()
            return None
        return screen.Snapshot(pong, bots, self._ask("host", {}), self._ask("accounts", []), self._last_events())

    def _ask(self, cmd: str, otherwise: Any) -> Any:
        try:
            return self._client.request(cmd) if self._client else otherwise
        except StablehandError:
            return otherwise  # one part is down: the rest of the table still counts

    def _last_events(self) -> list[dict[str, Any]]:
        found = self._ask_events()
        return found["events"] if found else []

    def _ask_events(self) -> dict[str, Any] | None:
        try:
            return self._client.events(limit=screen.EVENTS) if self._client else None
        except StablehandError:
            return None

    def leave(self) -> None:
        """Close the connection; the next look makes another."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def finish(self) -> int:
        """Its exit code, once it has ended and all its lines were read."""
        code = self.process.wait()
        for reader in self._readers:
            reader.join(2.0)
        self.leave()
        return code if code >= 0 else 128 - code


def show(site: Site) -> int:
    """Run the supervisor under a live table until it ends; its exit code."""
    console = Console(highlight=False, force_terminal=True)
    supervisor = Supervisor(site)
    previous = _hear_signals(supervisor)
    try:
        return _watch(supervisor, console)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _hear_signals(supervisor: Supervisor) -> dict[int, Any]:
    def interrupted(number: int, frame: FrameType | None) -> None:
        supervisor.stopping = True  # the child has heard it as well

    def terminated(number: int, frame: FrameType | None) -> None:
        supervisor.stopping = True
        supervisor.process.terminate()

    handlers = {signal.SIGINT: interrupted, signal.SIGTERM: terminated}
    return {number: signal.signal(number, handler) for number, handler in handlers.items()}


def _watch(supervisor: Supervisor, console: Console) -> int:
    held: list[_Line] = []  # errors of a start that may fail: then they are the one thing to say
    shot: screen.Snapshot | None = None
    next_look = 0.0
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while supervisor.process.poll() is None:
            if time.monotonic() >= next_look:
                found = supervisor.look()
                shot = found or shot
                next_look = time.monotonic() + (_REFRESH if found else _TICK)
            fresh = supervisor.taken()
            if shot is None:
                held += fresh
            else:
                _print(live.console, held + fresh)
                held = []
            live.update(_picture(shot, console, stopping=supervisor.stopping), refresh=True)
            with suppress(subprocess.TimeoutExpired):
                supervisor.process.wait(_TICK if shot is None else _REFRESH / 2)
        code = supervisor.finish()
        live.update(Text("") if shot is None else _picture(shot, console, end=_farewell(code)), refresh=True)
        if shot is None:
            live.transient = True
    for line in held + supervisor.taken():
        (sys.stderr if line.is_error else sys.stdout).write(f"{line.text}\n")
    return code


def _print(console: Console, lines: list[_Line]) -> None:
    for line in lines:
        console.print(Text(line.text, style="yellow" if line.is_error else "bold"), soft_wrap=True)


def _farewell(code: int) -> str:
    if code == 0:
        return "stopped"
    return f"the supervisor ended with {code}; bots that live trade on, and `stablehand up` takes them over"


def _picture(
    shot: screen.Snapshot | None, console: Console, *, stopping: bool = False, end: str = ""
) -> Text | Spinner:
    if shot is None:
        return Spinner("dots", text=_STOPPING if stopping else "starting…")
    footer = end or (_STOPPING if stopping else _FOOTER)
    lines = screen.lines(shot, width=console.width, height=console.height, footer=footer)
    return Text.from_ansi("\n".join(lines), no_wrap=True, overflow="ellipsis")
