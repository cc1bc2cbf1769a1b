"""runit and s6: a process that scans a folder of services, and a small process beside each of them."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import psutil

from bench.peers.manager import Manager


class Scanned(Manager):
    """What the two share: a folder with a `run` script for each bot, there before the scan begins."""

    #: The scanner's command and the one that shows a service, in the peer's folder.
    scanner: tuple[str, ...] = ()
    shower: tuple[str, ...] = ()
    settings = "all services there before the scan"

    @property
    def _services(self) -> Path:
        return self.task.folder / "services"

    def launch(self) -> None:
        self._services.mkdir(exist_ok=True)
        for name in self.task.names:
            place = self._services / name
            place.mkdir(exist_ok=True)
            (place / "run").write_text(f"#!/bin/sh\nexec {shlex.join(self.task.command(name))}\n", "utf-8")
            (place / "run").chmod(0o755)

    def more_environment(self) -> dict[str, str]:
        libraries = ":".join(str(path) for path in self.peer.root.glob("usr/lib/*-linux-*"))
        path = f"{self.peer.root / 'usr' / 'bin'}:{os.environ['PATH']}"
        return {"PATH": path, "LD_LIBRARY_PATH": libraries} if libraries else {"PATH": path}

    def start_all(self) -> None:
        name, *options = self.scanner
        self.spawn([str(self.peer.root / "usr" / "bin" / name), *options, str(self._services)])

    def pids(self) -> list[int]:
        main = psutil.Process(self.main_pid())
        return [main.pid, *(child.pid for child in main.children())]

    def verb(self) -> list[str]:
        name, *options = self.shower
        return [str(self.peer.root / "usr" / "bin" / name), *options, str(self._services / self.task.names[-1])]

    def verb_of(self, name: str) -> list[str]:
        return [*self.verb()[:-1], str(self._services / name)]


class Runit(Scanned):
    """runsvdir and a runsv for each."""

    scanner = ("runsvdir", "-P")
    shower = ("sv", "status")


class S6(Scanned):
    """s6-svscan and an s6-supervise for each."""

    scanner = ("s6-svscan", "-c", "4000")
    shower = ("s6-svstat",)
