"""The password of an account: read where the file says that it lies, never kept in file, store or log."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any, cast

from protocol.botconfig import AccountConfig
from protocol.errors import InvalidInput


def password_of(account: AccountConfig) -> str:
    """The password. Raises InvalidInput with the line to show: what cannot be read, and what to do."""
    if account.password_env:
        return _from_environment(account.password_env)
    if account.password_keyring:
        return _from_keyring(account.password_keyring, str(account.login))
    return _from_credential(account.password_credential)


def _from_environment(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise InvalidInput(
            f"the password cannot be read: the environment variable {name} is not set",
            hint="set it where the supervisor is started, and start it anew with stablehand down, stablehand up",
        )
    return value


def _from_credential(name: str) -> str:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise InvalidInput(
            f"the password cannot be read: no systemd credential {name}, CREDENTIALS_DIRECTORY is not set",
            hint=f"put LoadCredential={name}:/path/of/the/file into the unit",
        )
    if "/" in name or "\\" in name or name in (".", ".."):
        raise InvalidInput(f"password_credential {name!r} is no name", hint="the name of LoadCredential=, no path")
    path = Path(folder) / name
    try:
        value = path.read_text("utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InvalidInput(
            f"the password cannot be read: systemd credential {name}: {why}",
            hint=f"put LoadCredential={name}:/path/of/the/file into the unit",
        ) from None
    if not value:
        raise InvalidInput(f"the password cannot be read: systemd credential {name} is empty")
    return value


def _from_keyring(service: str, user: str) -> str:
    try:
        keyring = cast(Any, importlib.import_module("keyring"))
    except ImportError:
        raise InvalidInput(
            "the password cannot be read: the package keyring is not installed",
            hint="pip install 'stablehand[keyring]', or use password_env",
        ) from None
    try:
        value = keyring.get_password(service, user)
    except Exception as error:  # each of its many backends has errors of its own
        raise InvalidInput(
            f"the password cannot be read: keyring: {type(error).__name__}: {error}",
            hint="unlock it for the user whom the supervisor runs as, or use password_env",
        ) from None
    if not value:
        raise InvalidInput(
            f"the password cannot be read: the keyring has none for service {service}, user {user}",
            hint=f"keyring set {service} {user}",
        )
    return str(value)
