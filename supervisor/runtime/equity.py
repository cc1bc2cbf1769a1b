"""Keeps samples of what the accounts are worth, of the figures that their gateways publish anyway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from protocol.messages import Figures
from store import equity
from store.equity import Sample
from store.writer import Writer
from supervisor.policy.equity import EVERY, Kept, due, worth_of
from supervisor.runtime import clock

_PATIENCE: Final = 1.0  # with which the writer may let a sample wait for others


class EquityKeeper:
    """Takes the figures of every account; `latest` gives those that came last."""

    def __init__(self, writer: Writer, latest: Callable[[str], Figures | None], every: float = EVERY) -> None:
        self._writer = writer
        self._latest = latest
        self._every = every
        self._kept: dict[str, Kept] = {}
        self._later: dict[str, asyncio.TimerHandle] = {}

    def took(self, account: str) -> None:
        """New figures of the account are there: keep them now, later, or not."""
        if account in self._later:
            return  # whatever is latest when that minute is over is looked at then
        figures = self._latest(account)
        worth = worth_of(figures.account, figures.trouble) if figures is not None else None
        if worth is None:
            return
        now = clock.now()
        left = due(self._kept.get(account), worth, now, self._every)
        if left == 0.0:
            self._kept[account] = Kept(now, worth)
            self._write(Sample(account, clock.wall(), worth.balance, worth.equity, worth.margin))
        elif left is not None:
            self._later[account] = asyncio.get_running_loop().call_later(left, self._look_again, account)

    def _look_again(self, account: str) -> None:
        self._later.pop(account, None)
        self.took(account)

    def _write(self, sample: Sample) -> None:
        """Into the store; what it refuses is lost, and nobody waits for it."""
        self._writer.submit(lambda conn: equity.append(conn, [sample]), lambda result: None, patience=_PATIENCE)
