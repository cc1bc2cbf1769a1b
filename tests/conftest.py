"""Fixtures of all tests: the profiles, real installations, and a guard against what is left behind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import tests.daemon
from tests.daemon import PROFILES, Daemon, installation
from tests.leaks import Holdings, left_since


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--profile portable`, or STABLEHAND_PROFILE=portable: every real supervisor runs in that profile."""
    parser.addoption(
        "--profile",
        choices=sorted(PROFILES),
        default=os.environ.get("STABLEHAND_PROFILE") or None,
        help="profile of the supervisors that tests start: default, or portable (spawn, tcp with keys: Windows' way)",
    )
    parser.addoption(
        "--write-table", type=Path, metavar="FILE", help="write what the random rounds of faults came to, as a page"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Processes that tests start may keep what they compile, as a user's do: hundreds of starts are in the suite."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked `both_profiles` run in each, unless one profile is asked for."""
    chosen = metafunc.config.getoption("--profile")
    if metafunc.definition.get_closest_marker("both_profiles") and "profile" in metafunc.fixturenames and not chosen:
        metafunc.parametrize("profile", sorted(PROFILES), indirect=True)


@pytest.fixture(autouse=True)
def leak_guard() -> Iterator[None]:
    """Every test ends with the processes, threads and descriptors that it began with."""
    before = Holdings.now()
    yield
    left = left_since(before)
    assert not left, f"left behind by this test: {left}"


@pytest.fixture
def profile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The profile that the test's supervisors run in; `tests.daemon.config_text` uses it by itself."""
    name: str = getattr(request, "param", None) or request.config.getoption("--profile") or "default"
    monkeypatch.setattr(tests.daemon, "chosen_profile", name)
    return name


@pytest.fixture
def stable(tmp_path: Path, profile: str) -> Iterator[Callable[..., Daemon]]:
    """A maker of installations: `stable(text)` gives one that is not started yet; all are cleaned up."""
    with ExitStack() as stack:

        def make(text: str, name: str = "one") -> Daemon:
            folder = tmp_path / name
            folder.mkdir()
            return stack.enter_context(installation(folder, text))

        yield make


@pytest.fixture
def market() -> Path:
    """Folder of the real MetaTrader exports; the test is skipped where it is absent."""
    folder = Path(os.environ.get("STABLEHAND_MARKET_DATA", Path(__file__).parents[2] / "shared" / "market"))
    if not (folder / "EURUSD_H1.csv").exists():
        pytest.skip(f"no real market data at {folder} (set STABLEHAND_MARKET_DATA)")
    return folder
