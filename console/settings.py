"""Which installation is meant: the configuration file, and the data directory that it names."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from protocol.client import ControlClient
from protocol.endpoints import Endpoints, data_folder
from protocol.errors import InvalidInput, Unreachable

DEFAULT: Final = "supervisor.toml"
VARIABLE: Final = "STABLEHAND_CONFIG"
REMOTE: Final = "STABLEHAND_CONNECT"
#: The line that names the data directory, also in a file that is no TOML any more.
_DATA_DIR: Final = re.compile(r"""^\s*data_dir\s*=\s*(["'])(.+?)\1""", re.MULTILINE)
_chosen: str | None = None
_remote: str | None = None
_told: Final[set[Path]] = set()  # files that are broken or gone, which is said once


@dataclass(frozen=True, slots=True)
class Site:
    """One installation, as its configuration file says. Paths are absolute."""

    config: Path
    data_dir: Path
    said: str = field(default="", compare=False)  # the data directory as the file has it


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
    named = _remote if _remote is not None else (None if _chosen else os.environ.get(REMOTE))
    if named == "":
        raise InvalidInput(f"the client file has no name: --connect or {REMOTE} is empty")
    return Path(named) if named else None


def site() -> Site:
    """The installation that is meant. Raises InvalidInput when its file is not there or cannot be read."""
    if remote() is not None:
        raise InvalidInput("this is done on the supervisor's own machine, not over --connect")
    named = _chosen if _chosen is not None else os.environ.get(VARIABLE)
    if named == "":
        raise InvalidInput(f"the configuration file has no name: -c or {VARIABLE} is empty")
    path = Path(named or DEFAULT)
    try:
        text = path.read_text("utf-8-sig")
        table = tomllib.loads(text)
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
    at = next((n for n, one in enumerate(text.splitlines(), 1) if re.match(r"\s*data_dir\s*=", one)), None)
    place = f"{path}:{at}" if at else str(path)
    if not isinstance(folder, str):
        raise InvalidInput(f"{place}: data_dir is the path of a folder, a text", hint='as in data_dir = "var"')
    path = path.absolute()
    try:
        return Site(path, data_folder(path.parent, folder), folder)
    except InvalidInput as error:
        raise InvalidInput(f"{place}: {error.message}", hint=error.hint) from None


def running_site() -> Site:
    """The installation that is meant, for those who speak to what runs: its file may be broken or gone by now.

    Raises InvalidInput where the file is, and nothing ever ran where it would say.
    """
    try:
        return site()
    except InvalidInput as error:
        named = _chosen if _chosen is not None else os.environ.get(VARIABLE, DEFAULT)
        path = Path(named).absolute()
        data_dir = _last_known(path) if named and remote() is None else None
        if data_dir is None:
            raise
        if path not in _told:
            _told.add(path)
            sys.stderr.write(f"stablehand: {error.message}; speaking to the supervisor of {data_dir} all the same\n")
        return Site(path, data_dir)


def _last_known(path: Path) -> Path | None:
    """The data directory of a file that cannot be read whole, if a supervisor ran there by this very file: a name that
    was typed wrongly is nobody's."""
    folder = "var"
    with contextlib.suppress(OSError):
        said = _DATA_DIR.search(path.read_text("utf-8-sig", errors="replace"))
        folder = said[2] if said else folder
    with contextlib.suppress(Unreachable, InvalidInput):
        data_dir = data_folder(path.parent, folder)
        if os.path.realpath(Endpoints.load(data_dir).config) == os.path.realpath(path):
            return data_dir
    return None


def connect(timeout: float = 5.0, *, strict: bool = False) -> ControlClient:
    """A client of the installation that is meant; `strict`: its file must be good, because it is what is asked for.

    Raises InvalidInput, Unreachable.
    """
    file = remote()
    if file is not None:
        return ControlClient.from_file(file, timeout=timeout)
    return ControlClient((site() if strict else running_site()).data_dir, timeout=timeout)
