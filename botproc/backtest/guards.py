"""The guards in a backtest: those of the gateway, with nobody who would lift what they latch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.gateway.guarding import Guarding, passing_ledger
from broker.guards import Limits
from broker.paper.terminal import PaperTerminal
from protocol.botconfig import AccountConfig, BotConfig
from protocol.errors import InvalidInput
from protocol.halts import HaltState
from protocol.messages import Order, RosterEntry
from protocol.schedule import parse_calendar


@dataclass(frozen=True, slots=True)
class Denied:
    """An entry that a guard refused. `at` in server seconds."""

    at: int
    bot: str
    symbol: str
    side: str
    volume: float
    guard: str
    """`account NAME` or `bot NAME`, and the rule: `bot eurusd-ma: max_lots`."""
    reason: str


class Guards:
    """What a gateway asks before each entry, and after each moment of the market. Close it at the end."""

    def __init__(
        self, terminal: PaperTerminal, account: AccountConfig, bots: Mapping[int, BotConfig], *, place: Path, home: Path
    ) -> None:
        """`bots` by their magic, which is their id; `home` is the folder that calendars are relative to."""
        self._terminal = terminal
        self._account = terminal.name
        self._bots = bots
        self._halts: dict[str, HaltState] = {}
        self.denied: list[Denied] = []
        self._ledger = passing_ledger(place / "ledger.db")
        roster = {
            magic: RosterEntry(bot_id=magic, name=bot.name, symbol=bot.market, timeframe=bot.timeframe, magic=magic)
            for magic, bot in bots.items()
        }
        self._guarding = Guarding(
            terminal,
            self._ledger,
            account=terminal.name,
            limits=Limits.of(account.guards()),
            folder=home,
            roster=lambda: roster,
            now=lambda: terminal.now,
            latch=lambda halt: self._halts.setdefault(halt.key, halt),
            holds=lambda key: key in self._halts,
            forgiven=lambda _key: False,
        )
        for magic, bot in bots.items():
            self._guarding.limit(magic, Limits.of(bot.guards()))

    def close(self) -> None:
        """Let go of the ledger."""
        self._ledger.close()

    def look(self) -> None:
        """After each moment of the market."""
        self._guarding.look()

    def entry(self, order: Order) -> str:
        """Why this entry is refused; empty when it is not. A refusal is kept for the report."""
        reason = self._halted(order) or self._guarding.entry(order)
        if reason:
            name = self._bots[order.magic].name
            self.denied.append(
                Denied(self._terminal.now, name, order.symbol, order.side, order.volume, _guard_of(reason), reason)
            )
        return reason

    def _halted(self, order: Order) -> str:
        """What latched before, as the gateway's halts say it: until its time is over, or for good."""
        name = self._bots[order.magic].name
        for halt in self._halts.values():
            if halt.covers(self._account, name) and (not halt.until or self._terminal.now < halt.until):
                return halt.line()
        return ""


def _guard_of(reason: str) -> str:
    """Scope and rule out of a refusal, which begins `guard of bot NAME: RULE:` or `halted by RULE (bot NAME):`."""
    if reason.startswith("halted by "):
        rule, _, rest = reason.removeprefix("halted by ").partition(" (")
        return f"{rest.partition(')')[0]}: {rule}"
    scope, _, rest = reason.removeprefix("guard of ").partition(": ")
    return f"{scope}: {rest.partition(':')[0]}"


def has_limits(account: AccountConfig, bots: Sequence[BotConfig]) -> bool:
    """Whether there is anything to guard."""
    return any(Limits.of(each.guards()).any for each in (account, *bots))


def check_calendars(account: AccountConfig, bots: Sequence[BotConfig], home: Path) -> None:
    """Read the files of pauses before the first bar. Raises InvalidInput."""
    for name in {each.calendar for each in (account, *bots) if each.calendar}:
        try:
            parse_calendar((home / name).read_text("utf-8-sig"))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise InvalidInput(f"calendar {home / name}: {why}") from None


def told(denied: Sequence[Denied]) -> list[dict[str, Any]]:
    """For the report: `{guard, bot, entries, first, last, reason}` of each guard and bot, in the order of the first."""
    groups: dict[tuple[str, str], list[Denied]] = {}
    for one in denied:
        groups.setdefault((one.guard, one.bot), []).append(one)
    return [
        {
            "guard": guard, "bot": bot, "entries": len(group), "first": group[0].at, "last": group[-1].at,
            "reason": group[0].reason,
        }
        for (guard, bot), group in groups.items()
    ]  # fmt: skip
