"""halt, resume-trading, halts: the latched kill switch."""

from __future__ import annotations

from typing import Any

from protocol.errors import INVALID, StablehandError, nearest
from protocol.halts import FILE, HaltState, reason_text, scope_of
from supervisor.runtime import clock
from supervisor.runtime.stable import Stable

_LONGEST_WAIT = 86_400.0


async def halt(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """Refuse entries of everything, of `account` or of `bot`, until it is lifted; with `flatten` close what is open.

    With `wait` it answers when the gateways confirm that nothing is open, or with what is left.
    """
    scope = _scope(stable, args)
    flatten, wait = args.get("flatten", False), args.get("wait")
    if not isinstance(flatten, bool):
        raise StablehandError(f"flatten = {flatten!r}: true or false", code=INVALID)
    if wait is not None and (
        isinstance(wait, bool) or not isinstance(wait, int | float) or not 0 <= wait <= _LONGEST_WAIT
    ):
        raise StablehandError(f"wait = {wait!r}: a number of seconds from 0 to {_LONGEST_WAIT:g}", code=INVALID)
    wanted = HaltState(
        scope=scope, reason=reason_text(args.get("reason")), who=_who(args), at=clock.wall(), flatten=flatten
    )
    answer = await stable.halts.halt(wanted, cause)
    if flatten:
        if wait:
            await stable.wait_until(lambda: stable.halts.flat(answer["key"]), float(wait))
        answer["flat"] = stable.halts.flat(answer["key"])
        for name, told in answer["accounts"].items():
            found = [one for one in stable.halts.of_account(name) if one["key"] == answer["key"]]
            told["progress"] = found[0]["progress"] if found else ""
    return answer


async def resume_trading(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """Lift the halts of everything, of `account` or of `bot`: those of operators and those of guards."""
    scope = _scope(stable, args)
    file = stable.data_dir / FILE
    if scope == "all" and file.exists():
        raise StablehandError(f"the file {file} is still there", hint="remove it first", code="refused")
    return await stable.halts.resume(scope, _who(args), cause)


async def halts(stable: Stable, args: dict[str, Any], cause: str) -> list[dict[str, Any]]:
    """Every halt that is in force."""
    return [{**one.model_dump(), "key": one.key, "text": one.line()} for one in stable.halts.everything()]


def _scope(stable: Stable, args: dict[str, Any]) -> str:
    account, bot = args.get("account"), args.get("bot")
    for value in (account, bot):
        if value is not None and not isinstance(value, str):
            raise StablehandError("account and bot are names", code=INVALID)
    scope = scope_of(account, bot)
    if bot and stable.registry.named(bot).program is not None:
        raise StablehandError(f"{bot} is a program: it trades nothing", hint="stablehand stop", code=INVALID)
    if account and account not in stable.config.accounts:
        known = list(stable.config.accounts)
        near = nearest(account, known)
        hint = f"did you mean {near!r}?" if near else f"known: {', '.join(known)}"
        raise StablehandError(f"unknown account {account!r}", hint=hint, code=INVALID)
    return scope


def _who(args: dict[str, Any]) -> str:
    return " ".join(str(args.get("who") or "operator").split())[:100]
