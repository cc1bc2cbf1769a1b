"""The gateway as a process: its parts opened, its signals, and one clear line when it cannot start."""

from __future__ import annotations

import gc
import logging
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import zmq

from broker.gateway.service import Gateway
from broker.gateway.terminals import open_terminal
from broker.gateway.told import Told
from protocol.errors import InvalidInput, StablehandError
from protocol.link import BusLink
from protocol.messages import Bye
from protocol.progress import Progress
from protocol.spec import EXIT_CONFIG, EXIT_UNAVAILABLE, RunSpec
from store.database import open_database

log = logging.getLogger("stablehand.gateway")


def run_gateway(spec: RunSpec) -> int:
    """Open the terminal and the ledger, serve, and close them.

    Exit code 78 when the account cannot be used before somebody changes something, 69 when it cannot be opened now.
    """
    context: zmq.Context[Any] = zmq.Context()
    try:
        try:
            gateway = _open(context, spec)
        except (StablehandError, OSError, zmq.ZMQError) as error:
            _say_why(context, spec, error.line() if isinstance(error, StablehandError) else str(error))
            return EXIT_CONFIG if isinstance(error, InvalidInput) else EXIT_UNAVAILABLE
        if threading.current_thread() is threading.main_thread():
            _stop_on_signals(gateway)
        gc.freeze()  # what was imported lives as long as we do; looked through each time, it holds up the orders
        return gateway.run()
    finally:
        context.destroy(linger=0)


def _open(context: zmq.Context[Any], spec: RunSpec) -> Gateway:
    ledger = open_database(Path(spec.data_dir) / f"ledger-{spec.account_name}.db", "ledger", keep=True)
    told = Told()
    try:
        terminal = open_terminal(spec, told)
    except BaseException:
        ledger.close()
        raise
    try:
        return Gateway(context, spec, terminal, ledger, told)
    except BaseException:
        terminal.close()
        ledger.close()
        raise


def _stop_on_signals(gateway: Gateway) -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        gateway.stop()

    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):  # the last is what a spawner sends on Windows
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)


def _say_why(context: zmq.Context[Any], spec: RunSpec, reason: str) -> None:
    """Tell the log and the supervisor why this account cannot be used."""
    log.error("account %s cannot be used: %s", spec.account_name, reason)
    if not spec.bus:
        return  # one that runs by itself: its log is all there is
    link = BusLink(context, spec, Progress(), lambda _message: None, dict)
    link.start()
    link.send(Bye(token=spec.token, reason=reason))
    link.stop(2.0)
