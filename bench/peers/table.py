"""The managers by name."""

from __future__ import annotations

from typing import Final

from bench.peers.circus import Circus, WatchedCircus
from bench.peers.manager import Manager
from bench.peers.pm2 import Pm2
from bench.peers.scanned import S6, Runit
from bench.peers.supervisord import Supervisord

MANAGERS: Final[dict[str, type[Manager]]] = {
    "supervisord": Supervisord,
    "circus": Circus,
    "pm2": Pm2,
    "runit": Runit,
    "s6": S6,
}
#: As `MANAGERS`, for what a peer can do about hangs when it is asked to.
WATCHED: Final[dict[str, tuple[str, type[Manager]]]] = {"circus with its watchdog": ("circus", WatchedCircus)}
