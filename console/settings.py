"""Which installation is meant: the configuration file, and the data directory that it names."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from protocol.client import ControlClient
from protocol.errors import InvalidInput

DEFAULT: Final = "supervisor.toml"
VARIABLE: Final = "STABLEHAND_CONFIG"
_chosen: str | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """One installation, as its configuration file says. Paths are absolute."""

    config: Path
    data_dir: Path


def choose(config: str | None) -> None:
    """What `-c` said, for the rest of this process; None: STABLEHAND_CONFIG, or ./supervisor.toml."""
    global _chosen
    _chosen = config


def site() -> Site:
    """The installation that is meant. Raises InvalidInput when its file is not there or cannot be read."""
    named = _chosen or os.environ.get(VARIABLE)
    path = Path(named or DEFAULT)
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except FileNotFoundError:
        hint = None if named else f"name one with -c FILE or {VARIABLE}"
        raise InvalidInput(f"there is no {path}", hint=hint) from None
    except IsADirectoryError:
        raise InvalidInput(f"{path} is a directory", hint=f"try {path / DEFAULT}") from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: {error}") from None
    section = table.get("supervisor", {})
    folder = section.get("data_dir", "var") if isinstance(section, dict) else "var"
    if not isinstance(folder, str):
        raise InvalidInput(f"{path}: data_dir must be a text")
    path = path.absolute()
    return Site(path, path.parent / Path(folder).expanduser())


def connect(timeout: float = 5.0) -> ControlClient:
    """A client of the installation that is meant. Raises InvalidInput, Unreachable."""
    return ControlClient(site().data_dir, timeout=timeout)
