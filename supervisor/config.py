"""The file `supervisor.toml`: frozen models, every key known, every error with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from protocol.botconfig import NAME_PATTERN, AccountConfig, BotConfig, Frozen
from protocol.errors import InvalidInput
from supervisor.bots import check_netting, complete
from supervisor.complaints import did_you_mean, first
from supervisor.errors import ConfigError
from supervisor.tomlplace import Part, line_of


class SupervisorConfig(Frozen):
    """The daemon itself."""

    data_dir: str = "var"
    """Folder of everything that it writes, relative to this file; made private (0700)."""
    launch: Literal["auto", "fork", "spawn"] = "auto"
    """How bots start: forked from a preloaded launcher, or each as a fresh Python (the only way on Windows)."""
    transport: Literal["auto", "ipc", "tcp"] = "auto"
    """Sockets: `ipc` files in a private directory, or loopback `tcp` with CURVE keys (the only way on Windows)."""
    strategy_path: tuple[str, ...] = ()
    """Folders of your own strategy modules, relative to this file."""
    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    """SQLite's `synchronous`: FULL survives a power cut, NORMAL only a crash."""
    heartbeat_interval_seconds: float = Field(1.0, ge=0.05, le=60)
    """How often bots report their progress."""
    heartbeat_timeout_seconds: float = Field(10.0, ge=0.5, le=600)
    """A bot that is silent for so long hangs."""
    max_suspension_seconds: float = Field(60.0, ge=0, le=3600)
    """The longest that verdicts on hangs wait while the machine or the supervisor itself is starved."""
    orphan_after_seconds: float = Field(60.0, ge=1, le=86_400)
    """Without a supervisor for so long, bots follow `on_orphan`, and a launcher without bots leaves."""
    sample_interval_seconds: float = Field(2.0, ge=0.2, le=60)
    """How often CPU and memory of every process and of the host are sampled."""
    adopt_timeout_seconds: float = Field(10.0, ge=1, le=600)
    """How long a run that outlived the last supervisor may take to answer before it counts as hung."""
    journal_days: float = Field(30.0, gt=0)
    """Age at which journal entries are dropped."""
    journal_rows: int = Field(1_000_000, ge=1_000)
    """Journal entries kept at the most."""


_RESERVED_DEFAULTS = ("name", "market")


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file, checked. `bots` have their defaults and account filled in."""

    path: Path
    supervisor: SupervisorConfig
    accounts: Mapping[str, AccountConfig]
    bot_defaults: Mapping[str, Any]
    bots: tuple[BotConfig, ...]
    declared: tuple[dict[str, Any], ...]  # as written, for `show` and `reload`
    text: str

    @property
    def folder(self) -> Path:
        """Folder of the file: its paths are relative to it."""
        return self.path.parent

    @property
    def data_dir(self) -> Path:
        """Folder of everything that the supervisor writes."""
        return (self.folder / self.supervisor.data_dir).resolve()

    def error(self, path: Sequence[Part], message: str, hint: str | None = None) -> ConfigError:
        """An error at a place of the file."""
        return _error(self.path, self.text, path, message, hint)

    def place_of(self, bot: str) -> tuple[Part, ...]:
        """Path of a declared bot in the file."""
        for index, one in enumerate(self.bots):
            if one.name == bot:
                return ("bots", index)
        return ("bots",)


def load(path: Path) -> Config:
    """Read and check the file. Raises ConfigError naming file, line, what is wrong and what would be right."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file", hint="name one with -c FILE or STABLEHAND_CONFIG") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}", hint="the file is not valid TOML") from None
    return parse(path, text, raw)


def parse(path: Path, text: str, raw: dict[str, Any]) -> Config:
    """Check what tomllib read."""
    known = ["supervisor", "accounts", "bot_defaults", "bots"]
    for key in raw:
        if key not in known:
            raise _error(path, text, (key,), f"unknown table {key!r}", did_you_mean(key, known))
    supervisor = _model(path, text, ("supervisor",), SupervisorConfig, raw.get("supervisor", {}))
    tables = raw.get("accounts", {})
    if not isinstance(tables, dict) or not all(isinstance(one, dict) for one in tables.values()):
        raise _error(path, text, ("accounts",), "accounts are tables", "write [accounts.NAME]")
    if not tables:
        raise _error(
            path, text, ("accounts",), "there is no account", 'add a table [accounts.main] with kind = "paper"'
        )
    accounts = {}
    for name, table in tables.items():
        _check_name(path, text, ("accounts", name), name)
        accounts[name] = _model(path, text, ("accounts", name), AccountConfig, _with_dates(table))
        _check_account(path, text, name, accounts[name])
    defaults = raw.get("bot_defaults", {})
    entries = raw.get("bots", [])
    if not isinstance(defaults, dict) or not isinstance(entries, list):
        raise _error(path, text, ("bots",), "bots are a list of tables", "write [[bots]]")
    for key in defaults:
        if key in _RESERVED_DEFAULTS or key not in BotConfig.model_fields:
            raise _error(path, text, ("bot_defaults", key), f"unknown key {key!r} in bot_defaults",
                         did_you_mean(key, list(BotConfig.model_fields)))  # fmt: skip
    bots: list[BotConfig] = []
    seen: dict[str, int] = {}
    for index, entry in enumerate(entries):
        bot = _model(path, text, ("bots", index), BotConfig, {**defaults, **entry}, entry)
        if bot.name in seen:
            earlier = line_of(text, ("bots", seen[bot.name]))
            raise _error(path, text, ("bots", index, "name"), f"a second bot is called {bot.name!r}",
                         f"the first is at line {earlier}; give each a name of its own")  # fmt: skip
        seen[bot.name] = index
        try:
            bots.append(complete(bot, accounts))
        except InvalidInput as error:
            key = "account" if "account" in error.message else "market"
            raise _error(path, text, ("bots", index, key), error.message, error.hint) from None
    config = Config(path, supervisor, accounts, defaults, tuple(bots), tuple(entries), text)
    try:
        check_netting(bots, accounts)
    except InvalidInput as error:
        raise config.error(("bots",), error.message, error.hint) from None
    return config


def _check_account(path: Path, text: str, name: str, account: AccountConfig) -> None:
    where = ("accounts", name)
    if account.feed == "replay" and not account.path:
        raise _error(path, text, (*where, "feed"), "a replay needs a path", "path = the folder of SYMBOL_H1.csv files")
    if not account.symbols:
        raise _error(path, text, (*where, "symbols"), "an account needs symbols", 'symbols = ["EURUSD"]')
    if isinstance(account.bars_per_second, float) and not 0 < account.bars_per_second <= 10_000:
        raise _error(path, text, (*where, "bars_per_second"), f"bars_per_second = {account.bars_per_second}",
                     "a number above 0 and up to 10000, or \"max\"")  # fmt: skip
    for key in ("start", "end"):
        value = getattr(account, key)
        if value is not None:
            try:
                datetime.fromisoformat(value)
            except ValueError:
                raise _error(path, text, (*where, key), f"{key} = {value!r} is no date", "write 2020-01-01") from None


def _model(path: Path, text: str, where: tuple[Part, ...], model: type[Any], values: Any, written: Any = None) -> Any:
    if not isinstance(values, dict):
        raise _error(path, text, where, f"{where[0]} is a table", f"write [{where[0]}]")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        loc, message, hint = first(error, list(model.model_fields))
        # A wrong default is wrong at [bot_defaults], not at the first bot that uses it.
        if written is not None and loc and loc[0] not in written and loc[0] in values:
            where = ("bot_defaults",)
        raise _error(path, text, (*where, *loc), message, hint) from None


def _with_dates(table: dict[str, Any]) -> dict[str, Any]:
    """TOML has dates of its own; the models keep text, which every process can be told."""
    return {key: value.isoformat() if isinstance(value, date | datetime) else value for key, value in table.items()}


def _check_name(path: Path, text: str, where: tuple[Part, ...], name: str) -> None:
    if not re.match(NAME_PATTERN, name):
        raise _error(path, text, where, f"{name!r} is no name", "letters, digits, dot, dash, underscore; at most 64")


def _error(path: Path, text: str, where: Sequence[Part], message: str, hint: str | None) -> ConfigError:
    line = line_of(text, where)
    return ConfigError(f"{path}:{line}: {message}" if line else f"{path}: {message}", hint=hint)
