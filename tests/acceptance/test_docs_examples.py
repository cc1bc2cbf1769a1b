"""What the pages show, done: the clients of the protocol page and the strategy of the author's page, for real."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon import Daemon, bot_text, config_text

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).resolve().parents[2]
Make = Callable[..., Daemon]


def example(page: str, heading: str) -> str:
    """The first Python block below a heading."""
    section = (ROOT / "docs" / page).read_text("utf-8").split(f"## {heading}\n")[1]
    code = re.search(r"```python\n(.*?)```", section, re.S)
    assert code is not None
    return code[1]


def run(code: str, daemon: Daemon, *words: str) -> list[str]:
    """Lines that a program prints which stands in the installation's folder."""
    script = daemon.folder / "client.py"
    script.write_text(code, "utf-8")
    done = subprocess.run(
        [sys.executable, script, *words], cwd=daemon.folder, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_both_clients_speak_to_a_real_supervisor(stable: Make) -> None:
    daemon = stable(config_text(bots=bot_text("eurusd-ma") + bot_text("gold", "XAUUSD"))).start()
    before = {row["name"]: row["epoch"] for row in daemon.wait_all("running")}
    rows = run(example("control-protocol.md", "A client in plain pyzmq and msgpack"), daemon, "var")
    assert [row.split()[:2] for row in rows] == [["eurusd-ma", "running"], ["gold", "running"]]
    lines = run(example("control-protocol.md", "Python"), daemon)
    assert [line.split()[0] for line in lines[:2]] == ["eurusd-ma", "gold"]
    assert lines[2].startswith("1 ")  # the first event of the journal
    assert daemon.ask("show", bot="eurusd-ma")["override"] == {"risk_percent": 0.5}
    daemon.wait_all("running")
    after = {row["name"]: row["epoch"] for row in daemon.status()}
    assert after == {"eurusd-ma": before["eurusd-ma"] + 2, "gold": before["gold"]}  # restarted, and restarted by update


def test_the_strategy_of_the_page_trades(stable: Make) -> None:
    bot = bot_text("channel", strategy="channel:Channel", extra="params = { length = 5 }")
    daemon = stable(config_text(supervisor='strategy_path = ["strategies"]\n', bots=bot))
    (daemon.folder / "strategies").mkdir()
    code = example("writing-a-strategy.md", "The whole of it")
    (daemon.folder / "strategies" / "channel.py").write_text(code, "utf-8")
    daemon.start().wait_all("running")
    found = daemon.ask("analysis", bot="channel")
    assert found["signal"] in ("BUY", "SELL", "HOLD") and found["figures"].keys() == {"top", "bottom"}
    rules = {one["id"]: one["rule"] for one in daemon.ask("strategies")}
    assert rules["channel:Channel"].startswith("BUY when the close is above the highest high")
