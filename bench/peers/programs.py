"""Stablehand with the peers' bot as a program of its own: the same executable under the same questions."""

from __future__ import annotations

import json
import sys
from typing import Any

from bench.installation import QUIET
from bench.machine import ROOT
from bench.peers.install import Installed
from bench.peers.manager import CRASH, Manager, Task
from protocol.client import ControlClient
from protocol.errors import StablehandError

#: Seconds of silence after which a program hangs.
WATCHDOG = 5.0


class Programs(Manager):
    """Each bot a `[[programs]]` table; with `watchdog_seconds`, everything else as shipped."""

    settings = f'`[[programs]]` with `ready = "notify"` and `watchdog_seconds = {WATCHDOG:g}`'

    def __init__(self, peer: Installed, task: Task) -> None:
        super().__init__(peer, task)
        self._client: ControlClient | None = None

    def launch(self) -> None:
        lines = [
            '[supervisor]\ndata_dir = "var"',
            f'[accounts.main]\nkind = "paper"\nfeed = "synthetic"\nbars_per_second = {QUIET}',
        ]
        for name in self.task.names:
            command = json.dumps(self.task.command(name))
            speaks = "" if name.startswith(CRASH) else f'\nready = "notify"\nwatchdog_seconds = {WATCHDOG}'
            lines.append(f'[[programs]]\nname = "{name}"\ncommand = {command}{speaks}')
        config = self.task.folder / "supervisor.toml"
        config.write_text("\n\n".join(lines) + "\n", "utf-8")
        self._client = None
        self.spawn([sys.executable, "-m", "supervisor", "--config", str(config)])
        self.answers(self._status)

    def more_environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(ROOT)}

    def _status(self) -> list[dict[str, Any]]:
        try:
            if self._client is None:
                self._client = ControlClient(self.task.folder / "var", timeout=10.0)
            found: list[dict[str, Any]] = self._client.request("status")
        except StablehandError as error:
            self._client = None
            raise RuntimeError(str(error)) from error
        return found

    def start_all(self) -> None:
        """They start with the supervisor."""

    def verb(self) -> list[str]:
        config = str(self.task.folder / "supervisor.toml")
        return [sys.executable, "-m", "console.main", "--config", config, "status", self.task.names[-1]]

    def verdict(self, name: str) -> str:
        return next(str(row["state"]) for row in self._status() if row["name"] == name)
