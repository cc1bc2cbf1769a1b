"""Log lines for the eye, and a log followed over its rotation."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from console import logview
from tests.support import eventually


def test_pretty() -> None:
    line = json.dumps({"time": "12:00:01", "level": "warning", "message": "late", "bot": "a", "lag": 2})
    assert logview.pretty(line, colour=False) == "12:00:01 WARNING late bot=a lag=2"
    assert logview.pretty("not json", colour=False) == "not json"
    assert logview.pretty('{"broken', colour=False) == '{"broken'
    assert json.loads(logview.as_json("plain")) == {"message": "plain"}
    assert logview.as_json(line) == line


@contextmanager
def following(path: Path, after: str | None = None, *, whole: bool = False) -> Iterator[list[str]]:
    seen: list[str] = []
    done = threading.Event()

    def read() -> None:
        for line in logview.follow(path, after=after, whole=whole, stop=done.is_set):
            seen.append(line)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield seen
    finally:
        done.set()
        reader.join(5)


def test_follow_from_the_last_line_shown_over_rotation_and_truncation(tmp_path: Path) -> None:
    path = tmp_path / "bot.log"
    path.write_text("one\ntwo\nthree\n")
    with following(path, after="two") as seen:
        eventually(lambda: seen == ["three"])
        with path.open("a") as file:
            file.write("four\nfi")
            file.flush()
            eventually(lambda: seen == ["three", "four"])
            file.write("ve\n")
        path.rename(tmp_path / "bot.log.1")
        path.write_text("six\n")
        eventually(lambda: seen == ["three", "four", "five", "six"])
        path.write_text("")
        eventually(lambda: path.stat().st_size == 0)
        with path.open("a") as file:
            file.write("7\n")
        eventually(lambda: seen[-1] == "7")


def test_follow_waits_for_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bot.log"
    with following(path, whole=True) as seen:
        path.write_text("first\n")
        eventually(lambda: seen == ["first"])
