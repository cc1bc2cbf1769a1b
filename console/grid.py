"""Tables for a terminal: aligned columns that give way until they fit, and colours by plain escape codes.

Rich would do more, and cost each `stablehand status` a tenth of a second to import.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Final, NamedTuple

_CODES: Final = {
    "bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "magenta": "35", "cyan": "36",
    "bold red": "1;31", "bold green": "1;32", "bold cyan": "1;36",
}  # fmt: skip


class Cell(NamedTuple):
    """A text and its style (one of `_CODES`, or none)."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: how it aligns, how far it may shrink (0: not at all), and how early it is left out (0: never)."""

    title: str
    right: bool = False
    shrink_to: int = 0
    leave_out: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of one line, and a note that stands below it."""

    cells: Sequence[Cell]
    note: str = ""


def paint(text: str, style: str, colour: bool) -> str:
    """The text in its style, where colours are wanted."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if colour and style and text else text


def colour_of(stream: IO[str]) -> bool:
    """Whether the stream wants colours: a terminal does, unless NO_COLOR is set; FORCE_COLOR overrules."""
    if os.environ.get("FORCE_COLOR"):
        return True
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return False
    if sys.platform == "win32":
        os.system("")  # the known way to switch a Windows console to escape codes
    return True


def width_of(stream: IO[str]) -> int | None:
    """Columns of the terminal; None where it is no terminal, and nothing need be cut."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None


def harmless(text: str) -> str:
    """Of the same length, without codes that would tell the terminal something."""
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)


def cut(text: str, width: int) -> str:
    """The text in at most `width` characters, an ellipsis where it was longer."""
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"


def table(
    columns: Sequence[Column], rows: Sequence[Row], *, width: int | None, colour: bool, whole: bool = False
) -> list[str]:
    """Lines of the table. Too wide: first narrower gaps, then shorter texts, then fewer columns.

    A note that is too wide is cut; with `whole` it goes on in the next line.
    """
    shown = list(range(len(columns)))
    widths = [max([len(column.title), *(len(row.cells[n].text) for row in rows)]) for n, column in enumerate(columns)]
    gap = 2
    while width is not None and (over := sum(widths[n] for n in shown) + gap * (len(shown) - 1) - width) > 0:
        if gap == 2:
            gap = 1
            continue
        soft = [n for n in shown if columns[n].shrink_to and widths[n] > columns[n].shrink_to]
        if soft:
            widest = max(soft, key=lambda n: widths[n] - columns[n].shrink_to)
            widths[widest] = max(columns[widest].shrink_to, widths[widest] - (over if len(soft) == 1 else 1))
            continue
        spare = [n for n in shown if columns[n].leave_out]
        if not spare:
            break
        shown.remove(max(spare, key=lambda n: columns[n].leave_out))
    between = " " * gap

    def line(cells: Sequence[Cell]) -> str:
        parts = []
        for n in shown:
            text = cut(harmless(cells[n].text), widths[n])
            pad = " " * (widths[n] - len(text))
            painted = paint(text, cells[n].style, colour)
            parts.append(pad + painted if columns[n].right else painted + pad)
        return between.join(parts).rstrip()

    lines = [line([Cell(column.title, "bold") for column in columns])]
    for row in rows:
        lines.append(line(row.cells))
        if row.note:
            lines += [paint(text, "dim", colour) for text in _note(row.note, width, whole)]
    return lines


def _note(note: str, width: int | None, whole: bool) -> list[str]:
    text = f"  └ {harmless(note)}"
    if width is None:
        return [text]
    import textwrap  # here: `status` never wraps, and counts its milliseconds

    return textwrap.wrap(text, max(20, width), subsequent_indent="    ") if whole else [cut(text, width)]


def facts(pairs: Sequence[tuple[str, Cell]], *, colour: bool) -> list[str]:
    """Lines of a two-column list: names on the left, what they are on the right."""
    left = max((len(name) for name, _ in pairs), default=0)
    return [f"{paint(name.ljust(left), 'dim', colour)}  {paint(*cell, colour)}".rstrip() for name, cell in pairs]
