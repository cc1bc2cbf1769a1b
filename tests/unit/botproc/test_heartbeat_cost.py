"""What a bot does with each heartbeat, for months, must not add up."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from botproc import logs
from botproc.runner import BotRun
from protocol.botconfig import BotConfig
from protocol.spec import RunSpec


def test_no_heartbeat_interns_a_string(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython's table of interned strings (1.9 MB in a bot) is made anew when so many have come, however few stayed."""
    bot = BotConfig.model_validate({"name": "one", "market": "EURUSD", "strategy": "MA_CROSSOVER"})
    spec = RunSpec(
        kind="bot", token="t", bot_id=1, epoch=1, name="one", installation="", data_dir=str(tmp_path), lock_path="",
        log_path=str(tmp_path / "logs" / "one-that-nobody-has-interned.log"), bus=f"ipc://{tmp_path / 'bus'}", bot=bot,
    )  # fmt: skip
    run = BotRun(spec, bot, "")
    interned: list[str] = []
    intern = sys.intern

    def watched(text: str) -> str:
        interned.append(text)
        return intern(text)

    monkeypatch.setattr(sys, "intern", watched)
    try:
        logs.raw_path(spec.log_path)
        assert interned, "a Path no longer interns its parts: this test has lost its eye"
        interned.clear()
        assert run._link._tick is not None
        for number in range(3):
            run._progress.beat(number, 0.0)
            run._link._tick()
        assert interned == []
    finally:
        run._context.destroy()
