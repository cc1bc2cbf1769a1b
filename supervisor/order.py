"""`after` and `group` of bots and programs, checked against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from protocol.botconfig import Supervised
from protocol.programconfig import GroupConfig
from supervisor.bots import Misfit
from supervisor.complaints import did_you_mean
from supervisor.policy.groups import find_cycle, start_order


def check_order(everyone: Sequence[Supervised], groups: Mapping[str, GroupConfig]) -> None:
    """Every name in an `after` is known, every group is, and nobody waits for himself. Raises Misfit.

    The error's `bot` and `key` say where to look.
    """
    names = {one.name: one for one in everyone}
    for one in everyone:
        for other in one.after:
            if other not in names:
                raise Misfit(f"{one.name} starts after {other!r}, which does not exist", key="after", bot=one.name,
                             hint=did_you_mean(other, list(names)))  # fmt: skip
        if one.group is not None and one.group not in groups:
            hint = did_you_mean(one.group, list(groups)) if groups else f"add a table [groups.{one.group}]"
            raise Misfit(f"unknown group {one.group!r}", hint=hint, key="group", bot=one.name)
    plain = {one.name: one.after for one in everyone}
    for waits in (plain, _with_groups(everyone, groups)):
        cycle = find_cycle(waits)
        if cycle:
            by_group = "" if waits is plain else " (members of a group wait for those before them)"
            raise Misfit(f"nobody could start first: {' after '.join(cycle)}{by_group}", key="after", bot=cycle[0],
                         hint="take one of these out of its `after`, or out of its group")  # fmt: skip


def _with_groups(everyone: Sequence[Supervised], groups: Mapping[str, GroupConfig]) -> dict[str, list[str]]:
    """Who waits for whom, with what the groups add: each member waits for the ones before it."""
    number = {one.name: place for place, one in enumerate(everyone)}
    after = {number[one.name]: [number[other] for other in one.after] for one in everyone}
    waits = {one.name: list(one.after) for one in everyone}
    for name, group in groups.items():
        if group.strategy != "one_for_one":
            members = start_order((number[one.name] for one in everyone if one.group == name), after)
            for before, behind in pairwise(members):
                waits[everyone[behind].name].append(everyone[before].name)
    return waits
