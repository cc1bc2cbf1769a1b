"""The measures of one manager with N bots, and of Stablehand with N bots of its own, in the same units."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from bench.installation import cpu_seconds
from bench.part import spread
from bench.peers.hub import Hub
from bench.peers.install import Installed
from bench.peers.manager import Manager, Task
from bench.peers.pm2 import Pm2

KILLS: Final = 12
_APART: Final = 1.3  # seconds between kills: runit and s6 restart a service at most once a second
_SETTLE: Final = 3.0
_CPU_SECONDS: Final = 8.0
_ONES: Final = 200
_VERBS: Final = 5
_SLOW: Final = 20.0  # seconds that the repetitions of one question may take
_MB: Final = 1e6


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for the name of a unix socket; it goes when the bench ends, not between two
    measures (see `bench.machine.quick_files`)."""
    folder = Path(tempfile.mkdtemp(prefix="sh-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    yield folder


def available() -> float:
    """MemAvailable, in MB."""
    return float(psutil.virtual_memory().available) / _MB


def measure(peer: Installed, kind: type[Manager], count: int, *, whole: bool, timeout: float) -> dict[str, Any]:
    """Seconds until N bots are ready, and with `whole` all the rest. Raises TimeoutError, and what the manager does."""
    with short_folder() as folder, Hub(folder) as hub:
        task = Task(folder, hub.address, [f"bot-{number:04}" for number in range(count)])
        before = available()
        with kind(peer, task) as manager:
            manager.launch()
            began = time.perf_counter()
            manager.start_all()
            last = hub.wait_hellos(count, timeout)
            found: dict[str, Any] = {"start": last.at - began}
            if whole:
                hub.listen(_SETTLE)
                found |= _memory(manager, hub, before, count)
                found |= _cpu(manager, hub)
                found |= _status(manager)
                found["verb"] = times(lambda: _run_verb(manager), _VERBS)
                found["kills"] = _kills(hub)
            return found


def times(ask: Callable[[], object], most: int) -> list[float]:
    """Milliseconds of each of at most so many questions; fewer when they are slow, but at least three."""
    found: list[float] = []
    began = time.perf_counter()
    while len(found) < most and (len(found) < 3 or time.perf_counter() - began < _SLOW):
        at = time.perf_counter()
        ask()
        found.append((time.perf_counter() - at) * 1000)
    return found


def pss(pids: Sequence[int]) -> float:
    """Proportional set size of processes together, MB; what has ended counts nothing."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            total += psutil.Process(pid).memory_full_info().pss / _MB
    return total


def uss(pids: Sequence[int]) -> float:
    """Median private memory of processes, MB."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            found.append(psutil.Process(pid).memory_full_info().uss / _MB)
    return statistics.median(found)


def cpu_percent(pids: Sequence[int], listen: Callable[[float], object], seconds: float = _CPU_SECONDS) -> float:
    """Percent of one core that processes use while `listen` goes on."""
    processes = [psutil.Process(pid) for pid in pids]
    used, began = cpu_seconds(*processes), time.perf_counter()
    listen(seconds)
    return 100 * (cpu_seconds(*processes) - used) / (time.perf_counter() - began)


def _memory(manager: Manager, hub: Hub, before: float, count: int) -> dict[str, Any]:
    bots = [hello.pid for hello in hub.hellos]
    return {
        "mem_available_per_bot": (before - available()) / count,
        "pss_per_bot": pss([*bots, *manager.pids()]) / count,
        "uss": uss(bots[:: max(1, len(bots) // 20)]),
        "manager_pss": pss([manager.main_pid()]),
        "all_managers_pss": pss(manager.pids()),
    }


def _cpu(manager: Manager, hub: Hub) -> dict[str, Any]:
    return {"cpu": cpu_percent(manager.pids(), hub.listen)}


def _status(manager: Manager) -> dict[str, Any]:
    if isinstance(manager, Pm2):
        found = manager.measure_status(_ONES, 20)
        return {"one": found["one"], "all": found["all"], "all_figures": True}
    one, everything = manager.status_one(), manager.status_all()
    if one is None or everything is None:
        return {}
    return {"one": times(one, _ONES), "all": times(everything, 20), "all_figures": manager.figures}


def _run_verb(manager: Manager) -> None:
    subprocess.run(
        manager.verb(), env=manager.environment(), cwd=manager.task.folder, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, timeout=60, check=False,
    )  # fmt: skip


def _kills(hub: Hub) -> list[float]:
    """Milliseconds from kill -9 of one bot until the next hello, one after another."""
    found = []
    for number in range(KILLS):
        hub.listen(_APART)
        victim = hub.hellos[number]
        seen = len(hub.hellos)
        at = time.perf_counter()
        os.kill(victim.pid, signal.SIGKILL)
        found.append((hub.wait_hellos(seen + 1, 60.0, "successors").at - at) * 1000)
    return found


def summary(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One manager's rounds as one: medians of single figures, and the spread of all that were measured often."""
    found: dict[str, Any] = {}
    for key in sorted({key for one in rounds for key in one}):
        values = [one[key] for one in rounds if key in one]
        if isinstance(values[0], list):
            found[key] = spread([each for value in values for each in value])
        elif isinstance(values[0], bool):
            found[key] = values[0]
        else:
            found[key] = statistics.median(values)
    return found
