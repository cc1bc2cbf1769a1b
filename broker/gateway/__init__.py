"""The gateway: the one process of an account that holds its terminal, serves bots and keeps fences."""

from __future__ import annotations

from protocol.spec import RunSpec

__all__ = ["main"]


def main(spec: RunSpec) -> int:
    """Run the gateway of `spec.account` until it is stopped; the exit code. In a fresh process, lock held."""
    if spec.account is not None and spec.account.kind == "mt5-remote":
        from broker.gateway.relay import run_relay

        return run_relay(spec)
    from broker.gateway.process import run_gateway

    return run_gateway(spec)
