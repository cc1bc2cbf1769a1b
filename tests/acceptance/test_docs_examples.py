"""What the pages show, done: the clients of the protocol page and the strategy of the author's page, for real."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.runtime.handlers import handlers_of
from tests.daemon import Daemon, bot_text, config_text
from tests.support import eventually

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


def documented() -> dict[str, set[str]]:
    """Of every command on the protocol page that has a result with named keys: those keys."""
    page = (ROOT / "docs" / "control-protocol.md").read_text("utf-8").split("## Commands\n")[1]
    found = {}
    for names, result in re.findall(r"^\| (`.*?`) \|.*?\| (.*) \|$", page.split("### A bot in status")[0], re.M):
        inside = re.search(r"\{(.*)\}", result)
        keys = re.sub(r"[:?]\s*(?:\[[^\]]*\]|\{[^}]*\}+|[a-z]+)?", "", inside[1]) if inside else ""
        for name in re.findall(r"`([\w-]+)`", names):
            found[name] = {key.strip() for key in keys.split(",") if key.strip()}
    listed = page.split("### A bot in status")[1].split("## Events")[0].split(". What is not")[0]
    found["status"] = set(re.findall(r"`([a-z0-9_]+)`", listed))
    return found


def test_answers_have_the_keys_of_the_page(stable: Make) -> None:
    daemon = stable(config_text(bots=bot_text("one"))).start()
    daemon.wait_all("running")
    keys = documented()
    assert len(keys["status"]) > 20 and {"down", "handover", "reload", "add"} <= keys.keys()
    eventually(lambda: daemon.ask("host").get("cpu_percent") is not None, what="a sample of the host")
    eventually(lambda: daemon.ask("history", bot="one"), what="the first line of the bot's history")
    given: dict[str, dict[str, Any]] = {key: {"bot": "one"} for key in ("show", "analysis", "history", "logs")}
    eventually(lambda: daemon.ask("equity"), what="the first sample of the account's equity")
    for name in ("ping", "status", "host", "show", "analysis", "history", "events", "logs", "strategies", "accounts",
                 "account", "symbols", "equity"):  # fmt: skip
        answer = daemon.ask(name, 30.0, **given.get(name, {}))
        row = answer[0] if isinstance(answer, list) else answer
        assert keys[name] - {"error"} <= row.keys(), name
    table = handlers_of(None, None, None)  # type: ignore[arg-type]
    assert keys.keys() == table.keys()
