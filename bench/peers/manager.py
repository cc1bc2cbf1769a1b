"""What the bench asks of every manager, and how everything that one has started is found and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from bench.peers.install import Installed

BOT: Final = Path(__file__).with_name("bot.py")
CRASH: Final = "crash-"
#: In the environment of every process of one measurement; its value is the folder.
MARK: Final = "STABLEHAND_BENCH_FOLDER"


@dataclass(frozen=True, slots=True)
class Task:
    """What a manager shall run. `alike`: N equal ones, as fast as it can; else each under a name of its own.

    `as_shipped`: with its own defaults for restarts, and the bots started with the manager.
    """

    folder: Path
    address: str
    names: Sequence[str]
    alike: bool = True
    as_shipped: bool = False

    def command(self, name: str) -> list[str]:
        """The command line of a bot, or of a program that crashes: `crash-SECONDS`."""
        if name.startswith(CRASH):
            return ["/bin/sh", str(BOT.with_name("crash.sh")), str(self.starts(name)), name.removeprefix(CRASH), name]
        return [sys.executable, str(BOT), self.address, name]

    def starts(self, name: str) -> Path:
        """Where a program that crashes notes its starts: a time a line."""
        return self.folder / f"{name}.starts"


class Manager(ABC):
    """One process manager with one task. Use as a context: at its end nothing of it is left."""

    #: Its settings where they are not its defaults, for the reader.
    settings: str = ""
    #: Whether its status tells CPU and memory of each bot.
    figures = False

    def __init__(self, peer: Installed, task: Task) -> None:
        self.peer, self.task = peer, task
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        end_all(self.task.folder)
        if self.process is not None:
            self.process.wait(10)

    @abstractmethod
    def launch(self) -> None:
        """Write the configuration and start the manager, until it answers."""

    @abstractmethod
    def start_all(self) -> None:
        """Ask for all bots; returns before they are ready."""

    def main_pid(self) -> int:
        """The process that a person would call the manager."""
        assert self.process is not None
        return self.process.pid

    def pids(self) -> list[int]:
        """All processes of the manager without the bots."""
        return [self.main_pid()]

    def status_one(self) -> Callable[[], object] | None:
        """What asks for one bot through the manager's own interface; None where it has none but a command."""
        return None

    def status_all(self) -> Callable[[], object] | None:
        """What asks for all bots, with figures where it has them."""
        return None

    @abstractmethod
    def verb(self) -> list[str]:
        """The command that shows one bot to a person."""

    def verdict(self, name: str) -> str:
        """What it says of one bot now, in its own word."""
        return self._ask(self.verb_of(name))

    def verb_of(self, name: str) -> list[str]:
        """As `verb`, of a bot by its name."""
        return [*self.verb()[:-1], name]

    def environment(self) -> dict[str, str]:
        """For the manager and all below it: one thread a bot, and the mark."""
        single = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        return {**os.environ, **single, **self.more_environment(), MARK: str(self.task.folder)}

    def more_environment(self) -> Mapping[str, str]:
        """What this manager needs besides."""
        return {}

    def spawn(self, command: Sequence[str]) -> None:
        """Start the manager's process, with its output in a file."""
        with open(self.task.folder / "manager.out", "ab") as out:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.environment(),
                cwd=self.task.folder, start_new_session=True,
            )  # fmt: skip

    def answers(self, question: Callable[[], object], timeout: float = 240.0) -> None:
        """Until it answers a question. Raises TimeoutError."""
        until = time.monotonic() + timeout
        while True:
            try:
                question()
                return
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                if time.monotonic() > until:
                    raise TimeoutError(f"{self.peer.name} did not answer within {timeout:g} s: {error}") from error
                time.sleep(0.05)

    def _ask(self, command: Sequence[str], timeout: float = 60.0) -> str:
        done = subprocess.run(
            command, env=self.environment(), cwd=self.task.folder, capture_output=True, text=True, timeout=timeout,
            check=False,
        )  # fmt: skip
        return (done.stdout.strip() or done.stderr.strip())[:500]

    def kill_main(self) -> None:
        """kill -9 of the manager, and nothing else."""
        pid = self.main_pid()
        os.kill(pid, signal.SIGKILL)
        if self.process is not None and self.process.pid == pid:
            self.process.wait(10)
        else:
            with contextlib.suppress(psutil.Error):
                psutil.Process(pid).wait(10)


def marked(folder: Path) -> list[psutil.Process]:
    """Every living process that bears the mark of this folder."""
    wanted = f"{MARK}={folder}\0".encode()
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if (
                wanted in Path(f"/proc/{process.pid}/environ").read_bytes() + b"\0"
                and process.status() != psutil.STATUS_ZOMBIE
                and process.pid != os.getpid()
            ):
                found.append(process)
    return found


def copies(folder: Path, name: str) -> list[int]:
    """Pids of the living processes of one bot."""
    found = []
    for process in marked(folder):
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            if str(BOT) in line and line[-1] == name:
                found.append(process.pid)
    return sorted(found)


def end_all(folder: Path, tries: int = 20) -> None:
    """Kill everything with the mark of this folder; the managers first, so that they restart nothing."""
    for _ in range(tries):
        found = marked(folder)
        if not found:
            return
        found.sort(key=_is_bot)
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=3)
    raise RuntimeError(f"{len(found)} processes of {folder} could not be ended")


def _is_bot(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return str(BOT) in process.cmdline()
    return True
