"""What is to be played: an account, its bots, and their files, as a face asks for it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import Field, ValidationError

from botproc.backtest.engine import Entrant
from botproc.backtest.guards import check_calendars
from botproc.loader import load
from protocol.botconfig import TIMEFRAME_SECONDS, AccountConfig, BotConfig, Frozen
from protocol.errors import InvalidInput, nearest
from protocol.timeframes import buildable, can_build

#: `EURUSD_H1.csv`: what a file's name says of its bars.
_FILE: Final = re.compile(rf"(?P<symbol>.+)_(?P<timeframe>{'|'.join(TIMEFRAME_SECONDS)})\.csv", re.IGNORECASE)


class Job(Frozen):
    """A request, as JSON. Either `data` names a file, or the account has files of its own."""

    name: str = "backtest"
    """Name of the account, shown."""
    account: dict[str, Any] = Field(default_factory=dict)
    """Keys of `[accounts.NAME]`."""
    bots: tuple[dict[str, Any], ...] = Field(strict=False)
    """Keys of `[[bots]]`, complete; `id` decides the order in which orders of a bar are executed."""
    folder: str = "."
    """What the account's `path` is relative to."""
    data: str | None = None
    """A file of bars, instead of the account's."""
    start: str | None = None
    end: str | None = None
    balance: float | None = None
    paths: tuple[str, ...] = Field((), strict=False)
    """Folders of the user's own strategy modules."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A job, checked."""

    name: str
    account: AccountConfig
    entrants: tuple[Entrant, ...]
    folder: Path
    """Where the account's files are."""
    home: Path
    """What calendars are relative to."""


def parse(raw: Any) -> Job:
    """The request. Raises InvalidInput."""
    try:
        job = Job.model_validate(raw)
    except ValidationError as error:
        raise InvalidInput(_first(error, "the request", Job)) from None
    if not job.bots:
        raise InvalidInput("no bot to play", hint="name one, or --strategy and --data")
    return job


@contextmanager
def prepare(job: Job) -> Iterator[Ready]:
    """Check everything that can be wrong before the first bar. Raises InvalidInput with one line."""
    with tempfile.TemporaryDirectory(prefix="stablehand-bars-") as place:
        folder = home = Path(job.folder).expanduser()
        account, bots = dict(job.account), [dict(bot) for bot in job.bots]
        if job.data is not None:
            folder = _from_file(Path(job.data).expanduser(), account, bots, Path(place))
        for key, value in (("start", job.start), ("end", job.end), ("balance", job.balance)):
            if value is not None:
                account[key] = value
        if account.get("feed", "synthetic") != "replay":
            hint = "--data FILE plays it on a file of bars"
            raise InvalidInput(f"account {job.name!r} has a made market, which never ends", hint=hint)
        try:
            config = AccountConfig.model_validate(account)
        except ValidationError as error:
            raise InvalidInput(_first(error, f"account {job.name!r}", AccountConfig)) from None
        entrants = tuple(_entrant(bot, number, config) for number, bot in enumerate(bots, 1))
        _check_together(entrants, config)
        check_calendars(config, [each.config for each in entrants], home)
        try:
            yield Ready(job.name, config, entrants, folder, home)
        except InvalidInput as error:  # a file that was given is called by the name that was given
            text = error.message
            for link in Path(place).iterdir():
                text = text.replace(str(link), str(job.data))
            raise InvalidInput(text, hint=error.hint) from error.__cause__


def _from_file(file: Path, account: dict[str, Any], bots: list[dict[str, Any]], place: Path) -> Path:
    """Have account and bots use this file; the folder in which it is found under the name that a feed looks for."""
    if not file.is_file():
        near = sorted(other.name for other in file.parent.glob("*.csv"))[:6] if file.parent.is_dir() else []
        hint = f"the folder has {', '.join(near)}" if near else None
        raise InvalidInput(f"{file}: {'is a folder' if file.is_dir() else 'no such file'}", hint=hint)
    said = _FILE.fullmatch(file.name)
    for bot in bots:
        symbol = bot.get("market") or (said["symbol"] if said else None)
        timeframe = bot.get("timeframe") or (said["timeframe"].upper() if said else None)
        if symbol is None or timeframe is None:
            missing = "--market SYMBOL" if symbol is None else "--timeframe H1"
            raise InvalidInput(f"{file}: its name does not say what it holds", hint=f"say {missing}")
        bot.update(market=symbol, timeframe=timeframe)
    symbols = sorted({str(bot["market"]) for bot in bots})
    if len(symbols) > 1:
        raise InvalidInput(f"one file holds one market, and the bots trade {', '.join(symbols)}")
    symbol = symbols[0]
    if said and not _alike(said["symbol"], symbol):
        raise InvalidInput(
            f"{file}: it holds {said['symbol']}, and {bots[0].get('name', 'the bot')} trades {symbol}",
            hint=f"--market {said['symbol']} plays it on that",
        )
    timeframe = said["timeframe"].upper() if said else min((bot["timeframe"] for bot in bots), key=_length)
    account.update(
        feed="replay", path=".", symbols=[symbol], timeframe=timeframe, resample_from=None, start=None, end=None
    )
    wanted = f"{str(symbol).replace('/', '')}_{timeframe}.csv"
    if file.name == wanted:
        return file.parent
    (place / wanted).write_bytes(file.read_bytes())
    return place


def _length(timeframe: object) -> int:
    """Seconds; those of an unknown timeframe come last, and are complained of later."""
    return TIMEFRAME_SECONDS.get(str(timeframe), 1 << 40)


def _alike(one: str, other: str) -> bool:
    """Whether two names may be a symbol's: brokers put something before or behind, as in EURUSD.m."""
    first, second = ("".join(filter(str.isalnum, name)).upper() for name in (one, other))
    return first in second or second in first


def _entrant(bot: dict[str, Any], number: int, account: AccountConfig) -> Entrant:
    bot_id = int(bot.pop("id", number))
    try:
        config = BotConfig.model_validate(bot)
    except ValidationError as error:
        raise InvalidInput(_first(error, f"bot {bot.get('name', number)!r}", BotConfig)) from None
    load(config.strategy)  # before anything else is read: the name of the strategy is the likeliest mistake
    if config.market not in account.symbols:
        near = nearest(config.market, list(account.symbols))
        hint = f"did you mean {near}?" if near else f"it has {', '.join(account.symbols)}"
        raise InvalidInput(f"bot {config.name!r}: the account has no {config.market}", hint=hint)
    if not can_build(account.timeframe, config.timeframe):
        raise InvalidInput(
            f"bot {config.name!r}: {config.timeframe} bars cannot be put together from {account.timeframe}",
            hint=f"they allow {', '.join(buildable(account.timeframe))}",
        )
    return Entrant(bot_id, config)


def _check_together(entrants: tuple[Entrant, ...], account: AccountConfig) -> None:
    for what, values in (
        ("id", [each.bot_id for each in entrants]), ("name", [each.config.name for each in entrants])
    ):  # fmt: skip
        if len(set(values)) < len(values):
            raise InvalidInput(f"two bots have the same {what}")
    if account.margin_mode == "netting":
        markets = [each.config.market for each in entrants]
        double = next((market for market in markets if markets.count(market) > 1), None)
        if double is not None:
            raise InvalidInput(f"two bots trade {double} on a netting account, which has one position a symbol")


def _first(error: ValidationError, what: str, model: type[Frozen]) -> str:
    item = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        near = nearest(where, list(model.model_fields))
        return f"{what}: there is no setting {where!r}" + (f"; did you mean {near!r}?" if near else "")
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    given = "" if item["type"] == "missing" else f", not {item['input']!r}"[:60]
    return f"{what}: {where} {'is missing' if item['type'] == 'missing' else 'must be ' + message}{given}"
