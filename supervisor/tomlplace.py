"""Where in a TOML file a value stands: from a path of keys to a line number.

`tomllib` gives values without positions, and an error without a line is no help in a file of 500 bots.
This reads only what positions need: table headers and the keys at the start of lines; a key inside an
inline table or an array of several lines is found at the line on which its outer key begins or, where it
has a line of its own, at that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

Part = str | int
_HEADER = re.compile(r"^\s*(\[\[|\[)\s*([^\]]+?)\s*\]")
_KEY = re.compile(r"""^\s*((?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*=""")
_SEGMENT = re.compile(r"\"([^\"]*)\"|'([^']*)'|([A-Za-z0-9_-]+)")


def line_of(text: str, path: Sequence[Part]) -> int | None:
    """Line (from 1) of the longest beginning of `path` that the file has; None when it has nothing of it."""
    found: dict[tuple[Part, ...], int] = {}
    arrays: dict[tuple[str, ...], int] = {}
    table: tuple[Part, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header:
            keys = _segments(header[2])
            if header[1] == "[[":
                arrays[keys] = arrays.get(keys, -1) + 1
                table = (*keys, arrays[keys])
            else:
                table = _through_arrays(keys, arrays)
            found.setdefault(table, number)
            continue
        key = _KEY.match(line)
        if key:
            place = (*table, *_segments(key[1]))
            for length in range(len(table) + 1, len(place) + 1):
                found.setdefault(place[:length], number)
    for length in range(len(path), 0, -1):
        if (place := tuple(path[:length])) in found:
            return found[place]
    return None


def _segments(dotted: str) -> tuple[str, ...]:
    return tuple(a or b or c for a, b, c in _SEGMENT.findall(dotted))


def _through_arrays(keys: tuple[str, ...], arrays: dict[tuple[str, ...], int]) -> tuple[Part, ...]:
    """`[bots.params]` after `[[bots]]` belongs to the last bot."""
    for length in range(len(keys), 0, -1):
        if keys[:length] in arrays:
            return (*keys[:length], arrays[keys[:length]], *keys[length:])
    return keys
