"""supervisord: one process, an XML-RPC interface on a unix socket."""

from __future__ import annotations

import http.client
import shlex
import socket
import xmlrpc.client
from collections.abc import Callable
from typing import Any

from bench.peers.manager import Manager


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)


class _UnixTransport(xmlrpc.client.Transport):
    """XML-RPC over a unix socket; the connection is kept, as supervisord's own client does."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._kept: _UnixConnection | None = None

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        if self._kept is None:
            self._kept = _UnixConnection(self._path)
        return self._kept

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None


class Supervisord(Manager):
    """One program with `numprocs`, or one each."""

    settings = "one program with numprocs, startsecs 0, no output files"

    def launch(self) -> None:
        folder = self.task.folder
        lines = [
            f"[unix_http_server]\nfile={folder}/rpc",
            f"[supervisord]\nnodaemon=true\nlogfile={folder}/log\npidfile={folder}/pid\nchildlogdir={folder}\n"
            "minfds=8192\nminprocs=4096",
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
            f"[supervisorctl]\nserverurl=unix://{folder}/rpc",
        ]
        if self.task.alike:
            command = shlex.join(self.task.command("bot-%(process_num)04d"))
            lines.append(
                f"[program:bot]\ncommand={command}\nnumprocs={len(self.task.names)}\n"
                "process_name=bot-%(process_num)04d\nautostart=false\nautorestart=true\nstartsecs=0\n"
                "stdout_logfile=NONE\nstderr_logfile=NONE"
            )
        for name in () if self.task.alike else self.task.names:
            lines.append(f"[program:{name}]\ncommand={shlex.join(self.task.command(name))}\nautorestart=true")
        (folder / "supervisord.conf").write_text("\n\n".join(lines) + "\n", "utf-8")
        self.spawn([str(self.peer.root / "bin" / "supervisord"), "-c", str(folder / "supervisord.conf")])
        self.answers(self._rpc().supervisor.getState)

    def _rpc(self) -> Any:
        path = str(self.task.folder / "rpc")
        return xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(path))

    def start_all(self) -> None:
        if not self.task.as_shipped:
            self._rpc().supervisor.startAllProcesses(False)

    def _full(self, name: str) -> str:
        return f"bot:{name}" if self.task.alike else name

    def status_one(self) -> Callable[[], object]:
        rpc, name = self._rpc(), self._full(self.task.names[-1])
        return lambda: rpc.supervisor.getProcessInfo(name)

    def status_all(self) -> Callable[[], object]:
        question: Callable[[], object] = self._rpc().supervisor.getAllProcessInfo
        return question

    def verb(self) -> list[str]:
        ctl, conf = self.peer.root / "bin" / "supervisorctl", self.task.folder / "supervisord.conf"
        return [str(ctl), "-c", str(conf), "status", self._full(self.task.names[-1])]

    def verdict(self, name: str) -> str:
        info = self._rpc().supervisor.getProcessInfo(self._full(name))
        return str(info["statename"])
