"""One bot as a real process, forked by a real launcher, on a real gateway; the test plays the supervisor."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol.messages import Bye, Command, CommandDone, History, HistoryRow, Ready, Unwelcome, Waiting
from tests.gateway_rig import Rig, Supervisor
from tests.launchers import Launchers, Line
from tests.support import eventually

pytestmark = pytest.mark.posix

_ANGRY = """
from botproc.strategy import Strategy
class Angry(Strategy):
    lookback = 5
    def analyze(self, bars):
        raise ValueError('no mood')
"""
_EAGER = """
from botproc.strategy import Signal, Strategy
class Eager(Strategy):
    lookback = 60
    def analyze(self, bars):
        return Signal('BUY', float(bars['close'].iloc[-1]), 'Always.')
"""


class Scene:
    """Gateway, launcher, and a bus of the bots' own."""

    def __init__(self, folder: Path, rig: Rig | None = None) -> None:
        self.rig = rig or Rig(folder, {"bars_per_second": 20, "symbols": ("EURUSD",)})
        self.launchers = Launchers(folder, "fork")
        self.bus = Supervisor(self.rig.context, f"ipc://{folder}/bots.s")
        self.modules = folder / "modules"
        self.modules.mkdir()
        self.line: Line | None = None

    def start(self, *, gateway: bool = True) -> None:
        self.launchers.start(modules=self.modules)
        self.line = self.launchers.connect()
        if gateway:
            self.rig.start()
            self.rig.ready()

    def launch(self, **changes: Any) -> dict[str, Any]:
        bot: dict[str, Any] = {"name": "bot-1", "account": "main", "market": "EURUSD", "strategy": "MA_CROSSOVER"}
        bot |= {"check_interval_seconds": 30.0, **changes.pop("bot", {})}
        addresses = {key: self.rig.addresses[key] for key in ("orders", "market")}
        spec = self.launchers.spec(
            1, bus=f"ipc://{self.launchers.folder}/bots.s", installation="inst", magic=10, **addresses, **changes
        )
        spec["bot"] = bot
        assert self.line is not None
        assert self.launchers.launch(self.line, spec)["ok"]
        return spec

    def do(self, verb: Any, **args: Any) -> CommandDone:
        number = os.urandom(4).hex()
        self.bus.say(Command(id=number, verb=verb, args=args))
        return self.bus.wait(CommandDone, lambda done: done.id == number)

    def rows(self, action: str) -> list[HistoryRow]:
        return [row for told in self.bus.all(History) for row in told.rows if row.action == action]

    def exit_code(self, spec: dict[str, Any]) -> int:
        assert self.line is not None
        return int(self.line.notice(spec["token"])["code"])


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    with made.rig:
        yield made
        made.launchers.clean()
        made.bus.close()


def test_a_bot_waits_for_its_fence_then_is_ready_obeys_and_stops(scene: Scene) -> None:
    scene.start()
    spec = scene.launch()
    assert "dependency" in scene.bus.wait(Waiting).reason
    assert not scene.bus.all(Ready)
    assert scene.rig.supervisor.fence(1, 1, magic=10).ok
    assert scene.bus.wait(Ready).token == spec["token"]
    first = scene.do("analyse").result
    assert first["signal"] in ("BUY", "SELL", "HOLD") and first["explanation"]
    eventually(lambda: scene.do("analyse").result["bar_time"] > first["bar_time"], what="a newer bar")
    assert scene.do("pause").ok and scene.do("resume").ok and scene.do("pace", factor=2.0).ok
    begun = time.monotonic()
    assert scene.do("stop").ok
    assert scene.exit_code(spec) == 0
    assert time.monotonic() - begun < 1.0
    assert scene.bus.wait(Bye).reason == "stopped by command"
    assert len(scene.rows("START")) == len(scene.rows("STOP")) == 1


def test_it_attaches_again_to_the_gateways_successor(scene: Scene) -> None:
    scene.start()
    assert scene.rig.supervisor.fence(1, 1, magic=10).ok
    spec = scene.launch(bot={"check_interval_seconds": 0.2})
    scene.bus.wait(Ready)
    dead = scene.rig.processes[-1]
    dead.kill()
    dead.wait(5)
    scene.bus.wait(Waiting)
    scene.rig.start()
    eventually(lambda: len(scene.rig.supervisor.hellos) == 2, 20)
    assert scene.rig.supervisor.fence(1, 1, magic=10).ok
    assert scene.bus.wait(Ready, lambda ready: ready.detail != "", 20).token == spec["token"]
    before = scene.do("analyse").result["bar_time"]
    eventually(lambda: scene.do("analyse").result["bar_time"] > before, what="bars of the successor")
    assert len(scene.bus.hellos) == 1, "the same run all the time"


def test_a_strategy_that_raises_is_told_once_and_the_bot_lives(scene: Scene) -> None:
    (scene.modules / "angry.py").write_text(_ANGRY)
    scene.start()
    assert scene.rig.supervisor.fence(1, 1, magic=10).ok
    spec = scene.launch(bot={"strategy": "angry:Angry"})
    scene.bus.wait(Ready)
    eventually(lambda: scene.launchers.log(spec).count("Traceback") >= 3, what="three cycles that failed")
    assert not scene.do("analyse").ok
    assert [row.text for row in scene.rows("ERROR")] == ["the strategy failed: ValueError: no mood"]
    assert scene.do("stop").ok and scene.exit_code(spec) == 0


def test_a_bar_that_closes_ends_the_wait_for_those_that_start_too(scene: Scene) -> None:
    (scene.modules / "angry.py").write_text(_ANGRY)
    scene.start()
    assert scene.rig.supervisor.fence(1, 1, magic=10).ok
    spec = scene.launch(bot={"strategy": "angry:Angry"}, first_work_after=600.0)
    scene.bus.wait(Ready)
    eventually(lambda: "no mood" in scene.launchers.log(spec), what="a first cycle")


def test_a_run_of_an_old_epoch_waits_to_be_replaced(scene: Scene) -> None:
    """A supervisor that has lost its memory hears of the higher epoch as well, perhaps a moment later."""
    scene.start()
    assert scene.rig.supervisor.fence(1, 5, magic=10).ok
    spec = scene.launch()
    eventually(lambda: any("is old" in row.text for row in scene.rows("ERROR")), 10)
    assert scene.do("stop").ok, "it is still there to be stopped"
    assert scene.exit_code(spec) == 0


def test_a_refused_hello_ends_it_with_76(scene: Scene) -> None:
    scene.start(gateway=False)
    spec = scene.launch()
    eventually(lambda: scene.bus.hellos)
    scene.bus.say(Unwelcome(reason="epoch 1 is old"))
    assert scene.exit_code(spec) == 76
    assert "epoch 1 is old" in scene.launchers.log(spec)


def test_an_analysis_on_demand_needs_no_fence_and_no_lock(scene: Scene) -> None:
    scene.start()
    spec = scene.launch(kind="analysis")
    done = scene.bus.wait(CommandDone)
    assert done.id == spec["token"] and done.ok, done.error
    assert done.result["signal"] in ("BUY", "SELL", "HOLD")
    assert scene.exit_code(spec) == 0
    assert scene.bus.hellos[0].kind == "analysis"


@pytest.mark.parametrize("interval", [0.2, 3600.0])
def test_without_a_supervisor_it_follows_on_orphan(scene: Scene, interval: float) -> None:
    scene.start()
    assert scene.rig.supervisor.fence(1, 1, magic=10).ok
    spec = scene.launch(
        bot={"on_orphan": "close", "check_interval_seconds": interval, "timeframe": "D1"},
        orphan_after=0.5,
    )
    scene.bus.wait(Ready)
    scene.bus.close()
    assert scene.exit_code(spec) == 0
    assert "without a supervisor: closed and ended" in scene.launchers.log(spec)


def test_without_a_supervisor_it_ends_only_once_what_it_holds_is_closed(scene: Scene) -> None:
    (scene.modules / "eager.py").write_text(_EAGER)
    scene.start()
    assert scene.rig.supervisor.fence(1, 1, magic=10).ok
    bot = {"strategy": "eager:Eager", "on_orphan": "close", "check_interval_seconds": 0.2}
    spec = scene.launch(bot=bot, orphan_after=0.5)
    eventually(lambda: scene.rows("OPEN_BUY"), 20.0, what="a position")
    dead = scene.rig.processes[-1]
    dead.kill()
    dead.wait(5)
    scene.bus.close()
    eventually(lambda: "tried again every 0.2 s" in scene.launchers.log(spec), 20.0, what="it says what stays open")
    assert "closed and ended" not in scene.launchers.log(spec)
    scene.rig.start()
    eventually(lambda: len(scene.rig.supervisor.hellos) == 2, 20)
    assert scene.rig.supervisor.fence(1, 1, magic=10).ok
    assert scene.exit_code(spec) == 0
    assert "without a supervisor: closed and ended" in scene.launchers.log(spec)
    assert scene.rig.supervisor.query("positions") == []
    assert [one["entry"] for one in scene.rig.supervisor.query("deals") if one["magic"] == 10][-2:] == [0, 1]


def test_sigterm_is_a_stop(scene: Scene) -> None:
    scene.start()
    assert scene.rig.supervisor.fence(1, 1, magic=10).ok
    spec = scene.launch()
    scene.bus.wait(Ready)
    os.kill(scene.bus.hellos[0].pid, signal.SIGTERM)
    assert scene.exit_code(spec) == 0
    assert scene.bus.wait(Bye).reason == "SIGTERM"
