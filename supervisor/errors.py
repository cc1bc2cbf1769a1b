"""Errors of the daemon. Each docstring or message is the line that a person reads."""

from __future__ import annotations

from protocol import errors
from protocol.errors import StablehandError


class ConfigError(StablehandError):
    """Something in the configuration file is wrong; the message names file and line."""

    code = errors.INVALID


class DataDirInUse(StablehandError):
    """Another supervisor owns the data directory."""

    code = errors.CONFLICT


class GatewayUnavailable(StablehandError):
    """The account's gateway does not answer; what was asked was not done."""

    code = errors.UNAVAILABLE


class LauncherLost(StablehandError):
    """The launcher went away before it answered."""

    code = errors.UNAVAILABLE
    passing = True
