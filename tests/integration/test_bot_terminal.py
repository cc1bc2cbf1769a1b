"""One bot as a real process on a gateway whose terminal is MetaTrader's, or behaves like it, and may fail."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from protocol.messages import Ready, Waiting
from tests.integration.test_bot_process import _EAGER, Scene
from tests.integration.test_mt5_gateway import ACCOUNT, MARKET, Mt5Rig, environment
from tests.support import eventually

pytestmark = pytest.mark.posix


@contextmanager
def scene(folder: Path, *, seconds_a_bar: float) -> Iterator[tuple[Scene, Mt5Rig]]:
    """A launcher, and a gateway of an account of its own, both started."""
    account: dict[str, Any] = ACCOUNT | {"login": random.randrange(10**6, 10**9)}
    market = MARKET.replace("bars_per_second = 3", f"bars_per_second = {1 / seconds_a_bar}")
    with environment(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("STABLEHAND_MT5_MODULE", "tests.slowhistory")
        rig = Mt5Rig(folder, account, market)
        made = Scene(folder, rig)
        with rig:
            (made.modules / "eager.py").write_text(_EAGER)
            try:
                yield made, rig
            finally:
                made.launchers.clean()
                made.bus.close()


def test_a_bar_on_which_the_position_could_not_be_read_is_tried_again(tmp_path: Path) -> None:
    """The last bar of the history is young enough, and the only one in this time."""
    with scene(tmp_path, seconds_a_bar=600.0) as (stage, rig):
        stage.start()
        assert rig.supervisor.fence(1, 1, magic=10).ok
        bot = {"strategy": "eager:Eager", "check_interval_seconds": 600.0, "order_ttl_seconds": 3600.0}
        spec = stage.launch(bot=bot, first_work_after=600.0)  # it decides some seconds after it is ready
        stage.bus.wait(Ready)
        rig.order(fail={"positions_get": [-10005, "IPC timeout"]})
        eventually(lambda: stage.rows("ERROR"), 20.0, what="a bar on which the position is not known")
        missed = stage.do("analyse").result["bar_time"]
        assert not stage.rows("OPEN_BUY")
        rig.order()
        eventually(lambda: stage.rows("OPEN_BUY"), 20.0, what="an entry")
        assert stage.rows("OPEN_BUY")[0].data["decision"] == f"EURUSD|H1|{missed}"
        assert stage.do("stop").ok and stage.exit_code(spec) == 0


def test_bars_that_the_terminal_has_loaded_meanwhile_are_asked_for(tmp_path: Path) -> None:
    """No bar closes in this time: none is published, and all of them are there."""
    with scene(tmp_path, seconds_a_bar=600.0) as (stage, rig):
        rig.order(loaded=20)
        stage.start()
        assert rig.supervisor.fence(1, 1, magic=10).ok
        spec = stage.launch(bot={"strategy": "eager:Eager"})
        told = stage.bus.wait(Waiting, lambda waiting: waiting.reason == "warmup")
        assert told.detail.endswith(" of 60 bars") and int(told.detail.split()[0]) <= 20
        assert not stage.bus.all(Ready)
        rig.order()
        assert stage.bus.wait(Ready).token == spec["token"]
        assert stage.do("analyse").result["signal"] == "BUY"
        assert stage.do("stop").ok and stage.exit_code(spec) == 0
