"""`python -m console`: the same as the command `stablehand`."""

from __future__ import annotations

from console.main import main

if __name__ == "__main__":
    raise SystemExit(main())
