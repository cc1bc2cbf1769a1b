"""Words to the service manager over a real socket: what matters is not lost to a manager that is slow to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.runtime.notify import Notify
from tests.notifysocket import NotifySocket

pytestmark = pytest.mark.posix
_MANY = 3000  # far more than any queue holds


def test_what_matters_is_said_again_and_in_its_order(tmp_path: Path) -> None:
    with NotifySocket(str(tmp_path / "notify")) as manager:
        notify = Notify({"NOTIFY_SOCKET": manager.address})
        for number in range(_MANY):
            notify.say("WATCHDOG=1", f"STATUS={number}")
        notify.ready("all is well")
        notify.stopping("leaving", 3.0)
        notify.say("STATUS=lost")
        before = len(manager.listen())
        assert 0 < before < _MANY and not any("READY" in lines for _, lines in manager.said)
        notify.say("STATUS=last")
        assert [lines for _, lines in manager.listen()[before:]] == [
            {"READY": "1", "STATUS": "all is well"},
            {"STOPPING": "1", "EXTEND_TIMEOUT_USEC": "3000000", "STATUS": "leaving"},
            {"STATUS": "last"},
        ]
        notify.close()


def test_nobody_listens(tmp_path: Path) -> None:
    notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    notify.ready("all is well")
    with NotifySocket(str(tmp_path / "nobody")) as manager:
        notify.say("STATUS=later")  # what was said to one who was gone is not said to the next
        assert [lines for _, lines in manager.listen()] == [{"STATUS": "later"}]
    notify.close()
    Notify({}).ready("to nobody")
