"""CURVE keys: who may speak where the transport is TCP.

Any local user can connect to a loopback port, so every TCP socket of an installation demands a key that
it knows. Secret keys are files of mode 0600 in `data_dir/keys` (0700) or travel in a run's private
specification; they are never in the store, a log, an event or a command line.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key pair in Z85 text (40 characters each)."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public!r})"  # a secret must not reach a log by way of a repr


def new_pair() -> KeyPair:
    """A fresh pair."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def load_or_create(data_dir: Path, name: str) -> KeyPair:
    """The pair `data_dir/keys/NAME.key`, made at the first call. Raises ValueError when the file is damaged."""
    folder = data_dir / "keys"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{name}.key"
    if not path.exists():
        pair = new_pair()
        partial = path.with_suffix(".new")
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as out:
            json.dump({"public": pair.public, "secret": pair.secret}, out)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)
        return pair
    raw = json.loads(path.read_text("ascii"))
    return KeyPair(raw["public"], raw["secret"])


def secure_server(socket: zmq.Socket[Any], pair: KeyPair | None, domain: str = "stablehand") -> None:
    """Make a socket, before its bind, accept only clients that the ZAP handler knows in this domain."""
    if pair is not None:
        socket.curve_server = True
        socket.curve_secretkey = pair.secret.encode()
        socket.curve_publickey = pair.public.encode()
        socket.zap_domain = domain.encode()
        # Without a handler (not bound yet, closed already) nobody is let in; by default everybody would be.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def secure_client(socket: zmq.Socket[Any], pair: KeyPair | None, server_key: str) -> None:
    """Make a socket, before its connect, prove itself and know the server."""
    if server_key and pair is not None:
        socket.curve_secretkey = pair.secret.encode()
        socket.curve_publickey = pair.public.encode()
        socket.curve_serverkey = server_key.encode()
