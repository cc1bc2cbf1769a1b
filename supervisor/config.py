"""The file `supervisor.toml`: frozen models, every key known, every error with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from protocol.botconfig import NAME_PATTERN, AccountConfig, BotConfig, Frozen
from protocol.endpoints import data_folder
from protocol.errors import InvalidInput
from protocol.mt5config import keys_of, misfit, what_is_wrong
from protocol.programconfig import GroupConfig, ProgramConfig, Settings
from supervisor.bots import Misfit, check_netting, complete, complete_program, with_defaults
from supervisor.complaints import NAME_RULE, did_you_mean, first, shown
from supervisor.errors import ConfigError
from supervisor.order import check_order
from supervisor.tomlplace import Part, line_of

#: Port 65535 is left out: events take the next one.
CONTROL_BIND = (
    r"^$|^tcp://(\*|[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):"
    r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-4])$"
)


class ThrottleConfig(Frozen):
    """How the stable keeps within the machine's means. A target of 0 is not watched."""

    enabled: bool = True
    """Whether anything is done at all; `false` only shows figures."""
    cpu: float = Field(95.0, ge=0, le=100)
    """Target: CPU of the machine, in percent of all cores."""
    memory: float = Field(92.0, ge=0, le=100)
    """Target: memory in use, in percent."""
    pressure: float = Field(0.0, ge=0, le=100)
    """Target: share of time in which some process waited for CPU, memory or disk, in percent (Linux PSI)."""
    loop_lag: float = Field(0.5, ge=0, le=60)
    """Target: how late the supervisor's own loop may be, in seconds."""
    network: float = Field(0.0, ge=0, le=1_000_000)
    """Target: traffic of the machine, sent and received, in megabytes a second."""
    react_seconds: float = Field(10.0, ge=0.5, le=3600)
    """Above a target for so long: a step up."""
    recover_seconds: float = Field(30.0, ge=0.5, le=86_400)
    """Well below all targets for so long: a step down; doubled each time that the trouble came back soon after."""
    release_percent: float = Field(85.0, ge=10, le=99)
    """What well below means: at most so much of each target."""
    pace: float = Field(4.0, ge=1, le=100)
    """The longest stretch of a bot's pace (level 1: half of it)."""
    nice: int = Field(10, ge=0, le=19)
    """The lowest priority that a bot gets at the operating system (level 2)."""
    max_level: int = Field(2, ge=1, le=4)
    """The highest level: 3 may also pause flat bots, 4 stop them, whoever else uses the machine."""
    spare_priority: int = Field(9, ge=1, le=10)
    """Bots of this priority and above are never throttled."""
    share_percent: float = Field(10.0, gt=0, le=100)
    """How many of the flat bots are paused (level 3) or stopped (level 4) at a time."""


class SupervisorConfig(Frozen):
    """The daemon itself."""

    data_dir: str = "var"
    """Folder of everything that it writes, relative to this file; made private (0700)."""
    launch: Literal["auto", "fork", "spawn"] = "auto"
    """How bots start: forked from a preloaded launcher, or each as a fresh Python (the only way on Windows)."""
    transport: Literal["auto", "ipc", "tcp"] = "auto"
    """Sockets: `ipc` files in a private directory, or loopback `tcp` with CURVE keys (the only way on Windows)."""
    control_bind: str = Field("", pattern=CONTROL_BIND)
    """Where clients on other machines reach this supervisor, as `tcp://ADDRESS:PORT`; events come from the next port.
    Empty: it listens to its own machine only. Always with CURVE keys, see [security](security.md)."""
    strategy_path: tuple[str, ...] = Field((), strict=False)
    """Folders of your own strategy modules, relative to this file."""
    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    """SQLite's `synchronous`: FULL survives a power cut, NORMAL only a crash."""
    heartbeat_interval_seconds: float = Field(1.0, ge=0.05, le=60)
    """How often bots report their progress."""
    heartbeat_timeout_seconds: float = Field(10.0, ge=0.5, le=600)
    """A bot that is silent for so long hangs; and so does a program with `heartbeat = "bus"`."""
    max_suspension_seconds: float = Field(60.0, ge=0, le=3600)
    """The longest that verdicts on hangs wait while the machine is starved."""
    orphan_after_seconds: float = Field(60.0, ge=1, le=86_400)
    """Without a supervisor for so long, bots follow `on_orphan`, and a launcher without bots leaves."""
    sample_interval_seconds: float = Field(2.0, ge=0.2, le=60)
    """How often CPU and memory of every process and of the host are sampled."""
    adopt_timeout_seconds: float = Field(10.0, ge=1, le=600)
    """How long a run that outlived the last supervisor may take to answer before it counts as hung."""
    max_running: Annotated[int, Field(ge=1, le=1_000_000)] | Literal["auto"] | None = None
    """How many bots run at once, the others wait; `"auto"`: as many as the machine bears. Not given: all."""
    rotate_minutes: float = Field(0.0, ge=0, le=100_000)
    """With `max_running`: after so long a place goes to the next bot of the same priority; 0: never."""
    throttle: ThrottleConfig = Field(default_factory=lambda: ThrottleConfig.model_validate({}))
    """How the stable keeps within the machine's means: `[supervisor.throttle]`."""
    cgroup: str = Field("auto", pattern=r"^(auto|off|/[^\n]*)$")
    """Linux control groups, one for each bot: `auto` (where the service manager gave the supervisor a group), `off`, or
    the path of a group of version 2 that is the supervisor's to write."""
    sample_days: float = Field(7.0, gt=0, le=36_500)
    """Age at which samples of the machine and the bots (one a minute) are dropped."""
    journal_days: float = Field(30.0, gt=0, le=36_500)
    """Age at which journal entries and samples of the accounts' equity are dropped."""
    journal_rows: int = Field(1_000_000, ge=1_000, le=1_000_000_000)
    """Journal entries kept at the most; and as many samples of equity."""


_RESERVED_DEFAULTS = ("name", "market")


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file, checked. `bots` have their defaults and account filled in."""

    path: Path
    supervisor: SupervisorConfig
    accounts: Mapping[str, AccountConfig]
    bot_defaults: Mapping[str, Any]
    bots: tuple[BotConfig, ...]
    programs: tuple[ProgramConfig, ...]
    groups: Mapping[str, GroupConfig]
    declared: tuple[dict[str, Any], ...]  # as written, for `show` and `reload`
    text: str

    @property
    def folder(self) -> Path:
        """Folder of the file: its paths are relative to it."""
        return self.path.parent

    @property
    def data_dir(self) -> Path:
        """Folder of everything that the supervisor writes."""
        return data_folder(self.folder, self.supervisor.data_dir).resolve()

    def error(self, path: Sequence[Part], message: str, hint: str | None = None) -> ConfigError:
        """An error at a place of the file."""
        return _error(self.path, self.text, path, message, hint)

    @property
    def everyone(self) -> tuple[Settings, ...]:
        """Programs and bots, in the order in which they become known (and so, where nothing else counts, start)."""
        return (*self.programs, *self.bots)

    def place_of(self, name: str) -> tuple[Part, ...]:
        """Path of a declared bot or program in the file."""
        for table, those in (("bots", self.bots), ("programs", self.programs)):
            for index, one in enumerate(those):
                if one.name == name:
                    return (table, index)
        return ("bots",)


def load(path: Path) -> Config:
    """Read and check the file. Raises ConfigError naming file, line, what is wrong and what would be right."""
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file", hint="name one with -c FILE or STABLEHAND_CONFIG") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _not_toml(path, text, str(error)) from None
    return parse(path, text, raw)


def _not_toml(path: Path, text: str, problem: str) -> ConfigError:
    what, _, where = problem.rpartition(" (at ")
    line = re.match(r"line (\d+)", where)
    number = line[1] if line else str(max(1, len(text.splitlines())))
    return ConfigError(f"{path}:{number}: {what or problem}", hint="the file is not valid TOML")


def parse(path: Path, text: str, raw: dict[str, Any]) -> Config:
    """Check what tomllib read."""
    known = ["supervisor", "accounts", "bot_defaults", "bots", "programs", "groups"]
    for key in raw:
        if key not in known:
            raise _error(path, text, (key,), f"unknown table {key!r}", did_you_mean(key, known))
    below = raw.get("supervisor", {})
    if isinstance(below, dict) and "throttle" in below:  # by itself, so that an error names the key
        _model(path, text, ("supervisor", "throttle"), ThrottleConfig, below["throttle"])
    supervisor = _model(path, text, ("supervisor",), SupervisorConfig, below)
    if not supervisor.data_dir.strip() or "\0" in supervisor.data_dir:
        raise _error(path, text, ("supervisor", "data_dir"), f"data_dir = {shown(supervisor.data_dir)} is no folder",
                     'data_dir = "var"')  # fmt: skip
    try:
        data_folder(path.parent, supervisor.data_dir)
    except InvalidInput as error:
        raise _error(path, text, ("supervisor", "data_dir"), error.message, error.hint) from None
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
        _check_no_secret(path, text, name, table)
        accounts[name] = _model(path, text, ("accounts", name), AccountConfig, _with_dates(table))
        _check_kind(path, text, name, accounts[name])
        if accounts[name].kind == "paper":
            _check_account(path, text, name, accounts[name])
    defaults = _defaults(path, text, raw.get("bot_defaults", {}))
    entries = _entries(path, text, raw, "bots")
    declared_programs = _entries(path, text, raw, "programs")
    seen: dict[str, tuple[Part, ...]] = {}
    programs = []
    for index, entry in enumerate(declared_programs):
        program = _model(path, text, ("programs", index), ProgramConfig, entry)
        _check_free(path, text, ("programs", index), program.name, seen)
        try:
            programs.append(complete_program(program))
        except Misfit as error:
            raise _error(path, text, ("programs", index, error.key), error.message, error.hint) from None
    bots: list[BotConfig] = []
    for index, entry in enumerate(entries):
        bot = _model(path, text, ("bots", index), BotConfig, with_defaults(entry, defaults))
        _check_free(path, text, ("bots", index), bot.name, seen)
        try:
            bots.append(complete(bot, accounts))
        except Misfit as error:
            place: tuple[Part, ...] = ("bots", index, error.key) if error.key in entry else ("bots", index)
            if error.key in defaults and error.key not in entry:
                place = ("bot_defaults", error.key)
            raise _error(path, text, place, error.message, error.hint) from None
    groups = _groups(path, text, raw.get("groups", {}))
    config = Config(path, supervisor, accounts, defaults, tuple(bots), tuple(programs), groups,
                    (*declared_programs, *entries), text)  # fmt: skip
    try:
        check_netting(bots, accounts)
        check_order(config.everyone, groups)
    except Misfit as error:
        raise config.error((*config.place_of(error.bot), error.key or "market"), error.message, error.hint) from None
    return config


def _entries(path: Path, text: str, raw: dict[str, Any], table: str) -> list[dict[str, Any]]:
    """The tables of a list."""
    entries = raw.get(table, [])
    if not isinstance(entries, list):
        raise _error(path, text, (table,), f"{table} are a list of tables", f"write [[{table}]]")
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise _error(path, text, (table, index), f"a {table[:-1]} is a table, not {shown(entry)}",
                         f"write [[{table}]]")  # fmt: skip
    return entries


def _check_free(path: Path, text: str, place: tuple[Part, ...], name: str, seen: dict[str, tuple[Part, ...]]) -> None:
    if name in seen:
        what = {"bots": "bot", "programs": "program"}
        kind = what[str(place[0])] if seen[name][0] == place[0] else "bot or program"
        raise _error(path, text, (*place, "name"), f"a second {kind} is called {name!r}",
                     f"the first is at line {line_of(text, seen[name])}; give each a name of its own")  # fmt: skip
    seen[name] = place


def _groups(path: Path, text: str, tables: Any) -> dict[str, GroupConfig]:
    if not isinstance(tables, dict) or not all(isinstance(one, dict) for one in tables.values()):
        raise _error(path, text, ("groups",), "groups are tables", "write [groups.NAME]")
    for name in tables:
        _check_name(path, text, ("groups", name), name)
    return {name: _model(path, text, ("groups", name), GroupConfig, table) for name, table in tables.items()}


def _defaults(path: Path, text: str, defaults: Any) -> dict[str, Any]:
    """[bot_defaults], checked also where no bot uses it yet."""
    if not isinstance(defaults, dict):
        raise _error(path, text, ("bot_defaults",), "bot_defaults is a table", "write [bot_defaults]")
    allowed = [key for key in BotConfig.model_fields if key not in _RESERVED_DEFAULTS]
    for key in defaults:
        if key not in allowed:
            raise _error(path, text, ("bot_defaults", key), f"unknown key {key!r} in bot_defaults",
                         did_you_mean(key, allowed))  # fmt: skip
    stand_in = {"name": "any", "market": "ANY", "strategy": "ANY"}
    _model(path, text, ("bot_defaults",), BotConfig, {**stand_in, **defaults})
    return defaults


def _check_no_secret(path: Path, text: str, name: str, table: Mapping[str, Any]) -> None:
    for key in table:
        if key.casefold() in ("password", "passwd", "pwd"):
            raise _error(path, text, ("accounts", name, key), "a password does not belong into the file",
                         'say where it lies: password_env = "NAME", password_keyring = "SERVICE" or '
                         'password_credential = "NAME"; and change this one, which others may have read')  # fmt: skip


def _check_kind(path: Path, text: str, name: str, account: AccountConfig) -> None:
    """The keys must be those of the account's kind, and complete."""
    kind = account.kind
    key = misfit(kind, [key for key in AccountConfig.model_fields if key in account.model_fields_set])
    if key is not None:
        has = keys_of(kind)
        raise _error(path, text, ("accounts", name, key), f"{key} is no key of an account of kind {kind!r}",
                     f"it has {', '.join(has)}, and the guards" if has
                     else 'it needs kind = "mt5" or "mt5-remote"')  # fmt: skip
    wrong = what_is_wrong(kind, account.login, account.passwords, account.address, account.gateway_key)
    if wrong:
        key, _, message = wrong.partition(": ")
        where = ("accounts", name, key) if key in account.model_fields_set else ("accounts", name)
        raise _error(path, text, where, f"account {name!r}: {message}", None)


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
                raise _error(path, text, (*where, key), f"{key} = {shown(value)} is no date",
                             "write 2020-01-01") from None  # fmt: skip


def _model(path: Path, text: str, where: tuple[Part, ...], model: type[Any], values: Any) -> Any:
    if not isinstance(values, dict):
        raise _error(path, text, where, f"{where[0]} is a table", f"write [{where[0]}]")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        loc, message, hint = first(error, list(model.model_fields))
        raise _error(path, text, (*where, *loc), message, hint) from None


def _with_dates(table: dict[str, Any]) -> dict[str, Any]:
    """TOML has dates of its own; the models keep text, which every process can be told."""
    return {key: value.isoformat() if isinstance(value, date | datetime) else value for key, value in table.items()}


def _check_name(path: Path, text: str, where: tuple[Part, ...], name: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name) or "\n" in name:
        raise _error(path, text, where, f"{shown(name)} is no name", NAME_RULE)


def _error(path: Path, text: str, where: Sequence[Part], message: str, hint: str | None) -> ConfigError:
    line = line_of(text, where)
    return ConfigError(f"{path}:{line}: {message}" if line else f"{path}: {message}", hint=hint)
