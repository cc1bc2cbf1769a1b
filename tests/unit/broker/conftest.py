"""Fixtures of the market side's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.papermarket import close_all


@pytest.fixture(autouse=True)
def closed_terminals(leak_guard: None) -> Iterator[None]:
    """Every terminal that a test opens is closed after it."""
    yield
    close_all()
