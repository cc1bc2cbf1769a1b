"""Stands in this installation for a gateway on another host, and passes on what supervisor and gateway say.

The supervisor launches, watches and stops it like any gateway. Bots do not speak through it: they reach the gateway
itself. Nothing is kept here: after each silence, and over each new connection, the supervisor is greeted anew and tells
everything again.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final

import zmq

from broker.gateway.inbox import Inbox
from broker.gateway.servedlink import GREETING, SILENT
from protocol.codec import decode, encode
from protocol.errors import BadFrame
from protocol.keys import load_or_create, secure_client
from protocol.link import HELLO_AGAIN, BusLink
from protocol.messages import (
    Bye,
    Command,
    CommandDone,
    Figures,
    Hello,
    History,
    HistoryAck,
    Message,
    Phase,
    Query,
    QueryResult,
    Ready,
    Unwelcome,
    Waiting,
    Welcome,
)
from protocol.progress import Progress
from protocol.remotegateway import places
from protocol.spec import EXIT_OK, EXIT_UNWELCOME, RunSpec

#: The pair with which this installation comes to gateways on other hosts.
STABLE_KEY: Final = "stable"
_LIMIT: Final = 10.0
_TURN: Final = 0.2
_ANEW: Final = 6.0  # seconds of silence after which the socket is made anew

log = logging.getLogger("stablehand.gateway")


class Relay:
    """One account's. `run` serves until a stop is asked for, and gives the exit code."""

    def __init__(self, context: zmq.Context[Any], spec: RunSpec) -> None:
        assert spec.account is not None
        self._spec = spec
        self._where = spec.account.address
        self._inbox = Inbox()
        self._progress = Progress()
        self._link = BusLink(context, spec, self._progress, self._hear, self._hello)
        self._context = context
        self._keys = load_or_create(Path(spec.data_dir), STABLE_KEY)
        self._remote = self._connected()
        self._welcome: Welcome | None = None
        self._boot = ""  # of the gateway's process
        self._ready_of = ""  # the process whose first Ready was heard
        self._heard = float("-inf")
        self._away = True
        self._told_away = False
        self._row = 0  # the last row of the gateway's history that was passed on, of this boot
        self._figures: Figures | None = None  # the last that the gateway told
        self._greet_at = 0.0
        self._exit: int | None = None

    def run(self) -> int:
        """Serve. Returns the exit code."""
        self._link.start()
        self._wait_for_it()
        poller = zmq.Poller()
        poller.register(self._remote, zmq.POLLIN)
        poller.register(self._inbox.fileno(), zmq.POLLIN)
        anew_at = time.monotonic() + _ANEW
        until = time.monotonic() + SILENT
        while self._exit is None:
            ready = dict(poller.poll(int(_TURN * 1000)))
            self._progress.move(Phase.IDLE, _LIMIT)
            if self._inbox.fileno() in ready:
                self._inbox.run()
            if self._remote in ready:
                self._read()
            now = time.monotonic()
            if self._welcome is not None and now >= self._greet_at:
                self._greet_at = now + GREETING
                self._pass_on(self._welcome)
            if not self._away:
                anew_at = now + _ANEW
            elif now >= anew_at:  # a socket whose key was refused once never connects again by itself
                anew_at = now + _ANEW
                poller.unregister(self._remote)
                self._remote.close()
                self._remote = self._connected()
                poller.register(self._remote, zmq.POLLIN)
            if not self._away and now - self._heard > SILENT:
                self._lost()
            elif self._away and not self._told_away and now >= until:
                self._tell_away()
        self._link.send(Bye(token=self._spec.token, reason="stopped"))
        self._link.stop(1.0)
        self._remote.close()
        self._inbox.close()
        return self._exit

    def _connected(self) -> zmq.Socket[bytes]:
        made: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.IMMEDIATE, 1),
            (zmq.HANDSHAKE_IVL, 5000),
            (zmq.RECONNECT_IVL, 50),
            (zmq.RECONNECT_IVL_MAX, 1000),
            (zmq.HEARTBEAT_IVL, 1000),
            (zmq.HEARTBEAT_TIMEOUT, 3000),
        ):
            made.setsockopt(option, value)
        secure_client(made, self._keys, self._spec.gateway_key)
        made.connect(self._spec.gateway_bind["link"])
        return made

    def stop(self, code: int = EXIT_OK) -> None:
        """Ask for the end. Safe from a signal handler and any thread."""
        self._inbox.post(self._end, code)

    def _end(self, code: int) -> None:
        if self._exit is None:
            self._exit = code

    # --- the supervisor --------------------------------------------------------------------------------

    def _hello(self) -> dict[str, Any]:
        return {"ready": bool(self._boot), "gateway_boot": self._boot}

    def _hear(self, message: Message) -> None:
        self._inbox.post(self._from_supervisor, message)

    def _from_supervisor(self, message: Message) -> None:
        if isinstance(message, Unwelcome):
            if message.reason != HELLO_AGAIN:
                log.error("the supervisor refused this relay: %s", message.reason)
                self._end(EXIT_UNWELCOME)
        elif isinstance(message, Welcome):
            self._welcome, self._greet_at = message, 0.0
        elif isinstance(message, Command):
            # The gateway itself is its host's to stop.
            done = message.verb == "stop"
            error = None if done else f"a gateway cannot {message.verb}"
            self._link.send(CommandDone(id=message.id, ok=done, error=error or ""))
            if done:
                self._end(EXIT_OK)
        elif (self._away or not self._pass_on(message)) and isinstance(message, Query):
            # What is no question (fences, rosters) is told again at the Hello that follows the silence.
            self._link.send(QueryResult(id=message.id, ok=False, error=self._silence()))

    # --- the gateway -----------------------------------------------------------------------------------

    def _pass_on(self, message: Message) -> bool:
        try:
            self._remote.send(encode(message), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _read(self) -> None:
        while True:
            try:
                frame = self._remote.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                self._take(decode(frame))
            except BadFrame as error:
                log.warning("frame of the gateway dropped: %s", error)

    def _take(self, message: Message) -> None:
        self._heard = time.monotonic()
        if isinstance(message, Hello):
            self._there(message.gateway_boot)
        elif isinstance(message, Ready):
            self._connected_anew()  # its addresses are those of the file
        elif isinstance(message, Bye):
            return  # that it leaves is seen by its silence
        elif isinstance(message, History):
            for row in message.rows:
                if row.seq > self._row:
                    self._row = row.seq
                    self._link.history(row.action, row.text, **row.data)
            self._pass_on(HistoryAck(seq=self._row))
        else:
            if isinstance(message, Figures):
                self._figures = message
            self._link.send(message)

    def _there(self, boot: str) -> None:
        """The gateway has answered a greeting."""
        if self._boot == boot and not self._away:
            return
        first = not self._boot
        if self._boot != boot:
            self._row = 0
        self._boot, self._away = boot, False
        if self._told_away:
            self._told_away = False
            self._link.history("INFO", f"the gateway at {self._where} answers again")
            if self._figures is not None and not first:
                self._link.send(self._figures)  # else told again only once they change
        if first:
            assert self._spec.account is not None
            there = places(self._spec.account.address)
            self._link.send(Ready(token=self._spec.token, detail=json.dumps(there)))
        self._link.greet_again()

    def _connected_anew(self) -> None:
        """The gateway says so once of each connection, and of each supervisor, that it is greeted by.

        What was said over a connection that broke may be lost, also where nobody missed it: a fence would be waited
        for until the next silence. The first one follows a Hello by which the supervisor was greeted already.
        """
        if self._ready_of == self._boot:
            self._link.greet_again()
        self._ready_of = self._boot

    def _lost(self) -> None:
        self._away = True
        self._tell_away()

    def _tell_away(self) -> None:
        self._told_away = True
        log.error("%s", self._silence())
        self._link.history("ALERT", self._silence())
        self._link.send(Figures(account={}, bots=[], time=0.0, connected=False, trouble=self._silence()))

    def _wait_for_it(self) -> None:
        self._link.send(Waiting(token=self._spec.token, reason="dependency", detail=self._silence()))

    def _silence(self) -> str:
        return f"the gateway at {self._where} does not answer; see its host's service, and the keys on both sides"


def run_relay(spec: RunSpec) -> int:
    """Serve until stopped; the exit code."""
    context: zmq.Context[Any] = zmq.Context()
    try:
        relay = Relay(context, spec)
        if threading.current_thread() is threading.main_thread():

            def stop(_number: int, _frame: FrameType | None) -> None:
                relay.stop()

            for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
                if hasattr(signal, name):
                    signal.signal(getattr(signal, name), stop)
        return relay.run()
    finally:
        context.destroy(linger=0)
