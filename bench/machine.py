"""The machine that was measured on, and a folder on a real disk to measure in."""

from __future__ import annotations

import itertools
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

ROOT: Final = Path(__file__).resolve().parent.parent
_FILES: Final = 200
_QUICK: Final = 0.0002  # seconds
_LOOK: Final = 30.0
_INODES_REST: Final = 360.0
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})


def describe(folder: Path) -> dict[str, Any]:
    """CPU, kernel, Python, and the file system of `folder`."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "disk": file_system(folder),
        "load_before": round(os.getloadavg()[0], 2),
    }


def file_system(folder: Path) -> str:
    """Type of the file system that holds `folder`, from the kernel's table of mounts."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text("utf-8").splitlines():
        _, point, name = line.split(" ")[:3]
        inside = str(folder) == point or str(folder).startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, name
    return kind


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on a real disk, removed at the end. SystemExit where there is none: fsync there costs nothing."""
    for place in (ROOT / "bench" / "results", Path.home() / ".cache" / "stablehand-bench"):
        place.mkdir(parents=True, exist_ok=True)
        if file_system(place) not in _IN_MEMORY:
            folder = Path(tempfile.mkdtemp(prefix="run-", dir=place))
            try:
                quick_files(folder)
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return
    sys.exit("bench: the checkout and the home folder are both in memory; a store there is no store on disk")


def quick_files(folder: Path) -> None:
    """Wait until new files in `folder` cost what they usually cost.

    An ext4 without a journal does not give the inode of a deleted file away again for some minutes, and each new file
    nearby searches past all of these: after thousands of deletions that is milliseconds a file.
    """
    if file_system(folder) != "ext4":
        return
    until = time.monotonic() + _INODES_REST
    for turn in itertools.count():
        place = folder / f"files-{turn}"
        place.mkdir()
        began = time.perf_counter()
        for number in range(_FILES):
            (place / str(number)).touch()
        each = (time.perf_counter() - began) / _FILES
        if each <= _QUICK or time.monotonic() >= until:
            return
        text = f"a new file costs {each * 1000:.1f} ms here, as after many were deleted: waiting until that has passed"
        print(text, file=sys.stderr, flush=True)
        time.sleep(_LOOK)


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"
