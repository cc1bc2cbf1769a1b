"""Log files for the eye: JSON lines made readable, and a file followed over its rotation."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from console.figures import plain
from console.grid import paint

_TIMES: Final = ("time", "at", "ts", "timestamp")
_TEXTS: Final = ("message", "msg", "text", "event")
_LEVELS: Final = {"ERROR": "bold red", "CRITICAL": "bold red", "WARNING": "yellow", "INFO": "green", "DEBUG": "dim"}
_POLL: Final = 0.2


def pretty(line: str, *, colour: bool) -> str:
    """`time level message key=value..` of a JSON line; any other line as it is."""
    entry = _entry(line)
    if entry is None:
        return line
    at = _take(entry, _TIMES)
    level = str(_take(entry, ("level", "severity")) or "").upper()
    text = str(_take(entry, _TEXTS) or "")
    trace = str(entry.pop("exception", "") or entry.pop("exc_info", "") or entry.pop("traceback", "") or "")
    rest = " ".join(f"{key}={plain(each)}" for key, each in entry.items() if each not in (None, "", {}, []))
    parts = [
        paint(_moment(at), "dim", colour), paint(f"{level:<7}", _LEVELS.get(level, ""), colour), text,
        paint(rest, "dim", colour),
    ]  # fmt: skip
    shown = " ".join(part for part in parts if part.strip())
    return f"{shown}\n{trace.rstrip()}" if trace else shown


def as_json(line: str) -> str:
    """The line where it is JSON, else an object that holds it."""
    return line if _entry(line) is not None else json.dumps({"message": line})


def _entry(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _take(entry: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((entry.pop(key) for key in keys if key in entry), None)


def _moment(at: Any) -> str:
    if not isinstance(at, int | float):
        return str(at or "")
    return time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at * 1000) % 1000:03}"


def follow(
    path: Path, *, after: str | None = None, whole: bool = False, stop: Callable[[], bool] = lambda: False
) -> Iterator[str]:
    """Lines as they are written, from the end of the file on, over rotation and truncation; until `stop()`.

    `after`: the last line already shown, so that what was written meanwhile is not lost.
    `whole`: nothing was there to be shown yet, so begin at the beginning.
    """
    file = None
    waiting = b""
    first = not whole
    while not stop():
        if file is None:
            try:
                file = path.open("rb")
            except FileNotFoundError:
                first = False  # what appears later is all new
                time.sleep(_POLL)
                continue
            if first:
                _go_to_end(file, after)
                first = False
        chunk = file.read(65_536)
        if chunk:
            *lines, waiting = (waiting + chunk).split(b"\n")
            yield from (line.decode("utf-8", "replace") for line in lines)
        elif _rotated(file, path):
            rest = file.read()  # written between the last look and the rotation
            *lines, _ = (waiting + rest + b"\n").split(b"\n")
            yield from (line.decode("utf-8", "replace") for line in lines if line)
            file.close()
            file, waiting = None, b""
        else:
            time.sleep(_POLL)
    if file is not None:
        file.close()


def _go_to_end(file: Any, after: str | None) -> None:
    end = file.seek(0, os.SEEK_END)
    if after is None:
        return
    start = max(0, end - 65_536)
    file.seek(start)
    tail = file.read()
    found = tail.rfind(after.encode() + b"\n")
    file.seek(end if found < 0 else start + found + len(after.encode()) + 1)


def _rotated(file: Any, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False  # between the rename and the new file
    here = os.fstat(file.fileno())
    return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino) or there.st_size < file.tell()
