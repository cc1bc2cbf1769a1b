"""Starting the supervisor, in the foreground or behind, and waiting for its end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from typing import IO, Any, Final

from console.commands.shared import warn, write, write_json
from console.settings import Site, connect, remote
from protocol.client import ControlClient
from protocol.endpoints import Endpoints
from protocol.errors import StablehandError, Unreachable
from protocol.process import ProcessIdentity, identity_of, is_alive

_POLL: Final = 0.05
#: A supervisor that answers and has not said its ready line for so long is taken as ready.
_LINE_GRACE: Final = 30.0
_TRIAL: Final = 120.0  # the longest that a supervisor tries its successor


def command(site: Site, *more: str) -> list[str]:
    """The supervisor's command line. `-P`: a folder `supervisor` where the user stands must not be imported."""
    return [sys.executable, "-P", "-m", "supervisor", "--config", str(site.config), *more]


def replace_self(site: Site) -> int:  # noqa: RET503 - execv does not return
    """Become the supervisor, so that signals and exit codes are its own; on Windows stand before it."""
    sys.stdout.flush()
    if sys.platform == "win32":
        with subprocess.Popen(command(site)) as child:
            while True:
                try:
                    return child.wait()
                except KeyboardInterrupt:
                    continue  # the supervisor has heard it too, and stops
    os.execv(sys.executable, command(site))


def detached(site: Site, *, wait: float, as_json: bool) -> int:
    """Start it in the background, in a session of its own; return when it is ready, or with its failure."""
    # Files without a name, not pipes: what the supervisor writes after we left must not fail.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        flags: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            flags = {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
        child = subprocess.Popen(command(site), stdin=subprocess.DEVNULL, stdout=out, stderr=err, **flags)
        until = time.monotonic() + wait
        answered_at: float | None = None
        while time.monotonic() < until:
            if child.poll() is not None:
                sys.stderr.write(_text(err) or f"stablehand: the supervisor ended with {child.returncode}\n")
                return _exit_code(child.returncode)
            pong = ping(site, child.pid)
            if pong is not None:
                answered_at = answered_at or time.monotonic()
                line = _text(out).strip()
                if line or time.monotonic() - answered_at > _LINE_GRACE:
                    child.returncode = 0  # it lives on: no warning about a child left behind
                    if as_json:
                        write_json(pong)
                    else:
                        write(line or f"stablehand {pong['version']} runs (pid {child.pid})")
                    return 0
            time.sleep(_POLL)
        child.returncode = 0
        raise StablehandError(f"the supervisor (pid {child.pid}) is not ready after {wait:g} s; it goes on trying")


def ping(site: Site, pid: int) -> dict[str, Any] | None:
    """What the supervisor with this pid answers; None while it does not, or while another one does."""
    try:
        if Endpoints.load(site.data_dir).supervisor_pid not in (0, pid):
            return None
        with ControlClient(site.data_dir, timeout=1.0) as client:
            pong: dict[str, Any] = client.ping()
    except StablehandError:
        return None
    return pong if pong["pid"] == pid else None


def _text(file: IO[bytes]) -> str:
    # Read by position: the child shares the descriptor's own position and writes at its end.
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), 65_536, 0).decode("utf-8", "replace")
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def _exit_code(status: int) -> int:
    return status if status >= 0 else 128 - status


def down(wait: float, *, as_json: bool) -> int:
    """Ask the supervisor to end with all bots, and wait up to `wait` seconds until its process has gone."""
    with connect() as client:
        pid = int(client.ping()["pid"])
        supervisor = _here(pid)
        result = client.request("down")
        gone = wait > 0 and _watch_end(client, supervisor, wait, quiet=as_json)
    if as_json:
        write_json({**result, "pid": pid, "gone": gone})
    elif wait == 0:
        write(f"stopping everything (pid {pid})")
    elif gone:
        write(f"all stopped; the supervisor (pid {pid}) has gone")
    if wait > 0 and not gone:
        warn(f"the supervisor (pid {pid}) has not gone within {wait:g} s; it is still stopping")
        return 1
    return 0


def handover(wait: float, *, leave: bool, as_json: bool) -> int:
    """Have the supervisor replaced by a new image of itself, or by nobody (`leave`); the bots trade on."""
    with connect(strict=not leave) as client:
        before = client.ping()
        pid = int(before["pid"])
        known = {row["name"] for row in client.status()}
        supervisor = _here(pid)
        # Before it does it, it tries whether the successor would start.
        result = client.request("handover", {"leave": leave}, timeout=_TRIAL + 10.0)
        if result.get("in_place"):
            after = _successor(client, before, wait)
            done = after is not None
            new = sorted({row["name"] for row in client.status()} - known) if done else []
        else:
            after, done, new = None, _watch_end(client, supervisor, wait, quiet=True), []
    if as_json:
        write_json({**result, "pid": pid, "gone": done and after is None, "renewed": after is not None})
    elif after is not None:
        versions = f"{before['version']} → {after['version']}"
        change = versions if before["version"] != after["version"] else f"version {after['version']}"
        write(f"the supervisor (pid {pid}) is renewed, {change}; {_processes(result['left_running'])} went on")
        if new:
            write(f"new, from the file: {', '.join(new)}")
    elif done:
        write(f"the bots trade on; the supervisor (pid {pid}) has gone")
    if not done:
        what = "come back" if result.get("in_place") else "gone"
        warn(f"the supervisor (pid {pid}) has not {what} within {wait:g} s; its log says why")
        return 1
    return 0


def _here(pid: int) -> ProcessIdentity | None:
    """The supervisor's process, where it is on this machine."""
    return None if remote() is not None else identity_of(pid)


def _successor(client: ControlClient, before: dict[str, Any], wait: float) -> dict[str, Any] | None:
    """What the next image answers, once it has adopted every run; None when the time is over."""
    until = time.monotonic() + wait
    while time.monotonic() < until:
        try:
            after: dict[str, Any] = client.ping()
            if after["boot"] != before["boot"] and not client.host()["bots"].get("adopting"):
                return after
        except StablehandError:
            pass  # between two images nobody answers
        time.sleep(_POLL)
    return None


def _processes(count: int) -> str:
    return f"{count} process" if count == 1 else f"{count} processes"


def _watch_end(client: ControlClient, supervisor: ProcessIdentity | None, wait: float, *, quiet: bool) -> bool:
    from console.commands.running import state_line

    progress = not quiet and sys.stderr.isatty()
    until = time.monotonic() + wait
    answers = True
    gone = False
    while not gone and time.monotonic() < until:
        if answers:
            try:
                host = client.request("host", timeout=2.0)
                if progress:
                    sys.stderr.write(f"\r\x1b[Kstopping: {state_line(host)}")
                    sys.stderr.flush()
            except Unreachable:
                answers = False
            except StablehandError:
                pass  # it is busy with its end; the process itself tells the rest
        # Its sockets close before it has written its last word and let go of the data directory.
        gone = not answers and (supervisor is None or not is_alive(supervisor))
        time.sleep(_POLL)
    if progress:
        sys.stderr.write("\r\x1b[K")
    return gone
