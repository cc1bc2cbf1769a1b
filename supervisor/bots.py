"""A bot, complete and in its place: defaults filled in, account and market known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from protocol.botconfig import AccountConfig, BotConfig
from protocol.errors import InvalidInput
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


def bot_config(
    entry: Mapping[str, Any], defaults: Mapping[str, Any], accounts: Mapping[str, AccountConfig]
) -> BotConfig:
    """A bot given at run time, complete. Raises InvalidInput with one line."""
    try:
        bot = BotConfig.model_validate(with_defaults(entry, defaults))
    except ValidationError as error:
        _, message, hint = first(error, list(BotConfig.model_fields))
        name = entry.get("name", "bot")
        raise InvalidInput(f"{name}: {message}", hint=hint) from None
    return complete(bot, accounts)


def complete(bot: BotConfig, accounts: Mapping[str, AccountConfig]) -> BotConfig:
    """The bot with its account named, its market and timeframe known to that account."""
    if bot.name in _RESERVED or bot.name.startswith("gateway-"):
        raise Misfit(f"no bot can be called {bot.name!r}", hint="a log of Stablehand's own has that name", key="name")
    name = bot.account
    if not name:
        if len(accounts) > 1:
            raise Misfit(f"bot {bot.name!r} names no account", key="account",
                         hint=f"there are several: {', '.join(sorted(accounts))}")  # fmt: skip
        name = next(iter(accounts))
    if name not in accounts:
        raise Misfit(f"unknown account {name!r}", hint=did_you_mean(name, list(accounts)), key="account")
    account = accounts[name]
    if bot.market not in account.symbols:
        raise Misfit(f"unknown symbol {bot.market!r} on account {name!r}", key="market",
                     hint=did_you_mean(bot.market, list(account.symbols)))  # fmt: skip
    if bot.timeframe != account.timeframe:
        raise Misfit(f"timeframe {bot.timeframe!r}: the feed of account {name!r} has no such bars", key="timeframe",
                     hint=f"it has {account.timeframe}")  # fmt: skip
    return bot if bot.account else bot.model_copy(update={"account": name})


def check_netting(bots: Sequence[BotConfig], accounts: Mapping[str, AccountConfig]) -> None:
    """On a netting account a symbol has one position, so one bot. Raises InvalidInput."""
    holder: dict[tuple[str, str], str] = {}
    for bot in bots:
        if accounts[bot.account].margin_mode != "netting":
            continue
        first = holder.setdefault((bot.account, bot.market), bot.name)
        if first != bot.name:
            raise Misfit(
                f"bots {first!r} and {bot.name!r} both trade {bot.market} on netting account {bot.account!r}",
                hint='one position per symbol: use another symbol, or margin_mode = "hedging"',
                bot=bot.name,
            )
