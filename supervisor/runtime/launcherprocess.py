"""The processes of launchers: where they listen, how they are started, and what is asked of one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import zmq

from protocol.endpoints import Transport
from protocol.keys import KeyPair
from supervisor.config import Config

FORK_SOCKET: Final = ".sock"
SPAWN_SOCKET: Final = ".spawn"
ADDRESS_FILE: Final = ".addr"


@dataclass(frozen=True, slots=True)
class Place:
    """What every launcher of this installation needs to know."""

    config: Config
    data_dir: Path
    run_dir: Path
    method: str  # fork | spawn
    transport: Transport
    server_keys: KeyPair | None
    client_keys: KeyPair | None
    context: zmq.Context[Any]


class Process(Protocol):
    """What is asked of a launcher's process."""

    pid: int

    def poll(self) -> int | None: ...


class Inherited:
    """A child that an earlier image of this process started: only its pid is known, and it must be reaped."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def poll(self) -> int | None:
        """Its status once it has ended, else None."""
        if self._status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = self.pid, 0
            self._status = status if pid == self.pid else None
        return self._status


def command_of(place: Place, name: str, address: Path, modules: Iterable[str]) -> list[str]:
    """The command line of a launcher that preloads these modules of the user's."""
    command = [
        sys.executable,
        "-m",
        "botproc.launcher" if place.method == "fork" else "botproc.spawner",
        "--socket",
        str(address),
        "--generation",
        name,
        "--orphan-after",
        str(place.config.supervisor.orphan_after_seconds),
    ]
    for folder in place.config.supervisor.strategy_path:
        command += ["--path", str((place.config.folder / folder).resolve())]
    for module in modules:
        command += ["--module", module]
    if address.suffix == ADDRESS_FILE:
        command += ["--tcp", "--keys", str(place.data_dir / "keys")]
    return command


def popen(command: list[str], log_path: Path) -> subprocess.Popen[bytes]:
    """Start it, in a session of its own; what it says before it has a log goes to `log_path`."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP
    with log_path.open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=sys.platform != "win32",
            creationflags=flags,
            close_fds=True,
        )


def suffix(place: Place) -> str:
    """Of the path at which launchers of this installation listen."""
    if place.method == "fork":
        return FORK_SOCKET
    return SPAWN_SOCKET if place.transport == "ipc" else ADDRESS_FILE


def addresses(run_dir: Path) -> list[Path]:
    """Where launchers listen: sockets, or files with the address of spawning ones on tcp."""
    suffixes = (FORK_SOCKET, SPAWN_SOCKET, ADDRESS_FILE)
    return [path for suffix in suffixes for path in run_dir.glob(f"launcher-*{suffix}")]


def generation_of(address: Path) -> int:
    """The number in a launcher's name; 0 where there is none."""
    found = re.search(r"launcher-(\d+)", address.name)
    return int(found[1]) if found else 0


def listens(address: Path) -> bool:
    """Whether somebody does: the path is there only then."""
    return address.exists()
