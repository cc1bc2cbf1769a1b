"""The data directory that a file names: the same one for the supervisor, the command and a gateway of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from console import settings
from protocol.endpoints import data_folder
from protocol.errors import InvalidInput
from supervisor.config import load

ACCOUNT = '[accounts.main]\nkind = "paper"\n'


@pytest.mark.parametrize("said", ["var", "../beside", "/somewhere/else", "~/stable", "~"])
def test_all_read_it_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    file = tmp_path / "here" / "supervisor.toml"
    file.parent.mkdir()
    file.write_text(f'[supervisor]\ndata_dir = "{said}"\n{ACCOUNT}', "utf-8")
    settings.choose(str(file))
    try:
        found = settings.site().data_dir
    finally:
        settings.choose(None)
    assert found.resolve() == load(file).data_dir == data_folder(file.parent, said).resolve()
    if said.startswith("~"):
        assert found.is_relative_to(tmp_path / "home")


def test_a_home_of_nobody_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no such user"):
        data_folder(tmp_path, "~nobody-is-called-so/x")


@pytest.mark.parametrize("look", [settings.site, settings.running_site])
def test_the_command_names_the_line(tmp_path: Path, look: Callable[[], settings.Site]) -> None:
    file = tmp_path / "supervisor.toml"
    file.write_text(f'[supervisor]\ndata_dir = "~nobody-is-called-so/x"\n{ACCOUNT}', "utf-8")
    settings.choose(str(file))
    try:
        with pytest.raises(InvalidInput, match=r"supervisor\.toml:2: data_dir = .*there is no such user"):
            look()
    finally:
        settings.choose(None)
