"""What becomes of the connection to a terminal: (state, event, time) -> (state, actions). Pure.

Trouble is of two sorts. With the first nothing can be read, and the terminal is opened again with growing waits.
With the second it answers, and no order may be sent (or no order would be taken): it is looked at until it heals.
Each trouble is told once when it begins, and once when it is over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from broker import api
from broker.mt5.troubles import CAREFULLY, HOLDING, SEEN, STALE, Account, Kind, kind_of, line_of

#: A refused login is tried so much less often: brokers lock accounts that try too much.
CAREFUL: Final = 10.0
#: First waits for which a terminal that is back may still load the ticks that it has missed, and seconds at most.
LOADING: Final = 5.0
LONGEST_LOADING: Final = 10.0
#: Seconds after which an account that another gateway holds is asked for again, at most: it costs nothing.
LONGEST_LOCK_WAIT: Final = 5.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong, in one line, and since when (seconds)."""

    kind: Kind
    line: str
    since: float


@dataclass(frozen=True, slots=True)
class Connection:
    """The state. `opened`: the package said yes to the last `initialize`, and nothing has failed since."""

    opened: bool = False
    trouble: Trouble | None = None
    failures: int = 0
    next_try: float = 0.0
    held_until: float = 0.0  # a refusal by the server holds so long, whatever the terminal's flags say
    blind_since: float | None = None  # the first of the looks that were not answered, with none answered since
    complete_at: float = 0.0  # what was missed in the last break is loaded by then

    @property
    def readable(self) -> bool:
        """Whether what the terminal says is this account's."""
        return self.opened and (self.trouble is None or self.trouble.kind is not Kind.OTHER_ACCOUNT)

    @property
    def holding(self) -> str:
        """Why no bot may begin; empty when one may."""
        if not self.opened and self.trouble is None:
            return "the terminal is being opened"
        return self.trouble.line if self.trouble is not None and self.trouble.kind in HOLDING else ""

    @property
    def barring(self) -> str:
        """Why no order may be sent; empty when one may."""
        if not self.opened and self.trouble is None:
            return "the terminal is being opened"
        return self.trouble.line if self.trouble is not None else ""

    def holds_back(self, now: float) -> str:
        """Why no bar may be told; empty when one may. One that ends meanwhile is not known to its end."""
        return self.holding or ("the terminal loads what it has missed" if now < self.complete_at else "")

    @property
    def stale(self) -> bool:
        """Whether what the terminal shows may have stood still."""
        return self.trouble is not None and self.trouble.kind in STALE


@dataclass(frozen=True, slots=True)
class Due:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Opened:
    """`initialize` said yes."""


@dataclass(frozen=True, slots=True)
class OpenFailed:
    """`initialize` said no, or could not be asked: `kind` where the reason is known without the terminal."""

    code: int
    text: str
    kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class CallFailed:
    """A function gave None or False."""

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Looked:
    """What terminal and account say of themselves."""

    login: int
    connected: bool
    trade_allowed: bool  # the terminal's button
    api_disabled: bool
    account_trade_allowed: bool
    account_trade_expert: bool


@dataclass(frozen=True, slots=True)
class LookFailed:
    """Terminal or account could not be asked; for what says nothing of the connection it may pass by itself."""

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class StoodStill:
    """The host slept, or this process was not run: the terminal may have missed what happened, and not know of it."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An order was answered."""

    retcode: int


Event = Due | Opened | OpenFailed | CallFailed | Looked | LookFailed | StoodStill | Answered


class Do(Enum):
    """What to do now."""

    OPEN = "open"  # shutdown, initialize
    LOOK = "look"  # account_info, terminal_info


@dataclass(frozen=True, slots=True)
class Tell:
    """A line for people; `bad`: something is wrong since now, else it is over."""

    line: str
    bad: bool


Action = Do | Tell


def decide(state: Connection, event: Event, now: float, account: Account) -> tuple[Connection, list[Action]]:
    """The next state and what to do. `now`: monotonic seconds."""
    after, actions = _next(state, event, now, account)
    if isinstance(event, StoodStill) or (state.stale and not after.stale):
        after = replace(after, complete_at=now + min(LOADING * account.first_wait, LONGEST_LOADING))
    return after, actions


def _next(state: Connection, event: Event, now: float, account: Account) -> tuple[Connection, list[Action]]:
    match event:
        case Due():
            if state.opened:
                return state, [Do.LOOK]
            return state, [Do.OPEN] if now >= state.next_try else []
        case Opened():
            # Whether it is over is said by the look that follows.
            return replace(state, opened=True, failures=0, next_try=now, blind_since=None), [Do.LOOK]
        case OpenFailed():
            kind = event.kind or kind_of(event.code) or Kind.IPC
            return _closed(state, kind, line_of(kind, account, event.code, event.text), now, account)
        case CallFailed():
            known = kind_of(event.code)
            if known is None or not state.opened:
                return state, []
            # It is tried again at once: the wait begins with the second attempt.
            state, actions = _begin(state, known, line_of(known, account, event.code, event.text), now)
            return replace(state, opened=False, failures=0, next_try=now), actions
        case Looked():
            return _looked(replace(state, blind_since=None), event, now, account)
        case LookFailed():
            if kind_of(event.code) is not None or not state.opened:
                return state, []  # the failed call was an event of its own
            if state.trouble is not None and state.trouble.kind in SEEN:
                return state, []  # another account's terminal that fails is still another account's
            if state.blind_since is None:
                return replace(state, blind_since=now), []
            if now - state.blind_since < account.first_wait:
                return state, []
            return _begin(state, Kind.FAILING, line_of(Kind.FAILING, account, event.code, event.text), now)
        case StoodStill():
            return state, []
        case Answered():
            refused = _REFUSED.get(event.retcode)
            if refused is None:
                return state, []
            state, actions = _begin(state, refused, line_of(refused, account, event.retcode, ""), now)
            return replace(state, held_until=now + 5 * account.first_wait), actions


_REFUSED: Final = {
    api.TRADE_RETCODE_CLIENT_DISABLES_AT: Kind.BUTTON_OFF,
    api.TRADE_RETCODE_SERVER_DISABLES_AT: Kind.EXPERTS_OFF,
}


def _looked(state: Connection, seen: Looked, now: float, account: Account) -> tuple[Connection, list[Action]]:
    kind: Kind | None = None
    if seen.login != account.login:
        kind = Kind.OTHER_ACCOUNT
    elif seen.api_disabled:
        kind = Kind.API_OFF
    elif not seen.connected:
        kind = Kind.OFFLINE
    elif not seen.trade_allowed:
        kind = Kind.BUTTON_OFF
    elif not seen.account_trade_allowed:
        kind = Kind.READ_ONLY
    elif not seen.account_trade_expert:
        kind = Kind.EXPERTS_OFF
    if kind is not None:
        return _begin(state, kind, line_of(kind, account, 0, "", seen.login), now)
    if state.trouble is None or now < state.held_until:
        return state, []
    lasted = now - state.trouble.since
    return replace(state, trouble=None), [Tell(f"over after {lasted:.0f} s: {state.trouble.line}", bad=False)]


def _begin(state: Connection, kind: Kind, line: str, now: float) -> tuple[Connection, list[Action]]:
    """This trouble is there: told when it is another one than before."""
    if state.trouble is not None and state.trouble.kind is kind:
        # Who holds the account, and whether it is still there, is shown as it is now; it is no other trouble.
        return (replace(state, trouble=replace(state.trouble, line=line)) if kind is Kind.TAKEN else state), []
    return replace(state, trouble=Trouble(kind, line, now)), [Tell(line, bad=True)]


def _closed(state: Connection, kind: Kind, line: str, now: float, account: Account) -> tuple[Connection, list[Action]]:
    if kind is not Kind.TAKEN and state.trouble is not None and state.trouble.kind is Kind.TAKEN:
        state = replace(state, failures=0)  # waiting for another gateway is no failure of the terminal's
    state, actions = _begin(state, kind, line, now)
    factor = CAREFUL if kind in CAREFULLY else 1.0
    longest = min(account.longest_wait, LONGEST_LOCK_WAIT) if kind is Kind.TAKEN else account.longest_wait
    wait = min(account.first_wait * 2.0 ** min(state.failures, 30), longest) * factor
    return replace(state, opened=False, failures=state.failures + 1, next_try=now + wait), actions
