"""The control socket and the event stream: requests in, one answer each; what happened, published.

A request id that comes again is answered from memory, never executed again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final

import zmq

from protocol import codec
from protocol.errors import BAD_REQUEST, CONFLICT, INTERNAL, UNKNOWN_COMMAND, BadFrame, StablehandError, nearest
from supervisor.runtime.sockets import Pump

log = logging.getLogger("stablehand.control")

VERSION: Final = 1
_REMEMBERED: Final = 5_000
_REMEMBERED_BYTES: Final = 64 * 1024  # larger answers are of reads, which may be done again
_IN_PROGRESS: Final = 1_000
_MAX_REQUEST: Final = 1024 * 1024
_LONGEST_WORD: Final = 128

Handler = Callable[[dict[str, Any], str], Awaitable[Any]]


class Control:
    """Owns the ROUTER of requests and the XPUB of events."""

    def __init__(
        self,
        router: zmq.Socket[Any],
        events: zmq.Socket[Any],
        handlers: dict[str, Handler],
        bad: Callable[[Exception], None],
    ) -> None:
        self._handlers = handlers
        self._bad = bad
        self._answers: OrderedDict[str, tuple[str, bytes | None]] = OrderedDict()  # id -> (payload, answer)
        self._waiting: dict[str, list[list[bytes]]] = {}  # id in progress -> envelopes to answer
        self._tasks: set[asyncio.Task[None]] = set()
        self._router = Pump(router, self._take, bad)
        self._events = Pump(events, lambda frames: None, bad)  # subscriptions are only read away

    def publish(self, topic: bytes, frame: bytes) -> None:
        """Send an event to whoever subscribed."""
        self._events.send([topic, frame])

    async def close(self, timeout: float = 1.0) -> None:
        """Let what is being answered finish, for at most `timeout` seconds, and close."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)
        for task in self._tasks:
            task.cancel()
        self._router.close()
        self._events.close()

    def _take(self, frames: list[bytes]) -> None:
        envelope, body = frames[:-1], frames[-1]
        try:
            request = codec.unpack(body, max_frame=_MAX_REQUEST)
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
        key = str(number)
        digest = hashlib.sha256(codec.pack([command, arguments])).hexdigest()
        known = self._answers.get(key)
        if known is not None:
            if known[0] != digest:
                self._reply(envelope, _failure(number, CONFLICT, f"request id {number} came with another payload",
                                               "give each request an id of its own"))  # fmt: skip
            elif known[1] is not None:
                self._reply(envelope, known[1])
            elif key in self._waiting:
                self._waiting[key].append(envelope)
            return
        if len(self._tasks) >= _IN_PROGRESS:
            self._reply(envelope, _failure(number, "refused", "too many requests in progress", "try again"))
            return
        self._answers[key] = (digest, None)
        self._waiting[key] = [envelope]
        while len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)
        task = asyncio.get_running_loop().create_task(self._execute(key, number, digest, command, arguments))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _execute(self, key: str, number: Any, digest: str, command: str, arguments: dict[str, Any]) -> None:
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
        if key in self._answers:
            if len(answer) <= _REMEMBERED_BYTES:
                self._answers[key] = (digest, answer)
            else:
                del self._answers[key]
        for envelope in self._waiting.pop(key, []):
            self._reply(envelope, answer)

    def _reply(self, envelope: list[bytes], answer: bytes) -> None:
        self._router.send([*envelope, answer])


def _failure(number: Any, code: str, message: str, hint: str | None) -> bytes:
    error = {"code": code, "message": message, "hint": hint}
    return codec.pack({"v": VERSION, "id": number, "ok": False, "error": error})
