"""The probe on real processes: what it reads, what it does not know, and that a reused pid is another process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from supervisor.runtime import sampling
from supervisor.runtime.probe import Probe
from supervisor.runtime.registry import Record, Registry, Run
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


def test_where_the_time_does_not_reach_the_memory_of_all_is_read_in_turns(tmp_path: Path) -> None:
    probe = Probe(str(tmp_path), uss_share=0.0)
    words = [
        sys.executable,
        "-c",
        "import sys\nprint(flush=True)\nfor _ in sys.stdin: kept = b'x' * (32 << 20); print(flush=True)",
    ]
    children = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)]
    pids = [one.pid for one in children]
    try:

        def read() -> list[int]:
            """Whose memory was read in the next round."""
            before = {pid: one.at_round for pid, one in probe.watched.items()}
            probe.sample()
            return [pid for pid, one in probe.watched.items() if one.at_round != before[pid]]

        for one in children:
            assert one.stdout is not None and one.stdout.readline()
        probe.watch([(pid, 1) for pid in pids])
        assert sorted(read() + read() + read()) == sorted(pids) and read() == []
        before = probe.watched[pids[1]].uss
        probe.watched[pids[0]].at_round -= 100  # it waits longest, but has not moved
        moved = children[1]
        assert moved.stdin is not None and moved.stdout is not None and before is not None
        moved.stdin.write(b"\n")
        moved.stdin.flush()
        moved.stdout.readline()
        assert read() == [pids[1]] and (probe.watched[pids[1]].uss or 0) > before + 30_000_000
        assert read() == [pids[0]] and read() == []
    finally:
        for one in children:
            one.communicate(timeout=10)


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


#: Writes a sample of 400 KB each 50 ms, and reads nothing while it writes, as the probe does.
_LONG_WINDED = """
import os, select, sys, msgpack
unpacker, count = msgpack.Unpacker(), 0
while True:
    if select.select([0], [], [], 0.05)[0]:
        data = os.read(0, 1 << 20)
        if not data:
            break
        unpacker.feed(data)
        count += sum(1 for _ in unpacker)
    else:
        host = {"fill": "x" * 400_000, "asked": count}
        sys.stdout.buffer.write(msgpack.packb({"processes": {}, "host": host, "own": {}}))
        sys.stdout.buffer.flush()
"""


def test_a_sample_and_a_request_that_fill_their_pipes_wait_for_each_other_never(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As of some thousand processes: both wrote, and neither read."""

    def long_winded() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", _LONG_WINDED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )  # fmt: skip

    monkeypatch.setattr(sampling, "_start", long_winded)

    async def asked() -> list[int]:
        registry = Registry()
        for number in range(20_000):  # a request of 300 KB
            record = Record(number, f"b{number}", "bot", "running", "main")
            record.run = Run(epoch=1, token=str(number), started_at=0.0, started=0.0, pid=4_000_000 + number)
            registry.add(record)
        made = sampling.Sampling(registry, 2.0, ".", dict)
        told: list[int] = []
        done = asyncio.Event()

        def took() -> None:
            told.append(made.host["asked"])
            if len(told) == 5:
                done.set()

        made.sampled = took
        running = asyncio.create_task(made.run())
        try:
            await asyncio.wait_for(done.wait(), 30)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return told

    told = asyncio.run(asked())
    assert told == sorted(told) and told[-1] >= 4, "one request for each sample"
