"""What a file's programs name, on this machine: found, or told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.config import load
from supervisor.runtime.findable import missing_lines

HEAD = '[supervisor]\ndata_dir = "var"\n[accounts.main]\nkind = "paper"\n[[programs]]\nname = "one"\n'  # 6 lines


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('command = ["present", "x"]\n', None, ""),
        ('command = ["./work/tool"]\n', None, ""),
        ('cwd = "work"\ncommand = ["./tool"]\n', None, ""),
        ('command = ["absent"]\n', 7, "no absent in PATH"),
        ('command = ["./absent"]\n', 7, "there is no file"),
        ('command = ["./plain.txt"]\n', 7, "may not be executed"),
        ('command = ["present"]\ncwd = "nowhere"\n', 8, "is not a folder"),
        ('command = ["present"]\nenvironment = { PATH = "/nowhere" }\n', 7, "no present in PATH (/nowhere)"),
    ],
)
@pytest.mark.posix
def test_what_is_missing_is_told_with_its_line(tmp_path: Path, text: str, line: int | None, words: str) -> None:
    for name, mode in (("bin/present", 0o755), ("work/tool", 0o755), ("plain.txt", 0o644)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(mode)
    path = tmp_path / "supervisor.toml"
    path.write_text(HEAD + text)
    found = missing_lines(load(path), {"PATH": str(tmp_path / "bin")})
    if line is None:
        assert found == []
        return
    (only,) = found
    assert only.startswith(f"  {path}:{line}: program 'one' cannot start now: ") and words in only
