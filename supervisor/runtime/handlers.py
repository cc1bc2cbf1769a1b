"""The table of commands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from protocol.errors import INVALID, NOT_REMEMBERED, REFUSED, StablehandError
from supervisor import backup, succession
from supervisor.runtime.commands import access, configure, halts, inspect, operate, records, reload, samples, trading
from supervisor.runtime.commands.analyse import Analyses
from supervisor.runtime.control import Handler
from supervisor.runtime.specs import SpecMaker
from supervisor.runtime.stable import Stable
from supervisor.runtime.zap import KeyDoor

Command = Callable[[Stable, dict[str, Any], str], Awaitable[Any]]


def handlers_of(stable: Stable, specs: SpecMaker, door: KeyDoor | None) -> dict[str, Handler]:
    """Every command of the control protocol by its name."""
    table: dict[str, Command] = {
        "ping": inspect.ping,
        "status": inspect.status,
        "host": inspect.host,
        "show": inspect.show,
        "samples": samples.samples,
        "start": operate.start,
        "stop": operate.stop,
        "restart": operate.restart,
        "pause": operate.pause,
        "resume": operate.resume,
        "add": configure.add,
        "update": configure.update,
        "remove": configure.remove,
        "reload": reload.reload,
        "analysis": Analyses(stable, specs, door).analysis,
        "positions": trading.positions,
        "deals": trading.deals,
        "account": trading.account,
        "accounts": trading.accounts,
        "symbols": trading.symbols,
        "equity": trading.equity,
        "halt": halts.halt,
        "resume-trading": halts.resume_trading,
        "halts": halts.halts,
        "history": records.history,
        "events": records.events,
        "logs": records.logs,
        "strategies": records.strategies,
        "keys": access.keys,
        "key_add": access.key_add,
        "key_revoke": access.key_revoke,
        "backup": _backup,
        "down": _down,
        "handover": _handover,
    }
    return {name: partial(command, stable) for name, command in table.items()}


async def _down(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """Stop all bots and leave. What is wanted stays, so that the next start brings them back."""
    stable.chronicle.add("supervisor", "stopping all bots, then leaving", cause_id=cause)
    stable.leave("stop")
    return {"stopping": sum(1 for one in stable.registry.by_name.values() if one.run and not one.run.ended)}


async def _handover(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """Become the next image of this process, or leave; either way the bots trade on and are adopted."""
    leave = args.get("leave", False)
    if not isinstance(leave, bool):
        raise StablehandError(f"leave = {leave!r}: true or false", code=INVALID)
    _refuse_unremembered(stable)
    in_place = succession.possible() and not leave
    if in_place:
        await asyncio.to_thread(succession.check)
        async with stable.changing:
            await reload.check_successor(stable)
    _refuse_unremembered(stable)
    if stable.leaving:
        raise StablehandError("the supervisor is leaving", code=REFUSED)
    text = "a new image of the supervisor takes over" if in_place else "leaving"
    stable.chronicle.add("supervisor", f"{text}; the bots trade on", cause_id=cause)
    stable.leave("renew" if in_place else "handover")
    left = sum(1 for one in stable.registry.by_id.values() if one.run and not one.run.ended)
    return {"left_running": left, "in_place": in_place, "boot": stable.boot}


def _refuse_unremembered(stable: Stable) -> None:
    """The next supervisor knows only what the store knows: a bot that was stopped would run again."""
    left = stable.not_remembered()
    if left:
        raise StablehandError(f"not now: the store refuses ({left})", code=NOT_REMEMBERED,
                              hint="mend the disk first")  # fmt: skip


async def _backup(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """Copy store, ledgers and paper accounts to a folder of the supervisor's machine, while all goes on."""
    to = args.get("to")
    if not isinstance(to, str) or "\0" in to or not Path(to).is_absolute():
        raise StablehandError("to is the absolute path of a folder", code=INVALID)
    accounts = list(stable.config.accounts)
    async with stable.changing:
        done = await asyncio.to_thread(
            backup.make, stable.data_dir, accounts, stable.config.path, Path(to), stable.installation
        )
    size = sum(part.bytes for part in done.parts)
    stable.chronicle.add("backup", f"backup of {len(done.parts)} databases ({size} bytes) to {to}", cause_id=cause)
    return {"folder": to, "at": done.at, "files": [part.name for part in done.parts], "bytes": size}
