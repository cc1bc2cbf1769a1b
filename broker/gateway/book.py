"""Which orders may be executed: the rules, without sockets, threads, databases or clocks.

The service thread owns the book. The terminal thread asks `veto` again just before each send, which only
reads single values that Python replaces at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from protocol.messages import Order, OrderResult

_RESULTS_KEPT: Final = 4_000  # some 2 KB each, for who asks again; older ones are in the ledger
_DECISIONS_KEPT: Final = 16  # per bot; a decision on an older bar is refused for its age anyway
#: A decision that seems younger than now by more than this comes from another clock.
_CLOCK_SLACK: Final = 1.0


@dataclass(frozen=True, slots=True)
class FenceState:
    """Which epoch of a bot may trade: only `epoch`, and only while `alive`."""

    bot_id: int
    epoch: int
    alive: bool
    magic: int = 0
    name: str = ""


class Sight(Enum):
    """What is known of an order id."""

    NEW = "new"
    UNDER_WAY = "under way"  # accepted, no result yet
    KNOWN = "known"  # has a result
    OTHER_PAYLOAD = "other payload"
    LOOK_UP = "look up"  # not in memory, but the ledger may know it


@dataclass(slots=True)
class _Entry:
    digest: str
    result: OrderResult | None = None


class Book:
    """Fences, order ids and decisions of one account, as this gateway process (`boot`) knows them."""

    def __init__(self, boot: str, boot_id: str, fences: Iterable[FenceState] = ()) -> None:
        self.boot = boot
        self.boot_id = boot_id  # of the kernel: decided_mono is comparable only under the same one
        self.fences: dict[int, FenceState] = {fence.bot_id: fence for fence in fences}
        #: Bot -> living epoch whose fence is in force but not in the ledger: closes only, until it is.
        self._unremembered: dict[int, int] = {}
        self._ended: dict[int, int] = {bot_id: fence.epoch for bot_id, fence in self.fences.items() if not fence.alive}
        self.heard = False  # whether any supervisor has spoken to this gateway process
        self.closing = False  # the gateway is leaving: closes only
        #: Why a bot of that name may not enter: a halt, or a guard's. Safe from any thread.
        self.halted: Callable[[str], str] = lambda _bot: ""
        self.last_closed: dict[tuple[str, str], int] = {}  # open time of the last closed bar
        self._orders: OrderedDict[str, _Entry] = OrderedDict()
        self._seqs: dict[tuple[int, int], int] = {}
        self._decisions: dict[int, OrderedDict[str, str]] = {}
        self._tombstones: set[str] = set()

    # --- fences ----------------------------------------------------------------------------------

    def fence(self, wanted: FenceState) -> str:
        """Take a fence into force as far as it is safe before it is durable; the reason when it is too low.

        Older epochs are out from this moment. The new epoch may trade only after `confirm`.
        """
        known = self.fences.get(wanted.bot_id)
        if known is not None and wanted.epoch < known.epoch:
            return f"epoch {known.epoch} of this bot is known already"
        if not wanted.alive:
            self._ended[wanted.bot_id] = wanted.epoch
        elif wanted.epoch <= self._ended.get(wanted.bot_id, -1):
            return f"epoch {wanted.epoch} of this bot was fenced off for good"
        same = known is not None and known.epoch == wanted.epoch and known.alive
        self.fences[wanted.bot_id] = wanted if same or not wanted.alive else replace(wanted, alive=False)
        if not same:
            self._unremembered.pop(wanted.bot_id, None)
        return ""

    def admit_closes(self, fence: FenceState) -> bool:
        """The fence cannot be made durable now: its epoch may close, and nothing else. False when overtaken."""
        known = self.fences.get(fence.bot_id)
        trades = known == fence and fence.bot_id not in self._unremembered
        if trades:  # asked again about an epoch that is in the ledger already
            return True
        if not self.confirm(fence):
            return False
        self._unremembered[fence.bot_id] = fence.epoch
        return True

    def confirm(self, fence: FenceState) -> bool:
        """The fence is durable: its epoch may trade. False when a later fence has overtaken it."""
        known = self.fences.get(fence.bot_id)
        ended = fence.alive and fence.epoch <= self._ended.get(fence.bot_id, -1)
        if known is None or known.epoch != fence.epoch or ended:
            return False
        self.fences[fence.bot_id] = fence
        self._unremembered.pop(fence.bot_id, None)
        return True

    def may_attach(self, bot_id: int, epoch: int) -> str | None:
        """Empty when this run may attach now, None when its fence is still to come, else why it never may."""
        known = self.fences.get(bot_id)
        if known is None or epoch > known.epoch:
            return None
        if epoch < known.epoch:
            return f"epoch {epoch} is old: epoch {known.epoch} of this bot is known"
        if epoch <= self._ended.get(bot_id, -1):
            return f"epoch {epoch} was fenced off"
        return "" if known.alive else None

    # --- ids -------------------------------------------------------------------------------------

    def sight(self, order: Order, digest: str) -> tuple[Sight, OrderResult | None]:
        """What is known of this order's id; with its result where it is KNOWN."""
        entry = self._orders.get(order.id)
        if entry is not None:
            if entry.digest != digest:
                return Sight.OTHER_PAYLOAD, None
            return (Sight.KNOWN if entry.result else Sight.UNDER_WAY), entry.result
        if order.id in self._tombstones:
            return Sight.KNOWN, self.tombstone(order.id)
        # Numbers rise within a run: a higher one of this gateway's own time cannot be in the ledger.
        if order.gateway_boot == self.boot and order.seq > self._seqs.get((order.bot_id, order.epoch), 0):
            return Sight.NEW, None
        return Sight.LOOK_UP, None

    def asked(self, order_id: str) -> tuple[Sight, OrderResult | None]:
        """The same for a question by id."""
        entry = self._orders.get(order_id)
        if entry is not None:
            return (Sight.KNOWN if entry.result else Sight.UNDER_WAY), entry.result
        if order_id in self._tombstones:
            return Sight.KNOWN, self.tombstone(order_id)
        return Sight.LOOK_UP, None

    def tombstone(self, order_id: str) -> OrderResult:
        """Remember that this id was asked for before it came: it is refused for ever."""
        self._tombstones.add(order_id)
        return OrderResult(id=order_id, status="refused", reason="never received; refused from now on")

    def accept(self, order: Order, digest: str) -> None:
        """The order goes to the terminal: its id, number and decision are taken."""
        self._orders[order.id] = _Entry(digest)
        run = (order.bot_id, order.epoch)
        self._seqs[run] = max(order.seq, self._seqs.get(run, 0))
        if order.action == "open":
            self.take_decision(order.bot_id, order.decision, order.id)

    def take_decision(self, bot_id: int, decision: str, order_id: str) -> None:
        """This decision key has had its entry."""
        taken = self._decisions.setdefault(bot_id, OrderedDict())
        taken[decision] = order_id
        while len(taken) > _DECISIONS_KEPT:
            taken.popitem(last=False)

    def settle(self, result: OrderResult, digest: str = "") -> None:
        """Keep a result, so that a repeated id is answered by it. `unknown` may be replaced, others stay."""
        entry = self._orders.get(result.id)
        if entry is None:
            if not digest:
                return  # from before this process: the ledger answers for it
            entry = self._orders[result.id] = _Entry(digest)
        if entry.result is None or entry.result.status == "unknown":
            entry.result = result
        self._orders.move_to_end(result.id)
        while len(self._orders) > _RESULTS_KEPT:
            oldest, first = next(iter(self._orders.items()))
            if first.result is None:
                break
            del self._orders[oldest]

    # --- rules -----------------------------------------------------------------------------------

    def refuse(self, order: Order, now: float, ttl: float, wall: float | None = None) -> str:
        """Why this new order may not be executed; empty when it may. `now`: CLOCK_MONOTONIC seconds.

        `wall`: Unix seconds, by which a decision of another host is judged whose run does not tell it by this
        gateway's clock; None: not judged.
        """
        if order.gateway_boot != self.boot:
            return "meant for another gateway process: attach again"
        reason = self.veto(order, now, ttl, wall)
        if reason or order.action != "open":
            return reason
        entries = self._decisions.get(order.bot_id)
        taken = entries.get(order.decision) if entries else None
        if taken is not None and taken != order.id:
            return f"this decision has had its entry: {taken}"
        return ""

    def veto(self, order: Order, now: float, ttl: float, wall: float | None = None) -> str:
        """The rules that time can change, asked again just before the send. Safe from any thread."""
        fence = self.fences.get(order.bot_id)
        if fence is None or order.epoch > fence.epoch:
            return "no fence stands for this epoch"
        if order.epoch < fence.epoch:
            return f"old epoch {order.epoch}: epoch {fence.epoch} trades now"
        if not fence.alive:
            return f"epoch {order.epoch} is fenced off"
        if fence.magic and order.magic != fence.magic:
            return f"magic {order.magic} is not this bot's"
        if order.boot_id == self.boot_id:
            age = now - order.decided_mono
            if age > ttl:
                return f"decided {age:.1f} s ago; at most {ttl:g} s"
            if age < -_CLOCK_SLACK:
                return "decided in the future"
        elif order.decided_clock:
            # Another host's run, counting on from what this gateway has told it of its clock.
            age = now - order.decided_clock
            if age > ttl:
                return f"decided {age:.1f} s ago; at most {ttl:g} s"
            if age < -ttl:
                return "decided in the future"
        elif wall is not None and abs(wall - order.decided_at) > ttl:
            # An older version's run on another host: only the time of day can be compared.
            return f"decided {wall - order.decided_at:.1f} s ago by the clocks of two hosts; at most {ttl:g} s"
        if order.action == "open":
            return self._veto_entry(order)
        return ""

    def _veto_entry(self, order: Order) -> str:
        if self.closing:
            return "the gateway is leaving: closes only"
        if self._unremembered.get(order.bot_id) == order.epoch:
            return "the fence of this epoch is in force, NOT remembered: closes only"
        fence = self.fences.get(order.bot_id)
        halted = self.halted(fence.name if fence else "")
        if halted:
            return halted
        if not self.heard:
            return "no supervisor has spoken since the gateway started: closes only"
        try:
            symbol, timeframe, bar_time = order.decision.rsplit("|", 2)
            decided_on = int(bar_time)
        except ValueError:
            return f"decision {order.decision!r} is not symbol|timeframe|bar_time"
        if symbol != order.symbol or decided_on != order.bar_time:
            return f"decision {order.decision!r} is not of this order's symbol and bar"
        last = self.last_closed.get((symbol, timeframe))
        if last is None:
            return f"no closed bar of {symbol} {timeframe} is known"
        if decided_on != last:
            return f"decided on the bar of {decided_on}; the last closed one is of {last}"
        return ""
