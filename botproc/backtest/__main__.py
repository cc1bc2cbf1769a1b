"""`python -m botproc.backtest [--html FILE]`: a job as JSON on stdin, the report as JSON on stdout.

What is wrong is one line on stderr, and exit code 2. `stablehand backtest` calls this; `docs/backtest.md` has the
job and the report.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from botproc.backtest import page, report
from botproc.backtest.engine import Engine
from botproc.backtest.job import parse, prepare
from protocol.errors import InvalidInput, StablehandError


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m botproc.backtest", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report as a page, too")
    options = parser.parse_args(arguments)
    try:
        found = _run(sys.stdin.read(), options.html)
    except StablehandError as error:
        sys.stderr.write(f"stablehand: {' '.join(error.line().split())}\n")
        return 2
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


def _run(text: str, html: Path | None) -> dict[str, object]:
    try:
        job = parse(json.loads(text))
    except ValueError as error:
        raise InvalidInput(f"the job on stdin is not JSON: {error}") from None
    sys.path.extend(job.paths)  # behind ours: a folder of the user shadows nothing
    if html is not None and not html.absolute().parent.is_dir():  # known before the work, not after it
        raise InvalidInput(f"{html}: there is no folder {html.absolute().parent}")
    started = time.monotonic()
    with (
        prepare(job) as ready,
        Engine(ready.account, ready.entrants, name=ready.name, folder=ready.folder, home=ready.home) as engine,
    ):
        played = engine.play()
        found = report.make(ready, played, time.monotonic() - started)
    if html is not None:
        try:
            html.write_text(page.render(found), "utf-8")
        except OSError as error:
            raise InvalidInput(f"{html} cannot be written: {error.strerror}") from None
    return found


if __name__ == "__main__":
    sys.exit(main())
