"""The terminal in a process of its own, as a gateway opens it."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from pathlib import Path

import psutil
import pytest

from broker.paper.remote import RemoteTerminal, open_remote
from protocol.botconfig import AccountConfig
from tests.support import eventually

pytestmark = [pytest.mark.posix]


def servers(path: Path) -> list[psutil.Process]:
    """Processes of this test's that are, or want to be, the terminal."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it ends as it is looked at
            if child.status() != psutil.STATUS_ZOMBIE and str(path) in child.cmdline():
                found.append(child)
    return found


def test_a_terminal_that_is_slow_to_answer_is_waited_for() -> None:
    """On a busy machine it may take longer than a call may last: the account is not given up for that."""
    account = AccountConfig.model_validate(
        {"terminal": "process", "terminal_timeout_seconds": 0.2, "symbols": ("EURUSD",), "bars_per_second": 0.1}
    )
    with tempfile.TemporaryDirectory(prefix="st-") as name:
        folder = Path(name)
        first = open_remote(account, name="main", folder=folder, base_dir=folder)
        found: list[RemoteTerminal | Exception] = []

        def again() -> None:
            try:
                found.append(open_remote(account, name="main", folder=folder, base_dir=folder))
            except Exception as error:
                found.append(error)

        os.kill(first.pid, signal.SIGSTOP)
        thread = threading.Thread(target=again)
        thread.start()
        try:
            path = folder / "paper-main.sock"
            eventually(lambda: len(servers(path)) == 2, 20.0, what="a second one")
            eventually(lambda: len(servers(path)) == 1, 20.0, what="its end: the account is held")
        finally:
            os.kill(first.pid, signal.SIGCONT)
            thread.join(30.0)
        assert isinstance(found[0], RemoteTerminal), found
        assert found[0].pid == first.pid
        found[0].close()
        eventually(lambda: not servers(path), 10.0, what="the end of the terminal")
