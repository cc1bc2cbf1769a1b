"""Where `initialize` finds its paper account: an installation's, or one of its own in a folder.

path = "FILE.toml"           the installation's configuration: one of its accounts, by `login`, or the only one
path = "FOLDER"              the same, where the folder has a supervisor.toml; else an account in that folder,
                             configured by the keys of an account in its paper.toml, if there is one
no path, or "...exe"         an account in the default folder: $STABLEHAND_PAPER; `stablehand-paper` in the current
                             folder with portable=True; else the user's own data folder
"""

from __future__ import annotations

import datetime as dt
import os
import sys
import tomllib
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from broker.paper.core import SERVER, login_of
from protocol.botconfig import AccountConfig
from protocol.errors import InvalidInput

INSTALLATION: Final = "supervisor.toml"
OWN: Final = "paper.toml"
#: A made market is like a live one where nothing else is said: a tick a second.
STANDALONE: Final[dict[str, Any]] = {
    "timeframe": "M1", "price_model": "ohlc", "ticks_per_bar": 60, "bars_per_second": 1 / 60,
}  # fmt: skip


class WrongLogin(InvalidInput):
    """The installation has no account of that number."""


class Place(NamedTuple):
    """An account to open."""

    config: AccountConfig
    name: str
    database: Path
    base_dir: Path
    login: int
    server: str
    lock: Path  # of an installation: the one that the account's gateway holds


def find(path: str | None, login: int | None, server: str | None, *, portable: bool) -> Place:
    """The account that `initialize` means. Raises InvalidInput, WrongLogin for a number that is not there."""
    if path is None or path.lower().endswith(".exe"):
        return _standalone(_default_folder(portable=portable), login, server)
    place = Path(path).expanduser()
    if place.is_file():
        return _installed(place, login, server)
    if (place / INSTALLATION).is_file():
        return _installed(place / INSTALLATION, login, server)
    if place.suffix == ".toml" or not (place.is_dir() or place.parent.is_dir()):
        raise InvalidInput(f"{place}: no such file or folder", hint="a configuration file, or a folder for the account")
    return _standalone(place, login, server)


def _standalone(folder: Path, login: int | None, server: str | None) -> Place:
    own = folder / OWN
    table = _table(own) if own.is_file() else {}
    values = table if table.get("feed") == "replay" else {**STANDALONE, **table}
    name = "paper" if login is None else str(login)
    return Place(
        config=_config(own, values),
        name=name,
        database=folder / f"paper-{name}.db",
        base_dir=folder,
        login=login_of(name) if login is None else login,
        server=server or SERVER,
        lock=folder / f"paper-{name}.lock",
    )


def _installed(file: Path, login: int | None, server: str | None) -> Place:
    raw = _table(file)
    tables = raw.get("accounts", {})
    accounts = {
        name: table
        for name, table in (tables.items() if isinstance(tables, dict) else ())
        if isinstance(table, dict) and table.get("kind", "paper") == "paper"
    }
    if login is not None:
        names = [name for name in accounts if login_of(name) == login]
        if not names:
            known = ", ".join(f"{name} is {login_of(name)}" for name in accounts)
            raise WrongLogin(f"{file}: no paper account has the number {login}", hint=known or None)
    else:
        names = list(accounts)
        if len(names) != 1:
            known = ", ".join(f"{name} is {login_of(name)}" for name in accounts)
            raise InvalidInput(f"{file} has {len(names)} paper accounts", hint=f"login= says which: {known or 'none'}")
    supervisor = raw.get("supervisor", {})
    data = str(supervisor.get("data_dir", "var")) if isinstance(supervisor, dict) else "var"
    base = file.resolve().parent
    return Place(
        config=_config(file, accounts[names[0]]),
        name=names[0],
        database=base / data / f"paper-{names[0]}.db",
        base_dir=base,
        login=login_of(names[0]),
        server=server or SERVER,
        lock=base / data / "locks" / f"account-{names[0]}",
    )


def _table(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise InvalidInput(f"{file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file}: {error}") from None


def _config(file: Path, values: dict[str, Any]) -> AccountConfig:
    dated = {
        key: value.isoformat() if isinstance(value, dt.date | dt.datetime) else value for key, value in values.items()
    }
    try:
        return AccountConfig.model_validate(dated)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{file}: {where}: {first['msg']}") from None


def _default_folder(*, portable: bool) -> Path:
    named = os.environ.get("STABLEHAND_PAPER")
    if named:
        return Path(named).expanduser()
    if portable:
        return Path.cwd() / "stablehand-paper"
    if sys.platform == "win32":
        data = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    else:
        data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data) / "stablehand" / "paper"
