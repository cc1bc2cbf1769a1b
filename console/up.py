"""Starting the supervisor, in the foreground or behind, and waiting for its end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from typing import IO, Any, Final

from console.commands.shared import warn, write, write_json
from console.settings import Site, connect
from protocol.client import ControlClient
from protocol.endpoints import Endpoints
from protocol.errors import StablehandError, Unreachable
from protocol.process import ProcessIdentity, identity_of, is_alive

_POLL: Final = 0.05
#: A supervisor that answers and has not said its ready line for so long is taken as ready.
_LINE_GRACE: Final = 2.0


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


def down(wait: float, *, as_json: bool, cmd: str = "down") -> int:
    """Ask the supervisor to end (`down`: with all bots), and wait up to `wait` seconds until its process has gone."""
    with connect() as client:
        pid = int(client.ping()["pid"])
        supervisor = identity_of(pid)
        result = client.request(cmd)
        gone = wait > 0 and _watch_end(client, supervisor, wait, quiet=as_json)
    if as_json:
        write_json({**result, "pid": pid, "gone": gone})
    elif wait == 0:
        write(f"the supervisor (pid {pid}) ends" if cmd == "handover" else f"stopping everything (pid {pid})")
    elif gone:
        what = "the bots trade on" if cmd == "handover" else "all stopped"
        write(f"{what}; the supervisor (pid {pid}) has gone")
    if wait > 0 and not gone:
        warn(f"the supervisor (pid {pid}) has not gone within {wait:g} s; it is still stopping")
        return 1
    return 0


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
