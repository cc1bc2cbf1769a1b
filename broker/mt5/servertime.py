"""The server's clock: how far it is from UTC, told from ticks that have just come. Pure.

MetaTrader stamps ticks and bars with the server's local time as if it were UTC, and says nowhere which zone that
is. A tick that was not there a moment ago is fresh: its time is the server's clock now. Zones are quarter hours.

Between ticks the server's clock is counted on by this machine's monotonic one. The wall clock says which zone it is,
and nothing else: where somebody sets it, by an hour say, no bar ends sooner or later.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

_QUARTER: Final = 900
_FARTHEST: Final = 15 * 3600  # zones reach from -12 to +14 hours
#: A fresh tick may be so many seconds from a whole quarter hour: it travelled, and clocks are not exact.
_SLACK: Final = 120.0
#: Another offset counts after so many fresh ticks that agree, over so many seconds: a zone changes twice a year.
_AGREE: Final = 3
_AGREE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class ServerTime:
    """`offset`: seconds that the server is ahead of UTC; None while it is not known.

    `last_tick`: the newest time seen, server seconds. Until the offset is known that is the clock.
    """

    offset: int | None = None
    last_tick: float = 0.0
    anchor: float = 0.0  # time of a fresh tick, and the monotonic second at which it was
    anchor_at: float = 0.0
    candidate: int | None = None
    count: int = 0
    since: float = 0.0

    def now(self, mono: float) -> int:
        """The server's clock, in its own seconds; `mono` is this machine's monotonic one."""
        if self.offset is None:
            return int(self.last_tick)
        return int(max(self.counted(mono), self.last_tick))

    def counted(self, mono: float) -> float:
        """The clock as counted on from the last fresh tick."""
        return self.anchor + (mono - self.anchor_at)

    @property
    def zone(self) -> str:
        """As a person reads it."""
        if self.offset is None:
            return "unknown"
        minutes = abs(self.offset) // 60
        rest = f":{minutes % 60:02d}" if minutes % 60 else ""
        return f"UTC{'-' if self.offset < 0 else '+'}{minutes // 60}{rest}"


def observe(state: ServerTime, tick: float, utc: float, mono: float, *, fresh: bool) -> tuple[ServerTime, str]:
    """A tick of server time `tick` is there at `utc`; the next state, and a line where the offset is (newly) known.

    `mono`: this machine's monotonic seconds. `fresh`: it was not there at the look before, which was a moment ago.
    """
    newest = tick >= state.last_tick
    state = replace(state, last_tick=max(state.last_tick, tick))
    if not fresh:
        return state, ""
    apart = tick - utc
    found = round(apart / _QUARTER) * _QUARTER
    goes_on = state.offset is not None and abs(tick - state.counted(mono)) <= _SLACK
    if newest and (goes_on or found == state.offset):
        state = replace(state, anchor=tick, anchor_at=mono)
    if abs(apart) > _FARTHEST or abs(apart - found) > _SLACK:
        # No zone of this world (a simulation), or a clock that is wrong: the ticks themselves stay the clock.
        return replace(state, candidate=None, count=0), ""
    if found == state.offset:
        return replace(state, candidate=None, count=0), ""
    if found != state.candidate:
        return replace(state, candidate=found, count=1, since=mono), ""
    count = state.count + 1
    if count < _AGREE or (state.offset is not None and mono - state.since < _AGREE_SECONDS):
        return replace(state, count=count), ""
    before = state
    state = replace(state, offset=found, candidate=None, count=0)
    if goes_on:
        by = before.offset - found if before.offset is not None else 0
        return state, f"this host's clock was set by {by:+d} s; the server's goes on, and is {state.zone} by it now"
    state = replace(state, anchor=tick, anchor_at=mono)
    if before.offset is None:
        return state, f"the server's time is {state.zone}"
    return replace(state, last_tick=tick), f"the server's time is {state.zone} now; it was {before.zone}"
