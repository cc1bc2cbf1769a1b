"""The table as a picture: what a terminal would show, as SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text


def svg(lines: Sequence[str], *, width: int, title: str = "stablehand up") -> str:
    """Lines with escape codes as an SVG of a terminal `width` characters wide."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(Text.from_ansi(line), no_wrap=True, overflow="crop", crop=True)
    return console.export_svg(title=title)
