"""Checks accounts before anything is started: `python -m broker.check FOLDER`, accounts as JSON on stdin.

Answers `{account: problem}` as JSON on stdout, empty when all is right. The supervisor asks this, since it
knows no feed itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from broker.paper.feeds import make_feed
from protocol.botconfig import AccountConfig
from protocol.errors import StablehandError


def problems(accounts: dict[str, dict[str, object]], folder: Path) -> dict[str, str]:
    """What is wrong with each account, in one line; accounts that are right are left out."""
    found = {}
    for name, raw in accounts.items():
        try:
            make_feed(AccountConfig.model_validate(raw), folder)
        except StablehandError as error:
            found[name] = error.line()
    return found


def main() -> int:
    """The command line."""
    sys.stdout.write(json.dumps(problems(json.load(sys.stdin), Path(sys.argv[1]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
