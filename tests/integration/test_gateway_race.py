"""Lockstep through a real gateway: the same deals, however the bots race; and nobody waits for the dead."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from broker.client import Follower, GatewayClient, MarketFeed
from broker.market import from_bytes
from protocol.messages import Bar, Figures
from tests.gateway_rig import Rig
from tests.support import eventually

pytestmark = pytest.mark.posix

ACCOUNT = {"bars_per_second": "max", "symbols": ("EURUSD", "GBPUSD"), "seed": 3}


class Player:
    """A bot that opens at every third bar and closes at the next."""

    def __init__(self, rig: Rig, bot_id: int, epoch: int = 1) -> None:
        self.bot_id = bot_id
        self.feed: MarketFeed = rig.feed(bot_id, epoch, "EURUSD")
        self.client: GatewayClient = rig.client(bot_id, epoch)
        self.told = self.client.attach("EURUSD", "H1", 60, timeout=5.0)
        self.follower = Follower(self.told)
        self.seen: list[int] = []

    def next_bar(self) -> Bar:
        """The next bar, which must come."""

        def look() -> list[Bar]:
            return [bar for bar in self.feed.read(1) if self.follower.judge(bar) == "next"]

        bar = eventually(look, 10.0, what=f"bar for bot {self.bot_id}")[0]
        self.seen.append(bar.seq)
        return bar

    def play(self) -> None:
        """Answer one bar."""
        bar = self.next_bar()
        moment = int(from_bytes(bar.row)["time"][0])
        decision: dict[str, Any] = {"decision": f"EURUSD|H1|{moment}", "bar_time": moment, "symbol": "EURUSD"}
        if bar.seq % 3 == 1:
            order = self.client.new_order("open", side="buy", volume=0.1, **decision)
            result = self.client.send(order, timeout=20.0)
            # At a weekend's end the market may be closed; then there is nothing to close either.
            self.held = result.position
        elif bar.seq % 3 == 2 and self.held:
            order = self.client.new_order("close", side="buy", volume=0.1, position=self.held["ticket"], **decision)
            self.client.send(order, timeout=20.0)
        self.client.bar_done(bar.seq, moment)


def deals_of_a_run(folder: Path, seed: int, bars: int = 12) -> list[dict[str, Any]]:
    shuffled = random.Random(seed)
    with Rig(folder, ACCOUNT) as rig:
        rig.start()
        rig.ready()
        rig.supervisor.roster((1, "EURUSD"), (2, "EURUSD"), (3, "EURUSD"))
        for bot_id in (1, 2, 3):
            assert rig.supervisor.fence(bot_id, 1).ok
        players = [Player(rig, bot_id) for bot_id in shuffled.sample((1, 2, 3), 3)]
        with ThreadPoolExecutor(3) as pool:
            for _ in range(bars):
                shuffled.shuffle(players)
                list(pool.map(Player.play, players))
        assert all(player.seen == list(range(1, bars + 1)) for player in players)
        answer: list[dict[str, Any]] = rig.supervisor.query("deals")
        return answer


def test_the_same_deals_however_the_bots_race(tmp_path: Path) -> None:
    runs = []
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        runs.append(deals_of_a_run(folder, seed))
    assert runs[0] == runs[1]
    entries = [deal for deal in runs[0] if deal["entry"] == 0 and deal["magic"]]
    assert len(entries) >= 6
    by_time: dict[int, list[int]] = {}
    for deal in entries:
        by_time.setdefault(deal["time"], []).append(deal["magic"])
    assert all(magics == [10, 20, 30] for magics in by_time.values()), by_time


def test_the_feed_holds_for_the_roster_and_not_for_the_fenced(tmp_path: Path) -> None:
    with Rig(tmp_path, ACCOUNT) as rig:
        rig.start()
        rig.ready()
        start = rig.supervisor.query("ping")["time"]
        rig.supervisor.roster((1, "EURUSD"), (2, "EURUSD"))
        for bot_id in (1, 2):
            assert rig.supervisor.fence(bot_id, 1).ok
        first = Player(rig, 1)
        assert rig.supervisor.query("ping")["time"] == start, "bot 2 has not attached"
        second = Player(rig, 2)
        for player in (first, second):
            bar = player.next_bar()
            player.client.bar_done(bar.seq, 0)
        bar = first.next_bar()
        first.client.bar_done(bar.seq, 0)
        # Bot 2 says nothing: time stands still, until it is fenced off.
        moment = rig.supervisor.query("ping")["time"]
        assert rig.supervisor.query("ping")["time"] == moment
        assert rig.supervisor.fence(2, 1, alive=False).ok
        bar = first.next_bar()
        assert rig.supervisor.query("ping")["time"] > moment
        # Its successor is waited for again, once it may trade.
        assert rig.supervisor.fence(2, 2).ok
        first.client.bar_done(bar.seq, 0)
        moment = rig.supervisor.query("ping")["time"]
        successor = Player(rig, 2, 2)
        assert rig.supervisor.query("ping")["time"] >= moment
        for player in (first, successor):
            player.client.bar_done(player.next_bar().seq, 0)
        # A pause lets the others go on alone.
        successor.client.detach()
        for _ in range(3):
            first.client.bar_done(first.next_bar().seq, 0)


def test_the_end_of_a_replay_is_told(tmp_path: Path) -> None:
    rows = ["time,open,high,low,close,tick_volume,spread"]
    for hour in range(60):
        day, at = divmod(hour, 24)
        price = 1.1 + hour * 1e-4
        row = [f"2020-01-{6 + day:02d} {at:02d}:00:00", price, price + 1e-3, price - 1e-3, price + 5e-5, 100, 10]
        rows.append(",".join(str(value) for value in row))
    (tmp_path / "EURUSD_H1.csv").write_text("\n".join(rows) + "\n")
    account = {
        "feed": "replay", "path": ".", "start": "2020-01-07", "symbols": ("EURUSD",), "bars_per_second": "max"
    }  # fmt: skip
    with Rig(tmp_path, account) as rig:
        rig.start()
        rig.ready()
        rig.supervisor.roster((1, "EURUSD"))
        assert rig.supervisor.fence(1, 1).ok
        player = Player(rig, 1)
        assert len(from_bytes(player.told.bars)) == 24
        for _ in range(36):
            player.client.bar_done(player.next_bar().seq, 0)
        rig.supervisor.wait(Figures, lambda one: one.detail == "ended")
        assert rig.supervisor.query("account")["ended"] is True
