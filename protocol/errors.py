"""Errors that cross a process boundary: a code, one clear line, and a hint."""

from __future__ import annotations

import errno
from typing import Final

# Codes of the control protocol. The command line maps them to its exit codes.
BAD_REQUEST: Final = "bad_request"  # the frame is not a request
UNKNOWN_COMMAND: Final = "unknown_command"
UNKNOWN_BOT: Final = "unknown_bot"
INVALID: Final = "invalid"  # an argument is wrong; nothing was changed
CONFLICT: Final = "conflict"  # the name is taken, the same id came with another payload
REFUSED: Final = "refused"  # understood, but not now, and why
TIMEOUT: Final = "timeout"  # the state was not reached in the time given
NOT_REMEMBERED: Final = "not_remembered"  # the disk refuses, so it was not done
UNAVAILABLE: Final = "unavailable"  # a part that would answer is down
DENIED: Final = "denied"  # the role may not do this
INTERNAL: Final = "internal"

#: Codes that mean "what was asked was wrong": exit code 2 on the command line.
WRONG_INPUT: Final = frozenset({BAD_REQUEST, UNKNOWN_COMMAND, UNKNOWN_BOT, INVALID})


#: What the system says when it has no more of something at the moment, or a disk has failed for now.
_FOR_NOW: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
)


def may_pass(error: OSError) -> bool:
    """Whether the same call may go well later, without anybody's mending a path or a permission."""
    return error.errno in _FOR_NOW


class StablehandError(Exception):
    """Base of every error that is shown to a person as one line."""

    code: str = INTERNAL
    #: Whether the same may go well when it is tried again, without anybody's doing.
    passing: bool = False

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    def as_dict(self) -> dict[str, str | None]:
        """The wire form: `{code, message, hint}`."""
        return {"code": self.code, "message": self.message, "hint": self.hint}

    def line(self) -> str:
        """The one line that a person reads."""
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InvalidInput(StablehandError):
    """Something a person wrote is wrong; nothing was changed."""

    code = INVALID


class Refused(StablehandError):
    """Understood and not done; the message says why."""

    code = REFUSED


class Unreachable(StablehandError):
    """No supervisor answers at the control socket."""

    code = UNAVAILABLE


class BadFrame(StablehandError):
    """A frame that is too large, too deep, not msgpack, or not a known message."""

    code = BAD_REQUEST


def nearest(word: str, known: list[str]) -> str | None:
    """The known word that is nearest to a mistyped one, for "did you mean"; None when none is near."""
    import difflib

    if len(word) > 200:  # no slip of the pen, and long to compare
        return None
    by_folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), list(by_folded), n=1, cutoff=0.5)
    return by_folded[near[0]] if near else None
