"""The guard must be able to fail."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from tests import leaks
from tests.leaks import Holdings, left_since


def test_a_process_a_thread_and_descriptors_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "_PATIENCE", 0.1)
    before = Holdings.now()
    assert left_since(before) == ""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="forgotten")
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(60)]
    thread.start()
    try:
        found = left_since(before)
        assert f"process {child.pid}" in found and "thread forgotten" in found and "descriptors" in found
    finally:
        stop.set()
        thread.join()
        child.communicate()
        for fd in opened:
            os.close(fd)
    assert left_since(before) == ""
