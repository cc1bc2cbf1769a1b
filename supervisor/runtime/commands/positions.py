"""Positions of a bot that is being stopped: closed by the gateway, by magic, never by asking the bot."""

from __future__ import annotations

from typing import Any

from supervisor.errors import GatewayUnavailable
from supervisor.runtime.registry import Record
from supervisor.runtime.stable import Stable


async def close_positions(stable: Stable, record: Record, cause: str) -> tuple[bool, str]:
    """Whether nothing is left open, and what was done or why not. The bot must have been fenced out before."""
    assert record.config is not None
    wanted = {"magic": record.magic, "bot_id": record.bot_id}
    seconds = record.config.close_timeout_seconds
    try:
        result = await stable.accounts.query(record.account, "close", wanted, cause, timeout=seconds)
    except GatewayUnavailable as error:
        return False, f"positions NOT closed: {error.message}"
    told = result["positions"]
    if not result["flat"]:
        open_ = [f"{one['volume']} {one['symbol']} #{one['ticket']}: {_why(one)}" for one in told if not _done(one)]
        return False, f"positions stay open: {', '.join(open_) or 'opened meanwhile by somebody else'}"
    return True, f"{len(told)} position{'' if len(told) == 1 else 's'} closed" if told else "no open position"


def _done(one: dict[str, Any]) -> bool:
    return str(one["status"]) == "done"


def _why(one: dict[str, Any]) -> str:
    return str(one["reason"] or f"{one['status']} ({one['retcode']})")
