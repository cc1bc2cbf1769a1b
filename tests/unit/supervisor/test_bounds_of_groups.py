"""What a change of a memory limit means for the group of a run that lives. Files in place of the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.policy import shares
from supervisor.runtime.cgroups import Cgroups, Tree
from supervisor.runtime.registry import Record, Run


@pytest.mark.parametrize(
    ("before", "after", "holds"),
    [
        (100.0, 400.0, 400.0),
        (100.0, 0.0, 0.0),  # no limit any more
        (400.0, 100.0, 400.0),  # the kernel would kill it for what it has: the next run has less
        (0.0, 100.0, 0.0),
    ],
)
def test_a_bound_is_raised_at_once_and_lowered_with_the_next_run(
    tmp_path: Path, before: float, after: float, holds: float
) -> None:
    record = Record(3, "b", "bot", "running", "main")
    record.run = Run(epoch=7, token="t", started_at=0.0, started=0.0)
    group = tmp_path / "b-3.7"
    group.mkdir()
    bound = group / "memory.max"
    bound.write_text(shares.memory_max(int(before * 1e6)) + "\n", "ascii")
    assert Cgroups(Tree(tmp_path, ("cpu", "memory")), "").allow(record, after)
    assert bound.read_text("ascii").startswith(shares.memory_max(int(holds * 1e6)))  # a file keeps what lay beyond
    assert Cgroups(Tree(tmp_path, ("cpu",)), "").allow(record, after), "nothing to set, and nothing to try again"
