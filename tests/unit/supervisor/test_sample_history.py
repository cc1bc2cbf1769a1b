"""Samples in memory and in the store: of fixed size, the unknown stays unknown, minutes are means."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from store import samples
from store.database import open_database
from store.samples import Minute
from supervisor.policy import events
from supervisor.policy.admission import Means
from supervisor.policy.instructions import RecordIntent
from supervisor.policy.states import Cause, State
from supervisor.runtime.admitting import Admitting
from supervisor.runtime.probe import Probe
from supervisor.runtime.registry import Record, Registry, Sample
from supervisor.runtime.samplehistory import BOT_STEP, HOST_KEYS, Ring, SampleHistory


def test_a_ring_keeps_the_last_rows_in_order() -> None:
    ring = Ring(["a", "b"], 4)
    for number in range(10):
        ring.add(float(number), [number, None if number % 2 else number])
    assert ring.rows() == [[6.0, 6.0, 6.0], [7.0, 7.0, None], [8.0, 8.0, 8.0], [9.0, 9.0, None]]
    assert ring.rows(since=8.0) == [[9.0, 9.0, None]]
    assert ring.last == 9.0


def test_a_clock_that_is_set_back_ends_a_minute_and_the_next_ones_follow() -> None:
    history = SampleHistory(2.0)
    minutes: list[Minute] = []
    history.minute_over = minutes.append
    for start in (10_000.0, 6_400.0):  # an hour back
        for tick in range(100):
            history.take(start + 2 * tick, {"cpu_percent": 1.0}, {})
    assert len(minutes) >= 6 and [one.at for one in minutes if one.at < 9_000.0], [one.at for one in minutes]


def test_minutes_are_means_of_what_was_known() -> None:
    history = SampleHistory(2.0)
    minutes: list[Minute] = []
    history.minute_over = minutes.append
    for tick in range(65):
        cpu = None if tick % 2 else 10.0
        history.take(1000.0 + 2 * tick, {"cpu_percent": cpu, "pressure": {"cpu": 3.0}}, {
            7: Sample(at=0.0, cpu_percent=50.0, rss_bytes=2_000_000, uss_bytes=None),
        })  # fmt: skip
    assert len(minutes) == 2
    assert minutes[0].host["cpu_percent"] == 10.0 and minutes[0].host["pressure_cpu"] == 3.0
    assert minutes[0].host["memory_percent"] is None
    assert minutes[0].bots == {7: [50.0, 2_000_000.0, None]}
    kept = history.bots[7].rows()
    assert len(kept) == pytest.approx(130 / BOT_STEP, abs=1)
    assert len(history.host.rows()) == 65 and len(HOST_KEYS) == len(history.host.rows()[0]) - 1


def test_minutes_in_the_store(tmp_path: Path) -> None:
    database = open_database(tmp_path / "supervisor.db", "supervisor")
    with database.begin() as conn:
        for number in range(5):
            bots: dict[int, list[float | None]] = {3: [1.5, 2e6, None], 4: [number, None, None]}
            samples.append(conn, Minute(60.0 * number, {"cpu_percent": float(number)}, bots))
    with database.begin() as conn:
        assert [one.at for one in samples.since(conn, 60.0)] == [120.0, 180.0, 240.0]
        assert samples.of_bot(conn, 3, 200.0) == [(240.0, [1.5, 2e6, None])]
        assert samples.of_bot(conn, 9, 0.0) == []
        assert samples.prune(conn, before=180.0) == 3
    database.close()


def test_the_probe_knows_rates_only_from_the_second_sample_on() -> None:
    probe = Probe(data_dir="/")
    first: dict[str, float | None] = {"network_sent": 1000.0, "network_received": 10.0}
    probe._rates(first)
    assert first["network_sent_per_s"] is None
    back: dict[str, float | None] = {"network_sent": 10.0, "network_received": 20.0}
    probe._rates(back)
    assert back["network_sent_per_s"] is None, "a counter that went back says nothing"
    later: dict[str, float | None] = {"network_sent": 5000.0, "network_received": 20.0}
    probe._rates(later)
    assert later["network_sent_per_s"] and later["network_received_per_s"] == 0.0


class Starts:
    """A gate of starts with a simulated outside."""

    def __init__(self, count: int, means: Means) -> None:
        self.registry = Registry()
        self.states = dict.fromkeys(range(1, count + 1), State.STARTING)
        self.posted: list[events.Event] = []
        self.started: list[int] = []
        for number in self.states:
            self.registry.add(Record(bot_id=number, name=f"b{number}", kind="bot", wanted="running", account="main"))
        self.means = means
        self.gate = Admitting(
            self.registry, lambda one: self.states[one.bot_id], lambda one: Cause.LAUNCH, lambda: self.means,
            self.posted.append,
        )  # fmt: skip
        self.gate.start = self._start

    def _start(self, record: Record, instruction: RecordIntent) -> None:
        self.registry.new_run(record, instruction.epoch, 0.0, 0.0)
        self.started.append(record.bot_id)

    def ask(self, bot_id: int) -> None:
        self.gate.ask(RecordIntent(bot_id, 1, bot_id % 10))

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.started) < count:
                await asyncio.sleep(0.001)

    def up(self, bot_id: int) -> None:
        run = self.registry.by_id[bot_id].run
        assert run is not None
        run.beat_at = 1.0
        self.states[bot_id] = State.RUNNING


def test_starts_go_by_priority_and_follow_those_that_came_up() -> None:
    async def play() -> None:
        world = Starts(30, Means(available=20, total=0, per_bot=1))  # room for 20
        for number in world.states:
            world.ask(number)
        await world.until(20)
        assert [one % 10 for one in world.started] == sorted((one % 10 for one in world.started), reverse=True)
        assert min(one % 10 for one in world.started) == 3
        assert world.gate.waiting == 10 and "memory" in world.gate.holds
        assert "memory" in world.gate.reason(1) and world.gate.reason(world.started[0]) == ""
        world.means = Means()
        for number in list(world.started):
            world.up(number)
        await world.until(30)
        assert world.gate.waiting == 0

    asyncio.run(play())


def test_who_is_no_longer_wanted_leaves_the_queue_unrecorded() -> None:
    async def play() -> None:
        world = Starts(3, Means(available=1, total=0, per_bot=1))
        for number in world.states:
            world.ask(number)
        await world.until(1)
        assert world.started == [3]
        world.states[1] = State.STOPPING
        async with asyncio.timeout(5):
            while not world.posted:
                await asyncio.sleep(0.001)
        assert world.posted == [events.RecordFailed(1, 1, "no longer wanted")]
        world.means = Means()
        await world.until(2)
        assert world.started == [3, 2]

    asyncio.run(play())


def test_those_that_come_up_behind_many_slow_ones_make_room_as_well() -> None:
    async def play() -> None:
        world = Starts(300, Means())
        for number in world.states:
            world.ask(number)
        await world.until(100)
        for number in world.started[-20:]:  # the oldest eighty hang
            world.up(number)
        await world.until(120)
        world.states[min(set(world.states) - set(world.started))] = State.STOPPING
        for number in list(world.started):
            world.up(number)
        await world.until(299)
        assert len(world.posted) == 1 and world.gate.waiting == 0

    asyncio.run(play())


def test_failed_forks_narrow_the_gate() -> None:
    async def play() -> None:
        world = Starts(300, Means())
        for number in world.states:
            world.ask(number)
        await world.until(100)
        before = world.gate.gate.window
        for number in world.started:
            run = world.registry.by_id[number].run
            assert run is not None
            run.ended = True
            world.states[number] = State.BACKOFF
        await world.until(101)
        assert world.gate.gate.window <= before / 2

    asyncio.run(play())
