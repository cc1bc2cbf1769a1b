"""Fixtures of all tests: the profiles, real installations, and a guard against what is left behind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.daemon import Daemon, installation


@pytest.fixture
def stable(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """A maker of installations: `stable(text)` gives one that is not started yet; all are cleaned up."""
    with ExitStack() as stack:

        def make(text: str, name: str = "one", profile: str = "default") -> Daemon:
            folder = tmp_path / name
            folder.mkdir()
            return stack.enter_context(installation(folder, text, profile))

        yield make


@pytest.fixture
def market() -> Path:
    """Folder of the real MetaTrader exports; the test is skipped where it is absent."""
    folder = Path(os.environ.get("STABLEHAND_MARKET_DATA", Path(__file__).parents[2] / "shared" / "market"))
    if not (folder / "EURUSD_H1.csv").exists():
        pytest.skip(f"no real market data at {folder} (set STABLEHAND_MARKET_DATA)")
    return folder
