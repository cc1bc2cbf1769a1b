"""The measures of the stable itself. Each returns plain figures, and has its words and targets beside it."""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgpack
import psutil
import zmq

from bench import plain, rawfork
from bench.installation import cpu_seconds, installation
from bench.part import Figures, Part, Row, judged, judged_table, numbers, say
from bench.part import spread as _spread

_KILLS: Final = 40
_IDLE_SECONDS: Final = 10.0
_FIRST_CYCLES: Final = 2.0
#: Failures are forgotten so fast that each kill is the first in its window, which is what is measured.
_NO_BACKOFF: Final = "intensity = 1000\nperiod_seconds = 1\nstable_after_seconds = 0.2"


def start(folder: Path, sizes: Sequence[int], plain_sizes: Sequence[int], rounds: int) -> dict[str, Any]:
    """Time until N are ready: this stable, raw forks, and (at `plain_sizes`) plain subprocesses, in turns."""
    figures: dict[str, Any] = {}
    at_once = _best_concurrency() if set(sizes) & set(plain_sizes) else 0
    for count in sizes:
        seconds: dict[str, list[float]] = {"stable": [], "raw_fork": [], "subprocess": []}
        for turn in range(rounds):
            seconds["raw_fork"].append(rawfork.measure(count))
            with installation(folder / f"start-{count}-{turn}", count) as running:
                seconds["stable"].append(running.start_all())
            if count in plain_sizes:
                seconds["subprocess"].append(plain.measure(count, at_once))
            say(f"start {count}, round {turn + 1}: " + ", ".join(f"{k} {v[-1]:.2f} s" for k, v in seconds.items() if v))
        figures[str(count)] = {
            "rounds": seconds,
            "median": {name: statistics.median(values) for name, values in seconds.items() if values},
        }
    figures["subprocesses_at_once"] = at_once
    return figures


def _best_concurrency() -> int:
    """How many subprocesses on their way at once serve the peer best, of: all, or as many as there are cores."""
    few = (os.cpu_count() or 2) + 1
    return 1000 if plain.measure(10, 10) < plain.measure(10, few) else few


def recovery(folder: Path, count: int) -> dict[str, Any]:
    """kill -9 of one bot after another, until its successor is ready (ms).

    `ready`: when the supervisor had its Ready, by the time that the event bears. `told`: when a subscriber
    had the event, which is published after it is in the journal on disk.
    """
    ready: list[float] = []
    told: list[float] = []
    with installation(folder / "recovery", count, extra=_NO_BACKOFF) as running, zmq.Context() as context:
        running.start_all()
        running.wait_cycles()
        events: zmq.Socket[bytes] = context.socket(zmq.SUB)
        events.setsockopt(zmq.LINGER, 0)
        events.connect(running.client.endpoints.events)
        events.subscribe(b"event.")
        time.sleep(1.5)
        rows = running.client.request("status")
        for kill in range(_KILLS):
            name = rows[kill % len(rows)]["name"]
            pid = running.client.request("status", {"bots": [name]})[0]["pid"]
            while events.poll(0):
                events.recv_multipart()
            at, started = time.time(), time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            ready_at = _until_running(events, name)
            ready.append((ready_at - at) * 1000)
            told.append((time.perf_counter() - started) * 1000)
            time.sleep(0.15)
        events.close()
    return {"bots": count, "kills": _KILLS, "ready": _spread(ready), "told": _spread(told)}


def _until_running(events: zmq.Socket[bytes], name: str, timeout: float = 20.0) -> float:
    until = time.monotonic() + timeout
    while events.poll(int(max(0.0, until - time.monotonic()) * 1000)):
        event = msgpack.unpackb(events.recv_multipart()[-1])
        if event["bot"] == name and event["type"] == "state" and event["data"].get("to") == "running":
            return float(event["at"])
    raise TimeoutError(f"{name} was not running again within {timeout:g} s")


def idle(folder: Path, count: int) -> dict[str, Any]:
    """What a stable of idle bots costs: CPU (percent of one core) at a heartbeat a second, and `status` of all."""
    with installation(folder / "idle", count) as running:
        running.start_all()
        running.wait_cycles()
        time.sleep(_FIRST_CYCLES)
        supervisor = psutil.Process(running.process.pid)
        launcher = running.launcher()
        gateway = psutil.Process(running.client.request("accounts")[0]["pid"])
        bots = running.bots()
        probes = [one for one in supervisor.children() if "supervisor.runtime.probe" in one.cmdline()]
        groups = {
            "supervisor": [supervisor], "launcher": [launcher], "probe": probes, "gateway": [gateway], "bots": bots,
        }  # fmt: skip
        before = {name: cpu_seconds(*group) for name, group in groups.items()}
        started = time.monotonic()
        time.sleep(_IDLE_SECONDS)
        passed = time.monotonic() - started
        percent = {name: 100 * (cpu_seconds(*group) - before[name]) / passed for name, group in groups.items()}
        status = []
        for _ in range(30):
            began = time.perf_counter()
            running.client.request("status")
            status.append((time.perf_counter() - began) * 1000)
        resident = {name: group[0].memory_full_info().uss / 1e6 for name, group in groups.items() if name != "bots"}
    return {"bots": count, "cpu_percent": percent, "status_ms": _spread(status), "uss_mb": resident}


def _add_start_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--bots", type=numbers, default="20,100,500", metavar="N,N", help="sizes")
    group.add_argument(
        "--plain", type=numbers, default="100", metavar="N,N", help="of these, with subprocesses beside; may be empty"
    )


def _show_start(figures: Figures) -> str:
    found: list[Row] = []
    for count in [key for key in figures if key.isdigit()]:
        found += _start_rows(count, figures[count]["median"])
    return judged_table(found)


def _start_rows(count: str, median: dict[str, float]) -> list[Row]:
    stable, raw = median["stable"], median["raw_fork"]
    found: list[Row] = [
        (f"{count} bots from `start --all` until all are running", f"{stable:.2f} s", "", ""),
        (f"{count} raw forks of the same preload, one message each", f"{raw:.2f} s", "", ""),
        judged(f"{count}: this stable / raw fork", stable / raw, 1.5, "x"),
    ]
    if "subprocess" in median:
        ratio = median["subprocess"] / stable
        verdict = ("met" if ratio >= 12 else f"missed by {12 - ratio:.1f}") if count == "100" else ""
        found += [
            (f"{count} plain subprocesses, the same imports", f"{median['subprocess']:.2f} s", "", ""),
            (f"{count}: plain subprocesses / this stable", f"{ratio:.1f} x", ">= 12 x" if verdict else "", verdict),
        ]
    return found


def _show_recovery(figures: Figures) -> str:
    kills = f"kill -9 until the successor is ready ({figures['kills']} kills, {figures['bots']} bots)"
    return judged_table([
        judged(f"{kills}: median", figures["ready"]["median"], 20.0, "ms"),
        (f"{kills}: p99", f"{figures['ready']['p99']:.1f} ms", "", ""),
        (f"{kills}, as a subscriber sees it: median", f"{figures['told']['median']:.1f} ms", "", ""),
    ])  # fmt: skip


def _show_idle(figures: Figures) -> str:
    found: list[Row] = [
        (f"CPU of {name}, {figures['bots']} idle bots at 1 Hz", f"{percent:.1f} % of a core", "", "")
        for name, percent in figures["cpu_percent"].items()
    ]
    found.append((f"status of {figures['bots']} bots: median", f"{figures['status_ms']['median']:.1f} ms", "", ""))
    return judged_table(found)


START: Final = Part(
    "start",
    "time until N bots are ready, beside raw forks and plain subprocesses",
    lambda folder, options: start(folder, options.bots, options.plain, options.rounds),
    _show_start,
    options=_add_start_options,
    turns=True,
)
RECOVERY: Final = Part(
    "recovery", "kill -9 of a bot until its successor is ready", lambda folder, _: recovery(folder, 20), _show_recovery
)
IDLE: Final = Part("idle", "what a stable of idle bots costs", lambda folder, _: idle(folder, 100), _show_idle)
