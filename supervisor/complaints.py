"""What pydantic found, in words for a person: what is wrong, and what would be right."""

from __future__ import annotations

from pydantic import ValidationError

from protocol.errors import nearest
from supervisor.tomlplace import Part


def first(error: ValidationError, known: list[str]) -> tuple[tuple[Part, ...], str, str | None]:
    """The first problem as (path, what is wrong, what would be right)."""
    one = error.errors(include_url=False)[0]
    loc = tuple(part for part in one["loc"] if not (isinstance(part, str) and part.startswith(("function-", "tuple["))))
    key = ".".join(str(part) for part in loc)
    kind = one["type"]
    if kind == "extra_forbidden":
        return loc, f"unknown key {loc[-1]!r}", did_you_mean(str(loc[-1]), known)
    if kind == "missing":
        return loc, f"{key} is missing", None
    if kind == "literal_error":
        expected = one["ctx"]["expected"].replace("'", "")
        near = nearest(str(one["input"]), expected.replace(" or ", ", ").split(", "))
        hint = f"did you mean {near!r}? known: {expected}" if near else f"known: {expected}"
        return loc, f"unknown {key} {one['input']!r}", hint
    return loc, f"{key} = {one['input']!r}: {_plain(one['msg'])}", None


def _plain(message: str) -> str:
    return message.replace("Input should be", "should be").replace("Value error, ", "")


def did_you_mean(word: str, known: list[str]) -> str:
    near = nearest(word, known)
    listed = ", ".join(known) if len(known) <= 12 else f"{', '.join(known[:12])}, ..."
    return f"did you mean {near!r}?" if near else f"known: {listed}"
