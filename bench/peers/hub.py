"""The other end of the bots' line: who has said hello, when, and who beats."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import zmq


@dataclass(frozen=True, slots=True)
class Hello:
    """One process of a bot: its name, its pid, and when it spoke (`time.perf_counter`, seconds)."""

    name: str
    pid: int
    at: float


class Hub:
    """A ROUTER that answers hellos and counts beats, while somebody calls `pump`."""

    def __init__(self, folder: Path) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        for option, value in ((zmq.BACKLOG, 4096), (zmq.LINGER, 0), (zmq.RCVHWM, 100_000)):
            self._router.setsockopt(option, value)
        self.address = f"ipc://{folder / 'hub'}"
        self._router.bind(self.address)
        self._routes: dict[int, bytes] = {}
        self.hellos: list[Hello] = []
        self.last_beat: dict[int, float] = {}
        self.beats = 0
        #: Set from another thread: whoever listens shall give up.
        self.stopped = False

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._context.destroy(linger=0)

    def pump(self, seconds: float) -> bool:
        """Read what is there, waiting at most so long for the first message; False when there was none.

        Raises InterruptedError after `stopped` was set.
        """
        if self.stopped:
            raise InterruptedError("the bench was stopped")
        if not self._router.poll(int(max(0.0, seconds) * 1000)):
            return False
        while True:
            try:
                route, word, name, pid = self._router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return True
            now = time.perf_counter()
            self._routes[int(pid)] = route
            self.last_beat[int(pid)] = now
            if word == b"hello":
                self._router.send_multipart([route, b"welcome", b""])
                self.hellos.append(Hello(name.decode(), int(pid), now))
            else:
                self.beats += 1

    def wait_hellos(self, count: int, timeout: float, what: str = "bots") -> Hello:
        """Until `count` hellos have come in all; the last. Raises TimeoutError."""
        until = time.perf_counter() + timeout
        while len(self.hellos) < count:
            left = until - time.perf_counter()
            if left <= 0:
                raise TimeoutError(f"{len(self.hellos)} of {count} {what} were ready within {timeout:g} s")
            self.pump(min(left, 0.5))
        return self.hellos[count - 1]

    def listen(self, seconds: float) -> int:
        """Read for so long; the beats that came."""
        before, until = self.beats, time.perf_counter() + seconds
        while (left := until - time.perf_counter()) > 0:
            self.pump(min(left, 0.5))
        return self.beats - before

    def hang(self, pid: int) -> None:
        """Tell one process to stand still."""
        self._router.send_multipart([self._routes[pid], b"hang", b""])
