"""positions, deals, account, accounts, symbols: what the gateways know; equity: what was kept of it."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, Final

from protocol.errors import INVALID, StablehandError, nearest
from store import equity as equity_table
from supervisor.runtime.commands.records import number
from supervisor.runtime.commands.select import select
from supervisor.runtime.stable import Stable

_PAGE: Final = 5_000  # deals in one answer of a gateway
_DAY: Final = 1_440  # samples of one account's equity, at the most


async def positions(stable: Stable, args: dict[str, Any], cause: str) -> list[dict[str, Any]]:
    """Open positions with MetaTrader's field names and the bot's name."""
    return await _of_accounts(stable, args, "positions", cause)


async def deals(stable: Stable, args: dict[str, Any], cause: str) -> list[dict[str, Any]]:
    """All deals, oldest first, the deposit among them."""
    rows = await _of_accounts(stable, args, "deals", cause)
    return sorted(rows, key=lambda one: (one.get("time_msc", 0), one.get("ticket", 0)))


async def account(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """The account with MetaTrader's field names."""
    name = _account(stable, args)
    result = await stable.accounts.query(name, "account", {}, cause)
    return {**result, "account": name}


async def accounts(stable: Stable, args: dict[str, Any], cause: str) -> list[dict[str, Any]]:
    """One row an account, from what the gateways published last."""
    rows = []
    for name, config in stable.config.accounts.items():
        gateway = stable.registry.gateways[name]
        figures = stable.accounts.figures.get(name)
        values = figures.account if figures else {}
        bot = stable.bot(gateway)
        rows.append(
            {
                "name": name,
                "kind": config.kind,
                "feed": config.feed if config.kind == "paper" else "",
                "state": bot.state.value,
                "reason": bot.reason,
                "pid": gateway.run.pid if gateway.run and not gateway.run.ended else None,
                "restarts": bot.restarts,
                "balance": values.get("balance"),
                "equity": values.get("equity"),
                "profit": values.get("profit"),
                "currency": values.get("currency") or (config.currency if config.kind == "paper" else ""),
                "time": figures.time if figures else None,
                "bots": sum(1 for one in stable.registry.by_name.values() if one.account == name),
                "connected": figures.connected if figures else None,
                "ended": figures is not None and figures.detail == "ended",
                "detail": figures.detail if figures else "",
                "trouble": figures.trouble if figures else "",
                "halts": stable.halts.of_account(name),
                "refused_keys": figures.refused_keys if figures else 0,
            }
        )
    return rows


async def symbols(stable: Stable, args: dict[str, Any], cause: str) -> list[dict[str, Any]]:
    """The account's symbols with their quotes."""
    result = await stable.accounts.query(_account(stable, args), "symbols", {}, cause)
    return list(result)


async def equity(stable: Stable, args: dict[str, Any], cause: str) -> list[dict[str, Any]]:
    """Samples of an account, oldest first: the first `limit` after `since` (seconds since 1970), or the last ones."""
    name, limit, since = _account(stable, args), number(args, "limit", _DAY), args.get("since")
    if since is None:
        found = await stable.read(lambda conn: equity_table.newest(conn, name, limit))
    elif not isinstance(since, int | float) or isinstance(since, bool) or not 0 <= since < math.inf:
        raise StablehandError(f"since = {since!r}: seconds since 1970", code=INVALID)
    else:
        found = await stable.read(lambda conn: equity_table.since(conn, name, float(since), limit=limit))
    return [asdict(one) for one in found]


async def _of_accounts(stable: Stable, args: dict[str, Any], what: str, cause: str) -> list[dict[str, Any]]:
    query: dict[str, Any] = {}
    if args.get("bot"):
        record = select(stable, {"bots": [args["bot"]]})[0]
        if record.program is not None:
            return []
        names, query = [record.account], {"magic": record.magic}
    else:
        names = [_account(stable, args)] if args.get("account") else list(stable.config.accounts)
    rows: list[dict[str, Any]] = []
    for name in names:
        found = await _pages(stable, name, what, query, cause)
        rows += [{**one, "account": name} for one in found]
    if query:
        rows = [one for one in rows if one.get("bot") == args["bot"]]
    return rows


async def _pages(stable: Stable, name: str, what: str, query: dict[str, Any], cause: str) -> list[dict[str, Any]]:
    """All rows: deals come in pages, each after the last ticket of the one before."""
    rows: list[dict[str, Any]] = []
    while True:
        after = {"after": rows[-1]["ticket"]} if rows and what == "deals" else {}
        page = await stable.accounts.query(name, what, {**query, **after}, cause)
        rows += page
        if what != "deals" or not page or len(page) < _PAGE:
            return rows


def _account(stable: Stable, args: dict[str, Any]) -> str:
    known = list(stable.config.accounts)
    name = args.get("account")
    if not name:
        if len(known) > 1:
            raise StablehandError("name an account", hint=f"there are several: {', '.join(known)}", code=INVALID)
        return known[0]
    if name not in known:
        near = nearest(str(name), known)
        hint = f"did you mean {near!r}?" if near else f"known: {', '.join(known)}"
        raise StablehandError(f"unknown account {name!r}", hint=hint, code=INVALID)
    return str(name)
