"""A control group of a test's own on the real kernel, and everything put back as it was."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from protocol import cgroup
from tests.support import eventually


def root() -> Path:
    """Where version 2 is mounted; skips where it is not."""
    if sys.platform.startswith("linux"):
        for line in Path("/proc/self/mounts").read_text("utf-8").splitlines():
            if line.split(" ")[2] == "cgroup2":
                return Path(line.split(" ")[1])
    pytest.skip("no control groups of version 2 are mounted here")


@contextmanager
def own_group() -> Iterator[Path]:
    """A group with all that the kernel can share out; removed with all below it. Skips where none can be made."""
    path = root() / f"stablehand-test-{uuid.uuid4().hex[:8]}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"control groups cannot be made here: {error.strerror}")
    switch = root() / "cgroup.subtree_control"
    there, given = ((root() / name).read_text("ascii").split() for name in ("cgroup.controllers", switch.name))
    added = [one for one in there if one not in given and not cgroup.write(switch, f"+{one}")]
    try:
        yield path
    finally:
        for folder in (*sorted((one for one in path.rglob("*") if one.is_dir()), reverse=True), path):
            eventually(lambda folder=folder: cgroup.remove(folder), 10)  # type: ignore[misc]
        for one in added:
            cgroup.write(switch, f"-{one}")  # refused while another test has a group there: that one does it
