"""The pages say what is: generated ones are current, links lead somewhere, commands exist, words are explained."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from console.app import app
from docs.generate import PAGES
from supervisor.config import load

ROOT = Path(__file__).resolve().parents[3]
WRITTEN = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"(?<!`)!?\[[^\]\n]*(?:\n[^\]\n]*)?\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)

#: The words of the design, which code, tables, command line and pages use alike.
WORDS = (
    "bot", "run", "epoch", "wanted", "state", "launcher", "gateway", "terminal", "shard", "heartbeat", "ready",
    "hang", "backoff", "intensity / period", "quarantine", "adopt", "fence", "pace", "halt", "magic",
    "decision key",
)  # fmt: skip


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    """The page without its code."""
    return _FENCE.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text_of(page), re.M):
        plain = re.sub(r"[^\w\- ]", "", heading.lower().replace("`", ""))
        found.add(plain.strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_current(name: str) -> None:
    assert (ROOT / "docs" / name).read_text("utf-8") == PAGES[name](), "write it again: make docs"


@pytest.mark.parametrize("page", WRITTEN, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in _LINK.findall(text_of(page)):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert not broken


def test_no_page_is_left_unlinked() -> None:
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in WRITTEN
        for target in _LINK.findall(text_of(page))
        if not target.startswith("http")
    }
    assert [named(page) for page in WRITTEN if page.resolve() not in linked and page.name != "README.md"] == []


def test_the_glossary_has_every_word() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    listed = re.findall(r"^\| \*\*(.+?)\*\* \|", glossary, re.M)
    assert [word for word in WORDS if word not in listed] == []
    assert listed == sorted(listed)


def command_lines(page: Path) -> Iterator[str]:
    """Every `stablehand ..` of the page's shell blocks, and in backquotes of its text."""
    source = page.read_text("utf-8")
    for language, code in _FENCE.findall(source):
        for line in code.splitlines():
            if language == "console" and not line.startswith("$ "):
                continue  # what it printed
            words = line.removeprefix("$ ").partition("  #")[0].partition(" > ")[0].strip()
            if (
                language in ("console", "sh", "ini")
                and (at := words.find("stablehand ")) >= 0
                and "/" not in words[:at]
            ):
                yield words[at:]
    yield from re.findall(r"`(stablehand [^`\n]+)`", _FENCE.sub("", source))


PAGES_WITH_COMMANDS = [page for page in WRITTEN if page.name not in ("cli.md", "CHANGELOG.md")]


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS, ids=named)
def test_every_command_line_exists(page: Path) -> None:
    root: Any = typer.main.get_command(app)
    wrong = []
    for line in command_lines(page):
        words = [word for word in shlex.split(line)[1:] if word != ".."]
        try:
            check(root, words)
        except AssertionError as error:
            wrong.append(f"{line}: {error}")
    assert not wrong


def check(root: Any, words: list[str]) -> None:
    """That the words are a verb of the command with options it has."""
    command = root
    while words:
        word = words.pop(0)
        options = {name: each for each in command.params for name in (*each.opts, *each.secondary_opts)}
        if word.startswith("-"):
            name = word.partition("=")[0]
            assert name in options or name in ("--help", "-h"), f"no option {name}"
            if name in options and not options[name].is_flag:
                words.pop(0)
        elif hasattr(command, "commands"):
            assert word in command.commands, f"no verb {word}"
            command = command.commands[word]
    assert command is not root or not words


def test_the_command_lines_are_found() -> None:
    readme = list(command_lines(ROOT / "README.md"))
    assert {"stablehand status", "stablehand down", "stablehand up --detach"} <= set(readme)
    assert len(readme) >= 15
    root: Any = typer.main.get_command(app)
    with pytest.raises(AssertionError, match="no option --hard"):
        check(root, ["stop", "one", "--hard"])
    with pytest.raises(AssertionError, match="no verb halts"):
        check(root, ["halts"])


def tables(page: Path) -> list[str]:
    """The TOML blocks of a page that are a whole configuration."""
    blocks = [code for language, code in _FENCE.findall(page.read_text("utf-8")) if language == "toml"]
    return [block for block in blocks if "[accounts." in block and "[[bots]]" in block]


@pytest.mark.parametrize("page", ["configuration.md", "halt-and-guards.md", "replay.md"])
def test_a_configuration_that_is_shown_is_right(page: str, tmp_path: Path) -> None:
    found = tables(ROOT / "docs" / page)
    assert found
    for block in found:
        (tmp_path / "supervisor.toml").write_text(block, "utf-8")
        assert load(tmp_path / "supervisor.toml").bots


def test_every_target_of_make_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    words = {word for page in pages for word in re.findall(r"(?:^|`)make ([a-z]+)", page.read_text("utf-8"), re.M)}
    assert words and words <= targets
