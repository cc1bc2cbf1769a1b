"""What stands between gateway and terminal: it holds, loses, delays and doubles what crosses, and keeps watch.

The gateway believes that it is the terminal. Nothing in the product knows of it: a crash point is a request
that has reached, or an answer that has not left, this place.
"""

from __future__ import annotations

import socket
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from broker import api
from broker.market import from_bytes
from broker.paper import wire
from broker.paper.terminal import Step
from broker.structs import OrderSendResult, TradeRequest

Policy = Literal["keep", "cut16", "replace", "drop"]
POLICIES: tuple[Policy, ...] = ("keep", "cut16", "replace", "drop")

#: Where the gateway dies: at which request it is killed, whether that still goes on to the terminal, and whether
#: an order must have gone before.
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
    """One fault, for the next order that fits. `delay` in seconds; `fits` looks at the order's request."""

    kind: str
    delay: float = 0.0
    fits: Callable[[dict[str, Any]], bool] = lambda _request: True
    fired: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    opened: bool = False  # the order that this kill waits for has gone through


class Crossing:
    """Listens where the gateway looks for its terminal, and passes on to the real one."""

    def __init__(self, listen: Path, real: Path, ledger: Path, kill: Callable[[], None], policy: Policy) -> None:
        self._real = real
        self._ledger = ledger
        self._kill = kill
        self.policy: Policy = policy
        self.fault: Fault | None = None
        self.on_order: Callable[[dict[str, Any]], None] = lambda _request: None
        self.wrong: list[str] = []  # what may never be: looked at after each round
        self.sent: dict[str, int] = {}  # order id -> how often it crossed
        self.last_closed: dict[str, int] = {}
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
        if fn == "end":  # the real one outlives every gateway
            reply({"id": request["id"], "now": 0, "value": True, "last_error": (1, "Success")})
        elif fn == "order_send":
            self._order(request, forward, reply)
        elif self._dies_at(fn):
            assert self.fault is not None
            self._strike(self.fault)
            raise wire.Broken("its gateway is dead")
        else:
            answer = forward()
            if fn == "step" and isinstance(answer.get("value"), Step):
                self._stepped(answer["value"])
            reply(answer)

    def _stepped(self, step: Step) -> None:
        for bar in step.closed:
            self.last_closed[bar.symbol] = int(from_bytes(bar.row)["time"][0])

    def _order(
        self, request: dict[str, Any], forward: Callable[[], dict[str, Any]], reply: Callable[[dict[str, Any]], None]
    ) -> None:
        wanted = request["args"][0]
        self._watch(wanted)
        wanted["comment"] = self._comment(wanted.get("comment", ""))
        self.on_order(wanted)
        with self._lock:
            fault = self.fault
            if fault is not None and (fault.fired.is_set() or not fault.fits(wanted)):
                fault = None
        if fault is None:
            reply(forward())
            return
        if fault.kind in ("kill_uncommitted", "kill_committed"):
            answer = forward()
            fault.opened = True  # before the answer: the gateway may ask for its deals at once
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
        if kind == "kill_sent":
            self._kill()
            self._closing.wait(fault.delay)
            forward()
        elif kind == "kill_executed":
            forward()
            self._kill()
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

    def _dies_at(self, fn: str) -> bool:
        """Whether the gateway is to be killed at this request."""
        fault = self.fault
        if fault is None or fault.fired.is_set() or KILLS.get(fault.kind) != fn:
            return False
        if fault.kind == "kill_before_send":
            return bool(self._open_intents())
        return fault.opened

    def _strike(self, fault: Fault) -> None:
        fault.fired.set()
        self._kill()
        fault.done.set()

    def _comment(self, comment: str) -> str:
        if self.policy == "cut16":
            return comment[:16]
        return {"keep": comment, "replace": "by the broker", "drop": ""}[self.policy]

    # --- the watch -----------------------------------------------------------------------------------

    def _open_intents(self) -> list[tuple[str, str, str, int]]:
        """(id, action, decision, epoch) of intents in the ledger without a result, by magic's bot."""
        with closing(sqlite3.connect(f"file:{self._ledger}?mode=ro", uri=True, timeout=5.0)) as ledger:
            return ledger.execute(
                "SELECT i.id, i.action, i.decision, i.bot_id FROM order_intents i LEFT JOIN order_results r"
                " ON r.id = i.id WHERE r.id IS NULL"
            ).fetchall()

    def _watch(self, request: dict[str, Any]) -> None:
        """An order crosses: it was meant, it did not cross before, and its bar is still the last closed one."""
        action = "close" if request.get("position") else "open"
        mine = [one for one in self._open_intents() if one[3] * 10 == request["magic"] and one[1] == action]
        if len(mine) != 1:
            self.wrong.append(f"an order without its own intent: {request}, {mine}")
            return
        order_id, _action, decision, _bot = mine[0]
        self.sent[order_id] = self.sent.get(order_id, 0) + 1
        if self.sent[order_id] > 1:
            self.wrong.append(f"{order_id} was sent twice")
        symbol, _timeframe, bar = decision.split("|")
        last = self.last_closed.get(symbol, int(bar))
        if action == "open" and int(bar) != last:
            self.wrong.append(f"{order_id} is stale: decided on {bar}, the last closed bar is {last}")


def _answer(retcode: int, text: str) -> OrderSendResult:
    request = TradeRequest(0, 0, 0, "", 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0, 0, 0, "", 0, 0)
    return OrderSendResult(retcode, 0, 0, 0.0, 0.0, 0.0, 0.0, text, 0, 0, request)
