"""A spawned child: `python -m botproc`, with its specification as one msgpack map on stdin."""

from __future__ import annotations

import os
import sys

import msgpack

from botproc import child
from protocol.spec import RunSpec


def main() -> int:
    """Read the specification, live, and end without running handlers, as a forked child does."""
    told = msgpack.unpackb(sys.stdin.buffer.read(), raw=False)
    spec = RunSpec.model_validate(told["spec"])
    return child.spawned(spec, told["code_hash"])


if __name__ == "__main__":
    os._exit(main())
