"""The bot that every peer runs: the imports of a bot, one message and its answer (then it is ready), a beat a second.

python bot.py ADDRESS NAME      NAME `-`: pm2's number of the instance

The bench may tell it to `hang`. A beat goes to whoever watches too:
systemd's protocol (NOTIFY_SOCKET), and circus's watchdog (BENCH_WATCHDOG_PORT). It ends after an hour by itself.
"""

from __future__ import annotations

import os
import socket
import sys
import time

import pandas  # noqa: F401
import talib  # noqa: F401
import zmq

LIFE = 3600.0


def notify(text: str) -> None:
    """One datagram to the notify socket, where there is one."""
    if path := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(path)
            sender.send(text.encode())


def watchdog() -> None:
    """A beat for circus's watchdog, where there is one."""
    if port := os.environ.get("BENCH_WATCHDOG_PORT"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(f"{os.getpid()};{time.time()}".encode(), ("127.0.0.1", int(port)))


def main() -> int:
    """Speak, then beat until told otherwise."""
    address, name = sys.argv[1], sys.argv[2]
    if name == "-":
        name = f"bot-{int(os.environ['NODE_APP_INSTANCE']):04}"
    dealer = zmq.Context().socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.connect(address)
    said = [name.encode(), str(os.getpid()).encode()]
    dealer.send_multipart([b"hello", *said])
    if not dealer.poll(60_000):
        return 3
    dealer.recv_multipart()
    notify("READY=1")
    end = time.monotonic() + LIFE
    due = time.monotonic() + 1.0
    while time.monotonic() < end:
        if dealer.poll(max(0, int((due - time.monotonic()) * 1000))):
            if dealer.recv_multipart()[0] == b"hang":
                time.sleep(LIFE)
            continue
        due += 1.0
        try:
            dealer.send_multipart([b"beat", *said], zmq.NOBLOCK)
        except zmq.Again:
            pass  # nobody reads: the bench has gone
        notify("WATCHDOG=1")
        watchdog()
    return 0


if __name__ == "__main__":
    sys.exit(main())
