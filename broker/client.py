"""A bot's side of the gateway: one orders socket for its main thread, and the market feed beside it.

Subscribe first (`MarketFeed`), then attach: the gateway answers an Attach only when it has seen the
subscription, so no bar is lost between the history in `Attached` and the first bar published after it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Final, Literal, TypeVar

import zmq

from broker.desk import (
    NOT_ATTACHED,
    NOT_CONNECTED,
    UNDER_WAY,
    AttachDenied,
    GatewayDown,
    HasFileno,
    TerminalDesk,
    TerminalFailed,
    Woken,
)
from broker.feed import Arrival, Follower, MarketFeed
from protocol.codec import decode, encode
from protocol.errors import BadFrame
from protocol.keys import KeyPair, secure_client
from protocol.messages import (
    Attach,
    Attached,
    AttachRefused,
    BarDone,
    Call,
    CallResult,
    Detach,
    Message,
    Order,
    OrderQuery,
    OrderResult,
)
from protocol.process import kernel_boot_id
from protocol.spec import RunSpec

__all__ = [
    "NOT_ATTACHED",
    "Arrival",
    "AttachDenied",
    "Follower",
    "GatewayClient",
    "GatewayDown",
    "MarketFeed",
    "TerminalDesk",
    "TerminalFailed",
    "Woken",
]

M = TypeVar("M", bound=Message)
#: Seconds without an answer after which an order that was sent is asked about.
_ASK_AGAIN: Final = 2.0
_NO_ANSWER: Final = "no answer in time"


class GatewayClient:
    """The orders socket of one run. For one thread. All timeouts in seconds."""

    def __init__(self, context: zmq.Context[Any], spec: RunSpec, wake: HasFileno | None = None) -> None:
        self._spec = spec
        self._wake = wake
        self._socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        # IMMEDIATE: an order is handed to a living connection or not at all; it never waits in a queue.
        for option, value in (
            (zmq.IMMEDIATE, 1),
            (zmq.LINGER, 0),
            (zmq.SNDHWM, 1000),
            (zmq.RCVHWM, 1000),
            (zmq.HANDSHAKE_IVL, 5000),
            (zmq.RECONNECT_IVL, 20),
            (zmq.RECONNECT_IVL_MAX, 1000),
        ):
            self._socket.setsockopt(option, value)
        pair = KeyPair(spec.public_key, spec.secret_key) if spec.public_key else None
        secure_client(self._socket, pair, spec.gateway_key)
        self._socket.connect(spec.orders)
        self._call_id = 0
        self._order_seq = 0
        self._heard: tuple[float, float] | None = None  # the gateway's clock as it said it, and ours when it came
        self.attached: Attached | None = None

    @property
    def gateway_boot(self) -> str:
        """Id of the gateway process that this run is attached to; empty before the first attach."""
        return self.attached.gateway_boot if self.attached else ""

    def attach(
        self, symbol: str, timeframe: str, lookback: int, *, timeout: float = 1.0, read_only: bool = False
    ) -> Attached:
        """Ask for the account: symbol, position, closed bars. Call it again after GatewayDown.

        Raises GatewayDown (no answer in `timeout`: no gateway, or the fence for this epoch does not stand
        yet), Woken (the wake descriptor became readable first) and AttachDenied (with the reason).
        """
        until = time.monotonic() + timeout
        spec = self._spec
        self._drop_leftovers()
        self._heard = None  # the clock of another process
        message = Attach(
            installation=spec.installation,
            bot_id=spec.bot_id,
            epoch=spec.epoch,
            token=spec.token,
            name=spec.name,
            symbol=symbol,
            timeframe=timeframe,
            lookback=lookback,
            magic=spec.magic,
            read_only=read_only,
            order_ttl=spec.bot.order_ttl_seconds if spec.bot else 30.0,
        )
        self._wait(zmq.POLLOUT, until, wakeable=True)
        if not self._push(message):
            raise GatewayDown("gateway does not answer")
        while True:
            answer = self._await((Attached, AttachRefused), lambda _: True, until, wakeable=True)
            if isinstance(answer, Attached):
                self.attached = answer
                return answer
            if answer is None:
                raise GatewayDown("gateway does not answer the attach yet")
            if not answer.retry:
                raise AttachDenied(answer.reason)
            raise GatewayDown(answer.reason)

    def call(self, fn: str, *args: Any, timeout: float = 5.0, **kwargs: Any) -> Any:
        """A read of the terminal: structs come as dicts, arrays of rates or ticks as bytes of their dtype.

        Raises GatewayDown (no answer in time, or a gateway that must be attached to again) and
        TerminalFailed (the terminal answered None or False).
        """
        until = time.monotonic() + timeout
        self._call_id += 1
        number = self._call_id
        if not self._push(Call(id=number, fn=fn, args=list(args), kwargs=kwargs)):
            raise GatewayDown("gateway is not connected")
        answer = self._await((CallResult,), lambda message: message.id == number, until)
        if answer is None:
            raise GatewayDown(f"gateway does not answer {fn} within {timeout:g} s")
        if answer.error is not None:
            code, text = int(answer.error[0]), str(answer.error[1])
            if code == NOT_ATTACHED:
                raise GatewayDown(text)
            raise TerminalFailed(code, text)
        return answer.value

    def new_order(
        self,
        action: Literal["open", "close", "modify"],
        *,
        symbol: str,
        decision: str,
        bar_time: int,
        **fields: Any,
    ) -> Order:
        """An order with the next number of this run, decided now, for the gateway that it is attached to."""
        self._order_seq += 1
        now = time.monotonic()
        return Order(
            installation=self._spec.installation,
            bot_id=self._spec.bot_id,
            epoch=self._spec.epoch,
            seq=self._order_seq,
            gateway_boot=self.gateway_boot,
            decision=decision,
            bar_time=bar_time,
            decided_at=time.time(),
            decided_mono=now,
            boot_id=kernel_boot_id(),
            # Its clock was further when that came here: what is counted on from there makes no decision younger.
            decided_clock=self._heard[0] + (now - self._heard[1]) if self._heard else 0.0,
            action=action,
            symbol=symbol,
            magic=self._spec.magic,
            **fields,
        )

    def send(self, order: Order, timeout: float = 10.0) -> OrderResult:
        """Send an order, once. `unknown` when no answer came in time: then ask with `resolve`, never send anew.

        Without a connection nothing leaves, and the result is `refused`. In lockstep the answer comes when
        the round is complete, which other bots decide: give it a long timeout.
        """
        until = time.monotonic() + timeout
        if not self._push(order):
            return OrderResult(id=order.id, status="refused", reason=NOT_CONNECTED)
        while True:
            answer = self._result_of(order.id, min(until, time.monotonic() + _ASK_AGAIN), under_way=False)
            if answer.reason != _NO_ANSWER or time.monotonic() >= until:
                return answer
            # The gateway may have died with the order: its successor answers a question at once. Where it only
            # takes long, the answer to the question says so, and the wait goes on.
            self._push(OrderQuery(id=order.id, bot_id=self._spec.bot_id, epoch=self._spec.epoch))

    def resolve(self, order_id: str, timeout: float = 5.0) -> OrderResult:
        """What became of an order, asked by id. Still `unknown` when the gateway does not know or answer yet."""
        until = time.monotonic() + timeout
        if not self._push(OrderQuery(id=order_id, bot_id=self._spec.bot_id, epoch=self._spec.epoch)):
            return OrderResult(id=order_id, status="unknown", reason="gateway is not connected")
        return self._result_of(order_id, until)

    def bar_done(self, bar_seq: int, bar_time: int) -> None:
        """Lockstep: this bar is answered. Raises GatewayDown without a connection (attach again)."""
        done = BarDone(bot_id=self._spec.bot_id, epoch=self._spec.epoch, bar_seq=bar_seq, bar_time=bar_time)
        if not self._push(done):
            raise GatewayDown("gateway is not connected")

    def detach(self) -> None:
        """The run pauses or ends. Without a connection there is nothing to detach from."""
        self._push(Detach(bot_id=self._spec.bot_id, epoch=self._spec.epoch))

    def close(self) -> None:
        """Close the socket; what was said last (a Detach) still has a moment to leave."""
        self._socket.close(linger=200)

    # --- the socket ------------------------------------------------------------------------------

    def _result_of(self, order_id: str, until: float, *, under_way: bool = True) -> OrderResult:
        """The word about an order; without `under_way` the word that it is still under way is passed over."""

        def fits(message: OrderResult) -> bool:
            return message.id == order_id and (under_way or message.reason != UNDER_WAY)

        answer = self._await((OrderResult,), fits, until)
        return answer or OrderResult(id=order_id, status="unknown", reason=_NO_ANSWER)

    def _push(self, message: Message) -> bool:
        try:
            self._socket.send(encode(message), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _await(
        self,
        kinds: tuple[type[M], ...],
        fits: Callable[[Any], bool],
        until: float,
        *,
        wakeable: bool = False,
    ) -> Any:
        """The next message of these kinds that fits, or None at `until`. Late answers to others are dropped."""
        while True:
            try:
                message = decode(self._socket.recv(zmq.NOBLOCK))
            except zmq.Again:
                if not self._wait(zmq.POLLIN, until, wakeable=wakeable):
                    return None
                continue
            except BadFrame:
                continue  # a newer gateway's word that this version does not know
            if isinstance(message, kinds) and fits(message):
                clock = getattr(message, "clock", 0.0)
                if clock:  # of an answer that was waited for: one that lay here for long would tell another time
                    self._heard = clock, time.monotonic()
                return message

    def _wait(self, events: int, until: float, *, wakeable: bool = False) -> bool:
        poller = zmq.Poller()
        poller.register(self._socket, events)
        if wakeable and self._wake is not None:
            poller.register(self._wake.fileno(), zmq.POLLIN)
        left = max(0.0, until - time.monotonic())
        ready = dict(poller.poll(math.ceil(left * 1000)))
        if self._socket in ready:
            return True
        if ready:
            raise Woken("woken while waiting for the gateway")
        return False

    def _drop_leftovers(self) -> None:
        """Answers to an attach that was given up must not be taken for the answer to the next one."""
        while True:
            try:
                self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
