"""The probe on real processes: what it reads, what it does not know, and that a reused pid is another process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from supervisor.runtime.probe import Probe
from tests.support import eventually

FIELDS = {
    "cpu_percent", "rss_bytes", "uss_bytes", "pss_bytes", "threads", "open_files", "ctx_switches", "read_bytes",
    "write_bytes",
}  # fmt: skip


def test_every_figure_of_a_process_and_of_the_machine_is_read(tmp_path: Path) -> None:
    probe = Probe(str(tmp_path))
    probe.watch([(os.getpid(), 7)])
    first = probe.sample()["processes"][os.getpid()]
    assert set(first) == FIELDS
    assert first["cpu_percent"] is None, "a share of no time at all is unknown, not 0"
    assert first["rss_bytes"] > first["uss_bytes"] > 1e6 and first["threads"] >= 1
    until = time.process_time() + 0.15
    while time.process_time() < until:
        pass
    second = probe.sample()
    assert second["processes"][os.getpid()]["cpu_percent"] > 0
    host, own = second["host"], second["own"]
    assert host["memory_total"] > host["memory_available"] > 0 and host["disk_free"] > 0
    assert host["network_sent_per_s"] is not None and host["swap_percent"] is not None
    assert 0 < own["cpu_seconds"] <= own["seconds"] + 0.05 and own["processes"] == 1
    if sys.platform == "linux":
        assert host["load1"] >= 0 and all(one is not None for one in second["processes"][os.getpid()].values())
        assert (host["pressure"] is not None) == Path("/proc/pressure/cpu").exists()


def test_what_is_gone_is_unknown(tmp_path: Path) -> None:
    probe = Probe(str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    probe.watch([(process.pid, 1)])
    assert probe.sample()["processes"][process.pid]["rss_bytes"] > 0
    process.communicate(b"\n", timeout=10)
    values = probe.sample()["processes"][process.pid]
    assert set(values) == FIELDS and set(values.values()) == {None}
    probe.watch([(process.pid, 1)])
    assert eventually(lambda: set(probe.sample()["processes"][process.pid].values()) == {None})


def test_a_pid_that_was_reused_is_measured_anew(tmp_path: Path) -> None:
    probe = Probe(str(tmp_path))
    probe.watch([(os.getpid(), 1)])
    probe.sample()
    before = probe.watched[os.getpid()]
    probe.watch([(os.getpid(), 1)])
    assert probe.watched[os.getpid()] is before
    probe.watch([(os.getpid(), 2)])
    assert probe.watched[os.getpid()] is not before and probe.watched[os.getpid()].uss is None
