"""What pydantic found, in words for a person: what is wrong, and what would be right."""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError

from protocol.errors import nearest
from supervisor.tomlplace import Part

_LONGEST: Final = 60
_KINDS: Final = {
    "string_type": "a text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "a table",
    "tuple_type": "a list",
    "too_short": "not empty",
    "list_type": "a list",
    "finite_number": "a finite number",
    "int_parsing_size": "a number of a sensible size",
}
_PATTERNS: Final = {
    "market": "letters, digits and . _ # & / -; at most 32",
    "symbols": "letters, digits and . _ # & / -; at most 32",
    "control_bind": "tcp://ADDRESS:PORT with an address of this machine, as tcp://0.0.0.0:7700",
    "currency": "three capital letters, as USD",
}
NAME_RULE: Final = "letters, digits, dot, dash and underscore; at most 64; the first a letter or digit"


def first(error: ValidationError, known: list[str]) -> tuple[tuple[Part, ...], str, str | None]:
    """The first problem as (path, what is wrong, what would be right)."""
    problems = error.errors(include_url=False)
    one: dict[str, Any] = dict(problems[0])
    whole: tuple[Part, ...] = tuple(one["loc"])
    # Behind the name of a field that takes several types pydantic puts which of them it tried.
    loc = whole[:1] + tuple(part for part in whole[1:] if isinstance(part, int))
    tried = [dict(other) for other in problems if other["loc"][: len(loc)] == loc and len(other["loc"]) > len(loc)]
    key = str(loc[0]) if len(loc) < 2 else f"{loc[0]}, number {int(loc[1]) + 1}"
    given = shown(one["input"])
    kind = one["type"]
    if kind == "extra_forbidden":
        return loc, f"unknown key {shown(whole[-1])}", did_you_mean(str(whole[-1]), known)
    if kind == "missing":
        return loc, f"{key} is missing", None
    if kind == "value_error":
        return loc, f"{key}: {one['msg'].removeprefix('Value error, ')}", None
    if kind == "string_pattern_mismatch":
        return loc, f"{key} = {given} is not allowed", _PATTERNS.get(str(loc[0]), NAME_RULE)
    if tried:
        return loc, f"{key} = {given}: should be {' or '.join(_wanted(each) for each in tried)}", None
    if kind == "literal_error":
        expected = one["ctx"]["expected"].replace("'", "")
        words = expected.replace(" or ", ", ").split(", ")
        near = nearest(str(one["input"]), words)
        short = expected if len(words) <= 8 else ""
        hint = "; ".join(
            text for text in (f"did you mean {near!r}?" if near else "", f"known: {short}" if short else "") if text
        )
        return loc, f"unknown {key} {given}", hint or f"known: {expected}"
    return loc, f"{key} = {given}: should be {_wanted(one)}", None


def _wanted(one: dict[str, Any]) -> str:
    if one["type"] == "literal_error":
        return str(one["ctx"]["expected"]).replace("'", '"')
    return _KINDS.get(one["type"]) or str(one["msg"]).removeprefix("Input should be ").removeprefix("String should ")


def shown(value: Any) -> str:
    """A value as it may stand in a line, however long it is."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]}...{text[-1]}"


def did_you_mean(word: str, known: list[str]) -> str:
    """The nearest known word, or those that there are."""
    near = nearest(word, known)
    listed = ", ".join(known) if len(known) <= 12 else f"{', '.join(known[:12])}, ..."
    return f"did you mean {near!r}?" if near else f"known: {listed}"
