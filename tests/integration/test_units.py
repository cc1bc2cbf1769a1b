"""The unit files: judged by systemd itself, written and removed by the command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from console.commands.service import _knows_subgroups
from console.unit import MARK, Unit, example
from tests.console import stablehand

pytestmark = pytest.mark.posix

BARE = '[accounts.main]\nkind = "paper"\nfeed = "synthetic"\n'


def verify(text: str, folder: Path, *words: str) -> str:
    """What `systemd-analyze verify` complains of."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed here")
    path = folder / "stablehand.service"
    path.write_text(text, "utf-8")
    done = subprocess.run(
        [tool, "verify", "--man=no", *words, str(path)], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
    )  # fmt: skip
    return done.stdout + done.stderr if done.returncode or "stablehand" in done.stderr else ""


def unit(folder: Path, user: str) -> Unit:
    knows = _knows_subgroups()
    return Unit("stablehand", folder / "supervisor.toml", folder / "var", sys.executable, user, 30.0, knows)


@pytest.mark.parametrize("name", ["plain", "with blank", 'per%cent "quoted" $HOME', "ünïcode"])
def test_systemd_finds_nothing_wrong(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "var").mkdir()
    assert verify(unit(folder, "root").text(), tmp_path) == ""
    assert verify(unit(folder, "").text(), tmp_path, "--user") == ""


def test_systemd_would_find_something(tmp_path: Path) -> None:
    text = unit(tmp_path, "root").text().replace("KillMode=process", "KillMode=proces").replace("Type=notify", "Tipe=x")
    complaints = verify(text, tmp_path)
    assert "Tipe" in complaints and "kill mode" in complaints


def test_the_examples_are_those_of_the_command() -> None:
    for kind in ("system", "user"):
        lines = example(kind).splitlines()
        assert lines[0] == MARK
        for line in (
            "Type=notify", "KillMode=process", "OOMPolicy=continue", "TasksMax=infinity", "LimitNOFILE=65536",
            "RestartPreventExitStatus=2", "TimeoutStopSec=90", "Delegate=cpu memory", "DelegateSubgroup=supervisor",
        ):  # fmt: skip
            assert line in lines
        assert not [line for line in lines if line.startswith(("PrivateTmp", "RuntimeDirectory", "MemoryDenyWrite"))]
    assert "enable-linger" in example("user") and "ProtectSystem=strict" in example("system")


def test_a_service_of_the_machine_has_no_home(tmp_path: Path) -> None:
    """What `~` is for root who installs it, is not what it is for the user who runs it."""
    config = tmp_path / "supervisor.toml"
    config.write_text('[supervisor]\ndata_dir = "~/stable"\n' + BARE, "utf-8")
    words = ("service", "install", "--system", "--run-as", "nobody", "--print")
    assert "needs the whole path" in stablehand(config, *words).line(2)
    assert stablehand(config, "service", "install", "--print").code == 0


def test_install_status_uninstall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    config = tmp_path / "supervisor.toml"
    config.write_text(BARE + "[bot_defaults]\nstop_timeout_seconds = 300\n", "utf-8")
    path = tmp_path / "config" / "systemd" / "user" / "stablehand.service"
    assert "not installed" in stablehand(config, "service", "status").out
    answer = stablehand(config, "service", "install", "--json").json()
    assert answer["unit"] == str(path)
    text = path.read_text("utf-8")
    assert f"--config {config}" in text and "TimeoutStopSec=360" in text
    assert stablehand(config, "service", "install", "--print").out == text
    path.write_text("[Unit]\nDescription=of somebody else\n", "utf-8")
    assert "was not written by stablehand" in stablehand(config, "service", "install").line(1)
    assert "was not written by stablehand" in stablehand(config, "service", "uninstall").line(1)
    path.write_text(text, "utf-8")
    assert stablehand(config, "service", "uninstall").code == 0
    assert not path.exists()
    assert "there is no" in stablehand(config, "service", "uninstall").line(2)
    assert "no name of a unit" in stablehand(config, "service", "install", "--name", "../x").line(2)
