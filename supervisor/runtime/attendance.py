"""The daemon under a service manager: its sign of life, its status line, and the reload by SIGHUP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from protocol.errors import StablehandError
from supervisor.runtime import clock
from supervisor.runtime.commands.reload import reload
from supervisor.runtime.notify import Notify
from supervisor.runtime.stable import Stable

_STATUS_SECONDS: Final = 5.0
_STARTING: Final = "starting"

log = logging.getLogger("stablehand.service")


class Attendance:
    """Speaks for the daemon to the service manager."""

    def __init__(self, stable: Stable, notify: Notify) -> None:
        self._stable = stable
        self._notify = notify

    async def run(self) -> None:
        """Feed the watchdog and tell the status until cancelled."""
        await feed(self._notify, self.status)

    def status(self) -> str:
        """One line: how many bots are in which state, and what is not remembered."""
        stable = self._stable
        counts = Counter(stable.state(one).value for one in stable.registry.by_name.values())
        bots = ", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "no bots"
        failing = stable.not_remembered()
        return f"{bots}; NOT remembering: {' '.join(failing.split())}" if failing else bots

    async def reload(self) -> None:
        """SIGHUP: the file is read again and applied; a wrong one changes nothing and is told."""
        self._notify.reloading("reading the configuration again")
        try:
            await reload(self._stable, {"apply": True}, "signal:HUP")
        except StablehandError as error:
            log.error("reload: %s", error.line())
            self._stable.chronicle.add("alert", f"reload refused: {error.line()}", cause_id="signal:HUP")
        except Exception:  # a defect of ours must not look like a reload that never ends
            log.exception("reload failed")
        self._notify.ready(self.status())


@asynccontextmanager
async def starting(notify: Notify) -> AsyncIterator[None]:
    """Within it the supervisor is starting. How long that may take is another limit of the service manager's."""
    notify.say("WATCHDOG=1", f"STATUS={_STARTING}")
    task = asyncio.create_task(feed(notify, lambda: _STARTING), name="starting")
    try:
        yield
    finally:
        task.cancel()


async def feed(notify: Notify, status: Callable[[], str]) -> None:
    """Feed the watchdog and tell the status until cancelled. A loop that lags too much is not said to live.

    Also while the supervisor starts: it is watched from its first word on, and after a handover as before it.
    """
    if not notify.active:
        return
    watchdog = notify.watchdog
    pause = min(_STATUS_SECONDS, watchdog / 4) if watchdog else _STATUS_SECONDS
    while True:
        due = clock.now() + pause
        await asyncio.sleep(pause)
        late = clock.now() - due
        if watchdog and late > watchdog / 2:
            log.warning("the loop was %.1f s late: the watchdog is not fed this time", late)
            continue
        notify.say(*(["WATCHDOG=1"] if watchdog else []), f"STATUS={status()}")


def in_foreground() -> bool:
    """Whether a terminal stands behind this process: then a hang-up means that its user has gone."""
    if sys.platform == "win32":
        return True
    with contextlib.suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
        return True
    return False


def hang_up_is_ignored() -> bool:
    """Whether the process was started under nohup."""
    return hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
