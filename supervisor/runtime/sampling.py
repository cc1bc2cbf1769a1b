"""The supervisor's end of the probe: tells it whom to watch, takes its samples, starts it again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

import msgpack

from protocol import codec
from supervisor.runtime import clock
from supervisor.runtime.registry import Registry, Sample
from supervisor.runtime.samplehistory import SampleHistory

_RESTART_SECONDS: Final = 2.0
_END_SECONDS: Final = 1.0


class Sampling:
    """Owns the probe process."""

    def __init__(
        self, registry: Registry, interval: float, data_dir: str, others: Callable[[], dict[str, int]]
    ) -> None:
        self._registry = registry
        self._interval = interval
        self._data_dir = data_dir
        self._others = others
        self._process: subprocess.Popen[bytes] | None = None
        self.host: dict[str, Any] = {}
        self.own: dict[str, Any] = {}
        self.others: dict[str, Sample] = {}  # supervisor, launchers, the probe itself
        self.sampled_at: float | None = None  # monotonic
        self.history = SampleHistory(interval)
        self.sampled: Callable[[], None] = lambda: None  # called after each sample

    @property
    def pid(self) -> int:
        """The probe's process id, 0 while it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    async def run(self) -> None:
        """Keep a probe running until cancelled."""
        try:
            while True:
                with contextlib.suppress(OSError):  # no process to be had now: what is sampled stays unknown
                    await self._session()
                await self._end()
                await asyncio.sleep(_RESTART_SECONDS)
        finally:
            await self._end()

    async def _session(self) -> None:
        self._process = _start()
        assert self._process.stdin is not None and self._process.stdout is not None
        source = self._process.stdout.fileno()
        unpacker = msgpack.Unpacker(strict_map_key=False)
        while True:
            watched = self._watched()
            processes = [(pid, ticks) for pid, (ticks, _) in watched.items()]
            request = {"processes": processes, "interval": self._interval, "data_dir": self._data_dir}
            # One request for each whole sample, which comes in pieces, and written while these are read: the probe
            # reads nothing while it writes, and two who both wait for room in a pipe wait for ever. On threads, which
            # end with the probe: the loop that watches sockets on Windows knows no pipes.
            asked = asyncio.ensure_future(asyncio.to_thread(self._process.stdin.write, codec.pack(request)))
            try:
                message = None
                while message is None:
                    data = await asyncio.to_thread(os.read, source, 1 << 20)
                    if not data:
                        return
                    unpacker.feed(data)
                    message = next(unpacker, None)
                await asked
            finally:
                asked.cancel()
            self._take(message, watched)

    def _watched(self) -> dict[int, tuple[int, Callable[[Sample], None]]]:
        """Pid -> (its start in ticks, 0 where that is not known; who takes its sample)."""
        watched: dict[int, tuple[int, Callable[[Sample], None]]] = {}
        for record in self._registry.by_id.values():
            run = record.run
            if run is not None and run.pid and not run.ended:

                def keep(sample: Sample, record: Any = record) -> None:
                    record.sample = sample

                watched[run.pid] = (run.identity.start_ticks if run.identity else 0, keep)
        for name, pid in {**self._others(), "probe": self.pid}.items():
            if pid:

                def keep_other(sample: Sample, name: str = name) -> None:
                    self.others[name] = sample

                watched[pid] = (0, keep_other)
        return watched

    def _take(self, message: dict[str, Any], watched: dict[int, tuple[int, Callable[[Sample], None]]]) -> None:
        now = clock.now()
        for pid, values in message["processes"].items():
            if pid in watched:
                watched[pid][1](Sample(at=now, **values))
        self.host = message["host"]
        self.own = message["own"]
        self.sampled_at = now
        running = {
            one.bot_id: one.sample
            for one in self._registry.by_name.values()
            if one.sample is not None and one.sample.at == now
        }
        self.history.take(clock.wall(), self.host, running)
        self.sampled()

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(OSError):  # it is gone already
            process.stdin.close()  # which is how it is told to end
        until = clock.now() + _END_SECONDS
        while process.poll() is None:
            if clock.now() >= until:
                process.kill()
            await asyncio.sleep(0.01)
        process.stdout.close()


def _start() -> subprocess.Popen[bytes]:
    """The probe, in a session of its own: Ctrl-C is for the supervisor."""
    return subprocess.Popen(
        [sys.executable, "-m", "supervisor.runtime.probe"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=sys.platform != "win32",
    )
