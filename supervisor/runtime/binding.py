"""Binds the supervisor's sockets, on the addresses of the last time where that can be."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from protocol.endpoints import Endpoints, Transport, bind_address
from protocol.errors import CONFLICT, StablehandError, Unreachable
from protocol.keys import KeyPair, secure_server
from supervisor.runtime.sockets import server_socket


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
    accounts: list[str],
    keys: KeyPair | None,
    pid: int,
) -> Bound:
    """Bind bus, control and events. Raises StablehandError naming the address that is taken."""
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
        accounts={name: _account(transport, run_dir, name, before) for name in accounts},
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
    made = server_socket(context, kind)
    secure_server(made, keys)
    # Runs that outlived the last supervisor look for this one where that was.
    wanted = [before] if before and transport == "tcp" else []
    for address in [*wanted, bind_address(transport, run_dir, name)]:
        try:
            made.bind(address)
            return made
        except zmq.ZMQError as error:
            failure = error
    made.close(linger=0)
    raise StablehandError(f"cannot bind {name} at {address}: {failure.strerror}", code=CONFLICT)


def _address(bound: zmq.Socket[Any]) -> str:
    value = bound.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(value, bytes)
    return value.rstrip(b"\0").decode()


def _account(transport: Transport, run_dir: Path, name: str, before: Endpoints | None) -> dict[str, str]:
    """Where the account's gateway binds. On tcp the port is chosen here, so that bots know it beforehand."""
    if transport == "ipc":
        return {what: bind_address("ipc", run_dir, f"{what}-{name}") for what in ("orders", "market")}
    known = before.accounts.get(name, {}) if before else {}
    return {what: known.get(what) or f"tcp://127.0.0.1:{_free_port()}" for what in ("orders", "market")}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _last(data_dir: Path, transport: Transport) -> Endpoints | None:
    try:
        before = Endpoints.load(data_dir)
    except Unreachable:
        return None
    return before if before.transport == transport else None
