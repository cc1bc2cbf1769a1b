"""The daemon's command line: `python -m supervisor --config FILE [--check | --dump]`.

One line on stdout when it is ready; one line on stderr when something is wrong, and exit code 2, or 1 where a later try
may go well.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import gc
import json
import logging
import logging.handlers
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from protocol.errors import StablehandError, may_pass
from protocol.locks import FileLock, LockHeld
from supervisor import restoring, succession
from supervisor.config import Config, load
from supervisor.errors import DataDirInUse
from supervisor.runtime.attendance import Attendance, hang_up_is_ignored, in_foreground, starting
from supervisor.runtime.checking import file_lines
from supervisor.runtime.daemon import Daemon
from supervisor.runtime.findable import missing_lines
from supervisor.runtime.limits import raise_limits
from supervisor.runtime.notify import Notify
from supervisor.runtime.startup import Builder
from supervisor.succession import HeldSignals, Inheritance

log = logging.getLogger("stablehand")

E = TypeVar("E", bound=Exception)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m supervisor", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("supervisor.toml"), metavar="FILE")
    parser.add_argument("--check", action="store_true", help="check the file and everything it names, and end")
    parser.add_argument("--gaps", action="store_true", help="with --check: list the gaps in the files of replays")
    parser.add_argument("--restore", metavar="FOLDER", help="compare a backup with the data; --apply puts it back")
    parser.add_argument("--restore-nothing", action="store_true", help="begin with an empty memory; with --apply")
    parser.add_argument("--apply", action="store_true", help="with --restore: do it")
    parser.add_argument("--dump", action="store_true", help="write accounts and bots as JSON, complete, and end")
    options = parser.parse_args(argv)
    left = succession.take(os.environ)
    held = HeldSignals(left)
    _cheap_loop()
    sys.setswitchinterval(0.0005)  # the loop must not wait 5 ms for the thread that writes, nor that for the loop
    code = 2
    try:
        config = load(options.config)
        if options.dump:
            sys.stdout.write(json.dumps(_dump(config)) + "\n")
            return 0
        if options.check:
            return asyncio.run(_check(config, options.gaps))
        if options.restore is not None or options.restore_nothing:
            with _own(config, left):
                sys.stdout.writelines(f"{line}\n" for line in _restore(config, options))
            return 0
        raise_limits()
        notify = Notify(os.environ)
        with _own(config, left) as lock:
            held.hold()
            gc.freeze()  # what was imported stays; looked through each time, it stops the loop for 30 ms
            launchers = asyncio.run(_serve(config, notify, left, held))
            if launchers is not None:
                succession.become(lock, launchers, notify.environment, stop=held.stop)
            return 0
    except* StablehandError as errors:
        error = _first(errors)
        sys.stderr.write(f"stablehand: {error.line()}\n")
        # A service manager does not try again after a 2: what may pass must not keep every bot down.
        code = 1 if error.passing else 2
    except* OSError as errors:
        found = _first(errors)
        if not may_pass(found):
            raise
        if log.hasHandlers():  # else it would go to stderr, stack and all
            log.exception("the supervisor ends")
        where = f" ({found.filename})" if found.filename else ""
        sys.stderr.write(f"stablehand: the system refuses for now: {found.strerror}{where}\n")
        code = 1
    return code


def _dump(config: Config) -> dict[str, object]:
    """What the file says, defaults filled in: for who works with it and cannot read it as we do (a backtest)."""
    return {
        "folder": str(config.folder.resolve()),
        "strategy_path": [str((config.folder / path).resolve()) for path in config.supervisor.strategy_path],
        "accounts": {name: account.model_dump() for name, account in config.accounts.items()},
        "bots": [bot.model_dump() for bot in config.bots],
    }


def _first(group: BaseExceptionGroup[E]) -> E:
    one: BaseExceptionGroup[E] | E = group
    while isinstance(one, BaseExceptionGroup):
        one = one.exceptions[0]
    return one


@contextlib.contextmanager
def _own(config: Config, left: Inheritance) -> Iterator[FileLock]:
    """Hold the data directory: one supervisor each, locked before any socket is bound."""
    data_dir = config.data_dir
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.name == "posix" and not any(data_dir.iterdir()):
            with contextlib.suppress(PermissionError):  # another user's: it is as private as that user made it
                data_dir.chmod(0o700)  # made by somebody else, for this
        for name in ("logs", "locks"):
            (data_dir / name).mkdir(mode=0o700, exist_ok=True)
        lock = FileLock(data_dir / "supervisor.lock", inherited=left.lock_fd)
    except LockHeld as held:
        raise DataDirInUse(f"{data_dir} is in use by supervisor process {held.pid}",
                           hint="stablehand status shows it; one data_dir serves one supervisor") from None  # fmt: skip
    except OSError as error:
        found = StablehandError(f"data_dir {data_dir} cannot be written: {error.strerror}",
                                hint="set [supervisor] data_dir to a folder of yours")  # fmt: skip
        found.passing = may_pass(error)
        raise found from None
    with lock:
        yield lock


async def _check(config: Config, gaps: bool) -> int:
    """Check with a launcher of our own in a folder of its own; nothing of the installation is touched."""
    with tempfile.TemporaryDirectory(prefix="stablehand-check-") as folder:
        elsewhere = config.supervisor.model_copy(update={"data_dir": folder})
        builder = Builder(replace(config, supervisor=elsewhere))
        try:
            files = await builder.check()
        finally:
            await builder.launchers.retire()
            await builder.close()
    programs = f", {_count(len(config.programs), 'program')}" if config.programs else ""
    sys.stdout.write(
        f"{config.path}: {_count(len(config.bots), 'bot')} on {_count(len(config.accounts), 'account')}{programs},"
        " all right\n"
    )
    sys.stdout.writelines(f"{line}\n" for line in missing_lines(config, os.environ))
    sys.stdout.writelines(f"{line}\n" for line in file_lines(files, gaps=gaps))
    return 0


def _restore(config: Config, options: argparse.Namespace) -> list[str]:
    if options.restore_nothing:
        return restoring.nothing(config.data_dir, apply=options.apply)
    return restoring.restore(config.data_dir, Path(options.restore), apply=options.apply)


async def _serve(config: Config, notify: Notify, left: Inheritance, held: HeldSignals) -> dict[str, int] | None:
    """Supervise until told to leave. The launchers (name -> pid) when this process is to become its successor."""
    _log_to(config.data_dir / "logs" / "supervisor.log")
    faulthandler.enable()  # a watchdog's SIGABRT leaves a stack
    builder = Builder(config, left.launchers)
    done = False
    try:
        async with starting(notify):
            await builder.check()
            daemon = await builder.build()
            stable = builder.stable
            assert stable is not None
            attendance = Attendance(stable, notify)
            daemon.side["service"] = attendance.run
            _on_signals(daemon, attendance, held)
            await builder.gateways_up()
        known = _count(len(stable.registry.by_name), "bot")
        sys.stdout.write(
            f"stablehand: ready: {known} on {_count(len(config.accounts), 'account')}, data in {config.data_dir}\n"
        )
        sys.stdout.flush()
        log.info("ready: %s declared, %s known", _count(len(config.bots), "bot"), known)
        notify.ready(attendance.status())
        daemon.leaving = lambda seconds: _tell_leaving(notify, stable.leaving, seconds)
        await daemon.run()
        done = True
        return builder.launchers.pids() if stable.leaving == "renew" else None
    finally:
        if not done:
            await _abandon(builder)
        await builder.close()


def _tell_leaving(notify: Notify, how: str, seconds: float) -> None:
    if how == "renew":
        notify.reloading("a new image of the supervisor takes over")
    else:
        notify.stopping("stopping all bots" if how == "stop" else "leaving; the bots trade on", seconds)


async def _abandon(builder: Builder) -> None:
    """Start-up failed: launchers without children leave at once, those with bots stay for the next try."""
    await builder.launchers.retire(timeout=2.0)


def _on_signals(daemon: Daemon, attendance: Attendance, held: HeldSignals) -> None:
    """SIGTERM and SIGINT stop; SIGHUP reloads a daemon, and stops what a user has in the foreground."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        held.stop = True
        daemon.leave("stop")

    def reload() -> None:
        task = loop.create_task(attendance.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    reloads: set[asyncio.Task[None]] = set()
    reactions = {"SIGTERM": stop, "SIGINT": stop, "SIGHUP": stop if in_foreground() else reload}
    if hang_up_is_ignored() and in_foreground():
        del reactions["SIGHUP"]
    for name, reaction in reactions.items():
        number = getattr(signal, name, None)
        if number is None:
            continue
        try:
            loop.add_signal_handler(number, reaction)
        except NotImplementedError:  # Windows: signals come to the main thread, between two turns of the loop
            signal.signal(number, lambda *_, react=reaction: loop.call_soon_threadsafe(react))
    if held.stop:  # it came while this image was coming up
        daemon.leave("stop")


def _log_to(path: Path) -> None:
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=10_000_000, backupCount=3, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a full disk must not fill stderr with stacks as well
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of each plug-in and step


def _cheap_loop() -> None:
    """uvloop where it runs; on Windows the selector loop, since ours watches sockets."""
    if sys.platform == "win32":
        asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())
        return
    try:
        import uvloop
    except ImportError:
        return
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


if __name__ == "__main__":
    sys.exit(main())
