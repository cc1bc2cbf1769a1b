"""Plays a feed from its start to its end, with the bots answering each bar in lockstep's order."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from botproc.backtest.guards import Denied, Guards, has_limits
from botproc.backtest.seat import Note, Seat
from botproc.backtest.turn import Turn
from broker.api import DEAL_TYPE_BALANCE, DEAL_TYPE_BUY, AccountInfo, TradeDeal, TradePosition
from broker.paper.terminal import PaperTerminal, Step
from protocol.botconfig import AccountConfig, BotConfig
from protocol.messages import Order


@dataclass(frozen=True, slots=True)
class Entrant:
    """A bot that takes part. Orders of a bar are executed in the order of `bot_id`."""

    bot_id: int
    config: BotConfig

    @property
    def magic(self) -> int:
        """What marks its orders."""
        return self.bot_id


@dataclass(slots=True)
class Played:
    """What happened. The curve: at each moment in which a bar closed, its time (server seconds) and the money."""

    account: AccountInfo
    deals: tuple[TradeDeal, ...] = ()
    positions: tuple[TradePosition, ...] = ()
    times: list[int] = field(default_factory=list)
    equity: list[float] = field(default_factory=list)
    balance: list[float] = field(default_factory=list)
    held: int = 0  # moments with an open position
    bars: int = 0
    decisions: int = 0
    errors: int = 0
    spread_cost: float = 0.0
    closes: dict[str, list[float]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    denied: list[Denied] = field(default_factory=list)  # entries that a guard refused
    names: dict[int, str] = field(default_factory=dict)  # magic -> bot


class Unkept(PaperTerminal):
    """The paper terminal, but for its memory: nothing of a backtest has to outlive its process.

    Writing an order down costs several times what executing it does.
    """

    def save(self) -> None:
        """What changed is taken as it is: there is nothing to go back to."""
        self.account.committed()
        self.feed.saved()

    def keep_clock(self, *, force: bool = False) -> None:
        """No place is kept."""


class Engine:
    """One account with its bots, in a folder of its own that goes away with it. Use it in a `with` block.

    Raises StablehandError for what is wrong with account, files, strategies or parameters.
    """

    def __init__(
        self, account: AccountConfig, entrants: Sequence[Entrant], *, name: str, folder: Path, home: Path | None = None
    ) -> None:
        """`folder` is where the account's files are, `home` what calendars are relative to (else the same)."""
        self._place = tempfile.TemporaryDirectory(prefix="stablehand-backtest-")
        self._guards: Guards | None = None
        try:
            config = account.model_copy(update={"bars_per_second": "max"})
            self.terminal: PaperTerminal = Unkept(
                config, name=name, database=Path(self._place.name) / "paper.db", base_dir=folder
            )
            self._seats = [
                Seat(self.terminal, each.bot_id, each.magic, each.config)
                for each in sorted(entrants, key=lambda one: one.bot_id)
            ]
            self._guard(config, {each.magic: each.config for each in entrants}, home or folder)
        except BaseException:
            self._place.cleanup()
            raise
        self._seen_deals = 0

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._guards is not None:
            self._guards.close()
        self.terminal.close()
        self._place.cleanup()

    def _guard(self, account: AccountConfig, bots: dict[int, BotConfig], home: Path) -> None:
        if not has_limits(account, tuple(bots.values())):
            return
        self._guards = Guards(self.terminal, account, bots, place=Path(self._place.name), home=home)
        for seat in self._seats:
            seat.desk.guard = self._guards.entry

    def play(self, progress: Callable[[int], None] = lambda _: None) -> Played:
        """To the end of the feed; `progress` is told the market's clock now and then."""
        terminal, seats, guards = self.terminal, self._seats, self._guards
        account = terminal.account_info()
        assert account is not None
        played = Played(account, names={seat.magic: seat.config.name for seat in seats})
        played.closes = {seat.config.market: [] for seat in seats}
        while (step := terminal.step()) is not None:
            if guards is not None:
                guards.look()
            if not step.closed:
                continue
            self._answer(step)
            self._record(played, step)
            if not len(played.times) % 500:
                progress(step.time)
        played.deals = tuple(terminal.account.deals)
        played.positions = terminal.positions_get() or ()
        played.notes = sorted((note for seat in seats for note in seat.notes), key=lambda note: note.at)
        played.decisions = sum(seat.decisions for seat in seats)
        played.denied = guards.denied if guards is not None else []
        played.errors = sum(seat.errors for seat in seats)
        return played

    # --- one moment ----------------------------------------------------------------------------------

    def _answer(self, step: Step) -> None:
        """Every bot whose bar has closed decides and trades."""
        rows = {(bar.symbol, bar.timeframe): bar.row for bar in step.closed}
        owing = [seat for seat in self._seats if seat.market in rows and seat.take(rows[seat.market])]
        if len(owing) == 1:  # nobody else reads or sends: straight on
            owing[0].act(owing[0].look())
            return
        waiting: list[tuple[Seat, Turn, Order]] = []
        for seat in owing:
            signal = seat.look()
            if signal is None or signal.action == "HOLD":
                seat.act(signal)  # it sends nothing
                continue
            turn = Turn(lambda seat=seat, signal=signal: seat.act(signal))  # type: ignore[misc]
            seat.desk.route = turn.send
            order = turn.start()
            if order is not None:
                waiting.append((seat, turn, order))
        while waiting:  # a round: all orders, and only then the next word of each bot
            results = [seat.desk.execute(order) for seat, _, order in waiting]
            after = [
                (seat, turn, turn.advance(result)) for (seat, turn, _), result in zip(waiting, results, strict=True)
            ]
            waiting = [(seat, turn, order) for seat, turn, order in after if order is not None]
        for seat in owing:
            seat.desk.route = seat.desk.execute

    def _record(self, played: Played, step: Step) -> None:
        account = self.terminal.account
        # Larger bars are made of these.
        played.bars += sum(bar.timeframe == self.terminal.series[bar.symbol].timeframe for bar in step.closed)
        played.times.append(step.time)
        played.balance.append(account.balance)
        if account.positions:
            played.held += 1
            played.equity.append(account.totals().equity)
        else:
            played.equity.append(account.balance)
        for name, closes in played.closes.items():
            closes.append(self.terminal.series[name].bid)
        for deal in account.deals[self._seen_deals :]:
            played.spread_cost += self._spread_of(deal)
        self._seen_deals = len(account.deals)

    def _spread_of(self, deal: TradeDeal) -> float:
        """What the spread took, in account currency: a buy pays it, when it opens and when it closes a short."""
        if deal.type == DEAL_TYPE_BALANCE or deal.type != DEAL_TYPE_BUY:
            return 0.0
        series = self.terminal.series[deal.symbol]
        cost = self.terminal.calc.profit(series.spec, True, deal.volume, series.bid, series.ask)
        return cost or 0.0
