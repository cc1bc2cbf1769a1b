"""Where a gateway on another host listens: one address in the file, four ports."""

from __future__ import annotations

from typing import Final

#: What each port is for, from the address's own on: the stable, orders, market, halts.
PORTS: Final = ("link", "orders", "market", "control")


def places(address: str) -> dict[str, str]:
    """The four addresses. `address` is `tcp://HOST:PORT`; raises ValueError for a port that leaves no room."""
    host, _, port = address.rpartition(":")
    first = int(port)
    if not 1 <= first <= 65_535 - (len(PORTS) - 1):
        raise ValueError(f"port {first}: it takes this one and the next three")
    return {what: f"{host}:{first + number}" for number, what in enumerate(PORTS)}
