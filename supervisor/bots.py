"""A bot, complete and in its place: defaults filled in, account and market known."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from protocol.botconfig import AccountConfig, BotConfig, Supervised
from protocol.errors import InvalidInput
from protocol.programconfig import ProgramConfig, Settings, is_program
from protocol.timeframes import buildable, can_build
from supervisor.complaints import did_you_mean, first

_RESERVED = ("supervisor", "launcher", "analysis")


class Misfit(InvalidInput):
    """A bot that is right by itself and does not fit its surroundings; `key` and `bot` say where to look."""

    def __init__(self, message: str, *, hint: str | None = None, key: str = "", bot: str = "") -> None:
        super().__init__(message, hint=hint)
        self.key = key
        self.bot = bot


def with_defaults(entry: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The entry over the defaults; parameters key by key, where they are of one strategy."""
    merged = {**defaults, **entry}
    below, above = defaults.get("params"), entry.get("params")
    other = "strategy" in defaults and entry.get("strategy", defaults["strategy"]) != defaults["strategy"]
    if isinstance(below, dict) and other:
        merged["params"] = above if above is not None else {}
    elif isinstance(below, dict) and isinstance(above, dict):
        merged["params"] = {**below, **above}
    return merged


def settings_of(
    entry: Mapping[str, Any], defaults: Mapping[str, Any], accounts: Mapping[str, AccountConfig]
) -> Settings:
    """A bot (or, where it has a command, a program) given at run time, complete. Raises InvalidInput with one line."""
    model: type[Settings] = ProgramConfig if is_program(entry) else BotConfig
    try:
        made = model.model_validate(entry if is_program(entry) else with_defaults(entry, defaults))
    except ValidationError as error:
        _, message, hint = first(error, list(model.model_fields))
        name = entry.get("name", "bot")
        raise InvalidInput(f"{name}: {message}", hint=hint) from None
    return complete_program(made) if isinstance(made, ProgramConfig) else complete(made, accounts)


def complete_program(program: ProgramConfig) -> ProgramConfig:
    """The program, if it can run here and its name is free."""
    _check_reserved(program.name)
    if sys.platform == "win32":
        raise Misfit("programs need a POSIX system", hint="on Windows only bots are supervised", key="command")
    return program


def _check_reserved(name: str) -> None:
    if name in _RESERVED or name.startswith("gateway-"):
        raise Misfit(f"no bot can be called {name!r}", hint="a log of Stablehand's own has that name", key="name")


def complete(bot: BotConfig, accounts: Mapping[str, AccountConfig]) -> BotConfig:
    """The bot with its account named, its market and timeframe known to that account."""
    _check_reserved(bot.name)
    name = bot.account
    if not name:
        if len(accounts) > 1:
            raise Misfit(f"bot {bot.name!r} names no account", key="account",
                         hint=f"there are several: {', '.join(sorted(accounts))}")  # fmt: skip
        name = next(iter(accounts))
    if name not in accounts:
        raise Misfit(f"unknown account {name!r}", hint=did_you_mean(name, list(accounts)), key="account")
    account = accounts[name]
    if account.kind != "paper":  # its terminal knows the symbols, and has every timeframe
        return bot if bot.account else bot.model_copy(update={"account": name})
    if bot.market not in account.symbols:
        raise Misfit(f"unknown symbol {bot.market!r} on account {name!r}", key="market",
                     hint=did_you_mean(bot.market, list(account.symbols)))  # fmt: skip
    if not can_build(account.timeframe, bot.timeframe):
        raise Misfit(f"timeframe {bot.timeframe!r} cannot be put together from the {account.timeframe} bars of account"
                     f" {name!r}", key="timeframe",
                     hint=f"they allow {', '.join(buildable(account.timeframe))}")  # fmt: skip
    return bot if bot.account else bot.model_copy(update={"account": name})


def check_netting(everyone: Sequence[Supervised], accounts: Mapping[str, AccountConfig]) -> None:
    """On a netting account a symbol has one position, so one bot. Raises InvalidInput."""
    holder: dict[tuple[str, str], str] = {}
    for bot in everyone:
        if not isinstance(bot, BotConfig) or accounts[bot.account].margin_mode != "netting":
            continue
        first = holder.setdefault((bot.account, bot.market), bot.name)
        if first != bot.name:
            raise Misfit(
                f"bots {first!r} and {bot.name!r} both trade {bot.market} on netting account {bot.account!r}",
                hint='one position per symbol: use another symbol, or margin_mode = "hedging"',
                bot=bot.name,
            )
