"""The spawner's helper that answers about strategies: it never outlives who asked it."""

from __future__ import annotations

import queue
from typing import Any

import psutil
import pytest

from botproc.answers import Answers
from tests.support import eventually


@pytest.mark.parametrize("answered", [True, False])
def test_close_ends_the_helper_and_waits_for_it(answered: bool) -> None:
    replies: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    answers = Answers(lambda call: call())
    before = set(psutil.Process().children())
    answers.ask({"op": "catalogue", "names": []}, replies.put)
    (helper,) = eventually(lambda: set(psutil.Process().children()) - before, 10)
    if answered:
        assert replies.get(timeout=60)["ok"]
    answers.close()
    assert not helper.is_running()
    answers.close()  # a second time changes nothing
