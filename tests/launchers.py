"""A launcher or a spawner as a real process, and a supervisor's side of its socket, for tests."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal

import msgpack
import psutil
import zmq

from tests.support import eventually

Method = Literal["fork", "spawn", "spawn_reaping"]


class Line(ABC):
    """One connection: requests, replies by id, and the notices that came between."""

    def __init__(self) -> None:
        self._number = 0
        self.notices: list[dict[str, Any]] = []
        self._replies: dict[int, dict[str, Any]] = {}

    def tell(self, op: str, **args: Any) -> int:
        self._number += 1
        self._send(msgpack.packb({"op": op, "id": self._number, **args}))
        return self._number

    def ask(self, op: str, timeout: float = 20.0, **args: Any) -> dict[str, Any]:
        return self.answer(self.tell(op, **args), timeout)

    def answer(self, number: int, timeout: float = 20.0) -> dict[str, Any]:
        def arrived() -> bool:
            self.read()
            return number in self._replies

        eventually(arrived, timeout, what=f"answer to request {number}")
        return self._replies.pop(number)

    def read(self) -> None:
        while (frame := self._receive()) is not None:
            message = msgpack.unpackb(frame)
            if message.get("op") == "exit":
                self.notices.append(message)
            else:
                self._replies[message["id"]] = message

    def notice(self, token: str, timeout: float = 10.0) -> dict[str, Any]:
        def found() -> list[dict[str, Any]]:
            self.read()
            return [one for one in self.notices if one["token"] == token]

        return eventually(found, timeout, what=f"exit notice of {token}")[0]

    @abstractmethod
    def _send(self, frame: bytes) -> None: ...

    @abstractmethod
    def _receive(self) -> bytes | None: ...

    @abstractmethod
    def close(self) -> None: ...


class UnixLine(Line):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.connect(str(path))

    def _send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def _receive(self) -> bytes | None:
        try:
            return self._socket.recv(1 << 20, socket.MSG_DONTWAIT) or None
        except BlockingIOError:
            return None

    def close(self) -> None:
        self._socket.close()


class ZmqLine(Line):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.connect(f"ipc://{path}")
        self.ask("hello")

    def _send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def _receive(self) -> bytes | None:
        try:
            return bytes(self._socket.recv(zmq.NOBLOCK))
        except zmq.Again:
            return None

    def close(self) -> None:
        self._context.destroy(linger=0)


class Launchers:
    """Starts them, and ends everything that they started, whatever happens."""

    def __init__(self, folder: Path, method: Method) -> None:
        self.folder = folder
        self.method = method
        self.path = folder / "launcher.sock"
        self.pids: set[int] = set()  # children, by the tests' own knowledge
        self._processes: list[subprocess.Popen[bytes]] = []
        self._lines: list[Line] = []

    def start(self, *options: str, orphan_after: float = 60.0, modules: Path | None = None) -> subprocess.Popen[bytes]:
        name = "botproc.launcher" if self.method == "fork" else "botproc.spawner"
        command = [sys.executable, "-m", name]
        if self.method == "spawn_reaping":  # as on macOS, where an end cannot be seen without reaping it
            code = f"import os, runpy; del os.waitid; runpy.run_module({name!r}, run_name='__main__', alter_sys=True)"
            command = [sys.executable, "-c", code]
        command += ["--socket", str(self.path), "--generation", "g1"]
        command += ["--orphan-after", str(orphan_after), *options]
        if modules is not None:
            command += ["--path", str(modules)]
        with (self.folder / "launcher.err").open("ab") as errors:
            process = subprocess.Popen(command, stderr=errors, stdin=subprocess.DEVNULL)
        self._processes.append(process)
        eventually(lambda: self.path.exists() or process.poll() is not None, 30, what="launcher's socket")
        assert process.poll() is None, self.errors()
        return process

    def errors(self) -> str:
        return (self.folder / "launcher.err").read_text()

    def connect(self) -> Line:
        line: Line = UnixLine(self.path) if self.method == "fork" else ZmqLine(self.path)
        self._lines.append(line)
        return line

    def spec(self, number: int, *, strategy: str = "MA_CROSSOVER", **changes: Any) -> dict[str, Any]:
        folder, name = self.folder, f"bot-{number}"
        return {
            "kind": "bot",
            "token": secrets.token_hex(16),
            "bot_id": number,
            "epoch": 1,
            "name": name,
            "installation": "test",
            "magic": number,
            "data_dir": str(folder),
            "lock_path": str(folder / "locks" / name),
            "log_path": str(folder / "logs" / f"{name}.log"),
            "bus": f"ipc://{folder}/bus",
            "orders": f"ipc://{folder}/orders",
            "market": f"ipc://{folder}/market",
            "heartbeat_interval": 0.05,
            "bot": {"name": name, "market": "EURUSD", "strategy": strategy, "cycle_timeout_seconds": 5.0},
            **changes,
        }

    def launch(self, line: Line, spec: dict[str, Any]) -> dict[str, Any]:
        reply = line.ask("launch", spec=spec)
        self.pids.add(reply.get("pid", 0))
        return reply

    def log(self, spec: dict[str, Any]) -> str:
        path = Path(spec["log_path"])
        return path.read_text() if path.exists() else ""

    def up(self, spec: dict[str, Any]) -> bool:
        """Whether the bot has come as far as holding its lock: its session and handlers stand."""
        path = Path(spec["lock_path"])
        return path.exists() and path.read_text().strip() != ""

    def clean(self) -> None:
        for line in self._lines:
            line.close()
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait(10)
        for pid in self.pids - {0}:
            # Only what is surely ours: our children run in this folder's name.
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
                if str(self.folder) in " ".join(f.path for f in psutil.Process(pid).open_files()):
                    os.kill(pid, signal.SIGKILL)


def state_of(pid: int) -> str:
    """`zombie`, `sleeping`, ..., or `gone`."""
    try:
        return str(psutil.Process(pid).status())
    except psutil.NoSuchProcess:
        return "gone"
