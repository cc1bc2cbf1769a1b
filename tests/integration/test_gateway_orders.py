"""A real gateway process over real sockets, ledger and paper account: fences, orders, and a crash between."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import delete

from broker.client import AttachDenied, Follower, GatewayClient, GatewayDown, TerminalFailed
from broker.market import from_bytes
from protocol.codec import encode
from protocol.keys import new_pair
from protocol.messages import Attached, Bar, Bye, Figures, Order, OrderResult
from store.database import open_database
from store.deals import all_deals
from store.ledger import add_intents, intent_of
from store.tables import order_results
from tests.clockstep import WallClock
from tests.gateway_rig import Rig, last_bar_time
from tests.support import eventually

pytestmark = pytest.mark.posix

#: The market hardly moves: a test sees one and the same last closed bar.
STILL = {"bars_per_second": 0.01, "symbols": ("EURUSD", "GBPUSD")}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path, STILL) as rig:
        rig.start()
        rig.ready()
        yield rig


def attached(rig: Rig, bot_id: int = 1, epoch: int = 1, symbol: str = "EURUSD") -> tuple[GatewayClient, Attached]:
    assert rig.supervisor.fence(bot_id, epoch).ok
    rig.feed(bot_id, epoch, symbol)
    client = rig.client(bot_id, epoch)
    return client, client.attach(symbol, "H1", 60, timeout=5.0)


def entry(client: GatewayClient, told: Attached, side: str = "buy") -> Order:
    moment = last_bar_time(told)
    return client.new_order(
        "open",
        symbol=told.symbol,
        side=side,
        volume=0.1,
        decision=f"{told.symbol}|H1|{moment}",
        bar_time=moment,
    )


def exit_of(client: GatewayClient, told: Attached, result: OrderResult) -> Order:
    assert result.position is not None
    return client.new_order(
        "close",
        symbol=told.symbol,
        side="buy" if result.position["type"] == 0 else "sell",
        volume=result.position["volume"],
        position=result.position["ticket"],
        decision=f"{told.symbol}|H1|{last_bar_time(told)}",
        bar_time=last_bar_time(told),
    )


def test_attach_waits_for_the_fence_and_then_shows_the_account(rig: Rig) -> None:
    rig.feed(1, 1, "EURUSD")
    client = rig.client(1, 1)
    with pytest.raises(GatewayDown):
        client.attach("EURUSD", "H1", 60, timeout=0.3)
    assert rig.supervisor.fence(1, 1).ok
    told = client.attach("EURUSD", "H1", 60, timeout=5.0)
    assert told.position is None
    assert told.info["name"] == "EURUSD"
    assert told.account["balance"] == 10_000.0
    bars = from_bytes(told.bars)
    assert len(bars) == 60
    assert (bars["time"][1:] > bars["time"][:-1]).all()
    assert bars["time"][-1] + 3600 <= told.time, "only closed bars"
    tick = client.call("symbol_info_tick", "EURUSD")
    assert tick["bid"] < tick["ask"]
    with pytest.raises(TerminalFailed):
        client.call("symbol_info", "NOPE")
    with pytest.raises(TerminalFailed, match="not a function that bots may call"):
        client.call("order_send", {})


def test_denied_for_good(rig: Rig) -> None:
    rig.supervisor.fence(1, 5)
    with pytest.raises(AttachDenied, match="epoch 4 is old"):
        rig.client(1, 4).attach("EURUSD", "H1", 60, timeout=5.0)
    rig.feed(1, 5, "EURSD")
    with pytest.raises(AttachDenied, match="did you mean EURUSD"):
        rig.client(1, 5).attach("EURSD", "H1", 60, timeout=5.0)
    rig.supervisor.fence(1, 5, alive=False)
    with pytest.raises(AttachDenied, match="fenced off"):
        rig.client(1, 5).attach("EURUSD", "H1", 60, timeout=5.0)


def test_an_order_sent_three_times_is_done_once(rig: Rig) -> None:
    client, told = attached(rig)
    order = entry(client, told)
    first = client.send(order)
    assert (first.status, first.retcode) == ("done", 10009)
    assert first.position is not None
    assert [client.send(order).deal, client.send(order).deal] == [first.deal, first.deal]
    assert client.resolve(order.id).deal == first.deal
    assert len(rig.supervisor.query("positions")) == 1
    other = client.send(order.model_copy(update={"volume": 0.2}))
    assert other.status == "refused"
    assert "another payload" in other.reason
    again = client.send(entry(client, told))
    assert "has had its entry" in again.reason


def test_close_then_flat_and_deals_are_in_the_ledger(rig: Rig) -> None:
    client, told = attached(rig)
    opened = client.send(entry(client, told))
    closed = client.send(exit_of(client, told, opened))
    assert closed.status == "done"
    assert closed.position is None
    assert client.send(exit_of(client, told, opened)).retcode == 10036
    deals = rig.supervisor.query("deals")
    assert [deal["bot"] for deal in deals] == ["unattributed", "bot1", "bot1"]
    account = rig.supervisor.query("account")
    total = sum(deal["profit"] + deal["commission"] + deal["swap"] + deal["fee"] for deal in deals)
    assert account["balance"] == pytest.approx(total, abs=0.001)
    figures = rig.supervisor.wait(Figures, lambda one: bool(one.bots) and one.bots[0].realised != 0.0)
    assert figures.bots[0].realised == pytest.approx(total - 10_000.0, abs=0.001)
    ledger = open_database(rig.folder / "ledger-main.db", "ledger")
    with ledger.read() as connection:
        assert [deal.bot_id for deal in all_deals(connection)] == [None, 1, 1]
    ledger.close()


def test_old_epoch_stale_decision_and_foreign_position_are_refused(rig: Rig) -> None:
    client, told = attached(rig)
    other, told_other = attached(rig, 2)
    held = other.send(entry(other, told_other))
    stale = entry(client, told)
    stale = stale.model_copy(update={"decided_mono": stale.decided_mono - 31.0})
    assert "decided 31" in client.send(stale).reason
    assert "not this bot's" in client.send(exit_of(client, told, held)).reason
    old_bar = last_bar_time(told) - 3600
    early = client.new_order("open", symbol="EURUSD", volume=0.1, decision=f"EURUSD|H1|{old_bar}", bar_time=old_bar)
    assert "last closed one" in client.send(early).reason
    assert rig.supervisor.fence(1, 2).ok
    assert "not attached" in client.send(entry(client, told)).reason
    with pytest.raises(GatewayDown, match="attach again"):
        client.call("account_info")
    with pytest.raises(AttachDenied, match="old"):
        client.attach("EURUSD", "H1", 60)
    low = rig.supervisor.fence(1, 1)
    assert not low.ok
    assert low.highest_epoch == 2


def test_clocks_of_two_hosts_make_no_decision_older_or_younger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway's host has other clocks than the bot's, and somebody sets its wall clock while they speak."""
    clock = WallClock(tmp_path)
    clock.step(3600)
    with Rig(tmp_path, STILL) as rig:
        with monkeypatch.context() as there:
            for name, value in clock.environment.items():
                there.setenv(name, value)
            rig.start(later=5000.0)
        rig.ready()
        monkeypatch.setattr("broker.client.kernel_boot_id", lambda: "another host")
        client, told = attached(rig)
        stale = entry(client, told)
        assert abs(stale.decided_clock - time.monotonic() - 5000.0) < 5.0
        stale = stale.model_copy(update={"decided_clock": stale.decided_clock - 31.0})
        assert "decided 31" in client.send(stale).reason
        opened = client.send(entry(client, told))
        assert opened.status == "done", opened
        clock.step(-20_000)
        closed = client.send(exit_of(client, told, opened))
        assert closed.status == "done", closed
        # A bot whose host stood still between the word of the gateway and its decision: the gateway's clock went on.
        asleep = exit_of(client, told, opened)
        asleep = asleep.model_copy(update={"decided_clock": asleep.decided_clock - 3600.0})
        assert "decided 36" in client.send(asleep).reason


def test_an_id_asked_for_before_it_came_stays_refused(rig: Rig) -> None:
    client, told = attached(rig)
    order = entry(client, told)
    assert client.resolve(order.id).status == "refused"
    assert client.send(order).status == "refused"
    assert rig.supervisor.query("positions") == []


def test_a_successor_resolves_what_its_killed_predecessor_left(rig: Rig) -> None:
    client, told = attached(rig)
    order = entry(client, told)
    done = client.send(order)
    rig.processes[0].send_signal(signal.SIGKILL)
    rig.processes[0].wait(10)
    # As if it had died between the send and the result; and once before the send.
    ledger = open_database(rig.folder / "ledger-main.db", "ledger")
    with ledger.begin() as connection:
        connection.execute(delete(order_results).where(order_results.c.id == order.id))
        intent = intent_of(connection, order.id)
        assert intent is not None
        never = replace(intent, id="inst:1:1:99", seq=99, decision="x", before_deal=done.deal, before_order=done.order)
        add_intents(connection, [never])
    ledger.close()
    rig.supervisor.told.clear()
    rig.start()
    rig.ready()

    def answers(order_id: str) -> list[OrderResult]:
        result = client.resolve(order_id, timeout=1.0)
        return [] if result.status == "unknown" else [result]

    found = eventually(lambda: answers(order.id))[0]
    assert (found.status, found.deal) == ("done", done.deal)
    lost = eventually(lambda: answers("inst:1:1:99"))[0]
    assert lost.status == "refused"
    assert "no trace" in lost.reason
    assert len(rig.supervisor.query("positions")) == 1
    assert "not attached" in client.send(order.model_copy(update={"seq": 5})).reason
    told = again(client)
    assert told.position is not None
    assert told.position["magic"] == 10
    assert client.send(order).deal == done.deal, "known to the ledger, though meant for the predecessor"


def again(client: GatewayClient) -> Attached:
    def attempt() -> list[Attached]:
        try:
            return [client.attach("EURUSD", "H1", 60, timeout=2.0)]
        except GatewayDown:
            return []

    return eventually(attempt, 20.0, what="attach")[0]


def test_after_a_restart_without_a_supervisor_only_closes(rig: Rig) -> None:
    client, told = attached(rig)
    opened = client.send(entry(client, told))
    rig.supervisor.welcoming = False
    rig.processes[0].send_signal(signal.SIGKILL)
    rig.processes[0].wait(10)
    rig.start()
    told = again(client)
    moment = last_bar_time(told)
    # Its own number again: the gateway's rule is asked here, not the decision key's.
    fresh = client.new_order("open", symbol="EURUSD", volume=0.1, decision=f"EURUSD|H1|{moment}", bar_time=moment)
    assert "no supervisor has spoken" in client.send(fresh).reason
    assert client.send(exit_of(client, told, opened)).status == "done"


def test_flatten_by_magic_and_stop_on_command(rig: Rig) -> None:
    client, told = attached(rig)
    client.send(entry(client, told))
    assert rig.supervisor.fence(1, 1, alive=False).ok
    answer = rig.supervisor.query("close", magic=10, bot_id=1)
    assert answer["flat"]
    assert [one["retcode"] for one in answer["positions"]] == [10009]
    rig.supervisor.stop_gateway()
    assert rig.processes[0].wait(10) == 0
    rig.supervisor.wait(Bye)


def test_sigterm_ends_it_and_the_account_goes_on_where_it_was(rig: Rig) -> None:
    client, told = attached(rig)
    opened = client.send(entry(client, told))
    rig.processes[0].terminate()
    assert rig.processes[0].wait(10) == 0
    rig.supervisor.told.clear()
    rig.start()
    rig.ready()
    assert opened.position is not None
    assert [one["ticket"] for one in rig.supervisor.query("positions")] == [opened.position["ticket"]]


def test_two_gateways_on_one_account_are_impossible(rig: Rig) -> None:
    assert rig.start().wait(20) == 75
    assert rig.processes[0].poll() is None


def test_no_bar_is_missed_between_attach_and_feed(tmp_path: Path) -> None:
    with Rig(tmp_path, {**STILL, "bars_per_second": 100}) as rig:
        rig.start()
        rig.ready()
        for epoch in range(1, 6):
            assert rig.supervisor.fence(1, epoch).ok
            feed = rig.feed(1, epoch, "EURUSD")
            told = rig.client(1, epoch).attach("EURUSD", "H1", 60, timeout=5.0)
            follower = Follower(told)
            times = [last_bar_time(told)]
            until = time.monotonic() + 10.0
            while len(times) < 15 and time.monotonic() < until:
                feed.socket.poll(100)
                for bar in feed.read():
                    verdict = follower.judge(bar)
                    assert verdict != "gap"
                    if verdict == "next":
                        times.append(int(from_bytes(bar.row)["time"][0]))
            assert len(times) >= 15
            # Synthetic markets close at weekends, so hours may be missing; but none comes twice or backwards.
            assert all(later > earlier for earlier, later in pairwise(times))
            whole = rig.supervisor.query("rates", symbol="EURUSD", timeframe="H1", count=500)
            history = [int(moment) for moment in from_bytes(whole["bars"])["time"]]
            first = history.index(times[0])
            assert history[first : first + len(times)] == times


def test_a_hundred_attach_at_once(rig: Rig) -> None:
    clients = []
    for bot_id in range(1, 101):
        rig.feed(bot_id, 1, "EURUSD")
        clients.append(rig.client(bot_id, 1))
        rig.supervisor.send_fence(bot_id, 1)
    started = time.monotonic()
    assert all(client.attach("EURUSD", "H1", 250, timeout=10.0).bars for client in clients)
    assert time.monotonic() - started < 5.0


def test_netting_account_has_one_bot_per_symbol(tmp_path: Path) -> None:
    with Rig(tmp_path, {**STILL, "margin_mode": "netting"}) as rig:
        rig.start()
        rig.ready()
        attached(rig, 1)
        with pytest.raises(AttachDenied, match="traded by bot1"):
            attached(rig, 2)
        attached(rig, 2, 2, "GBPUSD")


def test_a_position_that_was_kept_on_netting_is_not_its_successors(tmp_path: Path) -> None:
    """A bot is removed with its position kept, and added anew: another number, another magic."""
    with Rig(tmp_path, {**STILL, "margin_mode": "netting"}) as rig:
        rig.start()
        rig.ready()
        former, told = attached(rig, 1)
        assert former.send(entry(former, told)).status == "done"
        assert rig.supervisor.fence(1, 1, alive=False).ok
        client, told = attached(rig, 2)
        assert told.position is None
        result = client.send(entry(client, told, "sell"))
        assert result.status == "refused"
        assert result.reason == "netting: the position on EURUSD is not this bot's (magic 10)"
        assert [one["volume"] for one in rig.supervisor.query("positions")] == [0.1]


def test_tcp_needs_the_key_of_the_fence(tmp_path: Path) -> None:
    with Rig(tmp_path, STILL, tcp=True) as rig:
        rig.start()
        rig.ready()
        pair, stranger = new_pair(), new_pair()
        early = rig.client(1, 1, pair)
        with pytest.raises(GatewayDown):
            early.attach("EURUSD", "H1", 60, timeout=0.3)
        assert rig.supervisor.fence(1, 1, key=pair.public).ok
        told = again(early)
        assert early.send(entry(early, told)).status == "done"
        with pytest.raises(GatewayDown):
            rig.client(1, 1, stranger).attach("EURUSD", "H1", 60, timeout=0.5)
        # A key of another bot may connect, but not speak for this one.
        assert rig.supervisor.fence(2, 1, key=stranger.public).ok
        with pytest.raises(GatewayDown):
            rig.client(1, 1, stranger).attach("EURUSD", "H1", 60, timeout=0.5)


def test_rubbish_frames_do_no_harm(rig: Rig) -> None:
    client, told = attached(rig)
    for frame in (b"", b"\xc1", b"\x81\xa1t\xa5order", encode(Bar.model_construct(t="bar", symbol="X"))):
        client._socket.send(frame)
    assert client.send(entry(client, told)).status == "done"
