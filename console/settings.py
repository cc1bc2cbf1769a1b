"""Which installation is meant: the configuration file, and the data directory that it names."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from protocol.client import ControlClient
from protocol.errors import InvalidInput

DEFAULT: Final = "supervisor.toml"
VARIABLE: Final = "STABLEHAND_CONFIG"
REMOTE: Final = "STABLEHAND_CONNECT"
_chosen: str | None = None
_remote: str | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """One installation, as its configuration file says. Paths are absolute."""

    config: Path
    data_dir: Path


def choose(config: str | None) -> None:
    """What `-c` said, for the rest of this process; None: STABLEHAND_CONFIG, or ./supervisor.toml."""
    global _chosen
    _chosen = config


def choose_remote(file: str | None) -> None:
    """What `--connect` said, for the rest of this process."""
    global _remote
    _remote = file


def remote() -> Path | None:
    """The client file of the supervisor on another machine that is meant; None: one of this machine is."""
    named = _remote or (None if _chosen else os.environ.get(REMOTE))
    return Path(named) if named else None


def site() -> Site:
    """The installation that is meant. Raises InvalidInput when its file is not there or cannot be read."""
    if remote() is not None:
        raise InvalidInput("this is done on the supervisor's own machine, not over --connect")
    named = _chosen or os.environ.get(VARIABLE)
    path = Path(named or DEFAULT)
    try:
        table = tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        hint = None if named else f"name one with -c FILE or {VARIABLE}"
        raise InvalidInput(f"there is no {path}", hint=hint) from None
    except IsADirectoryError:
        raise InvalidInput(f"{path} is a directory", hint=f"try {path / DEFAULT}") from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{path}:{line}: not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        what, _, where = str(error).rpartition(" (at ")
        line_said = re.match(r"line (\d+)", where)
        place = f"{path}:{line_said[1]}" if line_said else str(path)
        raise InvalidInput(f"{place}: {what or error}", hint="the file is not valid TOML") from None
    section = table.get("supervisor", {})
    folder = section.get("data_dir", "var") if isinstance(section, dict) else "var"
    if not isinstance(folder, str):
        raise InvalidInput(f"{path}: data_dir must be a text")
    path = path.absolute()
    return Site(path, path.parent / Path(folder).expanduser())


def connect(timeout: float = 5.0) -> ControlClient:
    """A client of the installation that is meant. Raises InvalidInput, Unreachable."""
    file = remote()
    if file is not None:
        return ControlClient.from_file(file, timeout=timeout)
    return ControlClient(site().data_dir, timeout=timeout)
