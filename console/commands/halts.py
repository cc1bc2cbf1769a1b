"""halt and resume-trading: the latched kill switch, also when no supervisor answers."""

from __future__ import annotations

import getpass
import socket
import time
from typing import Annotated, Any, Final

import typer

from console import settings
from console.commands.shared import AsJson, complete_bot, warn, write, write_json
from protocol import keys
from protocol.client import ControlClient
from protocol.endpoints import Endpoints
from protocol.errors import DENIED, REFUSED, UNKNOWN_BOT, WRONG_INPUT, InvalidInput, StablehandError, Unreachable

PANEL: Final = "Halting"
#: A supervisor that has not answered by then is passed by: a kill switch does not wait.
_PATIENCE: Final = 5.0
_FILE: Final = "HALT"
_FLAT: Final = "flat"
_LOOK: Final = 0.1

Account = Annotated[str | None, typer.Option("--account", "-a", metavar="NAME", help="Only this account.")]
Bot = Annotated[
    str | None, typer.Option("--bot", "-b", metavar="BOT", help="Only this bot.", autocompletion=complete_bot)
]


def register(app: typer.Typer) -> None:
    """Add these verbs."""
    app.command("halt", rich_help_panel=PANEL)(_halt)
    app.command("resume-trading", rich_help_panel=PANEL)(_resume_trading)


def _halt(
    reason: Annotated[str, typer.Option("--reason", "-r", metavar="TEXT", help="Shown wherever an order is refused.")],
    account: Account = None,
    bot: Bot = None,
    flatten: Annotated[bool, typer.Option("--flatten", help="Cancel and close everything in its scope too.")] = False,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, max=86_400, help="With --flatten: the longest wait.")
    ] = 10.0,
    as_json: AsJson = False,
) -> int:
    """Refuse new entries until resume-trading: of everything, or of one account or bot. Closes stay allowed."""
    _one_scope(account, bot)
    if not reason.strip():
        raise InvalidInput("a halt needs a reason", hint="--reason TEXT")
    args: dict[str, Any] = {"reason": reason, "flatten": flatten, "who": _who()}
    args |= {key: value for key, value in (("account", account), ("bot", bot)) if value}
    try:
        with settings.connect(timeout=_PATIENCE) as client:
            found = client.request("halt", args)
            _tell_directly(found, args)
            deadline = time.monotonic() + wait
            while flatten and not found.get("flat") and time.monotonic() < deadline:
                # Asked again rather than waited for: a supervisor that dies now must not hide how far it came.
                found["flat"] = _look(client, found)
                time.sleep(_LOOK)
    except StablehandError as error:
        if error.code in WRONG_INPUT or error.code in (DENIED, REFUSED) or settings.remote() is not None:
            raise
        # Whatever is the matter with the supervisor: the gateways enforce it.
        warn(f"{error.message}; telling the gateways")
        found = _tell_gateways(args, account, bot, wait if flatten else 0.0)
    if as_json:
        write_json(found)
    else:
        _show(found, flatten)
    return 0 if not flatten or found.get("flat") else 1


def _look(client: ControlClient, found: dict[str, Any]) -> bool:
    """Whether every account is flat by now; notes how far each has come."""
    flat = True
    rows = {row["name"]: row for row in client.request("accounts")}
    for name, told in found["accounts"].items():
        halts = [one for one in rows.get(name, {}).get("halts", []) if one["key"] == found["key"] and one["confirmed"]]
        told["progress"] = halts[0]["progress"] if halts else told.get("progress", "")
        flat = flat and told["progress"] == _FLAT
    return flat and bool(found["accounts"])


def _tell_directly(found: dict[str, Any], args: dict[str, Any]) -> None:
    """A gateway that the supervisor could not tell may hear this side all the same, on the supervisor's own machine."""
    if settings.remote() is not None:
        return
    for name, told in found["accounts"].items():
        if told["in_force"]:
            continue
        site = settings.running_site()
        asked = {"scope": found["key"], **{key: args[key] for key in ("reason", "flatten", "who")}}
        try:
            with _gateway(site, Endpoints.load(site.data_dir), name) as client:
                answer = client.request("halt", asked)
        except (StablehandError, KeyError):
            continue  # the supervisor's reason stands, and it tells the gateway as soon as it hears of it
        told |= {"in_force": True, "remembered": answer["remembered"], "warning": answer.get("warning")}


def _tell_gateways(args: dict[str, Any], account: str | None, bot: str | None, wait: float) -> dict[str, Any]:
    """Halt at the gateways themselves. Raises StablehandError when none could be told."""
    site = settings.running_site()
    endpoints = Endpoints.load(site.data_dir)
    scope = f"account:{account}" if account else f"bot:{bot}" if bot else "all"
    names = [account] if account else list(endpoints.accounts)
    if account and account not in endpoints.accounts:
        raise InvalidInput(f"unknown account {account!r}", hint=f"known: {', '.join(endpoints.accounts)}")
    asked = {"scope": scope, **{key: args[key] for key in ("reason", "flatten", "who")}}
    told: dict[str, Any] = {}
    failures: list[StablehandError] = []
    clients: dict[str, ControlClient] = {}
    try:
        for name in names:
            try:
                clients[name] = _gateway(site, endpoints, name)
                answer = clients[name].request("halt", asked)
                told[name] = {"in_force": True, **{key: answer.get(key) for key in ("remembered", "warning")}}
            except StablehandError as error:
                failures.append(error)
                if not (bot and error.code == UNKNOWN_BOT):  # another account's bot
                    told[name] = {"in_force": False, "reason": error.message}
        done = [name for name, one in told.items() if one["in_force"]]
        if not done:
            return _leave_file(site, scope, args, failures)
        deadline = time.monotonic() + wait
        flat = False
        while wait and not flat:
            seen = [_progress(clients[name], told[name], scope) for name in done]  # each, also when one is not
            flat = all(seen)
            if flat or time.monotonic() >= deadline:
                break
            time.sleep(_LOOK)
    finally:
        for client in clients.values():
            client.close()
    return {"key": scope, "accounts": told, "remembered": False, "flat": flat and len(done) == len(told),
            "warning": "the supervisor did not answer: it takes the halt over when it comes up"}  # fmt: skip


def _gateway(site: settings.Site, endpoints: Endpoints, account: str) -> ControlClient:
    address = endpoints.accounts[account].get("control")
    if not address:
        raise Unreachable(f"the gateway of account {account!r} has no control endpoint")
    pair = operator = None
    if endpoints.transport == "tcp":
        operator = keys.load_or_create(site.data_dir, "operator")
        there = endpoints.accounts[account].get("key")  # of a gateway on another host
        pair = keys.KeyPair(there, "") if there else keys.load_or_create(site.data_dir, f"gateway-{account}")
    reached = Endpoints(
        transport=endpoints.transport, bus="", control=address, events="", server_key=pair.public if pair else ""
    )
    return ControlClient(endpoints=reached, key=operator, timeout=_PATIENCE)


def _progress(client: ControlClient, told: dict[str, Any], scope: str) -> bool:
    try:
        halts = client.request("halts")["halts"]
    except StablehandError as error:
        told["progress"] = error.message
        return False
    found = [one["progress"] for one in halts if one["scope"] == scope and not one["rule"]]
    told["progress"] = found[0] if found else ""
    return bool(told["progress"] == _FLAT)


def _leave_file(
    site: settings.Site, scope: str, args: dict[str, Any], failures: list[StablehandError]
) -> dict[str, Any]:
    """No gateway could be told. What halts everything can still be left where the next one looks first."""
    why = failures[0].message if failures else "no account is known"
    if scope != "all":
        raise Unreachable(f"not halted: {why}", hint="nothing trades without it; halt again once it is up")
    path = site.data_dir / _FILE
    path.write_text(f"{args['reason']} (by {args['who']})\n", "utf-8")
    return {"key": scope, "accounts": {}, "remembered": True, "flat": False,
            "warning": f"no gateway answers ({why}); {path} is left there: the next one starts halted, "
                       "and is lifted only after the file is removed"}  # fmt: skip


def _show(found: dict[str, Any], flatten: bool) -> None:
    write(f"halted: {found['key'].replace(':', ' ')}")
    for name, told in found["accounts"].items():
        if not told["in_force"]:
            warn(f"account {name}: not told yet: {told['reason']}")
        elif told.get("warning"):
            warn(f"account {name}: {told['warning']}")
        if flatten and told["in_force"]:
            progress = told.get("progress") or "positions are being closed"
            write(f"account {name}: {'flat' if progress == _FLAT else progress}")
    if found.get("warning"):
        warn(found["warning"])


def _resume_trading(account: Account = None, bot: Bot = None, as_json: AsJson = False) -> int:
    """Lift the halt of everything, of one account or of one bot: a person's and a guard's alike."""
    _one_scope(account, bot)
    args = {key: value for key, value in (("account", account), ("bot", bot)) if value}
    with settings.connect(timeout=20.0) as client:
        found = client.request("resume-trading", {**args, "who": _who()})
    if as_json:
        write_json(found)
        return 0
    what = f"account {account}" if account else f"bot {bot}" if bot else "everything"
    write([f"lifted: {key}" for key in found["lifted"]] or f"{what} is not halted as such")
    if found["still"]:
        write([f"still {line}" for line in found["still"]])
    return 0


def _one_scope(account: str | None, bot: str | None) -> None:
    if account and bot:
        raise InvalidInput("name an account or a bot, not both")


def _who() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        return "operator"
