"""Looks at everything that the file names, before anything is changed: feeds, files, strategies, parameters."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys

from protocol.botconfig import AccountConfig
from protocol.errors import StablehandError
from supervisor.config import Config
from supervisor.runtime.launchers import Launchers


async def check_everything(config: Config, launchers: Launchers) -> None:
    """Accounts and bots, at once. Raises StablehandError: with the line, where the file has one."""
    # Both are let to their end: a launcher that is just starting must not be left half known.
    results = await asyncio.gather(check_accounts(config), check_bots(config, launchers), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def check_accounts(config: Config) -> None:
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
        answer: dict[str, str] = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise StablehandError(f"the accounts could not be checked: {last or 'python -m broker.check failed'}") from None
    for name, problem in answer.items():
        raise config.error(("accounts", name, _key(config.accounts[name], problem)), f"account {name!r}: {problem}")


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
