"""What a program is: any executable that is supervised as bots are, without a market and without a strategy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field, ValidationInfo, field_validator

from protocol.botconfig import BotConfig, Frozen, Supervised

#: The key that tells a program from a bot.
COMMAND: Final = "command"
StopSignal = Literal["TERM", "INT", "QUIT", "HUP", "USR1", "USR2"]
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ProgramConfig(Supervised):
    """One program, complete."""

    command: tuple[str, ...] = Field(min_length=1, max_length=1000, strict=False)
    """The executable and its arguments, a text each; no shell reads them. Without a slash it is looked up in PATH."""
    cwd: str | None = None
    """Folder that it works in, relative to the configuration file; its folder, where left out."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Variables laid over the supervisor's own environment."""
    ready: Literal["started", "notify"] = "started"
    """When it counts as running: once it is started, or when it says READY=1 (`start_timeout_seconds` allowed)."""
    ready_after_seconds: float = Field(0.0, ge=0, le=3600)
    """With `ready = "started"`: it must have lived so long first."""
    watchdog_seconds: float = Field(0.0, ge=0, le=86_400)
    """It must say WATCHDOG=1 at least this often, else it hangs; 0: it need not."""
    heartbeat: Literal["notify", "bus"] = "notify"
    """How it says that it moves: WATCHDOG=1 on the notify socket, where `watchdog_seconds` asks for it; or heartbeats
    that it must send over the bus itself, and hangs when it is silent for `heartbeat_timeout_seconds`."""
    stop_signal: StopSignal = "TERM"
    """Signal that asks it to stop; what is left after `stop_timeout_seconds` is killed."""

    @field_validator("wanted")
    @classmethod
    def _no_pause(cls, wanted: str) -> str:
        if wanted == "paused":
            raise ValueError("a program cannot be paused, only running or stopped")
        return wanted

    @field_validator("command")
    @classmethod
    def _no_nul(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        if not command[0].strip() or any("\0" in part for part in command):
            raise ValueError("the first text names an executable, and none holds a NUL")
        return command

    @field_validator("heartbeat")
    @classmethod
    def _one_watch(cls, heartbeat: str, info: ValidationInfo) -> str:
        if heartbeat == "bus" and info.data.get("watchdog_seconds"):
            raise ValueError('"bus" and watchdog_seconds exclude each other; leave one of them out')
        return heartbeat

    @field_validator("environment")
    @classmethod
    def _variables(cls, environment: dict[str, str]) -> dict[str, str]:
        for key, value in environment.items():
            if not _VARIABLE.fullmatch(key) or "\0" in value:
                raise ValueError(f"{key!r} cannot be a variable of the environment")
        return environment


class GroupConfig(Frozen):
    """Bots and programs that are restarted together, in the order of their `after`, else of their first declaration."""

    strategy: Literal["one_for_one", "rest_for_one", "one_for_all"] = "one_for_one"
    """When a member fails: restart it alone, it and those after it, or all members."""


Settings = BotConfig | ProgramConfig


def is_program(entry: Mapping[str, Any]) -> bool:
    """Whether an entry (of the file, of `add`, of the store) describes a program."""
    return COMMAND in entry
