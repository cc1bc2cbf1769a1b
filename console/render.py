"""The table as a picture: what a terminal would show, as SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.text import Text

_FONT_FACE: Final = re.compile(r"@font-face\s*\{[^}]*\}\s*")


def svg(lines: Sequence[str], *, width: int, title: str = "stablehand up") -> str:
    """Lines with escape codes as an SVG of a terminal `width` characters wide."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(Text.from_ansi(line), no_wrap=True, overflow="crop", crop=True)
    # Rich names fonts of a web server; the picture must be whole without one.
    return _FONT_FACE.sub("", console.export_svg(title=title))
