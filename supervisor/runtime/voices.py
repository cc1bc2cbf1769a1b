"""What programs say of themselves over the bus (`heartbeat = "bus"`), each beside its minder's conversation.

A program introduces itself with a token of its own, on a route of its own, on which nothing but heartbeats is taken.
Whether its run has such a voice is said by the minder's Hello: that knows with which configuration it was started.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from protocol import codec
from protocol.errors import BadFrame
from protocol.messages import Heartbeat
from protocol.voice import voice_token

if TYPE_CHECKING:
    from supervisor.runtime.registry import Record, Run

#: The fields of a program's heartbeat: those up to `limit_ms`. What only bots know is not taken from it.
_FIELDS: Final = Heartbeat._fields.index("limit_ms") + 1


@dataclass(slots=True)
class VoiceState:
    """What is known of one run's voice. Times are monotonic."""

    since: float  # its minder's Hello
    pid: int = 0  # of the process that speaks, as it says
    route: bytes | None = None
    beat: Heartbeat | None = None
    beat_at: float = 0.0  # the last heartbeat; 0.0: none yet


class Voices:
    """Routes and tokens of the programs that may speak."""

    def __init__(self) -> None:
        self._by_token: dict[str, Record] = {}
        self._by_route: dict[bytes, Record] = {}

    def expect(self, record: Record, run: Run) -> None:
        """A run of a program begins, or is taken over."""
        self._by_token[voice_token(run.token)] = record

    def end(self, run: Run) -> None:
        """The run is over: its token means nothing, its route is dropped."""
        self._by_token.pop(voice_token(run.token), None)
        if run.voice is not None and run.voice.route is not None:
            self._by_route.pop(run.voice.route, None)
            run.voice.route = None

    def of_token(self, token: str) -> Record | None:
        """Whose program has this token."""
        return self._by_token.get(token)

    def of_route(self, route: bytes) -> Record | None:
        """Whose program has introduced itself by this route."""
        return self._by_route.get(route)

    def admit(self, record: Record, route: bytes, pid: int) -> None:
        """The record's program speaks by this route from now on. That alone does not say that it moves."""
        assert record.run is not None and record.run.voice is not None
        voice = record.run.voice
        if voice.route is not None:
            self._by_route.pop(voice.route, None)
        voice.route, voice.pid = route, pid
        self._by_route[route] = record

    def heard(self, route: bytes, frame: bytes, now: float) -> bool:
        """Take a heartbeat; False when nobody has introduced himself by this route. Raises BadFrame."""
        record = self._by_route.get(route)
        if record is None or record.run is None or record.run.voice is None:
            return False
        beat = codec.decode_heartbeat(frame)
        if not all(isinstance(value, int) and value >= 0 for value in beat[:_FIELDS]):
            raise BadFrame("a program's heartbeat is of whole numbers from 0 on")
        record.run.voice.beat, record.run.voice.beat_at = Heartbeat(*(int(value) for value in beat[:_FIELDS])), now
        return True
