"""The first steps of a child: a session, descriptors, files and a lock of its own; then its work; then the end.

A forked child comes here straight from the launcher's fork and never goes back; a spawned one from `__main__`.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

import msgpack

from botproc import logs
from protocol import cgroup
from protocol.locks import FileLock, LockHeld
from protocol.process import adopt_orphans
from protocol.spec import EXIT_LOCK_HELD, RunSpec

EXIT_SOFTWARE: Final = 70  # EX_SOFTWARE: an exception that nobody expected
_OOM_BOT: Final = b"500"
_OOM_GATEWAY: Final = b"250"
_SWITCH: Final = 0.0005
_FEWEST_FILES: Final = 64  # below that a bot cannot even come up
_ALL_DESCRIPTORS: Final = 1 << 20
_LONGEST_SPEC: Final = 1 << 20
_RESET: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGCHLD", "SIGQUIT") if hasattr(signal, name)
)

log = logging.getLogger("stablehand.child")


def forked(spec: RunSpec, code_hash: str) -> NoReturn:
    """Live the life of a forked child. SIGTERM must be blocked; it is let through here."""
    _apart((), lambda: live(spec, code_hash))


def spare(source: socket.socket, code_hash: str) -> NoReturn:
    """Live the life of a forked child that has nothing to do yet: rehearse, wait for a specification, live it.

    One byte on `source` says that it waits; a specification (msgpack) comes back, or the end.
    """

    def work() -> int:
        from botproc.rehearsal import rehearse

        rehearse()
        with source:
            source.send(b"r")
            frame = source.recv(_LONGEST_SPEC)
        return live(RunSpec.model_validate(msgpack.unpackb(frame)), code_hash) if frame else 0

    _apart((source.fileno(),), work)


def _apart(keep: tuple[int, ...], work: Callable[[], int]) -> NoReturn:
    """In a process that has just been forked: do this work, and never go back."""
    status = EXIT_SOFTWARE
    try:
        detach(*keep)
        # What the launcher has made since its own freeze (it grows with each child) is not looked through here: the
        # collector's marks would copy its pages, the more of them the more bots there are.
        gc.freeze()
        gc.enable()
        adopt_orphans()  # what it starts stays below it, so that its end is the end of all that
        status = work()
    except BaseException:  # nothing may climb back into the launcher's stack
        _last_words()
    finally:
        with contextlib.suppress(BaseException):
            logs.flush()
        os._exit(status)


def spawned(spec: RunSpec, code_hash: str) -> int:
    """Live the life of a spawned child, which had a session from the start; its exit code."""
    sys.path[:0] = [path for path in spec.python_path if path not in sys.path]
    for name in _RESET:
        signal.signal(name, signal.SIG_DFL)
    status = EXIT_SOFTWARE
    try:
        adopt_orphans()
        status = live(spec, code_hash)
    except BaseException:
        _last_words()
    logs.flush()
    return status


def detach(*keep: int) -> None:
    """Leave the launcher's session, close its descriptors (but `keep`) and forget its signal handlers."""
    os.setsid()
    for name in _RESET:
        signal.signal(name, signal.SIG_DFL)
    low = 3
    for fd in sorted(keep):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, _ALL_DESCRIPTORS)  # one system call where the kernel has close_range
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def live(spec: RunSpec, code_hash: str) -> int:
    """Open the files, take the lock, do the work; the exit code. Raises only what opening the files raises."""
    _prefer_for_oom(spec.kind)
    for name in spec.withheld:
        os.environ.pop(name, None)
    sys.setswitchinterval(_SWITCH)  # a thread with something to send must not wait 5 ms for one that computes
    _limit_files(spec)
    # Before the work: what it takes from now on is counted there.
    refused = cgroup.enter(spec.cgroup, spec.cgroup_values) if spec.cgroup else ""
    logs.take_output(logs.raw_path(spec.log_path), spec.log_max_bytes)
    fixed: dict[str, Any] = {"pid": os.getpid()}
    if spec.kind != "gateway":
        fixed |= {"bot": spec.name, "epoch": spec.epoch}
    logs.open_log(spec.log_path, spec.log_max_bytes, spec.log_backups, **fixed)
    if refused:
        log.warning("control group: %s", refused)
    signal.signal(signal.SIGTERM, _stopped_early)  # until the work has its own handler
    try:
        with contextlib.ExitStack() as stack:
            if spec.kind != "analysis":  # an analysis trades nothing, and runs beside the bot
                lock = stack.enter_context(FileLock(Path(spec.lock_path)))
                _close_in_own_children(lock)
            return _work(spec, code_hash)
    except LockHeld as error:
        log.warning("%s; the older run must end first", error.message)
        return EXIT_LOCK_HELD
    except SystemExit as error:  # user code that calls sys.exit, or a stop before the work began
        log.log(logging.ERROR if error.code else logging.INFO, "ended by sys.exit(%r)", error.code)
        return error.code if isinstance(error.code, int) else EXIT_SOFTWARE
    except BaseException:
        log.exception("ended by an unexpected error")
        return EXIT_SOFTWARE


def _stopped_early(*_: Any) -> NoReturn:
    log.info("SIGTERM before the work began")
    sys.exit(0)


def _work(spec: RunSpec, code_hash: str) -> int:
    # Imported here: the launcher has them all in memory, and a spawned bot needs no gateway.
    if spec.kind == "gateway":
        from broker.gateway import main

        return main(spec)
    if spec.kind == "program":
        from botproc import minder

        return minder.run_program(spec)
    from botproc import runner

    return runner.run_analysis(spec, code_hash) if spec.kind == "analysis" else runner.run_bot(spec, code_hash)


def _close_in_own_children(lock: FileLock) -> None:
    # A process that the bot's own code forks would otherwise hold the lock after the bot has ended.
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lock.release)


def _limit_files(spec: RunSpec) -> None:
    """As many descriptors as the bot may have; the kernel refuses the next one."""
    most = spec.bot.open_files if spec.bot is not None and spec.kind == "bot" else 0
    if most and sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = max(most, _FEWEST_FILES)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _prefer_for_oom(kind: str) -> None:
    """When memory ends, the kernel takes bots first, then a gateway, the supervisor last. Best effort."""
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    except OSError:
        return
    try:
        os.write(fd, _OOM_GATEWAY if kind == "gateway" else _OOM_BOT)
    except OSError:
        return
    finally:
        os.close(fd)


def _last_words() -> None:
    """Where even opening the log failed: say it on stderr, which is the launcher's or already the raw file."""
    import traceback

    with contextlib.suppress(BaseException):
        os.write(2, traceback.format_exc().encode(errors="replace"))
