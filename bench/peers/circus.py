"""circus: one process, JSON over a ZeroMQ socket."""

from __future__ import annotations

import json
import shlex
import uuid
from collections.abc import Callable
from typing import Any

import zmq

from bench.peers.manager import Manager
from tests.ports import two_free_ports


class Circus(Manager):
    """One watcher with `numprocesses`, or one each."""

    settings = "one watcher with numprocesses, warmup_delay 0, check_delay 1 (5 as shipped), without statsd"
    figures = True
    #: With the plugin that it ships for hung processes, which must speak to it.
    watched = False

    def launch(self) -> None:
        task = self.task
        delay = "" if task.as_shipped else "check_delay = 1\n"
        lines = [
            f"[circus]\nendpoint = {self._endpoint}\npubsub_endpoint = ipc://{task.folder}/pub\n"
            f"statsd = False\nwarmup_delay = 0\n{delay}"
        ]
        if task.alike:
            lines.append(self._watcher("bot", "bot-$(circus.wid)", len(task.names), autostart=task.as_shipped))
        for name in () if task.alike else task.names:
            lines.append(self._watcher(name, name, 1, autostart=task.as_shipped))
        if self.watched:
            lines.append(
                f"[plugin:watchdog]\nuse = circus.plugins.watchdog.WatchDog\nloop_rate = 1\nmax_count = 5\n"
                f"port = {self._port()}\n"
            )
        (task.folder / "circus.ini").write_text("\n".join(lines), "utf-8")
        self.spawn([str(self.peer.root / "bin" / "circusd"), str(task.folder / "circus.ini")])
        self.answers(lambda: self._call("numwatchers", timeout=3.0))

    @property
    def _endpoint(self) -> str:
        return f"ipc://{self.task.folder}/ctl"

    def _watcher(self, watcher: str, name: str, count: int, *, autostart: bool) -> str:
        first, *rest = self.task.command(name)
        text = (
            f"[watcher:{watcher}]\ncmd = {first}\nargs = {shlex.join(rest).replace(chr(39), '')}\n"
            f"numprocesses = {count}\nautostart = {autostart}\ncopy_env = True\nwarmup_delay = 0\n"
            "stdout_stream.class = FileStream\nstdout_stream.filename = /dev/null\n"
        )
        return text if self.task.as_shipped else text + "max_retry = -1\n"

    def _port(self) -> int:
        file = self.task.folder / "port"
        if not file.exists():
            file.write_text(str(two_free_ports()), "utf-8")
        return int(file.read_text("utf-8"))

    def more_environment(self) -> dict[str, str]:
        return {"BENCH_WATCHDOG_PORT": str(self._port())} if self.watched else {}

    def _dealer(self) -> zmq.Socket[bytes]:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(self._endpoint)
        return dealer

    def _caller(self, dealer: zmq.Socket[bytes]) -> Callable[..., dict[str, Any]]:
        def call(command: str, timeout: float = 60.0, **properties: Any) -> dict[str, Any]:
            number = uuid.uuid4().hex
            dealer.send_json({"command": command, "properties": properties, "id": number})
            while dealer.poll(int(timeout * 1000)):
                found: dict[str, Any] = json.loads(dealer.recv())
                if found.get("id") == number:
                    return found
            raise TimeoutError(f"circus did not answer {command} within {timeout:g} s")

        return call

    def _call(self, command: str, timeout: float = 60.0, **properties: Any) -> dict[str, Any]:
        with self._dealer() as dealer:
            return self._caller(dealer)(command, timeout, **properties)

    def start_all(self) -> None:
        if not self.task.as_shipped:
            for watcher in ("bot",) if self.task.alike else self.task.names:
                self._call("start", name=watcher)

    def status_one(self) -> Callable[[], object]:
        call, name = self._caller(self._dealer()), "bot" if self.task.alike else self.task.names[-1]
        return lambda: call("status", name=name)

    def status_all(self) -> Callable[[], object]:
        call = self._caller(self._dealer())
        return lambda: call("stats")

    def verb(self) -> list[str]:
        ctl, name = self.peer.root / "bin" / "circusctl", "bot" if self.task.alike else self.task.names[-1]
        return [str(ctl), "--endpoint", self._endpoint, "status", name]

    def verdict(self, name: str) -> str:
        return str(self._call("status", name=name).get("status", "unknown"))


class WatchedCircus(Circus):
    """circus with its watchdog plugin, and a bot that beats to it."""

    settings = "with its watchdog plugin (5 s), to which the program must beat"
    watched = True
