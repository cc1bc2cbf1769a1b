"""`restart --rolling`: all bots renewed a few at a time, so that most are always trading."""

from __future__ import annotations

import sys
from typing import Any

from console import settings
from console.commands.shared import names, warn, write, write_json

_ALIVE = ("running", "paused")


def restart(which: dict[str, Any], *, batch: int, wait: float, as_json: bool) -> int:
    """Renew the bots that are up, `batch` at a time, each waited for up to `wait` seconds; the exit code.

    The first batch with a bot that does not come back ends it: what is left keeps its old run. Whoever is told to
    stop meanwhile stays stopped.
    """
    with settings.connect() as client:
        rows = client.request("status", which)
        left = [row["name"] for row in rows if row["state"] in _ALIVE]
        skipped = {row["name"]: row["state"] for row in rows if row["state"] not in _ALIVE}
        renewed: list[str] = []
        missed: dict[str, str] = {}
        while left and not missed:
            now, left = left[:batch], left[batch:]
            answer = client.request("restart", {"bots": now, "wait": wait, "unless_stopped": True})
            missed = {**answer["failed"], **answer["missed"]}
            stopped = [row["name"] for row in client.status(now) if row["wanted"] == "stopped"]
            skipped |= dict.fromkeys(stopped, "stopped")
            missed = {name: reason for name, reason in missed.items() if name not in stopped}
            renewed += [name for name in answer["reached"] if name not in missed and name not in stopped]
            if not as_json and sys.stderr.isatty():
                sys.stderr.write(f"\r\x1b[Krenewed {len(renewed)}, {len(left)} to go")
                sys.stderr.flush()
    if not as_json and sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    if as_json:
        write_json({"renewed": renewed, "skipped": skipped, "missed": missed, "left": left})
        return 1 if missed else 0
    _tell(renewed, skipped, missed, left, wait)
    return 1 if missed else 0


def _tell(
    renewed: list[str], skipped: dict[str, str], missed: dict[str, str], left: list[str], wait: float
) -> None:  # fmt: skip
    write(f"renewed: {names(renewed)}" if renewed else "no bot was renewed")
    if skipped:
        write(f"not running, so left alone: {names(sorted(skipped))}")
    for name, reason in missed.items():
        warn(f"{name}: not running again within {wait:g} s: {reason}")
    if missed and left:
        warn(f"stopped there; not touched: {names(left)}")
