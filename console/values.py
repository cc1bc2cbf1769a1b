"""`key=value` of the command line, and the `[[bots]]` of a file, as plain values."""

from __future__ import annotations

import datetime
import math
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from protocol.errors import InvalidInput

#: Keys whose value is a text, whatever it looks like.
_TEXTS: Final = frozenset({"name", "account", "market", "strategy", "timeframe"})
_UNITS: Final = {"m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}


def value(text: str) -> Any:
    """A TOML value where the text is one (number, true, "text", [array], { table }), else the text itself."""
    if "\n" in text or "\r" in text:
        return text
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    # Something like `1 # note` or `1.5` parses to one value; nothing else can stand on the line.
    return _portable(parsed["value"], text)


def _portable(parsed: Any, text: str) -> Any:
    if isinstance(parsed, float) and not math.isfinite(parsed):
        return text  # `nan` and `inf` are TOML, and no setting of a bot
    if isinstance(parsed, int) and not -(1 << 63) <= parsed < 1 << 64:
        return text  # no message holds it: whoever checks the key says what it may be
    if isinstance(parsed, datetime.date | datetime.time):
        return parsed.isoformat()
    if isinstance(parsed, dict):
        return {key: _portable(each, str(each)) for key, each in parsed.items()}
    if isinstance(parsed, list):
        return [_portable(each, str(each)) for each in parsed]
    return parsed


def pairs(words: Sequence[str]) -> dict[str, Any]:
    """`risk_percent=2 params.fast=10` as `{"risk_percent": 2, "params": {"fast": 10}}`. Raises InvalidInput."""
    result: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise InvalidInput(f"{word!r} is not key=value")
        table = result
        for part in parts[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise InvalidInput(f"{word!r}: {part} is given both as a value and as a table")
        if parts[-1] in table:
            raise InvalidInput(f"{key.strip()} is given twice")
        table[parts[-1]] = text if key.strip() in _TEXTS and text[:1] not in "\"'" else value(text)
    return result


def where(words: Sequence[str]) -> dict[str, Any]:
    """Conditions `key=value`; the keys stay as they are written. Raises InvalidInput."""
    result: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.strip():
            raise InvalidInput(f"--where {word!r} is not key=value")
        result[key.strip()] = text if key.strip() in _TEXTS else value(text)
    return result


def since(text: str, now: float) -> float:
    """A moment up to `now`, in seconds since 1970: `90m`, `24h`, `7d` or `2w` ago, or an ISO date or time.

    One that names no offset is in UTC. Raises InvalidInput.
    """
    if ago := re.fullmatch(r"([0-9]{1,9})([mhdw])", text):
        return max(0.0, now - int(ago[1]) * _UNITS[ago[2]])
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(
            f"--since {text!r} is no time", hint="24h, 7d, 2026-01-31 or '2026-01-31 14:00', in UTC"
        ) from None
    at = (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
    if at > now:
        raise InvalidInput(f"--since {text!r} is yet to come")
    return max(0.0, at)


def bots_of(path: Path) -> list[dict[str, Any]]:
    """The `[[bots]]` tables of a TOML file, each with a name. Raises InvalidInput."""
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: {error}") from None
    bots = table.pop("bots", None)
    if table:
        raise InvalidInput(f"{path}: unknown key {next(iter(table))!r}", hint="only [[bots]] belongs here")
    if not isinstance(bots, list) or not bots or not all(isinstance(bot, dict) for bot in bots):
        raise InvalidInput(f"{path} holds no [[bots]]")
    for number, bot in enumerate(bots, 1):
        if not isinstance(bot.get("name"), str):
            raise InvalidInput(f"{path}: bot {number} of {len(bots)} has no name")
    return [_portable(bot, "") for bot in bots]
