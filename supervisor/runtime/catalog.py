"""Which bots there are: the file's, those added at run time, and what `update` laid over them.

Pure: rows in, configurations and differences out. A bot's effective configuration is the file's defaults,
below what was declared or added, below its override; `params` are laid over each other key by key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from protocol.botconfig import AccountConfig, Supervised
from protocol.errors import INVALID, StablehandError, nearest
from protocol.programconfig import Settings
from supervisor.bots import settings_of
from supervisor.policy.states import Limits

NOT_CHANGEABLE = ("name", "wanted")
#: What only the supervisor reads of a configuration, and reads anew each time: a run need not end for it.
WITHOUT_RESTART = frozenset({
    "priority", "restart", "intensity", "period_seconds", "backoff_initial_seconds", "backoff_max_seconds",
    "stable_after_seconds", "after", "group", "throttle", "throttle_group", "pace_max", "memory_limit_mb",
    "memory_limit_seconds", "cpu_limit_percent", "cpu_limit_seconds", "limit_restarts",
})  # fmt: skip


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with the keys of `above` on top; tables (params) key by key."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = {**under, **value} if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def effective(
    name: str,
    base: Mapping[str, Any],
    override: Mapping[str, Any],
    defaults: Mapping[str, Any],
    accounts: Mapping[str, AccountConfig],
) -> Settings:
    """The bot (or program) as it runs. Raises InvalidInput with one line."""
    return settings_of({**overridden(base, override), "name": name}, defaults, accounts)


def overridden(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """What was declared, below what `update` said; another strategy does not have this one's parameters."""
    entry = laid_over(base, override)
    if "strategy" in override and override["strategy"] != base.get("strategy"):
        entry["params"] = dict(override.get("params", {}))
    return entry


def updated(below: Mapping[str, Any], settings: Mapping[str, Any], strategy: str) -> dict[str, Any]:
    """What was said so far, below new settings; where they bring another strategy, without the old parameters."""
    merged = laid_over(below, settings)
    if settings.get("strategy", strategy) != strategy:
        merged["params"] = dict(settings.get("params", {}))
    return merged


def without(said: Mapping[str, Any], keys: Iterable[str], name: str) -> dict[str, Any]:
    """What was said, without these keys (`priority`, `params.fast`). Raises StablehandError for one that was not."""
    left = {key: dict(value) if isinstance(value, dict) else value for key, value in said.items()}
    known = [f"{key}.{inner}" for key, value in left.items() if isinstance(value, dict) for inner in value] + [*left]
    for key in keys:
        head, _, tail = key.partition(".")
        table = left.get(head) if tail else left
        if not isinstance(table, dict) or (tail or head) not in table:
            near = nearest(key, known)
            hint = f"did you mean {near!r}?" if near else f"set are: {', '.join(sorted(known)) or 'none'}"
            raise StablehandError(f"{name}: {key} was not set by update", hint=hint, code=INVALID)
        del table[tail or head]
        if not left.get(head, True):
            del left[head]  # a table without keys says nothing
    return left


def difference(before: Supervised, after: Supervised) -> dict[str, list[Any]]:
    """`{key: [old, new]}`; parameters as `params.key`."""
    changed: dict[str, list[Any]] = {}
    old, new = before.model_dump(), after.model_dump()
    for key in new:
        if key in NOT_CHANGEABLE or old.get(key) == new[key]:
            continue
        if key != "params" or "params" not in old:
            changed[key] = [old.get(key), new[key]]
            continue
        for name in sorted({*old["params"], *new["params"]}):
            pair = [old["params"].get(name), new["params"].get(name)]
            if pair[0] != pair[1]:
                changed[f"params.{name}"] = pair
    return changed


def unflatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`{"params.fast": 10}` as `{"params": {"fast": 10}}`. Raises StablehandError for a key that cannot change."""
    entry: dict[str, Any] = {}
    for key, value in settings.items():
        head, _, tail = str(key).partition(".")
        if head in NOT_CHANGEABLE:
            hint = "remove it and add it under another name" if head == "name" else "use start, stop, pause or resume"
            raise StablehandError(f"{head} cannot be updated", hint=hint, code=INVALID)
        if not tail:
            entry = laid_over(entry, {head: value})
        elif head in ("params", "environment"):
            entry = laid_over(entry, {head: {tail: value}})
        else:
            raise StablehandError(f"unknown key {key!r}", code=INVALID,
                                  hint="only params and environment have keys of their own")  # fmt: skip
    return entry


def limits_of(config: Supervised) -> Limits:
    """What the lifecycle needs to know of a configuration."""
    return Limits(
        restart=config.restart,
        intensity=config.intensity,
        period=config.period_seconds,
        backoff_initial=config.backoff_initial_seconds,
        backoff_max=config.backoff_max_seconds,
        stable_after=config.stable_after_seconds,
        start_timeout=config.start_timeout_seconds,
        stop_timeout=config.stop_timeout_seconds,
    )


@dataclass(frozen=True, slots=True)
class FileDifference:
    """What a changed file would change."""

    added: dict[str, dict[str, Any]]
    removed: tuple[str, ...]
    changed: dict[str, dict[str, list[Any]]]
    overrides: dict[str, dict[str, Any]]
    supervisor: dict[str, list[Any]]  # takes effect when the supervisor starts the next time
    defaults: dict[str, list[Any]]  # of bots: for those that are added later, too
    groups: dict[str, list[Any]]

    @property
    def empty(self) -> bool:
        """Whether nothing would change."""
        return not (self.added or self.removed or self.changed or self.supervisor or self.defaults or self.groups)

    def as_dict(self, applied: bool) -> dict[str, Any]:
        """For the wire."""
        return {
            "added": sorted(self.added),
            "removed": list(self.removed),
            "changed": self.changed,
            "overrides": self.overrides,
            "supervisor": self.supervisor,
            "defaults": self.defaults,
            "groups": self.groups,
            "applied": applied,
        }
