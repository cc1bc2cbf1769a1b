"""Halts, as every process speaks of them: what is halted, by whom, since when, until when.

A halt of an operator has a scope: everything (`all`), an account (`account:NAME`) or a bot (`bot:NAME`). One
that a guard latched names the guard's rule too, and where it ends by itself, when.
"""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

from protocol.errors import InvalidInput

ALL: Final = "all"
#: What the name of a file in the data directory is that halts everything; its text is the reason.
FILE: Final = "HALT"
#: Progress of a flatten that is over: no position and no order of a bot's is left.
FLAT: Final = "flat"
_REASON_LENGTH: Final = 500


class HaltState(BaseModel):
    """One halt that is in force."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    scope: str
    reason: str
    who: str
    at: float  # wall clock, shown
    rule: str = ""  # the guard that latched it; empty: somebody did
    until: int = 0  # server seconds at which it ends by itself; 0: when it is lifted
    flatten: bool = False  # positions in its scope are closed for as long as it holds
    remembered: bool = True  # whether it is committed where it is in force
    progress: str = ""  # of a flatten

    @property
    def key(self) -> str:
        """Names the halt: `bot:eurusd`, `bot:eurusd/max_daily_loss@1704240000`. One key is latched once."""
        return self.scope + (f"/{self.rule}" if self.rule else "") + (f"@{self.until}" if self.until else "")

    @property
    def by_guard(self) -> bool:
        """Whether a guard latched it."""
        return bool(self.rule)

    def covers(self, account: str, bot: str) -> bool:
        """Whether this bot of this account is halted by it."""
        return self.scope in (ALL, f"account:{account}", f"bot:{bot}")

    def line(self) -> str:
        """Why an order is refused, and what `status` shows."""
        what = {"all": "everything"}.get(self.scope, self.scope.replace(":", " "))
        if self.rule:
            return f"halted by {self.rule} ({what}): {self.reason}"
        return f"halted ({what}): {self.reason}"


def split_key(key: str) -> tuple[str, str, int]:
    """(scope, rule, until) of a key."""
    rest, _, until = key.partition("@")
    scope, _, rule = rest.partition("/")
    return scope, rule, int(until or 0)


def scope_of(account: str | None, bot: str | None) -> str:
    """The scope that a command names. Raises InvalidInput when it names both."""
    if account and bot:
        raise InvalidInput("name an account or a bot, not both")
    return f"account:{account}" if account else f"bot:{bot}" if bot else ALL


def reason_text(text: object) -> str:
    """A reason in one line. Raises InvalidInput when there is none."""
    shown = "".join(char if char.isprintable() else " " for char in str(text or ""))  # no codes for a terminal
    words = " ".join(shown.split())[:_REASON_LENGTH]
    if not words:
        raise InvalidInput("a halt needs a reason", hint="it is shown wherever something is refused")
    return words
