"""What stands between gateway and terminal: it holds, loses, delays and doubles what crosses, and has it watched.

The gateway believes that it is the terminal. Nothing in the product knows of it: a crash point is a request
that has reached, or an answer that has not left, this place.
"""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from broker import api
from broker.paper import wire
from broker.paper.terminal import Step
from broker.structs import OrderSendResult, TradeRequest
from tests.faults.watch import Watch

Policy = Literal["keep", "cut16", "replace", "drop"]
POLICIES: tuple[Policy, ...] = ("keep", "cut16", "replace", "drop")

#: The steps of an order at which the gateway is killed, or the bot: and the request that shows that it is there.
KILLS = {
    "kill_before_send": "symbol_info_tick",  # intent committed, nothing sent
    "kill_sent": "order_send",  # on its way: executed after the death
    "kill_executed": "order_send",  # executed, the answer never arrives
    "kill_uncommitted": "history_deals_get",  # answered, the result not committed
    "kill_committed": "positions_get",  # the result committed, the bot not answered
}
#: What the terminal's answer to an order may be.
ANSWERS = (
    "none_unsent", "none_executed", "late_answer", "late_execution", "slow", "requote", "timeout_executed",
    "timeout_unsent", "connection_executed", "connection_unsent", "drop_unsent", "drop_executed", "duplicate",
)  # fmt: skip


@dataclass
class Fault:
    """One fault, for the next order of bot `bot_id` (0: of any). `delay` in seconds.

    `victim` kills somebody else than the gateway; what crosses then goes on. With `late` it does so only when the
    request has been answered, and `delay` has passed.
    """

    kind: str
    delay: float = 0.0
    bot_id: int = 0
    victim: Callable[[], None] | None = None
    late: bool = False
    fired: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    order_id: str = ""  # the order that this kill waits for has gone through

    def fits(self, bot_id: int) -> bool:
        """Whether it is for an order of this bot."""
        return self.bot_id in (0, bot_id)


class Crossing:
    """Listens where the gateway looks for its terminal, and passes on to the real one."""

    def __init__(self, listen: Path, real: Path, ledger: Path, kill: Callable[[], None], policy: Policy) -> None:
        self._real = real
        self.watch = Watch(ledger)
        self._kill = kill
        self.policy: Policy = policy
        self.fault: Fault | None = None
        self.on_order: Callable[[dict[str, Any]], None] = lambda _request: None
        self.requests: Counter[str] = Counter()  # by function
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with suppress(FileNotFoundError):
            listen.unlink()
        self._listener.bind(str(listen))
        self._listener.listen(8)
        self._listener.settimeout(0.2)
        self._spawn(self._accept)

    def close(self) -> None:
        """End all threads."""
        self._closing.set()
        for thread in self._threads:
            thread.join(5.0)
        self._listener.close()

    def arm(self, fault: Fault) -> Fault:
        """Have this happen to the next order that fits."""
        with self._lock:
            self.fault = fault
        return fault

    def disarm(self) -> None:
        """Nothing happens any more, unless it is happening."""
        with self._lock:
            self.fault = None

    # --- what crosses --------------------------------------------------------------------------------

    def _spawn(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            with suppress(TimeoutError):
                self._spawn(self._serve, self._listener.accept()[0])

    def _serve(self, gateway: socket.socket) -> None:
        with closing(gateway), closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as terminal:
            gateway.settimeout(None)
            with suppress(OSError):
                terminal.connect(str(self._real))
                while not self._closing.is_set():
                    self._one(gateway, terminal, wire.receive(gateway))

    def _one(self, gateway: socket.socket, terminal: socket.socket, request: dict[str, Any]) -> None:
        def forward() -> dict[str, Any]:
            terminal.sendall(wire.frame(request))
            answer: dict[str, Any] = wire.receive(terminal)
            return answer

        def reply(answer: dict[str, Any]) -> None:
            gateway.sendall(wire.frame(answer))

        fn = request["fn"]
        self.requests[fn] += 1
        if fn == "end":  # the real one outlives every gateway
            reply({"id": request["id"], "now": 0, "value": True, "last_error": (1, "Success")})
        elif fn == "order_send":
            self._order(request, forward, reply)
        elif (fault := self._dies_at(fn)) is not None:
            self._strike(fault, forward, reply)
        else:
            answer = forward()
            if fn == "step" and isinstance(answer.get("value"), Step):
                self.watch.stepped(answer["value"])
            reply(answer)

    def _order(
        self, request: dict[str, Any], forward: Callable[[], dict[str, Any]], reply: Callable[[dict[str, Any]], None]
    ) -> None:
        wanted = request["args"][0]
        order_id = self.watch.order(wanted)
        wanted["comment"] = self._comment(wanted.get("comment", ""))
        self.on_order(wanted)
        with self._lock:
            fault = self.fault
            if fault is not None and (fault.fired.is_set() or not fault.fits(wanted["magic"] // 10)):
                fault = None
        if fault is None or fault.kind == "kill_before_send":  # armed when its moment in this order had passed
            reply(forward())
            return
        if fault.kind in ("kill_uncommitted", "kill_committed"):
            answer = forward()
            fault.order_id = order_id  # before the answer: the gateway may ask for its deals at once
            reply(answer)
            return
        fault.fired.set()
        try:
            self._suffer(fault, request, forward, reply)
        finally:
            fault.done.set()

    def _suffer(
        self,
        fault: Fault,
        request: dict[str, Any],
        forward: Callable[[], dict[str, Any]],
        reply: Callable[[dict[str, Any]], None],
    ) -> None:
        kind = fault.kind
        empty = {"id": request["id"], "now": 0, "value": None, "last_error": (-10002, "IPC recv failed")}
        kill = fault.victim or self._kill
        if kind == "kill_sent":
            kill()
            self._closing.wait(fault.delay)
            self._tell(fault, forward(), reply)
        elif kind == "kill_executed":
            answer = forward()
            kill()
            self._tell(fault, answer, reply)
        elif kind in ("slow", "late_execution"):
            self._closing.wait(fault.delay)
            reply(forward())
        elif kind == "late_answer":
            answer = forward()
            self._closing.wait(fault.delay)
            reply(answer)
        elif kind == "duplicate":
            answer = forward()
            reply(answer)
            reply(answer)
        elif kind == "requote":
            reply(empty | {"value": _answer(api.TRADE_RETCODE_REQUOTE, "Requote"), "last_error": (1, "Success")})
        else:
            what, _, how = kind.rpartition("_")
            if how == "executed":
                forward()
            if what == "drop":
                raise wire.Broken("dropped")
            codes = {"timeout": api.TRADE_RETCODE_TIMEOUT, "connection": api.TRADE_RETCODE_CONNECTION}
            reply(empty if what == "none" else empty | {"value": _answer(codes[what], what)})

    def _dies_at(self, fn: str) -> Fault | None:
        """The fault that kills at this request."""
        fault = self.fault
        if fault is None or fault.fired.is_set() or KILLS.get(fault.kind) != fn:
            return None
        if fault.kind == "kill_before_send":
            return fault if any(fault.fits(bot_id) for *_, bot_id in self.watch.open_intents()) else None
        if fault.kind == "kill_committed":
            # Positions are asked for before an order as well.
            return fault if fault.order_id and not self.watch.is_open(fault.order_id) else None
        return fault if fault.order_id else None

    def _strike(
        self, fault: Fault, forward: Callable[[], dict[str, Any]], reply: Callable[[dict[str, Any]], None]
    ) -> None:
        fault.fired.set()
        try:
            if fault.victim is None:
                self._kill()
                raise wire.Broken("its gateway is dead")
            if not fault.late:
                fault.victim()
                reply(forward())
                return
            reply(forward())
            self._closing.wait(fault.delay)
            fault.victim()
        finally:
            fault.done.set()

    @staticmethod
    def _tell(fault: Fault, answer: dict[str, Any], reply: Callable[[dict[str, Any]], None]) -> None:
        """Answer a gateway that lives: somebody else was killed."""
        if fault.victim is not None:
            reply(answer)

    def _comment(self, comment: str) -> str:
        if self.policy == "cut16":
            return comment[:16]
        return {"keep": comment, "replace": "by the broker", "drop": ""}[self.policy]


def _answer(retcode: int, text: str) -> OrderSendResult:
    request = TradeRequest(0, 0, 0, "", 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0, 0, 0, "", 0, 0)
    return OrderSendResult(retcode, 0, 0, 0.0, 0.0, 0.0, 0.0, text, 0, 0, request)
