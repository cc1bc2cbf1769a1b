"""Attaching to the gateway: until it lets the run in, and again while the terminal has too few bars."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Final

from botproc.market import Market
from broker.client import AttachDenied, GatewayDown, Woken
from protocol.messages import Attached, Phase
from protocol.progress import Progress

_SUCCESSOR: Final = 3.0  # seconds that a refused run waits to be replaced
_TIMEOUT: Final = 1.0  # one attempt; repeated until the gateway answers
_LIMIT: Final = 15.0
_FIRST: Final = 3.0  # seconds until bars that are missing are asked for anew, doubled each time
_LONGEST: Final = 60.0


class Attaching:
    """For the main loop. `wait` waits so many seconds and obeys what comes meanwhile, `obey` only obeys.

    `waiting(reason, detail)` tells what is waited for, `report(action, text, data)` writes a history row.
    """

    def __init__(
        self,
        market: Market,
        progress: Progress,
        waiting: Callable[[Any, str], None],
        report: Callable[[str, str, dict[str, Any]], None],
        *,
        wait: Callable[[float], None],
        obey: Callable[[], None],
    ) -> None:
        self._market = market
        self._progress = progress
        self._wait = wait
        self._obey = obey
        self._waiting = waiting
        self._report = report

    def attach(self) -> Attached:
        """Attach until it is done; commands are obeyed between the attempts.

        Raises AttachDenied, told by then, where the gateway will not have this run and nobody has replaced it.
        """
        while True:
            self._progress.move(Phase.ATTACH, _LIMIT)
            try:
                return self._market.attach(timeout=_TIMEOUT)
            except Woken:
                self._obey()
            except GatewayDown as error:
                self._waiting("dependency", error.line())
                # A refusal for now comes back at once: a little patience, which a command cuts short.
                self._wait(0.05)
            except AttachDenied as error:
                self._report("ERROR", f"the gateway refuses this bot: {error.line()}", {})
                self._await_successor()
                raise

    def _await_successor(self) -> None:
        """A supervisor that has lost its memory begins with old epochs, which the gateway refuses; it hears of that as
        well, and puts a run with a higher one in this one's place. One that had ended by itself would stay down.
        """
        until = time.monotonic() + _SUCCESSOR
        while (left := until - time.monotonic()) > 0:
            self._progress.move(Phase.ATTACH, _LIMIT)
            self._wait(left)


class Patience:
    """When a run that has too few bars asks for them anew: after some seconds, then ever later, at last once a minute.

    A real terminal answers with the bars that it has and goes on loading, and what it has loaded is not published. With
    `endless` it never asks: in lockstep nothing may depend on a clock, and the history is whole from the first.
    """

    def __init__(self, *, endless: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pause = math.inf if endless else _FIRST
        self._at = clock() + self._pause

    @property
    def left(self) -> float:
        """Seconds until it is time to ask; 0: it is."""
        return max(0.0, self._at - self._clock())

    def asked(self) -> None:
        """It has asked."""
        self._pause = min(2 * self._pause, _LONGEST)
        self._at = self._clock() + self._pause
