"""key=value, and the file of bots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from console import values
from protocol.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2", 2), ("-0.5", -0.5), ("true", True), ("H1", "H1"), ('"2"', "2"), ("", ""), ("[1, 2]", [1, 2]),
        ("{ fast = 10, slow = 50 }", {"fast": 10, "slow": 50}), ("nan", "nan"), ("[nan]", ["nan"]),
        ("9" * 30, "9" * 30), ("-7", -7),
        ("2020-01-01", "2020-01-01"), ("a=b", "a=b"), ("1\nother = 2", "1\nother = 2"),
        ("mine.mod:Class", "mine.mod:Class"),
    ],
)  # fmt: skip
def test_value_is_toml_or_text(text: str, expected: Any) -> None:
    assert values.value(text) == expected
    assert type(values.value(text)) is type(expected)


def test_dotted_keys_nest_and_texts_stay_texts() -> None:
    words = ["risk_percent=2", "params.fast=10", "params.slow=50", "account=1", "strategy=mine:A=b"]
    assert values.pairs(words) == {
        "risk_percent": 2, "params": {"fast": 10, "slow": 50}, "account": "1", "strategy": "mine:A=b",
    }  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [["fast"], ["=1"], ["params.=1"], ["a=1", "a=2"], ["params=1", "params.fast=2"], ["params.fast=2", "params=1"]],
)  # fmt: skip
def test_wrong_pairs(words: list[str]) -> None:
    with pytest.raises(InvalidInput):
        values.pairs(words)


def test_where_keeps_its_keys() -> None:
    assert values.where(["params.fast=10", "market=EURUSD"]) == {"params.fast": 10, "market": "EURUSD"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90m", 1_000_000_000 - 5_400), ("24h", 1_000_000_000 - 86_400), ("7d", 1_000_000_000 - 604_800),
        ("2w", 1_000_000_000 - 1_209_600), ("0m", 1_000_000_000), ("999999999w", 0),
        ("2001-09-09", 999_993_600), ("2001-09-09 01:46", 999_999_960), ("2001-09-09T02:46+01:00", 999_999_960),
        ("0001-01-01", 0), ("0001-01-01T00:00+14:00", 0),
    ],
)  # fmt: skip
def test_since_is_a_time_that_has_passed(text: str, expected: float) -> None:
    assert values.since(text, 1_000_000_000) == expected


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("yesterday", "no time"), ("", "no time"), ("-1h", "no time"), ("24", "no time"), ("24 h", "no time"),
        ("2001-13-01", "no time"), ("\u0663h", "no time"), ("1.5h", "no time"), ("2001-09-10", "yet to come"),
        ("9999-12-31T23:59-14:00", "yet to come"),
    ],
)  # fmt: skip
def test_since_that_is_wrong(text: str, what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        values.since(text, 1_000_000_000)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[[bots]]\nmarket = 'EURUSD'", "bot 1 of 1 has no name"),
        ("[[bots]]\nname = 'a'\n[accounts.x]", "unknown key 'accounts'"),
        ("bots = 3", "holds no"), ("bots = ", "Invalid value"), (None, "No such file"),
    ],
)  # fmt: skip
def test_wrong_file_of_bots(tmp_path: Path, text: str | None, what: str) -> None:
    path = tmp_path / "bots.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidInput, match=what):
        values.bots_of(path)
