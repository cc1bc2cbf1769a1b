"""A real supervisor for tests: started as a process, driven by its control socket, cleaned up by pid."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from protocol.client import ControlClient
from protocol.endpoints import short_run_directory
from protocol.errors import StablehandError
from tests.leaks import MARK, SHARED
from tests.support import eventually

PROFILES = {
    "default": "",
    "portable": 'launch = "spawn"\ntransport = "tcp"\n',
}
#: The profile of the running test; the fixture `profile` sets it.
chosen_profile = "default"


class Daemon:
    """One installation in a folder of its own; `start` may be called again after the supervisor ended."""

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder
        self.config = folder / "supervisor.toml"
        self.data_dir = folder / "var"
        self.config.write_text(text, "utf-8")
        self.process: subprocess.Popen[str] | None = None
        self._client: ControlClient | None = None
        self._seen: set[int] = set()

    def start(
        self,
        *,
        ready: bool = True,
        timeout: float = 60.0,
        before: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        **env: str,
    ) -> Daemon:
        """Start the supervisor; by default wait for its one ready line. `before`: a command that starts it."""
        self.process = subprocess.Popen(
            [*before, sys.executable, "-m", "supervisor", "--config", str(self.config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, MARK: str(self.folder), **(variables or {}), **env},
        )
        if ready:
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            if "ready" not in line:
                self.process.wait(timeout)
                assert self.process.stderr is not None
                raise AssertionError(f"not ready: {line!r} {self.process.stderr.read()!r}")
        return self

    @property
    def pid(self) -> int:
        """The supervisor's pid."""
        assert self.process is not None
        return self.process.pid

    @property
    def client(self) -> ControlClient:
        """A client of the running supervisor."""
        if self._client is None:
            self._client = ControlClient(self.data_dir)
        return self._client

    def ask(self, command: str, timeout: float = 30.0, **args: Any) -> Any:
        """One command."""
        return self.client.request(command, args, timeout=timeout)

    def status(self, *names: str) -> list[dict[str, Any]]:
        """Rows of status."""
        rows: list[dict[str, Any]] = self.ask("status", bots=list(names)) if names else self.ask("status")
        self._seen.update(row["pid"] for row in rows if row["pid"])
        return rows

    def bot(self, name: str) -> dict[str, Any]:
        """One bot's row."""
        return self.status(name)[0]

    def wait_state(self, name: str, state: str, timeout: float = 20.0) -> dict[str, Any]:
        """Wait until a bot is in a state."""
        return eventually(
            lambda: row if (row := self.bot(name))["state"] == state else None,
            timeout,
            what=f"{name} {state}",
        )

    def wait_all(self, state: str, timeout: float = 30.0) -> list[dict[str, Any]]:
        """Wait until every bot is in a state."""

        def reached() -> list[dict[str, Any]] | None:
            rows = self.status()
            return rows if rows and all(row["state"] == state for row in rows) else None

        return eventually(reached, timeout, what=f"all {state}")

    def down(self, timeout: float = 40.0) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.forget_client()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def kill(self) -> None:
        """kill -9 of the supervisor alone."""
        assert self.process is not None
        self.forget_client()
        self.process.kill()
        self.process.wait(10)

    def forget_client(self) -> None:
        """The next request connects anew."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def processes(self) -> list[psutil.Process]:
        """Every living process of this installation: those that name its folder, and their children."""
        found: dict[int, psutil.Process] = {}
        marks = [str(self.folder), str(short_run_directory(self.data_dir))]
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                line = " ".join(process.cmdline())
                ours = any(mark in line for mark in marks) or (process.pid in self._seen and "botproc" in line)
                if ours or ("python" in line and process.environ().get(MARK) == str(self.folder)):
                    found[process.pid] = process
                    for child in process.children(recursive=True):
                        if child.status() != psutil.STATUS_ZOMBIE:
                            found[child.pid] = child
        return list(found.values())

    def clean(self) -> None:
        """End everything of this installation, by pid, whatever state it is in."""
        self.forget_client()
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired, StablehandError):
                self.down(20)
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        for _ in range(50):
            left = self.processes()
            if not left:
                break
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            time.sleep(0.05)
        if self.process is not None:
            for stream in (self.process.stdout, self.process.stderr):
                if stream is not None:
                    stream.close()
        # Most have their sockets inside the folder, which pytest removes. `run.path` is not asked: the test may have
        # taken the data's disk away.
        shutil.rmtree(short_run_directory(self.data_dir), ignore_errors=True)


@contextlib.contextmanager
def installation(folder: Path, text: str) -> Iterator[Daemon]:
    """A supervisor that is cleaned up, also when the test fails."""
    daemon = Daemon(folder, text)
    try:
        yield daemon
    finally:
        daemon.clean()


@contextlib.contextmanager
def shared_installation(folder: Path, text: str) -> Iterator[Daemon]:
    """The same for several tests, which may kill its supervisor and start another."""
    SHARED.add(str(folder))
    with installation(folder, text) as daemon:
        yield daemon
    SHARED.discard(str(folder))


def config_text(
    *,
    profile: str = "",
    supervisor: str = "",
    account: str = "",
    bots: str = "",
    defaults: str = "",
) -> str:
    """A configuration: quick defaults of the running test's profile (or of `profile`), with what the test adds.

    Machines that run tests suffer; what they do about it is only tested where a test asks for it.
    """
    if "throttle" not in supervisor:
        supervisor += "throttle.enabled = false\n"
    return f"""
[supervisor]
data_dir = "var"
heartbeat_interval_seconds = 0.2
sample_interval_seconds = 0.5
{PROFILES[profile or chosen_profile]}{supervisor}
[accounts.main]
kind = "paper"
{account or 'feed = "synthetic"' + chr(10) + "bars_per_second = 5"}
[bot_defaults]
stop_timeout_seconds = 6
{defaults}
{bots}
"""


def bot_text(name: str, market: str = "EURUSD", strategy: str = "MA_CROSSOVER", extra: str = "") -> str:
    """One [[bots]] table."""
    return f'[[bots]]\nname = "{name}"\nmarket = "{market}"\nstrategy = "{strategy}"\n{extra}\n'
