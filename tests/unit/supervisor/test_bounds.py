"""What is bounded in the supervisor: remembered answers, log lines, and the lag that it tells."""

from __future__ import annotations

from protocol.seldom import Seldom
from supervisor.runtime.looplag import LoopLag
from supervisor.runtime.remembered import Answers


def test_answers_are_remembered_and_the_oldest_go_first() -> None:
    answers = Answers()
    for number in range(6_000):
        answers.begin(str(number), "digest")
        answers.finish(str(number), b"done", read=False)
    assert len(answers) == 5_000 and answers.bytes == 4 * 5_000
    assert answers.get("999") is None
    kept = answers.get("1000")
    assert kept is not None and (kept.digest, kept.answer) == ("digest", b"done")


def test_large_answers_push_out_older_ones_and_those_of_reads_are_not_kept() -> None:
    answers = Answers()
    for number in range(2_000):
        answers.begin(str(number), "digest")
        answers.finish(str(number), bytes(60_000), read=False)
    assert answers.bytes <= 32 * 1024 * 1024 and answers.get("0") is None and answers.get("1999") is not None
    before = answers.bytes
    answers.begin("status", "digest")
    answers.finish("status", bytes(2_000), read=True)
    answers.begin("huge", "digest")
    answers.finish("huge", bytes(70_000), read=False)
    assert answers.get("status") is None and answers.get("huge") is None and answers.bytes == before


def test_it_is_said_once_a_second() -> None:
    now = 0.0
    may = Seldom(1.0, lambda: now)
    assert [may(), may()] == [True, False]
    now = 1.0
    assert [may(), may()] == [True, False]


def test_of_a_late_timer_only_what_the_process_computed_is_its_own() -> None:
    lag = LoopLag()
    assert lag.figures() == {"p50": None, "p99": None, "max": None, "own_p99": None}
    for _ in range(99):
        lag.add(0.001, 0.0)
    lag.add(0.5, 0.02)
    assert lag.figures() == {"p50": 1.0, "p99": 500.0, "max": 500.0, "own_p99": 20.0}
    for _ in range(600):
        lag.add(-0.1, 0.0)
    assert lag.figures()["max"] == 0.0
