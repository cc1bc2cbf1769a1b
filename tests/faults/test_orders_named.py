"""The faults that have a name, one by one: a raw client, the real gateway, the terminal in its own process."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from broker import api
from broker.client import AttachDenied, GatewayDown
from protocol.codec import encode
from protocol.messages import Fenced, OrderQuery
from tests.faults.audit import audit
from tests.faults.crossing import POLICIES, Fault
from tests.faults.hands import again, attach, entry, in_background, outcome, trades
from tests.faults.stage import Stage
from tests.gateway_rig import last_bar_time
from tests.scale import IN_FLIGHT, LATE_FILL, TERMINAL_TIMEOUT
from tests.support import eventually

pytestmark = [pytest.mark.posix, pytest.mark.acceptance]


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


def test_fills_that_come_long_after_the_gateway_died_are_found() -> None:
    """Also where the broker cuts, rewrites or drops the comment: it is a hint and no identity."""
    with Stage(timeout=max(TERMINAL_TIMEOUT, 4.0)) as stage:
        for bot_id, policy in enumerate(POLICIES, 1):
            stage.crossing.policy = policy
            client, told = attach(stage, bot_id=bot_id)
            order = entry(client, told, comment="a comment of more than 16 letters")
            fault = stage.crossing.arm(Fault("kill_sent", delay=max(LATE_FILL, 3.0)))
            thread, results = in_background(client, order)
            eventually(fault.fired.is_set, 20.0)
            stage.start_gateway()
            assert trades(stage) == bot_id - 1 or fault.done.is_set()
            thread.join(60.0)
            assert outcome(client, order.id).status == "done", policy
            assert results[0].status in ("done", "unknown")
            assert trades(stage) == bot_id
            assert again(client).position is not None
            audit(stage)


def test_killed_at_each_crash_point(stage: Stage) -> None:
    done = 0
    for bot_id, kind in enumerate(("kill_before_send", "kill_executed", "kill_uncommitted", "kill_committed"), 1):
        stage.crossing.policy = POLICIES[bot_id - 1]
        client, told = attach(stage, bot_id=bot_id)
        order = entry(client, told)
        fault = stage.crossing.arm(Fault(kind))
        thread, results = in_background(client, order)
        eventually(fault.done.is_set, 20.0, what=kind)
        stage.crossing.disarm()
        stage.start_gateway()
        thread.join(60.0)
        result = outcome(client, order.id)
        executed = kind != "kill_before_send"
        done += executed
        assert (result.status, trades(stage)) == ("done" if executed else "refused", done), (kind, results)
        told = again(client)
        assert (told.position is not None) is executed
        # Sent again, whole: it is answered from memory.
        assert client.send(order).status == result.status
        assert trades(stage) == done
        audit(stage)


def test_after_a_gateways_death_nobody_enters_before_his_fence() -> None:
    """The limits come with the fence. A supervisor says all fences again to a new gateway: then all go on."""
    with Stage(speed=2.0) as stage:
        client, _told = attach(stage)
        stage.kill_gateway()
        stage.start_gateway(fence=False)

        def why() -> list[str]:
            reason = client.send(entry(client, again(client))).reason
            return [] if reason.startswith("decided on the bar") else [reason]  # a bar closed meanwhile: decide anew

        assert "no fence since the gateway started" in eventually(why, what="a refusal of a fresh decision")[0]
        stage.rig.supervisor.fence_again()
        done = eventually(lambda: client.send(entry(client, again(client))).status == "done", what="an entry")
        assert done
        audit(stage)


def test_the_fence_of_the_next_epoch_waits_for_the_order_in_flight(stage: Stage) -> None:
    client, told = attach(stage)
    fault = stage.crossing.arm(Fault("slow", delay=min(IN_FLIGHT, TERMINAL_TIMEOUT * 0.7)))
    thread, results = in_background(client, entry(client, told))
    eventually(fault.fired.is_set, 20.0)
    number = stage.rig.supervisor.send_fence(1, 2)
    fenced = stage.rig.supervisor.wait(Fenced, lambda one: one.id == number, timeout=20.0)
    assert fenced.ok
    assert fault.done.is_set(), "acknowledged while the order was at the terminal"
    assert trades(stage) == 1
    thread.join(20.0)
    assert results[0].status == "done"
    _successor, told = attach(stage, 2, fence=False)
    assert told.position is not None, "the successor knows what its predecessor did"
    audit(stage)


def test_a_successor_attaches_only_when_the_lost_order_is_clear(stage: Stage) -> None:
    client, told = attach(stage)
    order = entry(client, told)
    stage.crossing.arm(Fault("late_execution", delay=TERMINAL_TIMEOUT * 1.25))
    assert client.send(order, timeout=20.0).status == "unknown"
    assert stage.rig.supervisor.fence(1, 2).ok
    successor = stage.rig.client(1, 2)
    stage.rig.feed(1, 2, "EURUSD")
    with pytest.raises(GatewayDown, match=r"outcome of order .* is not known yet"):
        successor.attach("EURUSD", "H1", 60, timeout=2.0)
    assert again(successor).position is not None
    assert outcome(client, order.id).status == "done"
    audit(stage)


def test_an_escaped_bot_that_goes_on_is_not_heard(stage: Stage) -> None:
    """Two runs of one bot, as on two hosts: what the older one has decided, and what it still decides."""
    old, told = attach(stage)
    prepared = entry(old, told)
    successor, told_now = attach(stage, 2)
    assert successor.send(entry(successor, told_now)).status == "done"
    assert old.send(prepared).status == "refused"
    with pytest.raises(AttachDenied, match="epoch 1 is old"):
        old.attach("EURUSD", "H1", 60, timeout=5.0)
    assert old.send(entry(old, told)).status == "refused"
    # Even one that claims to be of the new epoch is not attached over this connection.
    forged = prepared.model_copy(update={"epoch": 2, "seq": 9})
    assert "not attached" in old.send(forged).reason
    assert trades(stage) == 1
    audit(stage)


def test_doubled_and_reordered_requests(stage: Stage) -> None:
    client, told = attach(stage)
    first, second = entry(client, told), entry(client, told)
    close_unknown = client.new_order(
        "close", symbol="EURUSD", side="buy", volume=0.1, position=1, decision=first.decision, bar_time=first.bar_time
    )
    frames = [encode(one) for one in (close_unknown, second, first, second, first, close_unknown)]
    frames.insert(2, encode(OrderQuery(id=first.id, bot_id=1, epoch=1)))
    for frame in frames:
        client._socket.send(frame)
    results = {order.seq: outcome(client, order.id) for order in (first, second, close_unknown)}
    # The entry that came first has the decision; the one that was asked for before it came stays refused.
    assert [results[order.seq].status for order in (second, first, close_unknown)] == ["done", "refused", "refused"]
    assert results[close_unknown.seq].retcode == api.TRADE_RETCODE_POSITION_CLOSED
    assert trades(stage) == 1
    audit(stage)


def test_a_bot_stopped_past_its_bar_sends_nothing_stale(stage: Stage) -> None:
    client, told = attach(stage)
    order = entry(client, told)
    moment = last_bar_time(told)
    before = stage.crossing.watch.last_closed.get("EURUSD|H1", moment)
    # The market goes on by the test's own hand; the gateway sees it with its next step, as it sees its own.
    stage.gateway.send_signal(signal.SIGSTOP)
    client._socket.send(encode(order))  # it lies in the stopped gateway's queue
    for _ in range(3):
        assert stage.direct.step() is not None
    stage.gateway.send_signal(signal.SIGCONT)
    result = outcome(client, order.id)
    assert stage.crossing.watch.last_closed.get("EURUSD|H1", moment) >= before
    stale = order.model_copy(update={"seq": 7, "bar_time": moment - 3600, "decision": f"EURUSD|H1|{moment - 3600}"})
    assert "last closed one" in client.send(stale).reason
    assert result.status in ("done", "refused")


def test_what_the_market_did_while_the_gateway_was_down_is_in_the_ledger(stage: Stage) -> None:
    """Hours pass by the market's own clock: a stop is reached with nobody there."""
    client, told = attach(stage)
    bid = float(told.info["bid"])
    done = client.send(entry(client, told, sl=round(bid - 0.0015, 5), tp=round(bid + 0.0015, 5)))
    assert done.status == "done", done
    stage.kill_gateway()
    until = time.monotonic() + 30.0
    while stage.direct.positions_get() and time.monotonic() < until:
        assert stage.direct.step() is not None
    assert stage.direct.positions_get() == ()
    stage.start_gateway()
    again_told = again(client)
    assert again_told.position is None
    assert again_told.time > told.time
    reasons = eventually(
        lambda: rows if len(rows := stage.rows("SELECT reason FROM ledger_deals WHERE bot_id = 1")) == 2 else None
    )
    assert reasons[1][0] in (api.DEAL_REASON_SL, api.DEAL_REASON_TP)
    audit(stage)


def test_without_its_terminal_a_gateway_holds_and_refuses_nobody_for_good(stage: Stage) -> None:
    """The terminal's process is gone: nothing is sent, no bot is told that it is wrong, a close waits."""
    client, told = attach(stage)
    stage.terminal.kill()
    stage.terminal.wait(10)
    refused = client.send(entry(client, told), timeout=30.0)
    assert refused.status == "refused"
    with pytest.raises(GatewayDown):
        client.attach("EURUSD", "H1", 60, timeout=10.0)
    assert stage.gateway.poll() is None
