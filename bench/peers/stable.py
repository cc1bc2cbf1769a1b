"""Stablehand in the units of its peers: the shipped kind of configuration, bots of its own with their strategies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgpack
import psutil
import zmq

from bench.installation import Installation, installation
from bench.machine import ROOT
from bench.peers.measure import KILLS, available, cpu_percent, pss, times, uss

_APART: Final = 0.3
_SETTLE: Final = 5.0
#: Failures are forgotten so fast that each kill is the first in its window: the peers' settings do the same.
FORGETFUL: Final = "intensity = 1000\nperiod_seconds = 1\nstable_after_seconds = 0.2"


def measure(folder: Path, count: int, *, whole: bool, timeout: float) -> dict[str, Any]:
    """As `bench.peers.measure.measure`. Raises RuntimeError when a bot does not come up."""
    before = available()
    with installation(folder, count, extra=FORGETFUL) as running:
        found: dict[str, Any] = {"start": running.start_all(timeout)}
        if whole:
            running.wait_cycles()
            time.sleep(_SETTLE)
            found["mem_available_per_bot"] = (before - available()) / count
            found |= looked_at(running, count)
            found["kills"] = _kills(running)
        return found


def parts_of(running: Installation) -> dict[str, int]:
    """Pids of what is not a bot."""
    supervisor = psutil.Process(running.process.pid)
    probes = [one.pid for one in supervisor.children() if "supervisor.runtime.probe" in one.cmdline()]
    found = {
        "supervisor": supervisor.pid, "launcher": running.launcher().pid,
        "gateway": int(running.client.request("accounts")[0]["pid"]),
    }  # fmt: skip
    return found | ({"probe": probes[0]} if probes else {})


def looked_at(running: Installation, count: int) -> dict[str, Any]:
    """Memory, CPU and the times of status."""
    rows = running.client.request("status")
    pids = [row["pid"] for row in rows if row["pid"]]
    parts = parts_of(running)
    name = rows[-1]["name"]
    found: dict[str, Any] = {
        "pss_per_bot": pss([*pids, *parts.values()]) / count,
        "uss": uss(pids[:: max(1, len(pids) // 20)]),
        "manager_pss": pss([parts["supervisor"]]),
        "all_managers_pss": pss(list(parts.values())),
        "cpu": cpu_percent([parts["supervisor"], parts["launcher"]], time.sleep),
        "cpu_all_parts": cpu_percent(list(parts.values()), time.sleep),
        "one": times(lambda: running.client.request("status", {"bots": [name]}), 200),
        "all": times(lambda: running.client.request("status"), 20),
        "all_figures": True,
    }
    command = [
        str(Path(sys.executable).with_name("stablehand")), "--config", str(running.folder / "supervisor.toml"),
        "status", name,
    ]  # fmt: skip
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    if name not in shown.stdout:
        raise RuntimeError(f"stablehand status {name} did not show it: {shown.stdout[:200]}")
    found["verb"] = times(lambda: subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=True), 5)
    return found


def _kills(running: Installation) -> list[float]:
    """Milliseconds from kill -9 of a bot until the supervisor has its successor's Ready, by the event's own time."""
    found: list[float] = []
    with zmq.Context() as context:
        events: zmq.Socket[bytes] = context.socket(zmq.SUB)
        events.setsockopt(zmq.LINGER, 0)
        events.connect(running.client.endpoints.events)
        events.subscribe(b"event.")
        time.sleep(1.5)
        rows = running.client.request("status")
        for kill in range(KILLS):
            name = rows[kill % len(rows)]["name"]
            pid = running.client.request("status", {"bots": [name]})[0]["pid"]
            while events.poll(0):
                events.recv_multipart()
            at = time.time()
            os.kill(pid, signal.SIGKILL)
            found.append((_until_running(events, name) - at) * 1000)
            time.sleep(_APART)
        events.close()
    return found


def _until_running(events: zmq.Socket[bytes], name: str, timeout: float = 20.0) -> float:
    until = time.monotonic() + timeout
    while events.poll(int(max(0.0, until - time.monotonic()) * 1000)):
        event = msgpack.unpackb(events.recv_multipart()[-1])
        if event["bot"] == name and event["type"] == "state" and event["data"].get("to") == "running":
            return float(event["at"])
    raise TimeoutError(f"{name} was not running again within {timeout:g} s")
