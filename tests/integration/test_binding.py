"""Where a supervisor binds on TCP: at the ports of the last time, as long as somebody may look for it there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from protocol.botconfig import AccountConfig
from protocol.endpoints import Endpoints
from protocol.keys import KeyPair, new_pair
from protocol.locks import FileLock
from supervisor.runtime.binding import bind_all


@pytest.fixture
def keys() -> KeyPair:
    return new_pair()


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    made: zmq.Context[Any] = zmq.Context()
    yield made
    made.destroy(linger=0)


def bound(folder: Path, keys: KeyPair) -> Endpoints:
    """Bind as a supervisor does, remember it, and end."""
    context: zmq.Context[Any] = zmq.Context()
    made = bind_all(
        context,
        "tcp",
        folder,
        folder,
        dict.fromkeys(("main", "other"), AccountConfig.model_validate({})),
        keys,
        1,
        folder / "supervisor.toml",
    )
    made.endpoints.save(folder)
    context.destroy(linger=0)  # returns when the ports are really given back, as the end of a process does
    return made.endpoints


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def test_ports_are_kept(tmp_path: Path, keys: KeyPair) -> None:
    first = bound(tmp_path, keys)
    own = [first.bus, first.control, first.events, *first.accounts["main"].values(), *first.accounts["other"].values()]
    assert len(set(own)) == 9
    assert bound(tmp_path, keys) == first


def test_a_port_that_another_program_has_by_now_is_given_up(
    context: zmq.Context[Any], tmp_path: Path, keys: KeyPair
) -> None:
    first = bound(tmp_path, keys)
    with socket.socket() as bus, socket.socket() as orders:
        for taken, address in ((bus, first.bus), (orders, first.accounts["main"]["orders"])):
            taken.bind(("127.0.0.1", port_of(address)))
            taken.listen()
        with FileLock(tmp_path / "locks" / "account-main"):
            awaited = bound(tmp_path, keys)
            # A gateway that lives has its port itself; it looks taken as well.
            assert awaited.bus != first.bus and awaited.accounts == first.accounts
        alone = bound(tmp_path, keys)
        assert alone.accounts["main"]["orders"] != first.accounts["main"]["orders"]
        assert alone.accounts["main"]["market"] == first.accounts["main"]["market"]
