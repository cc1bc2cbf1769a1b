"""Control groups of the real kernel: found, shared out, entered by a process, and removed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from protocol import cgroup
from supervisor.runtime.cgroups import CONTROLLERS, SUBGROUP, Cgroups, find, plant
from supervisor.runtime.registry import Record, Run
from tests.controlgroups import own_group, root

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has control groups")
ENTER = """
import json, sys
from protocol import cgroup
path, values = json.loads(sys.argv[1])
print(cgroup.enter(path, values), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def base() -> Iterator[Path]:
    """A group of the test's own."""
    with own_group() as path:
        yield path


def kernel_has(base: Path) -> list[str]:
    """Controllers that can be shared out here."""
    return (base / "cgroup.controllers").read_text("ascii").split()


def record(name: str = "one", **config: object) -> Record:
    from protocol.botconfig import BotConfig

    bot = BotConfig.model_validate({"name": name, "market": "EURUSD", "strategy": "X", "priority": 9, **config})
    found = Record(bot_id=7, name=name, kind="bot", wanted="running", account="main", config=bot)
    found.run = Run(epoch=3, token="t", started_at=0.0, started=0.0)
    return found


@contextmanager
def inside(path: str, values: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    import json

    process = subprocess.Popen(
        [sys.executable, "-c", ENTER, json.dumps([path, values])],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == "\n", "the kernel refused something"
        yield process
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def test_a_run_is_in_a_group_of_its_own_and_leaves_nothing(base: Path) -> None:
    there = kernel_has(base)
    if not there:
        pytest.skip("the kernel has no controller left for version 2 here")
    tree, why = plant(base, "mine", there[:1])  # any controller: the ways are the same
    assert tree is not None, why
    assert (base / "cgroup.subtree_control").read_text("ascii").split() == there[:1]
    groups, one = Cgroups(tree, ""), record()
    assert groups.describe()["why_not"] is None
    placed = groups.placed(one, 3)
    with inside(placed["cgroup"], {}) as process:
        path = Path(f"/proc/{process.pid}/cgroup").read_text("ascii")
        assert "/bots-mine/one-7.3\n" in path
        assert str(os.getpid()) not in Path(placed["cgroup"], "cgroup.procs").read_text("ascii").split()
        groups.sweep()  # as the next supervisor does: who lives stays
        assert Path(placed["cgroup"]).is_dir()
    groups.close(stopped=True)
    assert not tree.folder.exists()
    assert plant(base, "mine", there[:1])[0] is not None, "a second time"


def test_weights_and_bounds_are_the_kernels(base: Path) -> None:
    there = [one for one in kernel_has(base) if one in CONTROLLERS]
    if not there:
        pytest.skip(f"neither of {' and '.join(CONTROLLERS)} is left for version 2 on this machine")
    tree, why = plant(base, "mine")
    assert tree is not None, why
    groups, one = Cgroups(tree, ""), record(memory_limit_mb=50)
    placed = groups.placed(one, 3)
    folder = Path(placed["cgroup"])
    with inside(placed["cgroup"], placed["cgroup_values"]):
        if "cpu" in there:
            assert (folder / "cpu.weight").read_text("ascii").strip() == "400"
            assert groups.weigh(one, 40) and (folder / "cpu.weight").read_text("ascii").strip() == "40"
            assert groups.cap(one, 25) and (folder / "cpu.max").read_text("ascii").split()[0] == "25000"
            assert groups.cap(one, 0) and (folder / "cpu.max").read_text("ascii").split()[0] == "max"
        if "memory" in there:
            assert int((folder / "memory.max").read_text("ascii")) == pytest.approx(100e6, rel=0.01)
        assert not groups.out_of_memory(one, 3)


def test_who_lacks_what_is_told_why(base: Path, tmp_path: Path) -> None:
    tree, why = plant(base, "mine", ["no-such"])
    assert tree is None and "has no no-such controller" in why and not list(base.glob("bots-*"))
    tree, why = plant(tmp_path, "mine")
    assert tree is None and f"{tmp_path} is no control group of version 2" in why
    assert find("off", "mine") == (None, "off in the configuration")
    groups = Cgroups(None, why)
    assert groups.placed(record(), 3) == {} and groups.weigh(record(), 5) and not groups.out_of_memory(record(), 3)
    assert groups.describe()["why_not"] == why
    assert cgroup.enter(str(tmp_path / "a" / "b"), {}) == f"{tmp_path / 'a' / 'b'}: No such file or directory"


def test_a_given_group_is_found_by_where_the_supervisor_is(base: Path, tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(f"41 31 0:38 / {root()} rw - cgroup2 cgroup2 rw\n", "utf-8")
    (tmp_path / "cgroup").write_text("4:memory:/x\n0::/init.scope\n", "utf-8")
    assert "no group of its own" in find("auto", "mine", tmp_path)[1]
    (tmp_path / "cgroup").write_text(f"0::/{base.name}/{SUBGROUP}\n", "utf-8")
    tree, why = find("auto", "mine", tmp_path)
    assert (tree.folder if tree else why) in (base / "bots-mine", why) and str(base) in (why or str(base))
    (tmp_path / "mountinfo").write_text("1 2 0:3 / /proc rw - proc proc rw\n", "utf-8")
    assert "no control groups of version 2 are mounted" in find("auto", "mine", tmp_path)[1]
