"""Who waits for whom, and who is restarted with whom: `after`, and OTP's strategies for groups.

A member of a `rest_for_one` or `one_for_all` group also waits for the members before it, as OTP starts its
children one after the other; and the failure of one that is restarted restarts others, each of them by a
stop and a start that burns nothing of its own budget. (OTP counts restarts of the group and gives all of it
up; here each member has its own budget, and those that need a member in quarantine are held.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from supervisor.policy.states import Bot, Cause, State, Wanted

Strategy = Literal["one_for_one", "rest_for_one", "one_for_all"]

_UP: Final = frozenset({State.RUNNING, State.PAUSED})
#: Ends that are no failure of the run itself.
_NO_FAILURE: Final = frozenset({Cause.OPERATOR, Cause.HOST, Cause.LOCK, Cause.DEPENDENCY, Cause.LAUNCH})


@dataclass(frozen=True, slots=True)
class Group:
    """Members in the order in which they start."""

    name: str
    strategy: Strategy
    members: tuple[int, ...]


def find_cycle(after: Mapping[str, Sequence[str]]) -> list[str]:
    """Names that wait for each other in a ring, the first one again at the end; empty where there is none.

    Names that are not keys wait for nobody.
    """
    done: set[str] = set()
    for start in after:
        path: list[str] = []
        stack: list[tuple[str, int]] = [(start, 0)]
        while stack:
            name, depth = stack.pop()
            del path[depth:]
            if name in path:
                return [*path[path.index(name) :], name]
            path.append(name)
            if name not in done:
                done.add(name)
                stack += [(other, depth + 1) for other in after.get(name, ())]
            # What was looked at before led to no ring, unless it is on this very path.
            elif any(other in path for other in after.get(name, ())):
                other = next(other for other in after[name] if other in path)
                return [*path[path.index(other) :], other]
    return []


def start_order(members: Iterable[int], after: Mapping[int, Sequence[int]]) -> tuple[int, ...]:
    """The members, each behind all that it waits for; where that leaves a choice, by id. No cycle is expected."""
    left = sorted(members)
    inside = set(left)
    ordered: list[int] = []
    while left:
        # Directly or through others outside of the group: what waits is put behind what it waits for.
        ready = next((one for one in left if not (_all_before(one, after) & inside - set(ordered) - {one})), left[0])
        ordered.append(ready)
        left.remove(ready)
    return tuple(ordered)


def _all_before(bot_id: int, after: Mapping[int, Sequence[int]]) -> set[int]:
    found: set[int] = set()
    todo = list(after.get(bot_id, ()))
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += after.get(one, ())
    return found


def blockers(bot_id: int, after: Sequence[int], group: Group | None, bots: Mapping[int, Bot]) -> list[int]:
    """Whom this one must wait for now, in order: its `after`, and what its group demands.

    One that is not there any more (removed) is waited for no longer.
    """
    waits = [one for one in after if one in bots and bots[one].state not in _UP]
    if group is None or group.strategy == "one_for_one":
        return waits
    before = group.members[: group.members.index(bot_id)]
    for one in group.members:
        other = bots.get(one)
        if other is None or one == bot_id or one in waits or other.wanted is Wanted.STOPPED or other.state in _UP:
            continue
        # With one_for_all a member that was given up keeps all the others down, as OTP ends them with it.
        if one in before or (group.strategy == "one_for_all" and other.state is State.FAILED):
            waits.append(one)
    return waits


def failed(before: Bot, after: Bot, cause: Cause) -> bool:
    """Whether the end of a run was a failure that the restart policy answers with a restart, or with giving up."""
    return (
        cause not in _NO_FAILURE
        and before.wanted is not Wanted.STOPPED
        and after.state in (State.STARTING, State.BACKOFF, State.FAILED)
    )


def affected(bot_id: int, group: Group) -> tuple[int, ...]:
    """Who is restarted with this member when it has failed."""
    if group.strategy == "one_for_one":
        return ()
    at = group.members.index(bot_id)
    if group.strategy == "rest_for_one":
        return group.members[at + 1 :]
    return group.members[:at] + group.members[at + 1 :]
