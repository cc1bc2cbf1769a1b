"""Where the sockets of one installation are, and which transport they use.

POSIX default: `ipc://` in a private directory. A unix socket's path holds about 107 bytes; where the data
directory is too long for that, the sockets live in a short private directory under the temporary one,
named in `data_dir/run.path`. Elsewhere, or with `transport = "tcp"`: loopback TCP, always with CURVE.
The supervisor writes what it bound to `data_dir/endpoints.json`; clients read that.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

from protocol.errors import InvalidInput, Unreachable

Transport = Literal["ipc", "tcp"]
_LONGEST_SOCKET_PATH: Final = 100
_LONGEST_NAME: Final = 40
FILE: Final = "endpoints.json"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses of a running installation, as clients and bots connect to them."""

    transport: Transport
    bus: str
    control: str
    events: str
    server_key: str = ""  # public CURVE key of the supervisor's sockets; empty on ipc
    supervisor_pid: int = 0
    accounts: dict[str, dict[str, str]] = field(default_factory=dict)  # name -> {orders, market, control}
    config: str = ""  # the file by which the supervisor runs; absolute

    def save(self, data_dir: Path) -> None:
        """Write `endpoints.json`, whole or not at all."""
        _replace(data_dir / FILE, json.dumps(asdict(self), indent=1))

    @staticmethod
    def load(data_dir: Path) -> Endpoints:
        """Read them. Raises Unreachable when no supervisor ever ran on this directory."""
        try:
            raw = json.loads((data_dir / FILE).read_text("utf-8"))
            return Endpoints(**raw)
        except (FileNotFoundError, NotADirectoryError):
            raise Unreachable(f"no supervisor runs on {data_dir}", hint="start one with: stablehand up") from None
        except PermissionError:
            text = f"{data_dir} belongs to another user"
            raise InvalidInput(text, hint="run this as the supervisor's user") from None
        except (ValueError, TypeError) as error:
            raise Unreachable(f"{data_dir / FILE} cannot be read: {error}") from None


def data_folder(base: Path, said: str) -> Path:
    """The data directory that a file in `base` names; `~` is the user's home. Raises InvalidInput."""
    try:
        return base / Path(said).expanduser()
    except RuntimeError:
        raise InvalidInput(f"data_dir = {said!r}: there is no such user", hint='data_dir = "var"') from None


def default_transport() -> Transport:
    """ipc where unix sockets work, tcp on Windows."""
    return "tcp" if sys.platform == "win32" else "ipc"


def run_directory(data_dir: Path) -> Path:
    """Directory of the sockets, made private (0700). The same data directory always gives the same one."""
    inside = data_dir / "run"
    if len(os.fsencode(inside)) + _LONGEST_NAME <= _LONGEST_SOCKET_PATH:
        inside.mkdir(mode=0o700, parents=True, exist_ok=True)
        return inside
    short = short_run_directory(data_dir)
    short.mkdir(mode=0o700, exist_ok=True)
    status = short.stat()
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o077):
        raise InvalidInput(f"{short} is not private to this user", hint="remove it, or use a shorter data_dir")
    _note(data_dir / "run.path", f"{short}\n")
    return short


def short_run_directory(data_dir: Path) -> Path:
    """Where the sockets are when the path of the data directory is too long for them; nothing is made."""
    digest = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:12]
    import tempfile  # here: it brings the compression libraries along, and every short command pays for that

    return Path(tempfile.gettempdir()) / f"stablehand-{os.getuid() if hasattr(os, 'getuid') else 0}-{digest}"


def _note(path: Path, text: str) -> None:
    """Have the text in the file. Nothing is written where it is there already: a disk may be full by now."""
    try:
        if path.read_text("utf-8") == text:
            return
    except (FileNotFoundError, ValueError):  # not there yet, or cut in a character
        pass
    _replace(path, text)


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_suffix(".new")
    partial.write_text(text, "utf-8")
    partial.replace(path)


def socket_name(name: str) -> str:
    """A file name for a socket that stays short whatever the account is called."""
    if len(name) <= _LONGEST_NAME - 8:
        return f"{name}.sock"
    return f"{name[:16]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}.sock"


def bind_address(transport: Transport, run_dir: Path, name: str) -> str:
    """Address to bind the socket `name` at: a path, or a loopback port that the system chooses."""
    return f"ipc://{run_dir / socket_name(name)}" if transport == "ipc" else "tcp://127.0.0.1:*"
