"""The verbs as they are declared: the quick way of `status`, usage errors, and the generated page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import typer.main

from console import app, main, page, settings
from protocol.errors import CONFLICT, DENIED, INVALID, UNKNOWN_BOT, InvalidInput, StablehandError, Unreachable


@pytest.mark.parametrize(
    ("words", "config", "rest"),
    [
        (["-c", "a.toml", "status", "x"], "a.toml", ["status", "x"]),
        (["status", "x", "-c", "a.toml"], "a.toml", ["status", "x"]),
        (["status", "--config=a.toml"], "a.toml", ["status"]),
        (["-ca.toml", "status"], "a.toml", ["status"]),
        (["add", "--", "-c", "x"], None, ["add", "--", "-c", "x"]),
    ],
)
def test_config_before_or_after_the_verb(words: list[str], config: str | None, rest: list[str]) -> None:
    assert main.take_config(words) == (config, rest)


@pytest.mark.parametrize(
    "words",
    [["status"], ["status", "a"], ["status", "--json"], ["status", "a", "--json", "b"], ["status", "--json", "a"]],
)  # fmt: skip
def test_quick_status_agrees_with_typer(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[main.Status] = []

    def status(bots: Sequence[str], *, as_json: bool) -> int:
        seen.append(main.Status(tuple(bots), as_json))
        return 0

    monkeypatch.setattr(main, "status", status)
    app.run(words)
    assert seen == [main.parse_status(words)]


def test_quick_status_knows_every_option_or_leaves_it() -> None:
    command = typer.main.get_command(app.app).commands["status"]  # type: ignore[attr-defined]
    options = {word for each in command.params for word in each.opts if word.startswith("-")}
    assert options == {"--json"}  # a new option of `status` belongs into parse_status too
    assert main.parse_status(["status", "--help"]) is None
    assert main.parse_status(["status", "--jsn"]) is None


@pytest.mark.parametrize(
    "words",
    [
        ["statsu"], ["status", "--jsn"], ["start"], ["start", "a", "--all"], ["remove", "a"],
        ["start", "a", "--wait", "x"],
        ["remove", "a", "--positions", "sell"], ["update", "a"], ["update", "x=1"], ["add", "market=EURUSD"],
        ["add", "a", "name=b"], ["up", "--json"], ["-c"], ["events", "--since", "-1"], ["show"],
        ["start", "--where", "x"],
    ],
)  # fmt: skip
def test_wrong_words_are_one_line_and_exit_2(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "supervisor.toml").write_text("")
    assert main.main(words) == main.WRONG
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("stablehand: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unreachable("x"), 3), (StablehandError("x", code=UNKNOWN_BOT), 2), (StablehandError("x", code=INVALID), 2),
        (StablehandError("x", code=CONFLICT), 1), (StablehandError("x", code=DENIED), 1),
        (ZeroDivisionError("x"), 1), (KeyboardInterrupt(), 130),
    ],
)  # fmt: skip
def test_exit_codes(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise error

    assert main.guarded(work) == code
    assert "Traceback" not in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("stablehand ")


def test_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    file = tmp_path / "here" / "my.toml"
    file.write_text('[supervisor]\ndata_dir = "data"\n')
    monkeypatch.setattr(settings, "_chosen", None)
    with pytest.raises(InvalidInput, match="no supervisor"):
        settings.site()
    monkeypatch.setenv(settings.VARIABLE, str(file))
    assert settings.site().data_dir == tmp_path / "here" / "data"
    settings.choose("here/my.toml")
    assert settings.site() == settings.Site(file, tmp_path / "here" / "data")
    file.write_text("[supervisor\n")
    with pytest.raises(InvalidInput, match=":1:"):
        settings.site()


def test_page_is_current() -> None:
    written = Path(__file__).parents[3] / "docs" / "cli.md"
    assert page.render() == written.read_text("utf-8"), "run: make docs"
