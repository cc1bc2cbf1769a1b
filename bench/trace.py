"""Records the machine with the shipped probe while this program loads it in bounded ways, for the throttle's bench.

    python -m bench.trace FILE [--seconds 240]

One line a second: what the throttle reads (`policy/throttle.Reading`), as the probe measured it; the rest of the
machine goes on as it does. In the second quarter processors are burnt, in the third memory and the loopback network
are used as well, in the last all is let go.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import msgpack

_INTERVAL: Final = 1.0
_BALLAST: Final = 1_500_000_000  # bytes at the most
_BLOCK: Final = 25_000_000


def record(path: Path, seconds: float) -> int:
    """Write the recording; how many samples it has."""
    started = time.monotonic()
    rows: list[dict[str, Any]] = []
    with ExitStack() as loads, _probe(path.parent) as samples:
        due = [(seconds / 4, _burn), (seconds / 4, _burn), (seconds / 2, _fill), (seconds / 2, _talk)]
        let_go = False
        for host in samples:
            now = time.monotonic() - started
            while due and now >= due[0][0]:
                loads.enter_context(_running(due.pop(0)[1], seconds))
            if not let_go and now >= 0.75 * seconds:
                loads.close()
                let_go = True
            rows.append({"at": round(now, 2), **_reading(host)})
            if now >= seconds:
                break
    path.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows), "utf-8")
    return len(rows)


def _reading(host: dict[str, Any]) -> dict[str, float | None]:
    pressure, sent, received = host["pressure"], host["network_sent_per_s"], host["network_received_per_s"]
    return {
        "cpu": host["cpu_percent"],
        "memory": host["memory_percent"],
        "pressure": max(pressure.values()) if pressure else None,
        "network": None if sent is None or received is None else round((sent + received) / 1e6, 3),
    }


@contextmanager
def _probe(folder: Path) -> Iterator[Iterator[dict[str, Any]]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor.runtime.probe"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    assert process.stdin is not None and process.stdout is not None
    request = {"processes": [(os.getpid(), 0)], "interval": _INTERVAL, "data_dir": str(folder)}
    process.stdin.write(msgpack.packb(request))
    source = process.stdout.fileno()

    def samples() -> Iterator[dict[str, Any]]:
        unpacker = msgpack.Unpacker(strict_map_key=False)
        while data := os.read(source, 1 << 20):
            unpacker.feed(data)
            for message in unpacker:
                yield message["host"]

    try:
        yield samples()
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


@contextmanager
def _running(work: Any, seconds: float) -> Iterator[BaseProcess]:
    process = multiprocessing.get_context("spawn").Process(target=work, args=(seconds,), daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _burn(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(10_000))


def _fill(seconds: float) -> None:
    """Memory that grows evenly, and is kept."""
    kept: list[bytes] = []
    end = time.monotonic() + seconds
    pause = seconds / 4 / (_BALLAST / _BLOCK)
    while time.monotonic() < end:
        if len(kept) * _BLOCK < _BALLAST:
            kept.append(b"x" * _BLOCK)
        time.sleep(pause)


def _talk(seconds: float) -> None:
    block, end = b"x" * 60_000, time.monotonic() + seconds
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as target,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source,
    ):
        target.bind(("127.0.0.1", 0))
        while time.monotonic() < end:
            source.sendto(block, target.getsockname())
            time.sleep(0.001)


def main() -> int:
    """Record and say how much."""
    parser = argparse.ArgumentParser(prog="python -m bench.trace", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, default=240.0)
    options = parser.parse_args()
    print(f"{record(options.file, options.seconds)} samples in {options.file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
