"""The real command `stablehand`, run as a person runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_BESIDE = Path(sys.executable).with_name("stablehand")
COMMAND = [str(_BESIDE)] if _BESIDE.exists() else [sys.executable, "-P", "-m", "console"]


class Answer:
    """What one call gave."""

    def __init__(self, done: subprocess.CompletedProcess[str], words: tuple[str, ...]) -> None:
        self.code, self.out, self.err, self.words = done.returncode, done.stdout, done.stderr, words

    def json(self) -> Any:
        """Its stdout, which must be plain JSON, after success."""
        assert self.code == 0, self
        return json.loads(self.out)

    def line(self, code: int) -> str:
        """The one line on stderr of a call that must fail with this exit code, and say nothing else."""
        assert self.code == code, self
        lines = self.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("stablehand: "), self
        assert self.out == "", self
        return lines[0]

    def __repr__(self) -> str:
        return f"stablehand {' '.join(self.words)}: exit {self.code}, stdout {self.out!r}, stderr {self.err!r}"


def stablehand(config: Path, *words: str, timeout: float = 60.0) -> Answer:
    """Run the command for the installation of `config`, and wait for its end."""
    environment = {key: value for key, value in os.environ.items() if key != "STABLEHAND_CONFIG"}
    done = subprocess.run(
        [*COMMAND, "-c", str(config), *words],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
        cwd=config.parent, env=environment,
    )  # fmt: skip
    return Answer(done, words)
