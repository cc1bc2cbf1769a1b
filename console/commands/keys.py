"""keys new, list, revoke: clients on other machines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

import typer

from console import settings
from console.commands.shared import AsJson, show_table, write, write_json
from console.figures import moment
from console.grid import Cell, Column, Row
from protocol import keys
from protocol.clientfile import ClientFile
from protocol.errors import InvalidInput, Refused, StablehandError

PANEL: Final = "Configuration"
_WILDCARD: Final = re.compile(r"^tcp://(\*|0\.0\.0\.0|\[::\]):")


def register(app: typer.Typer) -> None:
    """Add these verbs."""
    group = typer.Typer(help="Clients on other machines, and what each may do.", no_args_is_help=True)
    group.command("new")(_new)
    group.command("list")(_list)
    group.command("revoke")(_revoke)
    group.command("remote")(_remote)
    group.callback()(_keys)
    app.add_typer(group, name="keys", rich_help_panel=PANEL)


def _keys() -> None:
    """Clients on other machines, and what each may do."""


def _new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who it is for.")],
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help="viewer: may look; operator: may do all.")],
    host: Annotated[
        str | None, typer.Option("--host", metavar="HOST", help="Under which name the client reaches this machine.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Else NAME.client in the data directory's keys.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Make a key for a client, and the one file with which it connects: stablehand --connect FILE."""
    site = settings.site()
    path = to if to is not None else site.data_dir / "keys" / f"{name}.client"
    if path.exists():
        raise InvalidInput(f"there is a {path} already", hint="choose another file by --to")
    pair = keys.new_pair()
    with settings.connect() as client:
        # The secret stays on this side: only the public key is sent and stored.
        made = client.request("key_add", {"name": name, "role": role, "public_key": pair.public})
        try:
            file = ClientFile(
                name=name, role=role, control=_reached(made["control"], host), events=_reached(made["events"], host),
                server_key=made["server_key"], public=pair.public, secret=pair.secret,
            )  # fmt: skip
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.save(path)
        except (OSError, StablehandError) as error:
            client.request("key_revoke", {"name": name})  # nobody has it
            if isinstance(error, OSError):
                raise Refused(f"{path} cannot be written: {error.strerror}") from None
            raise
    if as_json:
        write_json({"name": name, "role": role, "file": str(path), "control": file.control})
        return 0
    write(f"wrote {path}: {name!r} may connect to {file.control} as {role}")
    write(f"it holds a secret; bring it there safely, then: stablehand --connect {path.name} status")
    return 0


def _remote(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="One of kind mt5-remote.")],
    as_json: AsJson = False,
) -> int:
    """The lines for the file of a gateway on another host: who this stable is. Public keys only."""
    site = settings.site()
    with settings.connect() as client:
        kinds = {row["name"]: row["kind"] for row in client.request("accounts")}
        if kinds.get(account) != "mt5-remote":
            remote = ", ".join(name for name, kind in kinds.items() if kind == "mt5-remote")
            raise InvalidInput(f"{account!r} is no account of kind mt5-remote", hint=f"known: {remote or 'none'}")
        installation = client.request("ping")["installation"]
    lines = {
        "account": account,
        "installation": installation,
        "stable_key": keys.load_or_create(site.data_dir, "stable").public,
        "operator_key": keys.load_or_create(site.data_dir, "operator").public,
    }
    if as_json:
        write_json(lines)
    else:
        write([f'{key} = "{value}"' for key, value in lines.items()])
    return 0


def _reached(address: str, host: str | None) -> str:
    if host is not None:
        shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return f"tcp://{shown}:{address.rpartition(':')[2]}"
    if _WILDCARD.match(address):
        raise InvalidInput(f"the supervisor listens at {address}", hint="say --host NAME, as clients reach it")
    return address


def _list(as_json: AsJson = False) -> int:
    """The clients that may connect."""
    with settings.connect() as client:
        rows = client.request("keys")
    if as_json:
        write_json(rows)
        return 0
    columns = (Column("NAME"), Column("ROLE"), Column("SINCE"), Column("PUBLIC KEY", leave_out=1))
    show_table(
        columns,
        [
            Row([Cell(one["name"], "bold"), Cell(one["role"]), Cell(moment(one["created_at"])),
                 Cell(one["public_key"], "dim")])
            for one in rows
        ],
        empty="no client has a key",
    )  # fmt: skip
    return 0


def _revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key.")],
    as_json: AsJson = False,
) -> int:
    """Take a client's key away; it holds at once, also for connections that stand."""
    with settings.connect() as client:
        result = client.request("key_revoke", {"name": name})
    if settings.remote() is None:  # the file that `new` wrote here opens nothing any more, and is in the next one's way
        (settings.running_site().data_dir / "keys" / f"{result['revoked']}.client").unlink(missing_ok=True)
    if as_json:
        write_json(result)
    else:
        write(f"{result['revoked']!r} ({result['role']}) may connect no longer")
        if result.get("warning"):
            write(result["warning"])
    return 0
