"""Raw output: bounded however much is written, followed over rotation, and a burden to nobody."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from botproc.rawlog import RawLog, cut
from tests.acceptance.test_programs import program
from tests.console import COMMAND
from tests.daemon import Daemon, bot_text, config_text
from tests.scale import FLOOD
from tests.support import eventually

pytestmark = pytest.mark.acceptance
Make = Callable[..., Daemon]

LINE = "x" * 1000


def sizes(folder: Path, name: str) -> dict[str, int]:
    found = {}
    for path in folder.glob(f"{name}.out*"):
        try:
            found[path.name] = path.stat().st_size
        except FileNotFoundError:
            continue  # renamed between the two
    return found


def _read(path: Path) -> bytes:
    """What stands there; nothing in the moment of a rotation, when there is no such file."""
    with suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def test_a_program_that_writes_as_fast_as_it_can_fills_no_disk_and_slows_nobody(stable: Make) -> None:
    code = f"import os\nwhile True: os.write(1, b'{LINE}\\n' * 60)"
    extra = "log_max_bytes = 1_000_000\nlog_backups = 2"
    daemon = stable(config_text(bots=bot_text("one") + program("flood", code, extra=extra))).start()
    daemon.wait_all("running")
    pid, cycles = daemon.bot("one")["pid"], daemon.bot("one")["cycles"]
    until, largest, total, slowest = time.monotonic() + FLOOD, 0, 0, 0.0

    def looked() -> bool:
        nonlocal largest, total, slowest
        now = sizes(daemon.data_dir / "logs", "flood")
        largest, total = max(largest, *now.values()), max(total, sum(now.values()))
        began = time.monotonic()
        daemon.bot("one")
        slowest = max(slowest, time.monotonic() - began)
        return time.monotonic() > until

    eventually(looked, FLOOD + 5)
    assert largest <= 1_000_000 and 2_000_000 < total <= 3_000_000
    assert slowest < 1.0  # of a status
    eventually(lambda: daemon.bot("one")["cycles"] > cycles + 3, 10)
    row = daemon.bot("one")
    assert row["pid"] == pid and row["state"] == "running" and daemon.bot("flood")["restarts"] == 0
    written = eventually(lambda: _read(daemon.data_dir / "logs" / "flood.out.1"))
    assert set(written.splitlines()) == {LINE.encode()}  # no line was broken
    assert daemon.ask("stop", bots=["flood"], wait=5)["reached"] == ["flood"]


def test_the_raw_output_of_a_bot_is_cut_in_its_place(stable: Make) -> None:
    mine = f'''
import os
from botproc.strategies.ma_crossover import MaCrossover
class Talker(MaCrossover):
    """Says a lot, and has a child that does."""
    def analyze(self, bars):
        os.system("head -c 300000 /dev/zero | tr '\\\\0' y")
        print("{LINE}")
        return super().analyze(bars)
'''
    extra = "log_max_bytes = 200_000\nlog_backups = 1"
    text = config_text(supervisor='strategy_path = ["s"]\n', bots=bot_text("one", strategy="mine:Talker", extra=extra))
    daemon = stable(text)
    (daemon.folder / "s").mkdir()
    (daemon.folder / "s" / "mine.py").write_text(mine)
    daemon.start()
    pid = daemon.wait_state("one", "running")["pid"]
    logs = daemon.data_dir / "logs"
    eventually(lambda: sizes(logs, "one").get("one.out.1") == 200_000, 20)
    before = (logs / "one.out.1").stat().st_ino
    eventually(lambda: (logs / "one.out.1").stat().st_ino != before, 20, what="cut again")
    eventually(lambda: sizes(logs, "one")["one.out"] <= 200_000, 20, every=0.001)
    assert set(sizes(logs, "one")) <= {"one.out", "one.out.0", "one.out.1"} and daemon.bot("one")["pid"] == pid


def test_logs_follow_the_output_over_rotation_without_a_gap(stable: Make) -> None:
    code = """
import os, time
print("line 000000", flush=True)
while not os.path.exists("go"): time.sleep(0.01)
for i in range(1, 2000):
    print(f"line {i:06}" + "." * 60, flush=True)
    if i % 20 == 0: time.sleep(0.04)
time.sleep(600)
"""
    extra = "log_max_bytes = 50_000\nlog_backups = 1"
    daemon = stable(config_text(bots=program("slow", code, extra=extra))).start()
    daemon.wait_state("slow", "running")
    command = [*COMMAND, "-c", str(daemon.config), "logs", "slow", "--output", "-f"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
        try:
            assert follower.stdout is not None
            seen: list[int] = []
            for line in follower.stdout:
                found = re.match(r"line (\d+)", line)
                seen += [int(found[1])] if found else []
                (daemon.folder / "go").touch()  # now that it follows
                if seen and seen[-1] == 1999:
                    break
        finally:
            follower.kill()
    assert seen == list(range(2000))
    assert len(sizes(daemon.data_dir / "logs", "slow")) == 2


def test_a_file_is_never_larger_and_no_line_is_broken(tmp_path: Path) -> None:
    raw = RawLog(tmp_path / "a.out", 100, 2)
    sent = [f"{i:04}{'z' * (i % 37)}\n" for i in range(200)]
    for at in range(0, 200, 7):
        raw.write("".join(sent[at : at + 7]).encode())
    raw.close()
    files = [tmp_path / name for name in ("a.out.2", "a.out.1", "a.out")]
    assert all(path.stat().st_size <= 100 for path in files) and not (tmp_path / "a.out.3").exists()
    kept = "".join(path.read_text() for path in files)
    assert "".join(sent).endswith(kept) and kept.splitlines(keepends=True)[0] in sent
    long = RawLog(tmp_path / "b.out", 100, 1)
    long.write(b"q" * 950)  # one line that no file holds
    assert sum(path.stat().st_size for path in tmp_path.glob("b.out*")) == 150
    none = RawLog(tmp_path / "c.out", 100, 0)
    none.write(b"n" * 99 + b"\n" + b"m" * 50)
    assert (tmp_path / "c.out").read_bytes() == b"m" * 50 and not (tmp_path / "c.out.1").exists()


def test_cut_leaves_no_hole_and_keeps_the_end(tmp_path: Path) -> None:
    path = tmp_path / "bot.out"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(fd, b"a" * 100 + b"b" * 100)
        assert not cut(path, fd, 200, 2)
        os.write(fd, b"c")
        assert cut(path, fd, 100, 2)
        os.write(fd, b"d")
        assert path.read_bytes() == b"d" and (tmp_path / "bot.out.1").read_bytes() == b"b" * 99 + b"c"
        os.write(fd, b"e" * 100)
        assert cut(path, fd, 100, 2)
        assert (tmp_path / "bot.out.2").read_bytes() == b"b" * 99 + b"c"
        os.write(fd, b"f" * 101)
        assert cut(path, fd, 100, 0) and path.stat().st_size == 0
    finally:
        os.close(fd)
