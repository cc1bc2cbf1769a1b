"""An account's real terminal: its package, and the lock by which a host has one gateway of an account."""

from __future__ import annotations

import hashlib
import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from broker.mt5.terminal import Mt5Terminal
from protocol.botconfig import AccountConfig
from protocol.errors import InvalidInput
from protocol.locks import FileLock
from protocol.mt5config import module_name


def open_mt5(
    config: AccountConfig, *, name: str, folder: Path, base_dir: Path, tell: Callable[[str, bool], None]
) -> Mt5Terminal:
    """The account's terminal; it is connected to by `tend`, once no other gateway of this host holds the account.

    Raises InvalidInput where there is no package.
    """
    wanted = module_name()
    try:
        module = importlib.import_module(wanted)
    except ImportError as error:
        raise InvalidInput(
            f"the package {wanted} cannot be imported: {error}",
            hint='it exists for Windows only; there: pip install MetaTrader5; elsewhere use kind = "mt5-remote"',
        ) from None
    return Mt5Terminal(
        cast(Any, module), config, file=folder / f"symbols-{name}.json", base_dir=base_dir, tell=tell,
        hold=lambda: FileLock(lock_path(config), note=str(folder.resolve())),
    )  # fmt: skip


def lock_path(config: AccountConfig) -> Path:
    """The lock by which a host has one gateway of an account, whatever installation it belongs to."""
    server = hashlib.sha256(config.server.encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"stablehand-mt5-{config.login}-{server}.lock"
