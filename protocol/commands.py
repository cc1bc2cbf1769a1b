"""The commands of the control socket as methods: the part that both clients share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from protocol import keys
from protocol.clientfile import ClientFile
from protocol.endpoints import Endpoints
from protocol.errors import DENIED, StablehandError

TIMEOUT: Final = 5.0


def _which(bots: Sequence[str] | None, every: bool, where: Mapping[str, Any] | None) -> dict[str, Any]:
    if every:
        return {"all": True}
    return {"where": dict(where)} if where else {"bots": list(bots or ())}


class Commands(ABC):
    """The commands by name; `request` does them. Arguments and results: docs/control-protocol.md."""

    def __init__(
        self, data_dir: str | Path | None = None, *, endpoints: Endpoints | None = None,
        key: keys.KeyPair | None = None, role: str = "operator", timeout: float = TIMEOUT,
    ) -> None:  # fmt: skip
        """Connect to the supervisor of `data_dir`, or to `endpoints` with `key`.

        `timeout`: seconds to wait for an answer, beside what a command itself waits. Raises Unreachable when
        no supervisor ever ran there.
        """
        if endpoints is None:
            if data_dir is None:
                raise TypeError("give data_dir or endpoints")
            endpoints = Endpoints.load(Path(data_dir))
        if endpoints.server_key and key is None and data_dir is not None:
            path = Path(data_dir) / "keys" / f"{role}.key"
            if not path.exists():
                raise StablehandError(f"there is no key {path}", code=DENIED)
            key = keys.load_or_create(Path(data_dir), role)
        self.endpoints = endpoints
        self.timeout = timeout
        self._key = key

    @classmethod
    def from_file(cls, path: str | Path, *, timeout: float = TIMEOUT) -> Self:
        """A client over the network, by the file that `stablehand keys new` wrote. Raises InvalidInput."""
        file = ClientFile.load(Path(path))
        return cls(endpoints=file.endpoints, key=file.keys, role=file.role, timeout=timeout)

    def _join(self, socket: Any, address: str) -> Any:
        socket.linger = 0
        keys.secure_client(socket, self._key, self.endpoints.server_key)
        socket.connect(address)
        return socket

    @abstractmethod
    def request(self, cmd: str, args: Mapping[str, Any] | None = None, *, timeout: float | None = None) -> Any:
        """Do one command; its result. Raises CommandFailed, Unreachable."""

    def ping(self) -> Any:
        """Who answers: version, wire, pid, boot, uptime_s, data_dir, not_remembered."""
        return self.request("ping")

    def status(self, bots: Sequence[str] = ()) -> Any:
        """One map a bot; of all, or of those named. Raises CommandFailed(unknown_bot)."""
        return self.request("status", {"bots": list(bots)} if bots else {})

    def host(self) -> Any:
        """The machine's figures, and how many bots are in each state."""
        return self.request("host")

    def act(
        self, verb: str, bots: Sequence[str] | None = None, *, all: bool = False,
        where: Mapping[str, Any] | None = None, wait: float | None = None, **more: Any,
    ) -> Any:  # fmt: skip
        """`start`, `stop`, `restart`, `pause` or `resume`, for the bots named, for all, or for those that match."""
        args = {**_which(bots, all, where), **more}
        if wait is not None:
            args["wait"] = wait
        return self.request(verb, args)

    def start(self, bots: Sequence[str] | None = None, **more: Any) -> Any:
        """Want bots running: {done, already, failed, reached?, missed?}. `wait`: seconds to wait for it."""
        return self.act("start", bots, **more)

    def stop(self, bots: Sequence[str] | None = None, **more: Any) -> Any:
        """Want bots stopped. `mode="kill"`: at once."""
        return self.act("stop", bots, **more)

    def restart(self, bots: Sequence[str] | None = None, **more: Any) -> Any:
        """Stop and start bots."""
        return self.act("restart", bots, **more)

    def pause(self, bots: Sequence[str] | None = None, **more: Any) -> Any:
        """Want bots alive, without new entries."""
        return self.act("pause", bots, **more)

    def resume(self, bots: Sequence[str] | None = None, **more: Any) -> Any:
        """Want paused bots running."""
        return self.act("resume", bots, **more)

    def add(self, bots: Sequence[Mapping[str, Any]]) -> Any:
        """Add bots, all or none: each a map as a `[[bots]]` table of the file."""
        return self.request("add", {"bots": [dict(bot) for bot in bots]})

    def update(
        self, bots: Sequence[str] | None = None, *, set: Mapping[str, Any] | None = None, all: bool = False,
        where: Mapping[str, Any] | None = None, unset: Sequence[str] = (),
    ) -> Any:  # fmt: skip
        """Change keys of bots, or take back what was set before, all or none; those that ran are restarted where the
        run itself must know."""
        return self.request(
            "update", {**_which(bots, all, where), "set": dict(set or {}), **({"unset": list(unset)} if unset else {})}
        )

    def remove(
        self, bots: Sequence[str] | None = None, *, positions: str, all: bool = False,
        where: Mapping[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        """Remove bots; `positions`: `keep` what they hold, or `close` it."""
        return self.request("remove", {**_which(bots, all, where), "positions": positions})

    def halt(
        self, reason: str, *, account: str | None = None, bot: str | None = None, flatten: bool = False,
        who: str = "", wait: float | None = None,
    ) -> Any:  # fmt: skip
        """Refuse entries until it is lifted; `flatten`: close what is open, and `wait` so many seconds for that."""
        named = {"account": account, "bot": bot, "who": who or None, "wait": wait}
        args = {key: value for key, value in named.items() if value is not None}
        return self.request("halt", {"reason": reason, "flatten": flatten, **args})

    def resume_trading(self, *, account: str | None = None, bot: str | None = None, who: str = "") -> Any:
        """Lift the halts of that scope: {lifted: [key], still: [line]}. Raises CommandFailed when one still holds."""
        named = {"account": account, "bot": bot, "who": who or None}
        return self.request("resume-trading", {key: value for key, value in named.items() if value is not None})

    def halts(self) -> Any:
        """Every halt that is in force."""
        return self.request("halts")

    def events(self, *, since: int | None = None, limit: int = 100, bot: str | None = None) -> Any:
        """Rows of the journal after number `since` (or the last ones): {events, first, last}."""
        args: dict[str, Any] = {"limit": limit}
        if since is not None:
            args["since"] = since
        return self.request("events", args if bot is None else {**args, "bot": bot})
