"""keys, key_add, key_revoke: who may speak to this supervisor over the network, and as what."""

from __future__ import annotations

import re
from typing import Any, Final

from protocol.botconfig import NAME_PATTERN
from protocol.errors import INVALID, REFUSED, StablehandError, nearest
from store import clients
from store.clients import ClientKey
from store.errors import StoreError
from supervisor.complaints import NAME_RULE
from supervisor.runtime import clock
from supervisor.runtime.stable import Stable
from supervisor.runtime.zap import CONTROL, OPERATOR, VIEWER

_ROLES: Final = (VIEWER, OPERATOR)
_KEY: Final = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")  # Z85


async def keys(stable: Stable, args: dict[str, Any], cause: str) -> list[dict[str, Any]]:
    """The clients, by name; never a secret, which the supervisor does not have."""
    rows = await stable.read(clients.load_all)
    return [
        {"name": one.name, "role": one.role, "public_key": one.public_key, "created_at": one.created_at}
        for one in sorted(rows, key=lambda one: one.name)
    ]


async def key_add(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """Let a new client in; where it finds the supervisor."""
    name, role, public = args.get("name"), args.get("role"), args.get("public_key")
    if not isinstance(name, str) or not re.fullmatch(NAME_PATTERN, name) or "\n" in name:
        raise StablehandError(f"{name!r} is no name", hint=NAME_RULE, code=INVALID)
    if role not in _ROLES:
        raise StablehandError(f"unknown role {role!r}", hint=f"known: {', '.join(_ROLES)}", code=INVALID)
    if not isinstance(public, str) or not _KEY.fullmatch(public):
        raise StablehandError("public_key is a CURVE key in Z85, 40 characters", code=INVALID)
    if stable.door is None:
        hint = 'set [supervisor] control_bind = "tcp://ADDRESS:PORT", then stablehand handover'
        raise StablehandError("this supervisor listens to its own machine only", code=REFUSED, hint=hint)
    at = clock.wall()
    key_id = await stable.commit(lambda conn: clients.add(conn, name, role, public, at))
    admit(stable, ClientKey(key_id, name, role, public, at, None))
    stable.chronicle.add("key", f"client {name!r} may connect as {role}", cause_id=cause)
    remote = stable.remote
    return {
        "name": name,
        "role": role,
        "server_key": stable.server_key,
        "control": remote.control if remote is not None else stable.endpoints.control,
        "events": remote.events if remote is not None else stable.endpoints.events,
    }


async def key_revoke(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """Let a client in no longer: at once, also on a connection that stands. In force before it is remembered."""
    known: list[ClientKey] = await stable.read(clients.load_all)
    one = next((each for each in known if each.name == args.get("name")), None)
    if one is None:
        near = nearest(str(args.get("name")), [each.name for each in known])
        raise StablehandError(f"no client is called {args.get('name')!r}", code=INVALID,
                              hint=f"did you mean {near!r}?" if near else "stablehand keys list")  # fmt: skip
    if stable.door is not None:
        stable.door.forget(one.public_key)
    stable.cut_subscribers()
    at = clock.wall()
    answer = {"revoked": one.name, "role": one.role}
    try:
        await stable.commit(lambda conn: clients.revoke(conn, one.id, at))
    except StoreError as error:
        stable.memory.later("keys", lambda conn: clients.revoke(conn, one.id, at))
        answer["warning"] = f"in force, NOT remembered: {error.message}"
    stable.chronicle.add("key", f"client {one.name!r} ({one.role}) is revoked", cause_id=cause)
    return answer


def admit(stable: Stable, client: ClientKey) -> None:
    """Let a known client in."""
    if stable.door is not None:
        stable.door.admit(client.public_key, f"{client.role}:{client.id}", CONTROL)
