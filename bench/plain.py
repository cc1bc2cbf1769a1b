"""The peer: a fresh Python for each bot, with the imports of a bot and nothing else of ours."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import zmq

#: What a bot imports, then one word and its answer; it ends when its stdin does.
PROGRAM: Final = """
import sys
import numpy, numpy.random, pandas, talib, zmq, zmq.utils.monitor, msgpack, pydantic
import protocol.codec, protocol.link, broker.client, botproc.runner, botproc.strategies.ma_crossover
dealer = zmq.Context().socket(zmq.DEALER)
dealer.connect(sys.argv[1])
dealer.send(b"hello")
dealer.recv()
sys.stdin.read()
"""


def measure(count: int, at_once: int, timeout: float = 600.0) -> float:
    """Seconds until `count` plain subprocesses have exchanged a message, with at most `at_once` on their way."""
    with tempfile.TemporaryDirectory(prefix="sh-") as folder, zmq.Context() as context:
        router: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        router.setsockopt(zmq.BACKLOG, 4096)
        router.setsockopt(zmq.LINGER, 0)
        address = f"ipc://{Path(folder) / 'r'}"
        router.bind(address)
        command = [sys.executable, "-c", PROGRAM, address]
        processes: list[subprocess.Popen[bytes]] = []
        spoken = 0
        try:
            started = time.perf_counter()
            while spoken < count:
                while len(processes) < count and len(processes) - spoken < at_once:
                    processes.append(subprocess.Popen(command, stdin=subprocess.PIPE))
                left = timeout - (time.perf_counter() - started)
                if left <= 0 or not router.poll(int(left * 1000)):
                    raise TimeoutError(f"{spoken} of {count} subprocesses spoke within {timeout:g} s")
                route, _ = router.recv_multipart()
                router.send_multipart([route, b"welcome"])
                spoken += 1
            return time.perf_counter() - started
        finally:
            for process in processes:
                process.kill()
            for process in processes:
                process.communicate()
            router.close()
