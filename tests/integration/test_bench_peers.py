"""The bench's way with another manager, small: real bots, a real kill, nothing left. Installs nothing."""

from __future__ import annotations

import os
import signal

import pytest

from bench.peers import install
from bench.peers.hub import Hub
from bench.peers.manager import Task, copies, marked
from bench.peers.measure import short_folder
from bench.peers.table import MANAGERS

pytestmark = pytest.mark.posix


@pytest.mark.parametrize("name", ["runit", "supervisord"])
def test_a_peer_starts_bots_restarts_one_and_leaves_nothing(name: str) -> None:
    peer = install.installed(name, install.default_folder())
    if peer is None:
        pytest.skip(f"{name} is not installed for the bench (python -m bench faults does that)")
    with short_folder() as folder, Hub(folder) as hub:
        names = ["child-0", "child-1"]
        with MANAGERS[name](peer, Task(folder, hub.address, names, alike=False, as_shipped=True)) as manager:
            manager.launch()
            manager.start_all()
            hub.wait_hellos(2, 60)
            victim = next(one for one in hub.hellos if one.name == "child-1")
            assert copies(folder, "child-1") == [victim.pid]
            os.kill(victim.pid, signal.SIGKILL)
            successor = hub.wait_hellos(3, 30)
            assert successor.name == "child-1" and successor.pid != victim.pid
            assert copies(folder, "child-1") == [successor.pid]
        assert marked(folder) == []
