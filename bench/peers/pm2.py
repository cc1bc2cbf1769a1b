"""pm2: a daemon on node, with an interface for programs on node."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from bench.peers.manager import Manager


class Pm2(Manager):
    """One app with `instances`, or one each; everything that reaches outside is off."""

    settings = "one app with instances, fork mode, all at once (PM2_CONCURRENT_ACTIONS), no output files"
    figures = True

    def launch(self) -> None:
        (self.task.folder / "home").mkdir(exist_ok=True)
        shared: dict[str, Any] = {
            "exec_mode": "fork", "vizion": False,
            "pmx": False, "out_file": "/dev/null", "error_file": "/dev/null",
        }  # fmt: skip
        if self.task.alike:
            app = {**_run(self.task.command("-")), "name": "bot", "instances": len(self.task.names)}
            apps = [{**shared, **app, "max_restarts": 1_000_000}]
        else:
            apps = [{**shared, **_run(self.task.command(name)), "name": name} for name in self.task.names]
        self._file.write_text(json.dumps({"apps": apps}), "utf-8")
        self._command("ping")
        if self.task.as_shipped:
            self._command("start", str(self._file))

    @property
    def _file(self) -> Path:
        return self.task.folder / "ecosystem.config.json"

    @property
    def _pm2(self) -> str:
        return str(self.peer.root / "node_modules" / "pm2" / "bin" / "pm2")

    def more_environment(self) -> Mapping[str, str]:
        return {
            "PM2_HOME": str(self.task.folder / "home"),
            "PM2_CONCURRENT_ACTIONS": str(max(2, len(self.task.names))),
            "PM2_DISCRETE_MODE": "true",
            "PM2_DISABLE_VERSION_CHECK": "true",
            "PM2_NO_INTERACTION": "true",
        }

    def _command(self, *words: str) -> str:
        done = subprocess.run(
            ["node", self._pm2, *words], env=self.environment(), cwd=self.task.folder, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"pm2 {words[0]}: {(done.stderr or done.stdout).strip()[-300:]}")
        return done.stdout

    def start_all(self) -> None:
        if not self.task.as_shipped:
            # Not waited for: the clock runs until the bots are ready, and the command goes on to print.
            self.spawn(["node", self._pm2, "start", str(self._file)])

    def main_pid(self) -> int:
        return int((self.task.folder / "home" / "pm2.pid").read_text("utf-8"))

    def __exit__(self, *told: object) -> None:
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            psutil.Process(self.main_pid()).kill()
        super().__exit__(*told)

    def measure_status(self, ones: int, alls: int) -> dict[str, list[float]]:
        """Milliseconds of its interface, measured in node."""
        script = str(Path(__file__).with_name("pm2_status.js"))
        module = str(self.peer.root / "node_modules" / "pm2")
        name = "bot" if self.task.alike else self.task.names[-1]
        found: dict[str, list[float]] = json.loads(
            subprocess.run(
                ["node", script, module, name, str(ones), str(alls)], env=self.environment(), capture_output=True,
                text=True, timeout=300, check=True,
            ).stdout.splitlines()[-1]
        )  # fmt: skip
        return found

    def verb(self) -> list[str]:
        return ["node", self._pm2, "describe", "0" if self.task.alike else self.task.names[-1]]

    def verdict(self, name: str) -> str:
        for app in json.loads(self._command("jlist").splitlines()[-1]):
            if app["name"] == name:
                return str(app["pm2_env"]["status"])
        return "unknown"


def _run(command: list[str]) -> dict[str, Any]:
    """A command line in pm2's words."""
    return {"interpreter": command[0], "script": command[1], "args": command[2:]}
