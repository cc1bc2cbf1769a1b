"""What the launcher imports before it forks, so that no bot has to: and the content of it, as one hash.

A user's module is tried in a throw-away fork first. One that raises, hangs, ends the interpreter or leaves
a thread behind is named and not imported here: a fork from a process with threads inherits locks that
nobody will ever release. The bots that need it import it themselves.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import logging
import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from botproc.throwaway import throwaway

log = logging.getLogger("stablehand.preload")

#: Numeric libraries start a pool of threads each unless told otherwise, before they are imported.
ONE_THREAD: Final = {
    f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL", "NUMEXPR", "VECLIB", "BLIS")
}
#: What every bot and gateway needs.
BASE: Final = (
    "numpy", "numpy.random", "pandas", "talib", "zmq", "zmq.utils.monitor", "msgpack", "pydantic",
    "protocol.codec", "protocol.keys", "protocol.link", "protocol.locks", "protocol.spec",
    "broker.client", "botproc.child", "botproc.minder", "botproc.runner", "botproc.rehearsal", "botproc.trader",
    "botproc.loader", "botproc.trial",
)  # fmt: skip
#: What only a gateway needs: imported as well, since its start is in the path of every bot's first start.
GATEWAY: Final = ("broker.gateway",)
_TRY_TIMEOUT: Final = 20.0
_PLAY_TIMEOUT: Final = 60  # what went well in a fork can only be slow here


class Preload:
    """The imported modules of one launcher.

    `broken`: user modules that are not preloaded, each with the reason in one line. `code_hash`: 16 hex
    digits over the content of the strategies, ours and the user's.
    """

    def __init__(self, modules: Sequence[str], paths: Sequence[str]) -> None:
        self.modules = tuple(modules)
        self.paths = tuple(str(Path(path).resolve()) for path in paths)
        self.broken: dict[str, str] = {}
        self._seen: dict[str, tuple[int, int, str]] = {}  # file -> (mtime_ns, size, hash)
        self.code_hash = ""

    def load(self, *, try_first: bool = True) -> None:
        """Import everything. Raises ImportError only where our own parts are missing."""
        os.environ.update(ONE_THREAD)
        sys.path[:0] = [path for path in self.paths if path not in sys.path]
        for name in BASE:
            importlib.import_module(name)
        for name in GATEWAY:
            _import_quietly(name)
        self._load_strategies()
        # A compiled copy is known by its second and size: one edited twice in a second would come back as it was.
        sys.dont_write_bytecode = True
        for name in self.modules:
            reason = tried(name) if try_first else None
            if reason is None:
                reason = _import_quietly(name)
            if reason is not None:
                self.broken[name] = reason
                log.warning("module %s is not preloaded: %s; its bots import it themselves", name, reason)
        self._remember()
        _warm_up()

    def look(self) -> None:
        """Without importing anything: know the content, for `code_hash` and `stale` (where nothing is forked)."""
        os.environ.update(ONE_THREAD)
        sys.path[:0] = [path for path in self.paths if path not in sys.path]
        self._remember()

    def stale(self) -> bool:
        """Whether a file that counts has changed since `load`, by content: a touch alone is no change."""
        return any(_stamp(file, self._seen[file])[2] != self._seen[file][2] for file in self._seen)

    def _load_strategies(self) -> None:
        from botproc import loader

        for name in loader.known():  # reads the entry points, once and for all children
            try:
                loader.load(name)
            except Exception as error:
                self.broken[name] = str(error)
                log.warning("strategy %s is not preloaded: %s", name, error)

    def _remember(self) -> None:
        folders = (*self.paths, str(Path(__file__).parent / "strategies"))
        files = {file for module in list(sys.modules.values()) if (file := _file_of(module, folders))}
        files.update(str(file) for file in (Path(__file__).parent / "strategies").glob("*.py"))
        for name in self.modules:  # those that could not be imported count too: their repair is a change
            files.update(_candidates(name, self.paths))
            module = sys.modules.get(name)
            if module is not None and getattr(module, "__file__", None):
                files.add(str(module.__file__))
        self._seen = {file: _stamp(file, None) for file in sorted(files)}
        digest = hashlib.sha256()
        for file, (_, _, content) in self._seen.items():
            digest.update(f"{Path(file).name}:{content}\n".encode())
        self.code_hash = digest.hexdigest()[:16]


def threads() -> int:
    """Threads of this process: Python's own, and on Linux those of C libraries too."""
    count = threading.active_count()
    try:
        return max(count, Path("/proc/self/task").stat().st_nlink - 2)  # a folder for each, beside `.` and `..`
    except OSError:
        return count


def freeze() -> None:
    """Put everything imported beyond the reach of the garbage collector, whose marks would copy shared pages."""
    gc.collect()
    gc.disable()
    gc.freeze()


def play(rehearse: Callable[..., None]) -> None:
    """Have a bot's run played in this process, so that what is set up at the first use is set up before any fork.

    Tried in a throw-away fork first: one that fails or hangs there is not played here.
    """

    def once() -> int:
        rehearse()
        return 0

    pid = throwaway(once, _PLAY_TIMEOUT)
    _, status = os.waitpid(pid, 0)
    if status:
        log.warning("the rehearsal failed (status %d): bots start without it", status)
        return
    # The interpreter's cache of attributes holds a name for each of its 4,096 places. A bot that puts another into one
    # gives the old name back, and copies the page on which that lies: so only names that bots use shall be there.
    getattr(sys, "_clear_type_cache", lambda: None)()
    rehearse(_PLAY_TIMEOUT)


def tried(name: str, timeout: float = _TRY_TIMEOUT) -> str | None:
    """Import a module in a throw-away fork; the reason in one line why it should not be imported here, or None."""
    if not hasattr(os, "fork"):
        return None
    read, write = os.pipe()

    def once() -> int:
        os.setpgid(0, 0)
        reason = _import_quietly(name)
        if reason is None and threads() > 1:
            reason = "it leaves a thread behind"
        os.write(write, (reason or "ok").encode()[:4000])
        return 0

    pid = throwaway(once, math.ceil(2 * timeout))
    os.close(write)
    try:
        ready, _, _ = select.select([read], [], [], timeout)
        answer = os.read(read, 4096).decode() if ready else f"its import takes more than {timeout:g} s"
    finally:
        os.close(read)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return None if answer == "ok" else answer or "its import ends the interpreter"


def _import_quietly(name: str) -> str | None:
    before = set(sys.modules)
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:
        # Half-imported modules must not be inherited: a bot would find them and not try again.
        for extra in set(sys.modules) - before:
            file = getattr(sys.modules[extra], "__file__", None) or ""
            if extra == name or extra.startswith(f"{name}.") or "site-packages" not in file:
                sys.modules.pop(extra, None)
        from botproc.loader import describe_error

        return describe_error(error)
    return None


def _warm_up() -> None:
    """Do once what every child would do first: build caches, resolve lazy imports."""
    import pandas as pd

    from protocol.process import adopt_orphans, kernel_boot_id

    kernel_boot_id()
    adopt_orphans()  # a launcher does, and each child after it: libc is looked up for it once
    time.strftime("%Y", time.gmtime(0))
    pd.DataFrame({"time": pd.to_datetime([0], unit="s", utc=True), "close": [1.0]}).iloc[-1:]


def _file_of(module: object, folders: Iterable[str]) -> str:
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return ""
    return file if any(file.startswith(folder + os.sep) for folder in folders) else ""


def _candidates(name: str, paths: Iterable[str]) -> list[str]:
    relative = name.replace(".", os.sep)
    choices = [Path(path) / tail for path in paths for tail in (f"{relative}.py", f"{relative}{os.sep}__init__.py")]
    return [str(choice) for choice in choices]


def _stamp(file: str, known: tuple[int, int, str] | None) -> tuple[int, int, str]:
    try:
        status = Path(file).stat()
        if known is not None and known[:2] == (status.st_mtime_ns, status.st_size):
            return known
        return status.st_mtime_ns, status.st_size, hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError:
        return 0, 0, "absent"
