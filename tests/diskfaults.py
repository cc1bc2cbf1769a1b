"""Faults of the disk under a running supervisor, made by the system's own means."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own, mounted at `folder`; skipped where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


@contextlib.contextmanager
def locked(daemon: Daemon) -> Iterator[None]:
    """Another process's transaction holds the store's lock."""
    other = sqlite3.connect(daemon.data_dir / "supervisor.db", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
    finally:
        other.close()


@contextlib.contextmanager
def full(daemon: Daemon) -> Iterator[None]:
    """Not a byte is left on the file system of the data directory, nor of what is given back meanwhile."""
    filler, over = daemon.data_dir / "filler", threading.Event()

    def fill() -> None:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                for _ in range(1 << 16):
                    out.write(b"x" * size)

    def go_on() -> None:
        while not over.wait(0.01):
            fill()

    with filler.open("wb", buffering=0) as out:
        fill()
        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
    filler.unlink()


@contextlib.contextmanager
def refusing(daemon: Daemon) -> Iterator[None]:
    """Every write of the supervisor to a file fails (as on a disk that has become read-only, or is broken)."""
    soft, hard = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (soft, hard))
