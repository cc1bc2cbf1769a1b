"""`python -m console.picture OUT.svg [WIDTH]`: the live table of the running supervisor, as a picture."""

from __future__ import annotations

import sys
from pathlib import Path

from console import main, render, screen, settings
from protocol.errors import InvalidInput


def draw(target: Path, width: int) -> int:
    """Ask the supervisor that is meant, and write the picture."""
    with settings.connect() as client:
        events = client.events(limit=screen.EVENTS)["events"]
        shot = screen.Snapshot(
            client.ping(), client.status(), client.host(), client.request("accounts"), events
        )  # fmt: skip
    lines = screen.lines(shot, width=width, height=200, footer="Ctrl-C stops everything")
    target.write_text(render.svg(lines, width=width), "utf-8")
    return 0


def _run(words: list[str]) -> int:
    if not 1 <= len(words) <= 2 or not all(word.isdigit() for word in words[1:]):
        raise InvalidInput("python -m console.picture OUT.svg [WIDTH]")
    return draw(Path(words[0]), int(words[1]) if len(words) == 2 else 124)


if __name__ == "__main__":
    raise SystemExit(main.guarded(lambda: _run(sys.argv[1:])))
