"""The tables of peers, faults and growth, from figures given; and the drawing."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from bench import faults, growth, plot
from bench.peers import install
from bench.peers import part as peers
from bench.peers.measure import summary

ONE: dict[str, Any] = {
    "start": 2.0, "raw_fork": 1.0, "ticking_fork": 1.2,
    "taken_gb": 0.5, "uss": 5.0, "manager_pss": 60.0,
    "cpu": 1.0, "cpu_all_parts": 2.0, "one": {"median": 0.2, "p99": 0.4}, "all": {"median": 1.0, "p99": 2.0},
    "failed_starts": 0,
}  # fmt: skip


def cells(markdown: str, first: str) -> list[str]:
    line = next(line for line in markdown.splitlines() if line.startswith(f"| {first}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_rounds_become_medians_and_spreads() -> None:
    found = summary([{"start": 3.0, "one": [1.0, 2.0], "all_figures": True}, {"start": 1.0}, {"start": 2.0}])
    assert found == {"start": 2.0, "one": {"median": 1.5, "p99": 2.0, "max": 2.0}, "all_figures": True}


def test_peers_side_by_side_with_what_is_missing_and_what_failed() -> None:
    of = {
        peers.RAW: {"start": 1.0},
        peers.STABLE: ONE,
        "runit": {"start": 30.0, "kills": {"median": 290.0, "p99": 400}},
    }
    figures = {
        "versions": {"runit": "2.1", "pm2": "7"}, "settings": {"runit": "as it is"}, "missing": {"s6": "no apt-get"},
        "failed": {"pm2 with 100, round 1": "TimeoutError: 3 of 100"}, "sizes": {"100": {"of": of, "whole": True}},
    }  # fmt: skip
    text = peers.show(figures)
    assert cells(text, "start of 100") == [
        "start of 100 until all are ready", "1.00 s", "2.00 s", "30.00 s", "-", "<= 1.5 x raw fork: missed, 2.00 x"
    ]  # fmt: skip
    assert cells(text, "kill -9 until")[3] == "290 / 400 ms"
    assert cells(text, "status of one through")[-1] == "<= 0.3 / 1.5: met"
    assert cells(text, "private memory")[-1] == "<= 7: met"
    assert "Stablehand takes 2.00 times as long as the raw fork; the fastest peer (runit) 15.0 times" in text
    assert "s6 could not be installed: no apt-get." in text and "pm2 with 100, round 1 failed: TimeoutError" in text


def test_growth_is_judged_by_the_raw_fork_and_by_linear() -> None:
    last = {**ONE, "start": 30.0, "raw_fork": 20.0, "taken_gb": 3.0, "one": {"median": 4.2, "p99": 5.0}}
    text = growth.show({"of": {"100": ONE, "2000": last}, "skipped": {"500 bots, round 1": "no memory"}})
    assert cells(text, "start |")[1:] == ["15.0 x", "20.0 x (the raw fork)", "met"]
    assert cells(text, "memory taken")[3] == "met"
    assert cells(text, "status of one, median")[3] == "missed: 1.05 times as much"
    assert "500 bots, round 1 left out: no memory." in text


def test_faults_say_copies_and_who_gave_up() -> None:
    loop = {
        "watched": 75,
        "crash-0.2": {"starts": 6, "last": 20.0, "says": "failed"},
        "crash-1.6": {"starts": 25, "last": 44.0, "says": "RUNNING"},
    }
    figures = {
        "versions": {"Stablehand": "", "pm2": "7"}, "missing": {}, "failed": {"hang, pm2": "it burned"},
        "of": {
            "Stablehand": {"manager": {"alive_meanwhile": 3, "copies": 1, "same_processes": 3, "seconds": 1.25}},
            "pm2": {"manager": {"alive_meanwhile": 3, "copies": 2, "same_processes": 3, "seconds": None}, "loop": loop},
        },
    }  # fmt: skip
    text = faults.show(figures)
    again = cells(text, "... started again")
    assert again[1:] == ["one copy of each: the same processes, taken over", "**2 copies** of each"]
    assert cells(text, "... until it calls")[1:] == ["1.2 s", "not within 30 s"]
    assert cells(text, "a program that crashes after 0.2")[2].startswith("given up after 6 starts in 20 s")
    assert cells(text, "a program that crashes after 1.6")[2].startswith("**on and on**: 25 starts")
    assert "- hang, pm2 failed: it burned." in text


def test_drawing_is_well_formed_and_puts_linear_growth_on_the_dashed_line() -> None:
    text = plot.loglog("A & B", "bots", "s", {"one": [(50, 1.0), (100, 2.0), (2000, 40.0)], "none": [(50, 0.0)]})
    root = ET.fromstring(text)
    lines = [one.attrib["points"].split() for one in root.iter("{http://www.w3.org/2000/svg}polyline")]
    assert len(lines) == 2 and (lines[0][0], lines[0][-1]) == (lines[1][0], lines[1][-1])
    with pytest.raises(ValueError, match="no points"):
        plot.loglog("x", "bots", "s", {"none": []})


def test_unknown_peer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.__main__ import parser

    options = parser().parse_args(["peers", "--peers", "upstart"])
    with pytest.raises(ValueError, match="unknown peer upstart; known: supervisord"):
        peers.environments(options)


def test_peer_that_cannot_be_had_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(install.Unavailable, match="no node and npm"):
        install.install("pm2", tmp_path)
    assert install.installed("pm2", tmp_path) is None
