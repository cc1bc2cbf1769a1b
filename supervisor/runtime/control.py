"""The control socket and the event stream: requests in, one answer each; what happened, published.

A request id that comes again is answered from memory, never executed again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import zmq

from protocol import codec
from protocol.errors import (
    BAD_REQUEST,
    CONFLICT,
    DENIED,
    INTERNAL,
    UNKNOWN_COMMAND,
    BadFrame,
    StablehandError,
    nearest,
)
from supervisor.runtime.publishing import Publisher
from supervisor.runtime.remembered import Answers
from supervisor.runtime.sockets import Pump
from supervisor.runtime.zap import OPERATOR

log = logging.getLogger("stablehand.control")

VERSION: Final = 1
_IN_PROGRESS: Final = 1_000
_READING: Final = 500  # of these may be questions, so that whoever only looks keeps nobody from acting
_MAX_ITEMS: Final = 50_000  # values in one request: 500 bots added at once have a fifth of that
_LONGEST_WORD: Final = 128

#: What a viewer may ask. Whatever is not named here is denied, so a new command is nobody's by mistake.
VIEWERS: Final = frozenset(
    {
        "ping", "status", "host", "show", "samples", "history", "positions", "deals", "account", "accounts", "symbols",
        "equity", "strategies", "logs", "events", "analysis", "halts",
    }
)  # fmt: skip

Handler = Callable[[dict[str, Any], str], Awaitable[Any]]
RoleOf = Callable[[str], str | None]
_LOCAL: Final = ""  # the user of sockets whose protection is the directory's mode


@dataclass(slots=True)
class _Desk:
    """One socket of requests. `role_of` where its peers have proved a key."""

    pump: Pump
    role_of: RoleOf | None

    def reply(self, envelope: list[bytes], answer: bytes) -> None:
        self.pump.send([*envelope, answer])


_Envelope = tuple[_Desk, list[bytes]]


class Control:
    """Owns the ROUTERs of requests and the streams of events."""

    def __init__(
        self,
        router: zmq.Socket[Any],
        events: Publisher,
        handlers: dict[str, Handler],
        bad: Callable[[Exception], None],
        role_of: RoleOf | None = None,
    ) -> None:
        """`role_of`: what a user (of a key) may do; None where the router asks nobody for a key."""
        self._handlers = handlers
        self._bad = bad
        self._answers = Answers()
        self._waiting: dict[str, list[_Envelope]] = {}  # id in progress -> envelopes to answer
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading = 0  # how many of them only look
        self._desks: list[_Desk] = []
        self.publishers = [events]
        self.listen(router, role_of)

    def listen(self, router: zmq.Socket[Any], role_of: RoleOf | None) -> None:
        """Take requests from this socket as well."""

        def take(frames: list[zmq.Frame]) -> None:
            # ZeroMQ's own word on who proved which key; a peer cannot set it.
            user = str(frames[-1].get("User-Id")) if role_of is not None else _LOCAL
            self._take(desk, user, [frame.bytes for frame in frames])

        def take_local(frames: list[bytes]) -> None:
            self._take(desk, _LOCAL, frames)

        desk = _Desk(Pump(router, take if role_of else take_local, self._bad, copy=role_of is None), role_of)
        self._desks.append(desk)

    def publish(self, topic: bytes, frame: bytes) -> None:
        """Send an event to whoever subscribed."""
        for publisher in self.publishers:
            publisher.publish(topic, frame)

    def cut_subscribers(self) -> None:
        """End every subscription of those who have shown a key; who still may comes back by himself."""
        for publisher in self.publishers:
            publisher.cut_subscribers()

    async def close(self, timeout: float = 1.0) -> None:
        """Let what is being answered finish, for at most `timeout` seconds, and close."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)
        for task in self._tasks:
            task.cancel()
        for desk in self._desks:
            desk.pump.close()
        for publisher in self.publishers:
            publisher.close()

    def _take(self, desk: _Desk, user: str, frames: list[bytes]) -> None:
        envelope, body = (desk, frames[:-1]), frames[-1]
        try:
            request = codec.unpack(body, max_frame=codec.MAX_REQUEST, max_items=_MAX_ITEMS)
            number, command = request["id"], request["cmd"]
            arguments = request.get("args") or {}
            if not (isinstance(number, str | int) and isinstance(command, str) and isinstance(arguments, dict)):
                raise BadFrame("id is text or a number, cmd is text, args is a map")
            if len(str(number)) > _LONGEST_WORD or len(command) > _LONGEST_WORD:
                raise BadFrame(f"id and cmd have at most {_LONGEST_WORD} characters")
        except (BadFrame, KeyError, TypeError, AttributeError) as error:
            text = error.message if isinstance(error, BadFrame) else "a request is a map {v, id, cmd, args}"
            self._bad(error)
            self._reply(envelope, _failure(None, BAD_REQUEST, text, None))
            return
        try:
            _permit(desk, user, command)
        except StablehandError as error:
            self._reply(envelope, _failure(number, error.code, error.message, error.hint))
            return
        key = f"{user}/{number}" if user else str(number)  # nobody is answered from another's memory
        digest = hashlib.sha256(codec.pack([command, arguments])).hexdigest()
        known = self._answers.get(key)
        if known is not None:
            if known.digest != digest:
                self._reply(envelope, _failure(number, CONFLICT, f"request id {number} came with another payload",
                                               "give each request an id of its own"))  # fmt: skip
            elif known.answer is not None:
                self._reply(envelope, known.answer)
            elif key in self._waiting:
                self._waiting[key].append(envelope)
            return
        reads = command in VIEWERS
        if len(self._tasks) >= _IN_PROGRESS or (reads and self._reading >= _READING):
            self._reply(envelope, _failure(number, "refused", "too many requests in progress", "try again"))
            return
        self._answers.begin(key, digest)
        self._waiting[key] = [envelope]
        task = asyncio.get_running_loop().create_task(self._execute(key, number, command, arguments))
        self._tasks.add(task)
        self._reading += reads
        task.add_done_callback(lambda done: self._over(done, reads))

    def _over(self, task: asyncio.Task[None], reads: bool) -> None:
        self._tasks.discard(task)
        self._reading -= reads

    async def _execute(self, key: str, number: Any, command: str, arguments: dict[str, Any]) -> None:
        try:
            handler = self._handlers.get(command)
            if handler is None:
                near = nearest(command, list(self._handlers))
                raise StablehandError(f"unknown command {command!r}", code=UNKNOWN_COMMAND,
                                      hint=f"did you mean {near!r}?" if near else None)  # fmt: skip
            result = await handler(arguments, f"c:{key}")
            answer = codec.pack({"v": VERSION, "id": number, "ok": True, "result": result})
        except StablehandError as error:
            answer = _failure(number, error.code, error.message, error.hint)
        except Exception as error:  # a defect of ours must not look like an answer, nor end the daemon
            log.exception("command %s failed", command)
            answer = _failure(number, INTERNAL, f"{command} failed: {type(error).__name__}: {error}",
                              "this is a defect of Stablehand; the log has the details")  # fmt: skip
        self._answers.finish(key, answer, read=command in VIEWERS)
        for envelope in self._waiting.pop(key, []):
            self._reply(envelope, answer)

    def _reply(self, envelope: _Envelope, answer: bytes) -> None:
        desk, route = envelope
        desk.reply(route, answer)


def _permit(desk: _Desk, user: str, command: str) -> None:
    """Raises StablehandError(denied) unless the user's role may give this command now."""
    if desk.role_of is None:
        return
    role = desk.role_of(user)
    if role is None:
        raise StablehandError("this key is no longer known", code=DENIED, hint="it was revoked")
    if role != OPERATOR and command not in VIEWERS:
        raise StablehandError(f"{command}: a {role} may only look", code=DENIED, hint="it needs the role operator")


def _failure(number: Any, code: str, message: str, hint: str | None) -> bytes:
    error = {"code": code, "message": message, "hint": hint}
    return codec.pack({"v": VERSION, "id": number, "ok": False, "error": error})
