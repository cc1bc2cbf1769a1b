"""The limits of each bot, looked at with every sample; each step is told in the bot's history with its figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.botconfig import BotConfig
from supervisor.policy import events
from supervisor.policy.limits import Allowance, Use, Verdict, Watch, judge
from supervisor.policy.states import State
from supervisor.runtime import clock
from supervisor.runtime.chronicle import Chronicle
from supervisor.runtime.registry import Record

_WORDS: Final = {
    "warn": "warning only; next: a fresh run",
    "ease": "its pace is stretched; next: a fresh run",
    "restart": "a fresh run follows",
    "kill": "killed; a fresh run follows",
    "quarantine": "in quarantine until an operator starts it",
}


class Watching:
    """Remembers each bot's watch; who is eased stays so for the rest of his run."""

    def __init__(self, chronicle: Chronicle, post: Callable[[events.Event], None]) -> None:
        self._chronicle = chronicle
        self._post = post
        self._watches: dict[int, Watch] = {}
        self._eased: dict[int, int] = {}  # bot -> epoch

    def look(self, record: Record, state: State, *, flat: bool) -> None:
        """One bot, after a sample."""
        config, run, sample = record.config, record.run, record.sample
        if config is None or run is None or run.ended or sample is None:
            return
        if state not in (State.RUNNING, State.PAUSED):
            return
        allowance = allowance_of(config)
        if not (allowance.memory or allowance.cpu or allowance.open_files):
            return
        use = Use(run.epoch, sample.uss_bytes, sample.cpu_percent, sample.open_files, flat)
        watch, verdicts = judge(self._watches.get(record.bot_id, Watch()), allowance, use, clock.now())
        self._watches[record.bot_id] = watch
        for verdict in verdicts:
            self._act(record, run.epoch, verdict)

    def eased(self, record: Record) -> bool:
        """Whether this run used too much CPU, and is paced for it."""
        return record.run is not None and self._eased.get(record.bot_id) == record.run.epoch

    def _act(self, record: Record, epoch: int, verdict: Verdict) -> None:
        text = f"{verdict.detail}: {_WORDS[verdict.step]}"
        self._chronicle.add(
            "history",
            text,
            bot=record.name,
            bot_id=record.bot_id,
            epoch=epoch,
            data={"action": "LIMIT", "data": {"step": verdict.step, "what": verdict.what}},
        )
        if verdict.step == "ease":
            self._eased[record.bot_id] = epoch
        elif verdict.step != "warn":
            step = verdict.step
            self._post(events.LimitHit(record.bot_id, epoch=epoch, detail=verdict.detail, step=step))


def allowance_of(config: BotConfig) -> Allowance:
    """The limits of a configuration."""
    return Allowance(
        memory=int(config.memory_limit_mb * 1e6),
        memory_seconds=config.memory_limit_seconds,
        cpu=config.cpu_limit_percent,
        cpu_seconds=config.cpu_limit_seconds,
        open_files=config.open_files,
        restarts=config.limit_restarts,
    )
