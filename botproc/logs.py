"""Log files of a child: JSON lines that it opened itself, and beside them its raw output."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

_DAEMON_BYTES: Final = 10_000_000
#: Attributes of every LogRecord; what else a record has was given with `extra=` and is copied into the line.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One record as one line: `at` (UTC, milliseconds), `level`, `name`, `text`, and what `extra=` gave.

    `fixed` are fields of every line: the bot, its epoch.
    """

    def __init__(self, **fixed: Any) -> None:
        super().__init__()
        self._fixed = fixed

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "at": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "name": record.name,
            "text": record.getMessage(),
            **self._fixed,
        }
        line.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def raw_path(log_path: str) -> Path:
    """The file of what a child writes to stdout and stderr: the log's name with `.out` in place of `.log`."""
    return Path(f"{log_path.removesuffix('.log')}.out")


def open_log(path: str, max_bytes: int, backups: int, **fixed: Any) -> None:
    """Make the JSON lines file the only destination of this process's log.

    Its folder must exist. Rotated when a line would take it over `max_bytes`; `backups` old files are kept as
    NAME.1, NAME.2 ...
    """
    # Opened at the first line, which can wait until the bot is ready; its folder is there since `take_output`.
    # With no backups the handler would never cut the file: one byte file beside it is the smallest that does.
    handler = RotatingFileHandler(path, maxBytes=max_bytes, backupCount=max(1, backups), encoding="utf-8", delay=True)
    handler.setFormatter(JsonLines(**fixed))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    if root.level != logging.INFO:  # a forked child has it from the launcher; to set it is to touch every logger
        root.setLevel(logging.INFO)
    logging.captureWarnings(True)


def for_daemon(path: Path | None, **fixed: Any) -> None:
    """The log of a launcher: JSON lines into `path`, or onto stderr where there is none."""
    if path is not None:
        take_output(raw_path(str(path)), _DAEMON_BYTES)
        open_log(str(path), _DAEMON_BYTES, 3, **fixed)
        return
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(**fixed))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def take_output(path: Path, max_bytes: int) -> None:
    """Let stdin read nothing, and stdout and stderr go to the raw file; a fatal signal leaves its traceback there.

    A file that has grown over `max_bytes` is put aside as NAME.1 first.
    """
    out = _append_to(path)
    if os.fstat(out).st_size > max_bytes:
        os.close(out)
        with contextlib.suppress(OSError):  # Windows moves no file that its starter has open: it grows on
            path.replace(path.with_name(f"{path.name}.1"))
        out = _append_to(path)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (out, 2)):
        if source != target:
            os.dup2(source, target)
    for fd in {null, out} - {0, 1, 2}:
        os.close(fd)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and not (stream.line_buffering and stream.errors == "backslashreplace"):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    if not faulthandler.is_enabled():
        faulthandler.enable(2, all_threads=True)


def _append_to(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:  # looked at only then: every start of every bot comes by here
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, flags, 0o600)


def flush() -> None:
    """Write out what is buffered, before an exit that runs no handlers."""
    for flushable in (sys.stdout, sys.stderr, *logging.getLogger().handlers):
        try:
            flushable.flush()
        except (OSError, ValueError):
            continue  # the disk is full or the file closed: nothing more can be done at the end
