"""The launchers of an installation: started, found again after a hand-over, renewed when strategies change."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from protocol.botconfig import BotConfig
from protocol.endpoints import Transport
from protocol.errors import StablehandError
from protocol.keys import load_or_create
from protocol.spec import RunSpec
from supervisor.config import Config
from supervisor.errors import LauncherLost
from supervisor.runtime import clock
from supervisor.runtime.launcherprocess import (
    FORK_SOCKET,
    SPAWN_SOCKET,
    Inherited,
    Place,
    Process,
    addresses,
    command_of,
    generation_of,
    listens,
    popen,
    suffix,
)
from supervisor.runtime.launching import ForkLink, LauncherLink, SpawnLink

_START_TIMEOUT: Final = 150.0  # a cold disk just after the machine has started; one that ends is noticed at once
_FIND_TIMEOUT: Final = 10.0
_LAUNCH_TIMEOUT: Final = 60.0
_POLL: Final = 0.02
_REAP_SECONDS: Final = 2.0
_STALE_CHECK: Final = 0.1  # seconds that an answer to "has a strategy changed?" holds


class Problem(NamedTuple):
    """What is wrong with a strategy or a parameter. `param`: `strategy`, a parameter's name, or empty for several."""

    param: str
    message: str
    broken: bool  # the strategy is known and its code fails


class Launchers:
    """All launchers that live; new runs go to the newest."""

    def __init__(
        self,
        place: Place,
        on_exit: Callable[[dict[str, Any]], None],
        on_lost: Callable[[str], None],
        modules: tuple[str, ...],
        inherited: Mapping[str, int],
    ) -> None:
        self._place = place
        self._exit = on_exit
        self._lost_launcher = on_lost
        self._modules = set(modules)
        self._preloaded: dict[str, frozenset[str]] = {}  # launcher -> the user's modules that it began with
        self._links: dict[str, LauncherLink] = {}
        self._newest: LauncherLink | None = None
        self._lock = asyncio.Lock()
        self._fresh_until = 0.0
        self._processes: dict[str, Process] = {name: Inherited(pid) for name, pid in inherited.items()}
        self.closing = False

    async def find(self) -> list[dict[str, Any]]:
        """Connect to the launchers that an earlier supervisor left; all runs that they know."""
        runs: list[dict[str, Any]] = []
        for address in sorted(addresses(self._place.run_dir), key=generation_of):
            name = address.stem
            try:
                known = self._links.get(name)  # of one that this supervisor has started itself
                link = known if known is not None and known.alive else self._connect(name, address)
                runs += [{**run, "launcher": link.name} for run in await link.runs(_FIND_TIMEOUT)]
                self._newest = link
            except (OSError, ValueError, LauncherLost):
                address.unlink(missing_ok=True)  # nobody listens there any more
                gone = self._links.pop(name, None)
                if gone is not None:
                    gone.hang_up()
        for link in self._links.values():
            if link is not self._newest:
                link.tell("retire")  # whoever started it may have died before it could say so
        return runs

    def know(self, strategy: str) -> None:
        """A bot uses this strategy: from the next start on its module is preloaded, and watched for changes."""
        module, colon, _ = strategy.partition(":")
        if colon and module not in self._modules:
            self._modules.add(module)
            self._fresh_until = 0.0

    async def ensure(self) -> LauncherLink:
        """The newest launcher, started when there is none or when a strategy's file changed since."""
        async with self._lock:
            link = self._newest
            if link is not None and link.alive and self._preloaded.get(link.name) == frozenset(self._modules):
                if clock.now() < self._fresh_until:
                    return link
                answer = await link.ask("stale")
                if not answer.get("stale"):
                    self._fresh_until = clock.now() + _STALE_CHECK
                    return link
            if link is not None:
                link.tell("retire")  # it leaves when its last child has ended, and launches nothing any more
                self._newest = None
            self._newest = await self._start()
            self._fresh_until = clock.now() + _STALE_CHECK
            return self._newest

    async def launch(self, spec: RunSpec) -> tuple[str, dict[str, Any]]:
        """Have a process made. (launcher's name, reply). Raises LauncherLost."""
        link = self._newest
        if link is None or not link.alive or clock.now() >= self._fresh_until:
            link = await self.ensure()
        return link.name, await link.ask("launch", _LAUNCH_TIMEOUT, spec=spec.model_dump())

    def signal(self, launcher: str, token: str, number: int, *, group: bool) -> bool:
        """Signal a run through its parent. False when that launcher is gone."""
        link = self._links.get(launcher)
        if link is None or not link.alive:
            return False
        link.tell("signal", token=token, signal=int(number), group=group)
        return True

    def ack(self, launcher: str, token: str) -> None:
        """The run's end is committed: its launcher may reap it."""
        link = self._links.get(launcher)
        if link is not None:
            link.tell("ack", token=token)

    def ack_everywhere(self, token: str) -> None:
        """Reap a run that nobody knows any more."""
        for name in self._links:
            self.ack(name, token)

    async def catalogue(self, names: list[str]) -> dict[str, Any]:
        """Descriptions of strategies (all that are installed, and these)."""
        return await (await self.ensure()).ask("catalogue", names=names)

    async def check(self, bot: BotConfig) -> list[Problem]:
        """What is wrong with a bot's strategy and parameters."""
        reply = await (await self.ensure()).ask("validate", strategy=bot.strategy, params=bot.params)
        if reply.get("ok"):
            return []
        return [
            Problem(str(one["param"]), str(one["message"]), bool(one.get("broken"))) for one in reply.get("errors", [])
        ]

    def alive(self, launcher: str) -> bool:
        """Whether that launcher answers."""
        link = self._links.get(launcher)
        return link is not None and link.alive

    def inherits(self, launcher: str) -> bool:
        """Whether that launcher lives, and has for its own what its children leave behind."""
        return self.alive(launcher) and isinstance(self._links[launcher], ForkLink)

    def pids(self) -> dict[str, int]:
        """Process ids of the launchers started by this supervisor."""
        return {name: process.pid for name, process in self._processes.items() if process.poll() is None}

    async def retire(self, timeout: float = 5.0) -> None:
        """At shutdown: all leave once their last child is reaped."""
        self.closing = True
        for link in self._links.values():
            link.tell("retire")
        until = clock.now() + timeout
        while clock.now() < until and (any(link.alive for link in self._links.values()) or self._leaving()):
            await asyncio.sleep(_POLL)
        self.hang_up()

    def hang_up(self) -> None:
        """Leave them alone: the next supervisor finds them."""
        self.closing = True
        for link in self._links.values():
            link.hang_up()

    def _leaving(self) -> bool:
        """Whether a launcher of ours has hung up, and its process still tidies up after itself."""
        return any(process.poll() is None and not self.alive(name) for name, process in self._processes.items())

    def _connect(self, name: str, address: Path) -> LauncherLink:
        place = self._place
        link: LauncherLink
        if address.suffix == FORK_SOCKET:
            link = ForkLink(name, address, self._exited, self._lost)
        elif address.suffix == SPAWN_SOCKET:
            link = SpawnLink(name, place.context, f"ipc://{address}", None, "", self._exited, self._lost)
        else:
            where, ours, its = address.read_text("ascii").strip(), place.client_keys, place.server_keys
            if ours is None or its is None:  # it was made while the transport was another one
                ours, its = (load_or_create(place.data_dir, one) for one in ("operator", "supervisor"))
            link = SpawnLink(name, place.context, where, ours, its.public, self._exited, self._lost)
        self._links[name] = link
        return link

    async def _start(self) -> LauncherLink:
        place = self._place
        generation = max((generation_of(Path(name)) for name in self._links), default=0) + 1
        generation = max([generation, *(generation_of(one) + 1 for one in addresses(place.run_dir))])
        name = f"launcher-{generation}"
        address = place.run_dir / f"{name}{suffix(place)}"
        log_path = place.data_dir / "logs" / "launcher.log"
        log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._preloaded[name] = frozenset(self._modules)
        command = command_of(place, name, address, sorted(self._modules))
        process = popen(command, log_path)
        self._processes[name] = process
        try:
            return await self._joined(name, address, process, log_path)
        except BaseException:
            process.kill()  # nobody would know it, and it would wait for a supervisor
            raise

    async def _joined(self, name: str, address: Path, process: subprocess.Popen[bytes], log_path: Path) -> LauncherLink:
        until = clock.now() + _START_TIMEOUT
        while not listens(address):
            if process.poll() is not None:
                raise LauncherLost(f"the launcher ended at once (exit code {process.returncode})",
                                   hint=f"{log_path} says why")  # fmt: skip
            if clock.now() >= until:
                raise LauncherLost(f"the launcher was not ready within {_START_TIMEOUT:g} s", hint=f"see {log_path}")
            await asyncio.sleep(_POLL)
        link = self._connect(name, address)
        link.pid = process.pid
        await link.ask("list", timeout=_START_TIMEOUT)
        return link

    def _exited(self, link: LauncherLink, notice: dict[str, Any]) -> None:
        self._exit({**notice, "launcher": link.name})

    def _lost(self, link: LauncherLink) -> None:
        if self._newest is link:
            self._newest = None
        process = self._processes.get(link.name)
        if process is not None and process.poll() is None:
            asyncio.get_running_loop().call_later(_REAP_SECONDS, process.poll)  # it has hung up, and ends now
        if not self.closing:
            self._lost_launcher(link.name)


def modules_of(config: Config) -> tuple[str, ...]:
    """Modules of the user's own strategies (`module:Class`), for the launcher to preload."""
    return tuple(sorted({bot.strategy.split(":", 1)[0] for bot in config.bots if ":" in bot.strategy}))


def choose(config: Config) -> tuple[str, Transport]:
    """(fork | spawn, ipc | tcp) of a configuration on this system. Raises StablehandError where it cannot be."""
    windows = sys.platform == "win32"
    launch, transport = config.supervisor.launch, config.supervisor.transport
    if windows and (launch == "fork" or transport == "ipc"):
        raise StablehandError("Windows has neither fork nor ipc sockets", code="invalid",
                              hint='launch = "spawn" and transport = "tcp", or leave both "auto"')  # fmt: skip
    if launch == "auto":
        launch = "fork" if sys.platform == "linux" else "spawn"  # macOS has no seqpacket sockets
    # Runs need keys of their own where they speak to another host.
    remote = any(account.kind == "mt5-remote" for account in config.accounts.values())
    if remote and transport == "ipc":
        raise StablehandError('an account of kind "mt5-remote" needs transport = "tcp"', code="invalid",
                              hint='transport = "tcp", or leave it "auto"')  # fmt: skip
    chosen: Transport = "tcp" if transport == "tcp" or (transport == "auto" and (windows or remote)) else "ipc"
    return launch, chosen
