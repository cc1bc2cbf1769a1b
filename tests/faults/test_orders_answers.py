"""What a terminal may answer to an order, one after the other, while brokers do to the comment what they do."""

from __future__ import annotations

from itertools import cycle

import pytest

from broker import api
from tests.faults.audit import audit
from tests.faults.crossing import ANSWERS, POLICIES, Fault
from tests.faults.hands import attach, entry, outcome, trades
from tests.faults.stage import Stage
from tests.scale import SOAK, TERMINAL_TIMEOUT

pytestmark = [pytest.mark.posix, pytest.mark.acceptance]

#: Seconds; a lost order is held to be lost for good one and a half times that, and half a second, later.
TIMEOUT = TERMINAL_TIMEOUT if SOAK else 0.6
#: Answers after which the order was executed.
EXECUTED = {
    "none_executed", "late_answer", "late_execution", "slow", "timeout_executed", "connection_executed",
    "drop_executed", "duplicate",
}  # fmt: skip


def test_whatever_the_terminal_answers_an_order_happens_once_or_not_at_all() -> None:
    executed = 0
    policies = cycle(POLICIES)
    with Stage(timeout=TIMEOUT) as stage:
        for bot_id, kind in enumerate(ANSWERS, 1):
            stage.crossing.policy = next(policies)
            client, told = attach(stage, bot_id=bot_id)
            order = entry(client, told)
            late = kind in ("late_answer", "late_execution")
            fault = stage.crossing.arm(Fault(kind, delay=TIMEOUT * (1.25 if late else 0.5)))
            said = client.send(order, timeout=30.0)
            result = outcome(client, order.id)
            assert fault.done.wait(10.0), kind
            stage.crossing.disarm()
            executed += kind in EXECUTED
            expected = "done" if kind in EXECUTED else "refused"
            assert (result.status, trades(stage)) == (expected, executed), (kind, said, result)
            if kind == "requote":
                assert result.retcode == api.TRADE_RETCODE_REQUOTE
            # What was said first may be that nobody knows; it is never wrong.
            assert said.status in ("unknown", expected), (kind, said)
            assert client.send(order).status == expected
            assert trades(stage) == executed, kind
        audit(stage)
