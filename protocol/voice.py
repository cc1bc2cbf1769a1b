"""What a program is told so that it can beat over the bus itself: a private file that its minder writes.

The token in it is made from the run's and does not lead back to it: who holds it can say how the program is,
and cannot speak as the run. Nobody has to remember it: minder and supervisor make it from what they know.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

from protocol.spec import RunSpec

#: Names the file in the program's environment.
VARIABLE: Final = "STABLEHAND_BUS"


def voice_token(run_token: str) -> str:
    """The token by which the program of that run introduces itself (32 hexadecimal digits)."""
    return hashlib.blake2b(b"voice", key=run_token.encode()[:64], digest_size=16).hexdigest()


def voice_path(run_dir: Path, bot_id: int, epoch: int) -> Path:
    """Where the file of that run is."""
    return run_dir / f"bus-{bot_id}-{epoch}.json"


def write_voice(run_dir: Path, spec: RunSpec) -> Path:
    """Write the file (0600), in the place of those of older runs. Raises OSError."""
    for old in run_dir.glob(f"bus-{spec.bot_id}-*.json"):
        old.unlink(missing_ok=True)
    path = voice_path(run_dir, spec.bot_id, spec.epoch)
    told = {
        "bus": spec.bus,
        "token": voice_token(spec.token),
        "server_key": spec.server_key,
        "public_key": spec.public_key,
        "secret_key": spec.secret_key,
    }
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w", encoding="ascii") as out:
        json.dump(told, out)
    return path


def remove_voice(run_dir: Path, bot_id: int, epoch: int) -> None:
    """The run is over: nobody speaks for it any more. Without effect where the file is gone."""
    with contextlib.suppress(OSError):
        voice_path(run_dir, bot_id, epoch).unlink(missing_ok=True)


def sweep_voices(run_dir: Path, living: Collection[tuple[int, int]]) -> None:
    """Remove what ended runs left behind; `living`: (bot id, epoch) of those that may still be there."""
    kept = {voice_path(run_dir, bot_id, epoch) for bot_id, epoch in living}
    for path in run_dir.glob("bus-*-*.json"):
        if path not in kept:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
