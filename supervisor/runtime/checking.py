"""Looks at everything that the file names, before anything is changed: feeds, files, strategies, parameters."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

from protocol.botconfig import AccountConfig
from protocol.errors import StablehandError
from protocol.guardlimits import GuardLimits
from protocol.schedule import parse_calendar
from supervisor.config import Config
from supervisor.runtime.launchers import Launchers
from supervisor.tomlplace import Part

#: By account: what each file of its replay holds, `{file, bars, first, last, gaps: [[start, end, bars]]}`.
Files = dict[str, list[dict[str, Any]]]


async def check_everything(config: Config, launchers: Launchers) -> Files:
    """Accounts and bots, at once; what the files of replays hold. Raises StablehandError, with the line it is about."""
    check_calendars(config)
    # Both are let to their end: a launcher that is just starting must not be left half known.
    results = await asyncio.gather(check_accounts(config), check_bots(config, launchers), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results[0] if isinstance(results[0], dict) else {}


def file_lines(files: Files, *, gaps: bool) -> list[str]:
    """What the files of replays hold, for a person: a line each, and with `gaps` a line for each gap."""
    lines = []
    for account, told in files.items():
        for one in told:
            found = one["gaps"]
            text = f"  {account}: {one['file']}: {one['bars']} bars, {_day(one['first'])} to {_day(one['last'])}"
            if found:
                start, _, bars = max(found, key=lambda gap: gap[2])
                text += f"; {len(found)} gaps, the longest of {bars} bars from {_day(start)}"
            lines.append(text)
            if gaps:
                lines += [f"      {_day(start)} to {_day(end)}: {bars} bars missing" for start, end, bars in found]
    return lines


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def check_calendars(config: Config) -> None:
    """Read the calendar files of the guards. Raises ConfigError with the line."""
    places: list[tuple[tuple[Part, ...], GuardLimits]] = [
        (("accounts", name), account) for name, account in config.accounts.items()
    ]
    places += [(config.place_of(bot.name), bot) for bot in config.bots]
    for place, limits in places:
        if limits.calendar:
            try:
                parse_calendar((config.folder / limits.calendar).read_text("utf-8-sig"))
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else error
                raise config.error((*place, "calendar"), f"calendar {limits.calendar!r}: {why}",
                                   "lines of from,until,reason,symbols") from None  # fmt: skip


async def check_accounts(config: Config) -> Files:
    """Have the market side look at the accounts (its feeds, its files). Raises ConfigError with the line."""
    request = {name: account.model_dump() for name, account in config.accounts.items()}
    # On a thread: the loop that watches sockets on Windows knows no processes.
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "broker.check", str(config.folder.resolve())],
        input=json.dumps(request).encode(),
        capture_output=True,
        check=False,
    )
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise StablehandError(f"the accounts could not be checked: {last or 'python -m broker.check failed'}") from None
    for name, problem in answer["problems"].items():
        raise config.error(("accounts", name, _key(config.accounts[name], problem)), f"account {name!r}: {problem}")
    return dict(answer["files"])


def _key(account: AccountConfig, problem: str) -> str:
    """The key that the problem is about: it begins with its name; else where the prices come from."""
    word = re.match(r"[a-z_]*", problem)
    if word is not None and word[0] in AccountConfig.model_fields:
        return word[0]
    return "path" if account.feed == "replay" else "symbols"


async def check_bots(config: Config, launchers: Launchers) -> None:
    """Check every declared strategy and its parameters. Raises ConfigError with the line.

    A strategy whose own module raises is let through: it quarantines only its own bot.
    """
    seen: set[str] = set()
    for index, bot in enumerate(config.bots):
        key = repr((bot.strategy, sorted(bot.params.items(), key=str)))
        if key in seen:
            continue
        seen.add(key)
        for problem in await launchers.check(bot):
            if problem.broken:
                continue
            below = (problem.param,) if problem.param else ()
            raise config.error(
                ("bots", index, "strategy") if problem.param == "strategy" else ("bots", index, "params", *below),
                problem.message,
            )
