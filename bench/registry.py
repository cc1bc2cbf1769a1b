"""Every part of the bench, one a line: to add one, write its module and name it here."""

from __future__ import annotations

from typing import Final

from bench import backtest, faults, growth, heartbeats, memory, parts, status
from bench.part import Part
from bench.peers import part as peers

PARTS: Final[tuple[Part, ...]] = (
    parts.START,
    memory.PART,
    parts.RECOVERY,
    parts.IDLE,
    status.PART,
    heartbeats.PART,
    peers.PART,
    growth.PART,
    faults.PART,
    backtest.PART,
)
