"""Where in a TOML file a value stands: from a path of keys to a line number.

`tomllib` gives values without positions, and an error without a line is no help in a file of 500 bots.
This reads only what positions need: table headers, keys at the start of lines, and where the elements of an
array begin. Strings, comments and brackets are followed, so that nothing inside them is taken for a key. A
key inside an inline table is found at the line of that table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

Part = str | int
_NAME = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)"""
_DOTTED = rf"{_NAME}(?:\s*\.\s*{_NAME})*"
_HEADER = re.compile(rf"^\s*(\[\[|\[)\s*({_DOTTED})\s*\]")
_KEY = re.compile(rf"^\s*({_DOTTED})\s*=")
_SEGMENT = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'([^']*)'|([A-Za-z0-9_-]+)")
_QUOTES = ('"""', "'''", '"', "'")


def line_of(text: str, path: Sequence[Part]) -> int | None:
    """Line (from 1) of the longest beginning of `path` that the file has; None when it has nothing of it."""
    found = _Places(text).found
    for length in range(len(path), 0, -1):
        if (place := tuple(path[:length])) in found:
            return found[place]
    return None


class _Places:
    """One pass over the file."""

    def __init__(self, text: str) -> None:
        self.found: dict[tuple[Part, ...], int] = {}
        self._arrays: dict[tuple[str, ...], int] = {}
        self._table: tuple[Part, ...] = ()
        self._value: tuple[Part, ...] = ()  # the key whose value is being read
        self._depth = ""  # brackets that are open
        self._string = ""  # the quotes of a string of several lines
        self._element = 0  # element of the outermost array
        for number, line in enumerate(text.splitlines(), 1):
            self._line(line, number)

    def _line(self, line: str, number: int) -> None:
        rest = line
        if not self._depth and not self._string:
            header = _HEADER.match(line)
            if header:
                self._header(header, number)
                return
            key = _KEY.match(line)
            if key:
                self._value = (*self._table, *_segments(key[1]))
                for length in range(len(self._table) + 1, len(self._value) + 1):
                    self.found.setdefault(self._value[:length], number)
                rest = line[key.end() :]
        self._follow(rest, number)

    def _header(self, header: re.Match[str], number: int) -> None:
        keys = _segments(header[2])
        if header[1] == "[[":
            self._arrays[keys] = self._arrays.get(keys, -1) + 1
            self._table = (*keys, self._arrays[keys])
        else:
            self._table = self._through_arrays(keys)
        for length in range(1, len(self._table) + 1):
            self.found.setdefault(self._table[:length], number)

    def _follow(self, text: str, number: int) -> None:
        """Know which strings and brackets are open after this piece of a line."""
        at = 0
        while at < len(text):
            if self._string:
                at = self._through_string(text, at)
                continue
            if text[at] == "#":
                return
            quotes = next((quotes for quotes in _QUOTES if text.startswith(quotes, at)), "")
            if self._depth == "[" and not text[at].isspace() and text[at] not in ",]":
                self.found.setdefault((*self._value, self._element), number)
            if quotes:
                self._string = quotes
                at += len(quotes)
                continue
            if text[at] in "[{":
                self._element = 0 if not self._depth else self._element
                self._depth += text[at]
            elif text[at] in "]}":
                self._depth = self._depth[:-1]
            elif text[at] == "," and self._depth == "[":
                self._element += 1
            at += 1
        if len(self._string) == 1:
            self._string = ""  # such a string ends with its line, in a file that is TOML

    def _through_string(self, text: str, at: int) -> int:
        while at < len(text):
            if text[at] == "\\" and self._string[0] == '"':
                at += 2
            elif text.startswith(self._string, at):
                at += len(self._string)
                self._string = ""
                return at
            else:
                at += 1
        return at

    def _through_arrays(self, keys: tuple[str, ...]) -> tuple[Part, ...]:
        """`[bots.params]` after `[[bots]]` belongs to the last bot."""
        for length in range(len(keys), 0, -1):
            if keys[:length] in self._arrays:
                return (*keys[:length], self._arrays[keys[:length]], *keys[length:])
        return keys


def _segments(dotted: str) -> tuple[str, ...]:
    return tuple(a or b or c for a, b, c in _SEGMENT.findall(dotted))
