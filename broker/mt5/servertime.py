"""The server's clock: how far it is from UTC, told from ticks that have just come. Pure.

MetaTrader stamps ticks and bars with the server's local time as if it were UTC, and says nowhere which zone that
is. A tick that was not there a moment ago is fresh: its time is the server's clock now. Zones are quarter hours.

Between ticks the server's clock is counted on by this machine's monotonic one. The wall clock says which zone it is,
and nothing else: where somebody sets it, by an hour say, no bar ends sooner or later. A tick that is far from the
counted clock moves it only where it fits the zone that is known (the host slept), or where several agree on it.
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

    `last_tick`: the newest time seen, server seconds. Until the offset is known that is the clock; afterwards ticks
    that are far ahead of the counted clock are left out of it. `candidate`: the zone of `count` fresh ticks since
    monotonic second `since` that agree with each other and not with the clock; None where it is none of this world.
    """

    offset: int | None = None
    last_tick: float = 0.0
    anchor: float = 0.0  # time of a fresh tick, and the monotonic second at which it was
    anchor_at: float = 0.0
    candidate: int | None = None
    lead: float = 0.0  # of the first of them, before the monotonic clock
    count: int = 0
    since: float = 0.0

    def now(self, mono: float) -> int:
        """The server's clock, in its own seconds; `mono` is this machine's monotonic one."""
        if self.offset is None:
            return int(self.last_tick)
        return int(max(self.counted(mono), self.last_tick))

    def surely(self, mono: float) -> int:
        """The clock that a bar may end by: the earlier of this one and of the zone that does not count yet.

        Where a weekend ends in winter time the counted clock is an hour ahead until enough ticks agree, and would end a
        bar that has just begun. To wait for them in every case would be no better: one odd tick at the end of a week
        would keep its last bar open until the next.
        """
        now = self.now(mono)
        return min(now, int(self.lead + mono)) if self.count else now

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
    known = state.offset is not None
    found = _zone(tick - utc)
    apart = tick - state.counted(mono)
    goes_on, ahead = known and abs(apart) <= _SLACK, known and apart > _SLACK
    fits = known and found == state.offset
    if fresh and (goes_on or fits) and tick >= state.last_tick:
        state = replace(state, anchor=tick, anchor_at=mono)
    if not known or tick <= state.counted(mono) + _SLACK:
        state = replace(state, last_tick=max(state.last_tick, tick))
    if not fresh:
        return state, ""
    if fits or (found is None and not ahead):
        # Where it is no zone of this world (a simulation), or a clock is wrong, the ticks themselves stay the clock.
        # Some symbols' ticks are late, none comes from the future.
        return replace(state, candidate=None, count=0), ""
    lead = tick - mono
    if not state.count or found != state.candidate or abs(lead - state.lead) > _SLACK:
        return replace(state, candidate=found, lead=lead, count=1, since=mono), ""
    count = state.count + 1
    if count < _AGREE or (known and mono - state.since < _AGREE_SECONDS):
        return replace(state, count=count), ""
    return _agreed(state, tick, mono, found, goes_on=goes_on)


def _agreed(state: ServerTime, tick: float, mono: float, found: int | None, *, goes_on: bool) -> tuple[ServerTime, str]:
    """Enough ticks say so: the clock is theirs."""
    before, moved = state, tick - state.counted(mono)
    state = replace(state, offset=before.offset if found is None else found, candidate=None, count=0)
    if goes_on:
        by = (before.offset or 0) - (found or 0)
        return state, f"this host's clock was set by {by:+d} s; the server's goes on, and is {state.zone} by it now"
    # What an odd tick said before the offset was known is forgotten with it.
    state = replace(state, anchor=tick, anchor_at=mono, last_tick=tick)
    if before.offset is None:
        return state, f"the server's time is {state.zone}"
    if found is None:
        return state, f"the server's time is {moved:+.0f} s from where it was counted on to, and is followed"
    return state, f"the server's time is {state.zone} now; it was {before.zone}"


def _zone(apart: float) -> int | None:
    """The zone that a clock so many seconds from UTC is in; None: it is none of this world."""
    found = round(apart / _QUARTER) * _QUARTER
    return found if abs(apart) <= _FARTHEST and abs(apart - found) <= _SLACK else None
