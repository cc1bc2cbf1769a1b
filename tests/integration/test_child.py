"""What a child of the launcher is born with."""

from __future__ import annotations

import gc
import os

import pytest

from botproc import child

pytestmark = pytest.mark.posix


def test_what_the_launcher_has_made_meanwhile_is_not_looked_through_in_a_child() -> None:
    """The collector's marks would copy the launcher's pages into each child, the more the more bots there are."""
    kept: list[list[int]] = [[number] for number in range(50_000)]  # as the launcher keeps what it knows of each child
    reader, writer = os.pipe()

    def work() -> int:
        os.write(writer, f"{gc.isenabled()} {len(gc.get_objects())}".encode())
        return 7

    pid = os.fork()
    if pid == 0:
        child._apart((writer,), work)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        enabled, count = pipe.read().split()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert enabled == b"True" and int(count) < 1_000 < len(kept)
