"""ping, status, host, show: what is, from memory."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from protocol.messages import WIRE, SignalCode
from store import runs as run_table
from supervisor import __version__
from supervisor.runtime import clock
from supervisor.runtime.commands.select import select
from supervisor.runtime.registry import Record
from supervisor.runtime.specs import log_path
from supervisor.runtime.stable import Stable

_SIGNALS: Final = {code.value: (None if code is SignalCode.NONE else code.name) for code in SignalCode}


async def ping(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """Who answers."""
    import os

    return {
        "version": __version__,
        "wire": WIRE,
        "pid": os.getpid(),
        "boot": stable.boot,
        "installation": stable.installation,
        "uptime_s": round(stable.uptime(), 1),
        "data_dir": str(stable.data_dir),
        "config": str(stable.config.path.resolve()),
        "leaving": stable.leaving,
        "not_remembered": stable.not_remembered() or None,
        "halts": stable.halts.lines(),
    }


async def status(stable: Stable, args: dict[str, Any], cause: str) -> list[dict[str, Any]]:
    """One row a bot; all of them when none is named."""
    if not any(args.get(key) for key in ("bots", "where", "all")):
        args = {"all": True}
    now = clock.now()
    return [row(stable, record, now) for record in select(stable, args)]


def row(stable: Stable, record: Record, now: float) -> dict[str, Any]:
    """The figures of one bot. None is unknown."""
    bot, config, run = stable.bot(record), record.config, record.run
    alive = run is not None and not run.ended
    # A program that beats over the bus itself is shown by its own word, not by its minder's.
    word = (run.voice or run) if run is not None and alive else None
    beat = word.beat if word is not None else None
    figures, sample = record.figures, record.sample if alive else None
    volume = figures.volume if figures else 0.0
    halted = stable.halts.why(record)
    told = stable.accounts.figures.get(record.account) if record.config is not None else None
    trouble = told.trouble if told is not None else ""
    reason = stable.throttling.admitting.reason(bot.bot_id) or bot.reason
    reason = "" if reason == bot.state.value else reason  # "stopped: stopped" tells nothing
    position = None
    if figures is not None and volume:
        side = "buy" if volume > 0 else "sell"
        position = {"side": side, "volume": abs(volume), "price": figures.price}
    up = run is not None and alive and run.pid
    return {
        "name": record.name,
        "wanted": record.wanted,
        "state": bot.state.value,
        "pid": run.pid if run is not None and up else None,
        "epoch": bot.epoch,
        "market": config.market if config else None,
        "timeframe": config.timeframe if config else None,
        "strategy": config.strategy if config else "program",
        "account": record.account or None,
        "priority": record.settings.priority,
        "pace": record.pace,
        "held": bot.held,
        "restarts": bot.restarts,
        "uptime_s": round(now - run.started, 1) if run is not None and up else None,
        "heartbeat_age_s": round(now - word.beat_at, 2) if word is not None and beat is not None else None,
        "cycles": beat.cycles if beat else 0,
        "errors": beat.errors if beat else 0,
        "last_bar": beat.bar_time if beat and beat.bar_time else None,
        "bar_published": beat.published_us / 1e6 if beat and beat.bar_time else None,  # monotonic
        "bar_received_ms": beat.received_us / 1000 if beat and beat.bar_time else None,
        "bar_decided_ms": beat.decided_us / 1000 if beat and beat.bar_time else None,
        "last_signal": _SIGNALS.get(beat.last_signal) if beat else None,
        "position": position,
        "profit": round(figures.realised + figures.floating, 2) if figures else 0.0,
        "floating": round(figures.floating, 2) if figures else 0.0,
        "cpu_percent": sample.cpu_percent if sample else None,
        "rss_bytes": sample.rss_bytes if sample else None,
        "uss_bytes": sample.uss_bytes if sample else None,
        "pss_bytes": sample.pss_bytes if sample else None,
        "open_files": sample.open_files if sample else None,
        "threads": sample.threads if sample else None,
        "ctx_switches": sample.ctx_switches if sample else None,
        "read_bytes": sample.read_bytes if sample else None,
        "write_bytes": sample.write_bytes if sample else None,
        "halted": halted or None,
        # A bot that waits for the terminal has been told the same: it is said once.
        "reason": "; ".join(text for text in (halted, trouble if trouble not in reason else "", reason) if text),
    }


async def host(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """The machine, the supervisor's own cost, and how many bots are in which state."""
    now = clock.now()
    counts = Counter(stable.state(record).value for record in stable.registry.by_name.values())
    sampling = stable.sampling
    return {
        **sampling.host,
        "throttle": stable.throttling.describe(),
        "cgroups": stable.cgroups.describe(),
        "loop_lag_ms": round(stable.loop_lag * 1000, 1),
        "loop_lag": stable.lag.figures(),
        "bots": dict(counts),
        "probe": sampling.own,
        "own": {
            name: {"cpu_percent": one.cpu_percent, "rss_bytes": one.rss_bytes, "uss_bytes": one.uss_bytes}
            for name, one in sampling.others.items()
        },
        "sample_age_s": None if sampling.sampled_at is None else round(now - sampling.sampled_at, 1),
        "heartbeats": stable.bus.heartbeats,
        "bad_frames": stable.bad_frames,
        "refused_keys": stable.door.refused if stable.door is not None else 0,
        "not_remembered": stable.not_remembered() or None,
    }


async def show(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """Everything about one bot: configuration and where it comes from, run, recent story."""
    record = select(stable, {"bots": [args.get("bot")]})[0]
    bot, run = stable.bot(record), record.run
    rows = await stable.read(lambda conn: run_table.last_runs(conn, record.bot_id, 10))
    alive = run is not None and not run.ended and run.pid
    return {
        "name": record.name,
        "id": record.bot_id,
        "config": record.settings.model_dump(),
        "source": "file" if record.declared is not None else "added",
        "declared": record.declared,
        "override": record.override,
        "wanted": record.wanted,
        "state": bot.state.value,
        "reason": bot.reason,
        "magic": record.magic,
        "run": {
            "epoch": run.epoch,
            "pid": run.pid,
            "started_at": run.started_at,
            "code_hash": run.code_hash,
            "launcher": run.launcher,
        }
        if run is not None and alive
        else None,
        "runs": [{**run_table.as_dict(one), "started_at": one.intended_at} for one in rows],
        "counts": {cause.value: number for cause, number in bot.counts},
        "restarts": bot.restarts,
        "log_path": str(log_path(stable.data_dir, record)),
        "story": list(bot.story),
    }
