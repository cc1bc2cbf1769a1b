"""What a bot does when no supervisor has been there for long: its `on_orphan`, as a small pure machine."""

from __future__ import annotations

from typing import Literal

Step = Literal["", "trading on", "only closing", "close", "back"]


class Orphan:
    """`after`: seconds without a supervisor before anything happens."""

    def __init__(self, policy: Literal["continue", "drain", "close"], after: float) -> None:
        self._policy = policy
        self._after = after
        self._alone = False

    def step(self, alone_for: float) -> Step:
        """What is to be done now, once per change: `alone_for` seconds have passed without a supervisor.

        `trading on` and `only closing` say what holds from now on; `close`: close and end; `back`: a
        supervisor is there again, and everything is as before. Empty: nothing new.
        """
        if self._alone and alone_for == 0.0:
            self._alone = False
            return "back"
        if self._alone or alone_for < self._after:
            return ""
        self._alone = True
        if self._policy == "continue":
            return "trading on"
        return "only closing" if self._policy == "drain" else "close"
