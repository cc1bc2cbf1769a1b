"""The bench's words: tables, their place in the docs, and a part that fails."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import part, registry, report
from bench.part import Part

MACHINE = {
    "at": "2026-01-01 00:00 UTC", "cores": 2, "cpu": "a CPU", "memory_gb": 24.0, "kernel": "Linux 6", "rounds": 3,
    "python": "CPython 3.11", "disk": "ext4", "load_before": 0.5,
}  # fmt: skip


def a_part(page: Path, *, error: str = "") -> Part:
    def measure(folder: Path, options: argparse.Namespace) -> part.Figures:
        if error:
            raise RuntimeError(error)
        return {"ms": 2.0}

    return Part(
        "one", "a figure", measure, lambda found: part.judged_table([part.judged("it", found["ms"], 1.0, "ms")]),
        page=page, pictures=lambda found: {"img/one.svg": f"<svg>{found['ms']}</svg>"},
    )  # fmt: skip


def test_table_goes_into_its_place_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench one -->\nold\n<!-- /bench one -->\nafter\n", "utf-8")
    written = report.write_docs([a_part(page)], {"machine": MACHINE, "one": {"ms": 2.0}})
    text = page.read_text("utf-8")
    assert text.startswith("before\n<!-- bench one -->\n2026-01-01") and text.endswith("<!-- /bench one -->\nafter\n")
    assert "| it | 2.0 ms | <= 1 ms | missed by 1 ms |" in text and "old" not in text
    assert written == [page, tmp_path / "img" / "one.svg"]
    assert written[1].read_text("utf-8") == "<svg>2.0</svg>"


def test_failed_part_leaves_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert report.write_docs([a_part(page)], {"machine": MACHINE, "one": {"error": "it burned"}}) == []
    assert "not measured: it burned" in report.text([a_part(page)], {"machine": MACHINE, "one": {"error": "it burned"}})


def test_page_without_a_place_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no place for the part one"):
        report.replaced("<!-- bench one -->", "one", "x")


def test_a_failed_part_is_told_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good = a_part(tmp_path / "p", error="no fork"), Part("two", "b", lambda *_: {"ms": 1.0}, lambda _: "fine\n")
    monkeypatch.setattr(command, "PARTS", (bad, good))
    assert command.main(["--json", str(tmp_path / "out.json")]) == 1
    figures = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert figures["one"] == {"error": "RuntimeError: no fork"} and figures["two"]["ms"] == 1.0
    assert "fine" in capsys.readouterr().out


def test_every_part_has_its_place_in_the_docs() -> None:
    for one in registry.PARTS:
        report.replaced(one.page.read_text("utf-8"), one.name, "x")
    names = [one.name for one in registry.PARTS]
    assert len(names) == len(set(names))
