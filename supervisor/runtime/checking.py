"""What can be wrong in the file and is known elsewhere: the market side knows feeds, the launcher strategies."""

from __future__ import annotations

import asyncio
import json
import sys

from protocol.errors import StablehandError
from supervisor.config import Config
from supervisor.runtime.launchers import Launchers


async def check_accounts(config: Config) -> None:
    """Have the market side look at the accounts (its feeds, its files). Raises ConfigError with the line."""
    request = {name: account.model_dump() for name, account in config.accounts.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "broker.check",
        str(config.folder.resolve()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate(json.dumps(request).encode())
    try:
        answer: dict[str, str] = json.loads(out)
    except ValueError:
        raise StablehandError("the accounts could not be checked", hint="python -m broker.check failed") from None
    for name, problem in answer.items():
        key = "path" if config.accounts[name].feed == "replay" else "symbols"
        raise config.error(("accounts", name, key), f"account {name!r}: {problem}")


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
        for param, message in await launchers.check(bot):
            if param == "strategy":
                described = await launchers.catalogue([bot.strategy])
                if bot.strategy in described.get("errors", {}) and ":" in bot.strategy:
                    continue
                raise config.error(("bots", index, "strategy"), message)
            raise config.error(("bots", index, "params", param) if param else ("bots", index, "params"), message)
