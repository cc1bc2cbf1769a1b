"""The leak guard: what a test leaves behind of processes, threads and descriptors fails that very test."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

import psutil

from tests.support import eventually

#: Caches fill once in a session (ZeroMQ's shared context, SQLite's pools, lazy imports): that is no leak.
_CACHED_DESCRIPTORS = 40
_PATIENCE = 5.0
MARK = "STABLEHAND_TEST_FOLDER"  # in the environment of every process of an installation
#: Folders of installations that several tests share, in which supervisors are killed and started again.
SHARED: set[str] = set()


@dataclass(frozen=True)
class Holdings:
    """What this process has: children (pid and start, so that a reused pid is another), threads, descriptors."""

    children: frozenset[tuple[int, float]]
    threads: frozenset[threading.Thread]
    descriptors: int

    @staticmethod
    def now() -> Holdings:
        """What it has now."""
        return Holdings(_children(), frozenset(threading.enumerate()), _descriptors())


def left_since(before: Holdings) -> str:
    """What is there now and was not before, in words; empty when nothing is."""

    def leaks() -> list[str]:
        now = Holdings.now()
        shared = {pid for pid, _ in before.children}
        # What a supervisor that several tests share starts is its own business, and its clean-up's.
        found = [
            f"process {pid}"
            for pid, _ in now.children - before.children
            if not _descends(pid, shared) and not _is_shared(pid)
        ]
        found += [f"thread {one.name}" for one in now.threads - before.threads if one.is_alive()]
        if now.descriptors > before.descriptors + _CACHED_DESCRIPTORS:
            found.append(f"{now.descriptors - before.descriptors} descriptors")
        return found

    try:
        eventually(lambda: not leaks(), _PATIENCE)
    except AssertionError:
        return ", ".join(leaks())
    return ""


def _children() -> frozenset[tuple[int, float]]:
    found = set()
    for child in psutil.Process().children(recursive=True):
        try:
            if child.status() != psutil.STATUS_ZOMBIE:
                found.add((child.pid, child.create_time()))
        except psutil.NoSuchProcess:
            continue  # it has ended meanwhile: that is what is asked of it
    return frozenset(found)


def _descends(pid: int, ancestors: set[int]) -> bool:
    try:
        return any(parent.pid in ancestors for parent in psutil.Process(pid).parents())
    except psutil.NoSuchProcess:
        return True  # it has ended meanwhile


def _is_shared(pid: int) -> bool:
    """Whether it belongs to an installation that outlives the test, whose fixture clears up at its own end."""
    try:
        return psutil.Process(pid).environ().get(MARK) in SHARED
    except psutil.Error:
        return True


def _descriptors() -> int:
    return psutil.Process(os.getpid()).num_fds() if hasattr(psutil.Process, "num_fds") else 0
