"""Where halts come in: from the supervisor over the bus, and from anybody's hand over the control socket.

The control socket speaks the supervisor's control protocol: `ping`, `halt` and `halts`. It is for the moment
in which no supervisor answers; it lifts nothing, since lifting needs the supervisor's memory too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import zmq

from broker.gateway.halting import Halting
from protocol import codec
from protocol.errors import (
    BAD_REQUEST,
    INVALID,
    REFUSED,
    UNKNOWN_BOT,
    UNKNOWN_COMMAND,
    BadFrame,
    StablehandError,
    nearest,
)
from protocol.halts import ALL, HaltState, reason_text
from protocol.messages import Halts, Query, QueryResult

_VERSION: Final = 1
_BURST: Final = 50
_LARGEST: Final = 64 * 1024
_REMEMBERED: Final = "NOT remembered"

Answer = Callable[[Any], None]


class HaltDesk:
    """For the service thread. `bots` gives the names of the account's bots."""

    QUESTIONS: Final = ("halt", "lift")

    def __init__(self, halting: Halting, account: str, bots: Callable[[], set[str]]) -> None:
        self._halting = halting
        self._account = account
        self._bots = bots
        self.dropped = 0

    def report(self) -> Halts:
        """Everything that is in force."""
        return Halts(halts=self._halting.standing())

    # --- the bus -------------------------------------------------------------------------------------

    def query(self, query: Query, send: Callable[[QueryResult], None]) -> None:
        """`halt` or `lift`, asked by the supervisor."""

        def answer(result: Any) -> None:
            send(QueryResult(id=query.id, ok=True, result=result))

        try:
            if query.what == "halt":
                # Also of a bot that has not been heard of yet: whom it names is the supervisor's to know.
                self._halt(query.args, answer)
            else:
                self._lift(query, send)
        except StablehandError as error:
            send(QueryResult(id=query.id, ok=False, error=error.line()))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            send(QueryResult(id=query.id, ok=False, error=f"{query.what}: {type(error).__name__}: {error}"))

    def _lift(self, query: Query, send: Callable[[QueryResult], None]) -> None:
        def lifted(keys: list[str], error: str) -> None:
            send(QueryResult(id=query.id, ok=not error, result={"lifted": keys}, error=error))

        self._halting.lift(str(query.args["scope"]), str(query.args.get("who", "")), lifted)

    # --- the control socket ----------------------------------------------------------------------------

    def read(self, socket: zmq.Socket[bytes]) -> None:
        """Answer what has come in over the control socket. What is no request is answered so, and dropped."""
        for _ in range(_BURST):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._request(socket, frames[:-1], frames[-1])

    def _request(self, socket: zmq.Socket[bytes], envelope: list[bytes], body: bytes) -> None:
        number: Any = None

        def say(answer: Mapping[str, Any]) -> None:
            try:
                socket.send_multipart([*envelope, codec.pack({"v": _VERSION, "id": number, **answer})], zmq.NOBLOCK)
            except zmq.ZMQError:
                self.dropped += 1  # whoever asked is gone; what was asked is done all the same

        try:
            request = codec.unpack(body, max_frame=_LARGEST)
            if not isinstance(request, dict) or not isinstance(request.get("args") or {}, dict):
                raise BadFrame("a request is a map {v, id, cmd, args}")
            number = request.get("id")
            self._do(
                str(request.get("cmd")), request.get("args") or {}, lambda result: say({"ok": True, "result": result})
            )
        except StablehandError as error:
            self.dropped += error.code == BAD_REQUEST
            say({"ok": False, "error": error.as_dict()})
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            say({"ok": False, "error": {"code": INVALID, "message": f"a wrong argument: {error}", "hint": None}})

    def _do(self, command: str, args: dict[str, Any], answer: Answer) -> None:
        if command == "halt":
            self._check(str(args.get("scope") or ALL))
            self._halt(args, answer)
        elif command in ("ping", "halts"):
            answer({"account": self._account, "halts": [halt.model_dump() for halt in self._halting.standing()]})
        elif command == "resume-trading":
            raise StablehandError(
                "lifting a halt needs the supervisor's memory too", hint="start it: stablehand up", code=REFUSED
            )
        else:
            raise StablehandError(f"unknown command {command!r}", hint="here: halt, halts, ping", code=UNKNOWN_COMMAND)

    # --- halt ------------------------------------------------------------------------------------------

    def _halt(self, args: Mapping[str, Any], answer: Answer) -> None:
        halt = HaltState(
            scope=str(args.get("scope") or ALL),
            reason=reason_text(args.get("reason")),
            who=str(args.get("who") or "operator")[:100],
            at=float(args.get("at") or time.time()),
            rule=str(args.get("rule") or ""),
            until=int(args.get("until") or 0),
            flatten=bool(args.get("flatten")),
        )

        if self._halting.is_over(halt):
            answer({"account": self._account, "halt": halt.model_dump(), "remembered": True, "over": True})
            return

        def done(standing: HaltState, error: str) -> None:
            result: dict[str, Any] = {"account": self._account, "halt": standing.model_dump(), "remembered": not error}
            if error:
                result["warning"] = f"in force, {_REMEMBERED}: {error}"
            answer(result)

        self._halting.halt(halt, done)

    def _check(self, scope: str) -> None:
        kind, _, name = scope.partition(":")
        if scope == ALL or (kind == "account" and name == self._account):
            return
        if kind == "bot" and name:
            known = self._bots()
            if name in known:
                return
            near = nearest(name, sorted(known))
            hint = f"did you mean {near!r}?" if near else None
            raise StablehandError(f"account {self._account!r} has no bot {name!r}", hint=hint, code=UNKNOWN_BOT)
        raise StablehandError(f"account {self._account!r} cannot halt {scope!r}", code=INVALID)
