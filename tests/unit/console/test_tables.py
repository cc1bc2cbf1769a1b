"""Tables, figures and the live screen: what stands where, and that it fits."""

from __future__ import annotations

import re
from typing import Any

import pytest

from console import figures, screen, stable
from console.grid import Cell, Column, Row, table
from tests.scripted import ROWS, bot_row

BOTS = [bot_row(values, 4000 + n) for n, values in enumerate(ROWS)]
_CODES = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.44, "0.4s"), (9.96, "10s"), (59.7, "1m00s"), (3725, "1h02m"), (86_400 * 4 + 7 * 3600, "4d07h")],
)
def test_span(seconds: float | None, text: str) -> None:
    assert figures.span(seconds) == text


def test_unknown_is_a_dash_and_never_zero() -> None:
    assert [figures.size(None), figures.percent(None), figures.money(None), figures.position(None)] == ["-"] * 4
    assert [figures.size(58_720_256), figures.percent(0.0), figures.money(0.0)] == ["56M", "0.0%", "0.00"]


@pytest.mark.parametrize(
    ("held", "text"),
    [
        ({"side": "buy", "volume": 0.1, "price": 1.0852}, "+0.10 @ 1.0852"),
        ({"side": "sell", "volume": 2, "price": 4210.0}, "-2.00 @ 4210"),
    ],
)
def test_position(held: dict[str, Any], text: str) -> None:
    assert figures.position(held) == text


def test_all_that_matters_fits_in_100_columns() -> None:
    lines = stable.lines(BOTS, width=100, colour=False)
    assert max(map(len, lines)) <= 100
    for title in (
        "BOT",
        "STATE",
        "MARKET",
        "STRATEGY",
        "POSITION",
        "PROFIT",
        "LAST",
        "CYC",
        "BEAT",
        "CPU",
        "RST",
        "UP",
    ):
        assert title in lines[0].split()
    assert "+0.10 @ 1.08524" in lines[1]
    assert any("retrying in 4 s (2 of 5)" in line for line in lines)


@pytest.mark.parametrize("width", [60, 80, 100, 140, None])
def test_narrow_tables_give_way_but_keep_names_and_states(width: int | None) -> None:
    lines = stable.lines(BOTS, width=width, colour=False)
    assert max(map(len, lines)) <= (width or 1000)
    for bot in BOTS:
        assert any(line.startswith(bot["name"]) and bot["state"] in line for line in lines)


def test_colours_change_nothing_but_colours() -> None:
    plain = stable.lines(BOTS, width=100, colour=False)
    assert [_CODES.sub("", line) for line in stable.lines(BOTS, width=100, colour=True)] == plain


@pytest.mark.parametrize(
    ("state", "wanted", "shown"),
    [
        ("running", "running", "running"), ("running", "stopped", "running→stopped"),
        ("starting", "paused", "starting"), ("stopped", "running", "stopped→running"),
        ("failed", "running", "failed"), ("backoff", "stopped", "backoff→stopped"),
    ],
)  # fmt: skip
def test_wanted_is_shown_where_it_contradicts(state: str, wanted: str, shown: str) -> None:
    assert stable.row({**BOTS[0], "state": state, "wanted": wanted}).cells[1].text == shown


def test_cells_are_aligned() -> None:
    columns = (Column("A"), Column("N", right=True))
    lines = table(
        columns, [Row([Cell("long name"), Cell("1")]), Row([Cell("b"), Cell("123")])], width=None, colour=False
    )
    assert lines == ["A            N", "long name    1", "b          123"]


def test_screen_fits_and_shows_the_troubled_first() -> None:
    many = [{**BOTS[0], "name": f"bot-{n}"} for n in range(200)] + [BOTS[4]]
    events = [{"seq": n, "at": 0.0, "type": "state", "bot": "x", "text": "y" * 300} for n in range(9)]
    account = {"name": "main", "state": "running", "balance": 10.0, "equity": 9.0, "currency": "USD", "time": 0.0}
    shot = screen.Snapshot({"version": "0.1.0", "uptime_s": 3.0}, many, {"cpu_percent": None}, [account], events)
    lines = [_CODES.sub("", line) for line in screen.lines(shot, width=100, height=30, footer="Ctrl-C")]
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 100
    assert lines[4].startswith("btcusd-rsi")
    assert any(re.search(r"and \d+ more", line) for line in lines)
    assert sum("yyy" in line for line in lines) == screen.EVENTS
    assert lines[-1] == "Ctrl-C"


def test_a_halt_stands_at_the_head_of_the_screen_and_is_cut_to_it() -> None:
    halts = ["halted (everything): " + "news " * 40, *(f"halted (bot b{n}): odd" for n in range(6))]
    shot = screen.Snapshot({"version": "1", "halts": halts}, BOTS)
    lines = [_CODES.sub("", line) for line in screen.lines(shot, width=100, height=40, footer="")]
    assert lines[1].startswith("HALT  halted (everything): news") and len(lines[1]) == 100
    assert lines[2] == "HALT  halted (bot b0): odd"
    assert lines[1 + screen.HALTS - 1] == "HALT  and 4 more"
    assert not any("HALT" in line for line in lines[1 + screen.HALTS :])
    quiet = screen.lines(screen.Snapshot({"version": "1", "halts": []}, BOTS), width=100, height=40, footer="")
    assert not any("HALT" in line for line in quiet)
