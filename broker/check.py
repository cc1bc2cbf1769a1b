"""Checks accounts before anything is started: `python -m broker.check FOLDER`, accounts as JSON on stdin.

Answers `{"problems": {account: line}, "files": {account: [file, ...]}}` as JSON on stdout: no problem, all is
right; `files` tells of each file of a replay its bars, its span and its gaps. The supervisor asks this, since it
knows no feed itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from broker.paper.csvbars import CsvBars
from broker.paper.feeds import ReplayFeed, make_feed
from protocol.botconfig import AccountConfig
from protocol.errors import StablehandError


def look_at(accounts: dict[str, dict[str, Any]], folder: Path) -> dict[str, dict[str, Any]]:
    """What is wrong with each account, in one line, and what the files of replays hold."""
    problems: dict[str, str] = {}
    files: dict[str, list[dict[str, Any]]] = {}
    for name, raw in accounts.items():
        try:
            account = AccountConfig.model_validate(raw)
            if account.kind != "paper":
                continue  # what can be said without its terminal, the file's own check has said
            feed = make_feed(account, folder)
        except StablehandError as error:
            problems[name] = error.line()
        else:
            if isinstance(feed, ReplayFeed):
                files[name] = [_told(one) for one in feed.files.values()]
    return {"problems": problems, "files": files}


def _told(bars: CsvBars) -> dict[str, Any]:
    times = bars.rates["time"]
    return {
        "file": bars.path.name,
        "bars": len(times),
        "first": int(times[0]),
        "last": int(times[-1]),
        "gaps": [[gap.start, gap.end, gap.bars] for gap in bars.gaps],
    }


def main() -> int:
    """The command line."""
    sys.stdout.write(json.dumps(look_at(json.load(sys.stdin), Path(sys.argv[1]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
