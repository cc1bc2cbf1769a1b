"""Recordings of real machines, for the throttle's bench: `python -m bench.trace FILE` makes one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from supervisor.policy.throttle import Reading

FOLDER = Path(__file__).parent / "traces"


@dataclass(frozen=True)
class Recording:
    """What the probe read, a line a second."""

    at: tuple[float, ...]
    readings: tuple[Reading, ...]

    def __call__(self, now: float) -> Reading:
        """The last reading before `now`; after the end a machine at rest."""
        if now > self.at[-1]:
            return Reading(cpu=1.0, memory=1.0, pressure=0.0, loop_lag=0.0, network=0.0)
        return self.readings[max(0, sum(at <= now for at in self.at) - 1)]

    def above(self, key: str, target: float) -> list[float]:
        """When a figure was above its target."""
        values = [getattr(one, key) for one in self.readings]
        return [at for at, value in zip(self.at, values, strict=True) if value is not None and value > target]


def load(name: str) -> Recording:
    """A recording of this folder."""
    rows = [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text("utf-8").splitlines()]
    return Recording(
        tuple(row["at"] for row in rows),
        tuple(Reading(**{key: row[key] for key in ("cpu", "memory", "pressure", "network")}) for row in rows),
    )
