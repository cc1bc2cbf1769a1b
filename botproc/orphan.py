"""What a bot does when no supervisor has been there for long: its `on_orphan`, as a small pure machine.

A close may be refused, or have no answer: what a bot holds is minded until it is flat, for nobody would start another
one in its place.
"""

from __future__ import annotations

from typing import Literal

from botproc.orders import Outcome

Step = Literal["", "trading on", "only closing", "close", "again", "back"]


class Orphan:
    """`after`: seconds without a supervisor before anything happens; `again`: between two attempts to close."""

    def __init__(self, policy: Literal["continue", "drain", "close"], after: float, again: float) -> None:
        self._policy = policy
        self._after = after
        self._again = again
        self._alone = False
        self._next = 0.0  # attempt to close, in seconds without a supervisor
        self._open = ""  # what was told last of what stays open

    @property
    def entries(self) -> bool:
        """Whether the bot may enter."""
        return not self._alone or self._policy == "continue"

    def step(self, alone_for: float) -> Step:
        """What is to be done now, once per change: `alone_for` seconds have passed without a supervisor.

        `trading on` and `only closing` say what holds from now on; `close`: close, and end once flat; `again`: it is
        time for another attempt, unless the bot has ended; `back`: a supervisor is there again, and everything is as
        before. Empty: nothing new.
        """
        if self._alone and alone_for == 0.0:
            self._alone, self._open = False, ""
            return "back"
        if self._alone:
            if self._policy != "close" or alone_for < self._next:
                return ""
            self._next = alone_for + self._again
            return "again"
        if alone_for < self._after:
            return ""
        self._alone = True
        self._next = alone_for + self._again
        if self._policy == "continue":
            return "trading on"
        return "only closing" if self._policy == "drain" else "close"

    def stays_open(self, outcome: Outcome, market: str) -> str:
        """An attempt to close came to this, which is not flat: the line to tell; empty where it was told before."""
        what = f"{'buy' if outcome.volume > 0 else 'sell'} {abs(outcome.volume):g} {market} stays open"
        if not outcome.volume:
            what = f"what it holds in {market} is not known"
        before, self._open = self._open, f"{outcome.action}: {what}"  # the same reason has other figures each time
        if self._open == before:
            return ""
        return f"without a supervisor: {what}, tried again every {self._again:g} s ({outcome.text})"


def is_flat(outcome: Outcome) -> bool:
    """Whether nothing is held after this attempt to close."""
    return outcome.action == "closed" or (outcome.action == "none" and not outcome.volume)
