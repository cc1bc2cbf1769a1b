"""The daemon: keeps the bots alive, in step, and within the machine's means."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("stablehand")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0.0.0"
