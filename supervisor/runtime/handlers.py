"""The table of commands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from supervisor.runtime.commands import configure, halts, inspect, operate, records, reload, samples, trading
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
        "halt": halts.halt,
        "resume-trading": halts.resume_trading,
        "halts": halts.halts,
        "history": records.history,
        "events": records.events,
        "logs": records.logs,
        "strategies": records.strategies,
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
    """Leave, and leave the bots trading: the next supervisor adopts them."""
    stable.chronicle.add("supervisor", "leaving; the bots trade on", cause_id=cause)
    stable.leave("handover")
    return {"left_running": sum(1 for one in stable.registry.by_id.values() if one.run and not one.run.ended)}
