"""Backups of an installation: store, ledgers and paper accounts together, made while all of it runs.

The order matters, since the databases have different owners and no common transaction. The store first, then
each ledger, then each paper account: so each copy is at most as old as the one before it. A restored ledger then
never claims an order that the account does not have; what the account has beyond it is found by the gateway, as
after any crash (the terminal is the truth, and a real one is always newer than any copy).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from protocol.errors import InvalidInput, Refused
from store.copies import copy_database
from supervisor import __version__

_FORMAT: Final = 1
_MANIFEST: Final = "manifest.json"
_LAST: Final = "last-backup.json"
STORE: Final = "supervisor.db"


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a backup."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup holds. `at`: seconds since 1970, when it began."""

    at: float
    installation: str
    version: str
    parts: tuple[Part, ...]


def files_of(data_dir: Path, accounts: Sequence[str]) -> list[str]:
    """The databases of an installation that exist, in the order in which they are copied."""
    names = [STORE, *(f"ledger-{name}.db" for name in accounts), *(f"paper-{name}.db" for name in accounts)]
    return [name for name in names if (data_dir / name).exists()]


def make(data_dir: Path, accounts: Sequence[str], config: Path, target: Path, installation: str) -> Backup:
    """Copy everything to `target`, which must not exist or be empty. Raises Refused, StoreError."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Refused(f"{target} is not empty", hint="name a folder that does not exist")
    partial = target.with_name(f".{target.name}.unfinished")
    try:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise Refused(f"{target} cannot be written: {error.strerror}") from None
    try:
        at = time.time()
        parts = []
        for name in files_of(data_dir, accounts):
            copy_database(data_dir / name, partial / name)
            parts.append(Part(name, (partial / name).stat().st_size, _digest(partial / name)))
        shutil.copyfile(config, partial / "supervisor.toml")  # to look at: a restore leaves the file as it is
        done = Backup(at, installation, __version__, tuple(parts))
        (partial / _MANIFEST).write_text(json.dumps({"format": _FORMAT, **asdict(done)}, indent=1), "utf-8")
        if target.exists():
            target.rmdir()
        partial.rename(target)
        _remember(data_dir, target, at)
    except OSError as error:
        raise Refused(f"{target} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return done


def read(folder: Path) -> Backup:
    """What a backup says it holds, each file compared with it. Raises InvalidInput."""
    try:
        raw: dict[str, Any] = json.loads((folder / _MANIFEST).read_text("utf-8"))
        if raw.pop("format") != _FORMAT:
            raise InvalidInput(f"{folder} was written by another version of stablehand")
        found = Backup(**{**raw, "parts": tuple(Part(**one) for one in raw["parts"])})
    except FileNotFoundError:
        raise InvalidInput(f"{folder} is no backup: it has no {_MANIFEST}") from None
    except OSError as error:
        raise InvalidInput(f"{folder} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidInput(f"{folder / _MANIFEST} cannot be read: {error}") from None
    for part in found.parts:
        path = folder / part.name
        if Path(part.name).name != part.name or not path.is_file() or _digest(path) != part.sha256:
            raise InvalidInput(f"{path} is not what was backed up", hint="take another backup")
    if not any(part.name == STORE for part in found.parts):
        raise InvalidInput(f"{folder} holds no {STORE}")
    return found


def last(data_dir: Path) -> tuple[Path, float] | None:
    """Where the last backup went and when; None when there is none, or it is there no more."""
    try:
        raw = json.loads((data_dir / _LAST).read_text("utf-8"))
        folder, at = Path(raw["folder"]), float(raw["at"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return (folder, at) if (folder / _MANIFEST).exists() else None


def _remember(data_dir: Path, folder: Path, at: float) -> None:
    # Not in the store: it is asked for when the store is damaged.
    partial = data_dir / f"{_LAST}.new"
    try:
        partial.write_text(json.dumps({"folder": str(folder), "at": at}), "utf-8")
        partial.replace(data_dir / _LAST)
    except OSError:
        partial.unlink(missing_ok=True)  # the backup is there all the same; a full disk is often why one is made


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
