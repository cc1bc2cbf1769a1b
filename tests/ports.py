"""Ports that nobody has."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack


def two_free_ports() -> int:
    """A port that is free, and so is the next one; below those that the system hands out by itself."""
    for port in random.sample(range(12_000, 19_000), 200):
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise AssertionError("no two free ports beside each other")


def free_ports(count: int) -> int:
    """The first of so many ports beside each other that are all free."""
    for port in random.sample(range(12_000, 19_000), 200):
        with ExitStack() as stack:
            try:
                for number in range(count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port + number))
            except OSError:
                continue
            return port
    raise AssertionError(f"no {count} free ports beside each other")
