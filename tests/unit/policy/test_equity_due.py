"""When a sample of an account's worth is due."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.policy.equity import EVERY, Kept, Worth, due, worth_of

A = Worth(10_000.0, 10_000.0, 0.0)
B = Worth(10_000.0, 9_990.0, 100.0)
FIELDS = {"balance": 10_000.0, "equity": 9_990.0, "margin": 100, "currency": "USD"}


def test_the_first_after_a_start_is_kept_at_once() -> None:
    assert due(None, A, 5.0) == 0.0


def test_what_did_not_change_is_never_due() -> None:
    assert due(Kept(0.0, A), A, 10.0) is None
    assert due(Kept(0.0, A), A, 1e9) is None


def test_a_change_waits_until_the_minute_is_over() -> None:
    assert due(Kept(100.0, A), B, 100.0) == EVERY
    assert due(Kept(100.0, A), B, 130.0) == EVERY - 30.0
    assert due(Kept(100.0, A), B, 100.0 + EVERY) == 0.0
    assert due(Kept(100.0, A), B, 9_999.0) == 0.0


@pytest.mark.parametrize("field", ["balance", "equity", "margin"])
def test_each_of_the_three_is_a_change(field: str) -> None:
    values = {"balance": 10_000.0, "equity": 10_000.0, "margin": 0.0, field: 1.0}
    assert due(Kept(0.0, A), Worth(**values), EVERY) == 0.0


def test_a_minute_of_ever_new_figures_gives_one_sample() -> None:
    kept: list[Kept] = []
    for second in range(600):
        worth = Worth(10_000.0, 10_000.0 + second, 0.0)
        if due(kept[-1] if kept else None, worth, float(second)) == 0.0:
            kept.append(Kept(float(second), worth))
    assert [one.at for one in kept] == [float(at) for at in range(0, 600, int(EVERY))]


def test_worth_of_an_account() -> None:
    assert worth_of(FIELDS) == B


@pytest.mark.parametrize(
    ("account", "trouble"),
    [
        ({}, ""), (FIELDS, "not connected"), ({**FIELDS, "equity": None}, ""), ({**FIELDS, "equity": float("nan")}, ""),
        ({**FIELDS, "margin": "100"}, ""), ({**FIELDS, "balance": float("inf")}, ""),
    ],
)  # fmt: skip
def test_no_worth_without_an_account_or_in_trouble(account: dict[str, Any], trouble: str) -> None:
    assert worth_of(account, trouble) is None
