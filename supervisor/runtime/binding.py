"""Binds the supervisor's sockets, on the addresses of the last time where that can be."""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import zmq

from protocol.botconfig import AccountConfig
from protocol.codec import MAX_FRAME, MAX_REQUEST
from protocol.endpoints import Endpoints, Transport, bind_address
from protocol.errors import CONFLICT, StablehandError, Unreachable
from protocol.keys import KeyPair, secure_server
from protocol.locks import FileLock, LockHeld
from protocol.remotegateway import places
from supervisor.runtime.sockets import server_socket
from supervisor.runtime.zap import BUS, CONTROL

#: Below the ports that systems hand out to clients (Linux from 32768, others from 49152). Whoever connects again
#: and again to a port out of that range, while nobody listens there, is one day given it as its own, talks to
#: itself, and keeps the server from it.
_PORTS: Final = range(20_000, 32_000)
_TRIES: Final = 50
_LOOPBACK: Final = "127.0.0.1"
_SOCKETS: Final = ("orders", "market", "control")  # of a gateway


@dataclass(frozen=True, slots=True)
class Bound:
    """The sockets and where they are."""

    bus: zmq.Socket[Any]
    control: zmq.Socket[Any]
    events: zmq.Socket[Any]
    endpoints: Endpoints


def bind_all(
    context: zmq.Context[Any],
    transport: Transport,
    data_dir: Path,
    run_dir: Path,
    accounts: Mapping[str, AccountConfig],
    keys: KeyPair | None,
    pid: int,
    file: Path,
) -> Bound:
    """Bind bus, control and events; `pid` and the configuration `file` say whose they are.

    Raises StablehandError naming the address that is taken.
    """
    before = _last(data_dir, transport)
    bus = _bind(context, zmq.ROUTER, transport, run_dir, "bus", before.bus if before else "", keys)
    control = _bind(context, zmq.ROUTER, transport, run_dir, "control", before.control if before else "", keys)
    events = _bind(context, zmq.XPUB, transport, run_dir, "events", before.events if before else "", keys)
    endpoints = Endpoints(
        transport=transport,
        bus=_address(bus),
        control=_address(control),
        events=_address(events),
        server_key=keys.public if keys else "",
        supervisor_pid=pid,
        accounts={
            name: _account(transport, run_dir, name, before, data_dir)
            if config.kind != "mt5-remote"
            else _there(config)
            for name, config in accounts.items()
        },
        config=str(file.absolute()),
    )
    return Bound(bus, control, events, endpoints)


def _bind(
    context: zmq.Context[Any],
    kind: int,
    transport: Transport,
    run_dir: Path,
    name: str,
    before: str,
    keys: KeyPair | None,
) -> zmq.Socket[Any]:
    if name == "bus":  # a gateway is told of all its bots at once
        made = server_socket(context, kind, MAX_FRAME, unread=10_000)
    else:
        made = server_socket(context, kind, MAX_REQUEST)
    secure_server(made, keys, BUS if name == "bus" else CONTROL)
    wanted: list[str] = []
    if transport == "tcp":
        # Runs that outlived the last supervisor look for this one where that was.
        wanted += [before] if before else []
        wanted += [f"tcp://{_LOOPBACK}:{port}" for port in random.sample(_PORTS, _TRIES)]
    for address in [*wanted, bind_address(transport, run_dir, name)]:
        try:
            made.bind(address)
            return made
        except zmq.ZMQError as error:
            failure = error
    made.close(linger=0)
    raise StablehandError(f"cannot bind {name} at {address}: {failure.strerror}", code=CONFLICT)


def bind_again(context: zmq.Context[Any], address: str, keys: KeyPair) -> zmq.Socket[Any]:
    """The events at the address where they were. Raises StablehandError(conflict)."""
    made = server_socket(context, zmq.XPUB, MAX_REQUEST)
    secure_server(made, keys, CONTROL)
    try:
        made.bind(address)
    except zmq.ZMQError as error:
        made.close(linger=0)
        raise StablehandError(f"cannot bind events at {address}: {error.strerror}", code=CONFLICT) from None
    return made


def _address(bound: zmq.Socket[Any]) -> str:
    value = bound.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(value, bytes)
    return value.rstrip(b"\0").decode()


def _account(
    transport: Transport, run_dir: Path, name: str, before: Endpoints | None, data_dir: Path
) -> dict[str, str]:
    """Where the account's gateway binds. On tcp the port is chosen here, so that bots know it beforehand."""
    if transport == "ipc":
        return {what: bind_address("ipc", run_dir, f"{what}-{name}") for what in _SOCKETS}
    known = before.accounts.get(name, {}) if before else {}
    if not _gateway_lives(data_dir, name):  # else they are taken by our own, which outlived the last supervisor
        known = {what: address for what, address in known.items() if _is_free(int(address.rpartition(":")[2]))}
    ports = _free_ports()
    return {what: known.get(what) or f"tcp://{_LOOPBACK}:{next(ports)}" for what in _SOCKETS}


def _there(config: AccountConfig) -> dict[str, str]:
    """Where a gateway on another host listens, and its key."""
    return {**places(config.address), "key": config.gateway_key}


def _free_ports() -> Iterator[int]:
    """Different ports that nobody has now."""
    for port in random.sample(_PORTS, _TRIES):
        if _is_free(port):
            yield port
    raise StablehandError("no free port was found for an account's gateway", code=CONFLICT)


def _is_free(port: int) -> bool:
    """Whether the port can be had: not taken, and not kept by the system for itself."""
    with socket.socket() as probe:
        if sys.platform != "win32":  # as ZeroMQ does: connections of the past do not count
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError:
            return False
        return True


def _gateway_lives(data_dir: Path, account: str) -> bool:
    try:
        with FileLock(data_dir / "locks" / f"account-{account}"):
            return False
    except LockHeld:
        return True


def _last(data_dir: Path, transport: Transport) -> Endpoints | None:
    try:
        before = Endpoints.load(data_dir)
    except Unreachable:
        return None
    return before if before.transport == transport else None
