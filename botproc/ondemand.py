"""One analysis on demand, in a process of its own: for a bot that does not run, or apart from one that does."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

import zmq

from botproc.analyst import as_dict
from botproc.holding import held_of
from botproc.loader import build
from botproc.strategy import Position
from botproc.window import Window
from broker.client import GatewayClient, GatewayDown
from protocol.errors import StablehandError
from protocol.link import BusLink
from protocol.messages import CommandDone, Message, Phase, Unwelcome
from protocol.progress import Progress
from protocol.spec import EXIT_OK, EXIT_UNWELCOME, RunSpec
from protocol.wake import WakeFd

_PATIENCE: Final = 5.0  # seconds for the gateway to answer

log = logging.getLogger("stablehand.ondemand")


def run_analysis(spec: RunSpec, code_hash: str = "") -> int:
    """Attach read-only, analyse the last closed bar, and send a CommandDone with the run's token as its id."""
    context: zmq.Context[Any] = zmq.Context(io_threads=1)
    progress = Progress()
    progress.move(Phase.BOOT, 60.0)
    refused: list[str] = []

    def receive(message: Message) -> None:
        if isinstance(message, Unwelcome):
            refused.append(message.reason)

    link = BusLink(context, spec, progress, receive, lambda: {"code_hash": code_hash})
    link.start()
    try:
        done = CommandDone(id=spec.token, ok=True, result=_analyse(context, spec))
    except StablehandError as error:
        done = CommandDone(id=spec.token, ok=False, error=error.line())
    except Exception as error:
        log.exception("the strategy failed")
        done = CommandDone(id=spec.token, ok=False, error=f"the strategy failed: {type(error).__name__}: {error}")
    link.send(done)
    link.stop(5.0)
    context.destroy()
    if refused:
        log.error("the supervisor refused this run: %s", refused[0])
        return EXIT_UNWELCOME
    return EXIT_OK


def _analyse(context: zmq.Context[Any], spec: RunSpec) -> dict[str, Any]:
    config = spec.bot
    assert config is not None
    strategy = build(config.strategy, config.params)
    window = Window(strategy.lookback)
    wake = WakeFd()
    client = GatewayClient(context, spec, wake)
    until = time.monotonic() + _PATIENCE
    try:
        while True:
            try:
                attached = client.attach(
                    config.market, config.timeframe, strategy.lookback, timeout=1.0, read_only=True
                )
                break
            except GatewayDown:
                if time.monotonic() >= until:
                    raise
        window.fill(attached.bars)
        held = held_of(attached.position) if attached.position is not None else None
        position = Position(held.side, held.volume, held.price) if held is not None else None
        return as_dict(strategy.decide(window.frame(), position), window.last_time)
    finally:
        client.close()
        wake.close()
