"""Samples processes and the host with psutil, in a process of its own: `python -m supervisor.runtime.probe`.

Its loop never shares the supervisor's interpreter. It reads which processes to watch from stdin and
writes samples to stdout, msgpack both ways, and ends when stdin does. A sample that failed is None.
"""

from __future__ import annotations

import os
import select
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgpack
import psutil

#: USS and PSS walk all pages of a process, so they are read anew only after so many rounds, or when its resident
#: memory has moved by this much; and all of it takes no more than this share of the time: what has moved comes
#: first, then what waits longest. While hundreds start, each of which is new, they need the machine themselves.
USS_ROUNDS: Final = 15
USS_MOVED: Final = 4_000_000
USS_SHARE: Final = 0.04
_LEAST: Final = 0.1  # seconds after which a share of CPU says something


@dataclass(slots=True)
class Watched:
    """One process, with what the last sample leaves for the next."""

    process: psutil.Process
    ticks: int  # its start as the supervisor knows it: a pid may be reused
    since: float  # monotonic
    uss: int | None = None
    pss: int | None = None  # only where the kernel tells it
    at_rss: int = 0
    at_round: int = 0  # in which they were read last


@dataclass(slots=True)
class Probe:
    """What is watched, and how often."""

    data_dir: str
    interval: float = 2.0
    watched: dict[int, Watched] = field(default_factory=dict)
    round: int = 0
    uss_share: float = USS_SHARE
    network: tuple[float, int, int] | None = None  # (monotonic, sent, received) at the last sample

    def watch(self, processes: list[tuple[int, int]]) -> None:
        """Watch exactly these processes `(pid, start)` from now on. A start of 0 is not known."""
        for pid in set(self.watched) - {pid for pid, _ in processes}:
            del self.watched[pid]
        for pid, ticks in processes:
            if pid not in self.watched or self.watched[pid].ticks != ticks:
                self.watched.pop(pid, None)
                try:
                    process = psutil.Process(pid)
                    process.cpu_percent(None)  # the first call only sets the mark to measure from
                except psutil.Error:
                    continue
                self.watched[pid] = Watched(process, ticks, time.monotonic())

    def sample(self) -> dict[str, Any]:
        """One round: `{processes: {pid: {...}}, host: {...}, own: {...}}`."""
        started, cpu = time.monotonic(), time.process_time()
        self.round += 1
        processes = {pid: self._process(one) for pid, one in list(self.watched.items())}
        self._own_memory(processes)
        values = host(self.data_dir)
        self._rates(values)
        used = time.process_time() - cpu
        return {
            "processes": processes,
            "host": values,
            "own": {
                "seconds": time.monotonic() - started,
                "cpu_seconds": used,
                "cpu_percent": round(100 * used / self.interval, 2),  # of one core
                "processes": len(processes),
            },
        }

    def _own_memory(self, processes: dict[int, dict[str, Any]]) -> None:
        """Read USS and PSS of those that are due, one at least, until the time for it is over."""
        due = [
            (abs(values["rss_bytes"] - one.at_rss) <= USS_MOVED or one.uss is None, one.at_round, pid)
            for pid, one in self.watched.items()
            if (values := processes[pid])["rss_bytes"] is not None and self._is_due(one, values["rss_bytes"])
        ]
        until = time.monotonic() + self.uss_share * self.interval
        for _, _, pid in sorted(due):
            one, values = self.watched[pid], processes[pid]
            try:
                full = one.process.memory_full_info()
            except psutil.Error:
                continue
            one.uss, one.pss, one.at_rss = full.uss, getattr(full, "pss", None), values["rss_bytes"]
            one.at_round = self.round
            values["uss_bytes"], values["pss_bytes"] = one.uss, one.pss
            if time.monotonic() >= until:
                return

    def _is_due(self, one: Watched, rss: int) -> bool:
        return one.uss is None or self.round - one.at_round >= USS_ROUNDS or abs(rss - one.at_rss) > USS_MOVED

    def _rates(self, values: dict[str, Any]) -> None:
        """Bytes a second since the last sample; unknown at the first."""
        values["network_sent_per_s"] = values["network_received_per_s"] = None
        sent, received, now = values["network_sent"], values["network_received"], time.monotonic()
        if sent is None or received is None:
            self.network = None
            return
        if self.network is not None and now > self.network[0]:
            passed = now - self.network[0]
            # A counter that went back (an interface that left) says nothing.
            if sent >= self.network[1] and received >= self.network[2]:
                values["network_sent_per_s"] = (sent - self.network[1]) / passed
                values["network_received_per_s"] = (received - self.network[2]) / passed
        self.network = (now, sent, received)

    def _process(self, one: Watched) -> dict[str, Any]:
        values: dict[str, Any] = dict.fromkeys(
            ("cpu_percent", "rss_bytes", "uss_bytes", "pss_bytes", "threads", "open_files", "ctx_switches",
             "read_bytes", "write_bytes")
        )  # fmt: skip
        process = one.process
        try:
            with process.oneshot():
                if time.monotonic() - one.since >= _LEAST:  # of a moment it would be chance, or a false 0
                    values["cpu_percent"] = process.cpu_percent(None)
                values["rss_bytes"] = process.memory_info().rss
                values["threads"] = process.num_threads()
                switches = process.num_ctx_switches()
                values["ctx_switches"] = switches.voluntary + switches.involuntary
                if hasattr(process, "num_fds"):
                    values["open_files"] = process.num_fds()
                if hasattr(process, "io_counters"):
                    io = process.io_counters()
                    values["read_bytes"], values["write_bytes"] = io.read_bytes, io.write_bytes
                values["uss_bytes"], values["pss_bytes"] = one.uss, one.pss
        except psutil.Error:
            pass  # gone or not ours to see: what was not read stays unknown
        return values


def host(data_dir: str) -> dict[str, Any]:
    """CPU, memory, swap, load, pressure, disk and network of the machine; None where it cannot be read."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    values: dict[str, Any] = {
        "cpu_percent": psutil.cpu_percent(None),
        "cpu_count": psutil.cpu_count(),
        "memory_percent": memory.percent,
        "memory_available": memory.available,
        "memory_total": memory.total,
        "swap_percent": swap.percent,
        "load1": None,
        "pressure": pressure(),
        "disk_free": None,
        "disk_percent": None,
        "network_sent": None,
        "network_received": None,
    }
    try:
        values["load1"] = psutil.getloadavg()[0]
        disk = psutil.disk_usage(data_dir)
        values["disk_free"], values["disk_percent"] = disk.free, disk.percent
        network = psutil.net_io_counters()
        if network is not None:
            values["network_sent"], values["network_received"] = network.bytes_sent, network.bytes_recv
    except OSError:
        pass  # what was not read stays unknown
    return values


def pressure() -> dict[str, float] | None:
    """PSI: share of the last 10 s in which some task waited, in percent; None where the kernel has none."""
    found = {}
    for name in ("cpu", "memory", "io"):
        try:
            text = Path(f"/proc/pressure/{name}").read_text("ascii")
            found[name] = float(text.split("avg10=", 1)[1].split(" ", 1)[0])
        except (OSError, IndexError, ValueError):
            return None
    return found


def main() -> int:
    """Read `{processes: [(pid, start)], interval, data_dir}` from stdin, write a sample each interval."""
    unpacker = msgpack.Unpacker()
    probe = Probe(data_dir=".")
    due = time.monotonic()
    out, source = sys.stdout.buffer, sys.stdin.fileno()
    psutil.cpu_percent(None)
    while True:
        left = max(0.0, due - time.monotonic())
        if _readable(source, left):
            data = os.read(source, 1 << 20)
            if not data:
                return 0
            unpacker.feed(data)
            for message in unpacker:
                probe.data_dir, probe.interval = message["data_dir"], message["interval"]
                probe.watch([(pid, ticks) for pid, ticks in message["processes"]])
            continue
        due = max(due + probe.interval, time.monotonic())
        try:
            out.write(msgpack.packb(probe.sample()))
            out.flush()
        except BrokenPipeError:
            return 0


def _readable(fd: int, timeout: float) -> bool:
    if sys.platform == "win32":
        # select knows no pipes there: look each interval, which is all that the probe needs.
        import ctypes
        import msvcrt

        time.sleep(timeout)
        waiting = ctypes.c_ulong(0)
        handle = msvcrt.get_osfhandle(fd)
        told = ctypes.windll.kernel32.PeekNamedPipe(handle, None, 0, None, ctypes.byref(waiting), None)
        return not told or waiting.value > 0
    return bool(select.select([fd], [], [], timeout)[0])


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor, which closes our stdin
    sys.exit(main())
