"""What the supervisor asks of an account, answered on the terminal thread."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, Final

from broker import api
from broker.api import Terminal
from broker.gateway.deals import FAR, Deals
from broker.gateway.execution import Executor
from broker.gateway.memory import Pending
from broker.gateway.reading import plain
from broker.market import TIMEFRAMES, closed_only
from protocol.messages import BotFigures, Figures, Order, OrderResult, RosterEntry

UNATTRIBUTED: Final = "unattributed"
#: Deals in one answer; the next page begins after its last ticket (`after`).
DEALS_PAGE: Final = 5_000
_SYMBOL_FIELDS: Final = (
    "name", "description", "digits", "bid", "ask", "spread",
    "volume_min", "volume_step", "volume_max", "trade_contract_size",
)  # fmt: skip


class QueryFailed(Exception):
    """The question cannot be answered; the text says why."""


class Queries:
    """For the terminal thread. `roster` gives the bots by magic; `now` the terminal's clock."""

    def __init__(
        self,
        terminal: Terminal,
        deals: Deals,
        executor: Executor,
        *,
        account: str,
        installation: str,
        boot: str,
        roster: Callable[[], dict[int, RosterEntry]],
        now: Callable[[], int],
        ended: Callable[[], bool],
    ) -> None:
        self._terminal = terminal
        self._deals = deals
        self._executor = executor
        self._account = account
        self._installation = installation
        self._boot = boot
        self._roster = roster
        self._now = now
        self._ended = ended
        self._numbers = itertools.count(1)  # of closes: a query's own id begins anew with each supervisor

    def answer(self, query_id: str, what: str, args: dict[str, Any]) -> Any:
        """The answer as plain values. Raises QueryFailed."""
        known: dict[str, Callable[[], Any]] = {
            "positions": lambda: self._positions(args),
            "deals": lambda: self._deals_of(args),
            "account": self._account_info,
            "symbols": self._symbols,
            "close": lambda: self._close(query_id, args),
            "rates": lambda: self._rates(args),
            "ping": lambda: {"boot": self._boot, "time": self._now(), "ended": self._ended()},
        }
        if what not in known:
            raise QueryFailed(f"unknown question {what}")
        try:
            return known[what]()
        except (KeyError, TypeError, ValueError) as error:
            raise QueryFailed(f"{what}: {type(error).__name__}: {error}") from None

    def figures(self) -> Figures | None:
        """What the terminal knows of the account and its bots; None when it does not answer."""
        account = self._terminal.account_info()
        info = self._terminal.terminal_info()
        positions = self._terminal.positions_get()
        if account is None or info is None or positions is None:
            return None
        bots = []
        for magic, entry in self._roster().items():
            mine = [position for position in positions if position.magic == magic]
            signed = [p.volume if p.type == api.POSITION_TYPE_BUY else -p.volume for p in mine]
            lots = sum(position.volume for position in mine)
            bots.append(
                BotFigures(
                    bot_id=entry.bot_id,
                    volume=round(sum(signed), 8),
                    price=sum(p.price_open * p.volume for p in mine) / lots if lots else 0.0,
                    floating=round(sum(p.profit + p.swap for p in mine), 2),
                    realised=round(self._deals.realised.get(magic, 0.0), 2),
                )
            )
        return Figures(
            account=plain(account),
            bots=bots,
            time=float(self._now()),
            connected=bool(info.connected),
            detail="ended" if self._ended() else "",
        )

    def _must(self, value: Any) -> Any:
        if value is None:
            raise QueryFailed(f"terminal: {self._terminal.last_error()[1]}")
        return value

    def _named(self, struct: Any) -> dict[str, Any]:
        entry = self._roster().get(struct.magic)
        return {**plain(struct), "bot": entry.name if entry else UNATTRIBUTED}

    def _positions(self, args: dict[str, Any]) -> list[dict[str, Any]]:
        held = self._must(self._terminal.positions_get())
        return [self._named(one) for one in held if args.get("magic") in (None, one.magic)]

    def _deals_of(self, args: dict[str, Any]) -> list[dict[str, Any]]:
        after, limit, magic = int(args.get("after", 0)), int(args.get("limit", DEALS_PAGE)), args.get("magic")
        deals = self._must(self._terminal.history_deals_get(0, FAR))
        wanted = [deal for deal in deals if deal.ticket > after and magic in (None, deal.magic)]
        wanted.sort(key=lambda deal: deal.ticket)
        return [self._named(deal) for deal in wanted[: min(max(limit, 1), DEALS_PAGE)]]

    def _account_info(self) -> dict[str, Any]:
        info = self._must(self._terminal.account_info())
        terminal = self._must(self._terminal.terminal_info())
        return {
            **plain(info),
            "account": self._account,
            "connected": bool(terminal.connected),
            "time": self._now(),
            "ended": self._ended(),
        }

    def _symbols(self) -> list[dict[str, Any]]:
        is_open = getattr(self._terminal, "is_open", None)  # of the paper terminal; MetaTrader cannot tell
        return [
            {
                **{name: getattr(info, name) for name in _SYMBOL_FIELDS},
                "open": bool(is_open(info.name)) if is_open else info.trade_mode == api.SYMBOL_TRADE_MODE_FULL,
            }
            for info in self._must(self._terminal.symbols_get())
        ]

    def _rates(self, args: dict[str, Any]) -> dict[str, Any]:
        symbol, timeframe, count = str(args["symbol"]), str(args["timeframe"]), int(args.get("count", 250))
        if timeframe not in TIMEFRAMES:
            raise QueryFailed(f"unknown timeframe {timeframe}")
        rates = self._must(self._terminal.copy_rates_from_pos(symbol, TIMEFRAMES[timeframe], 0, count + 1))
        closed = closed_only(rates, timeframe, self._now())[-count:]
        return {"symbol": symbol, "timeframe": timeframe, "bars": closed.tobytes(), "time": self._now()}

    def _close(self, query_id: str, args: dict[str, Any]) -> dict[str, Any]:
        """Close every position of a magic, serially. The caller has fenced the bot before.

        A query that came twice would close nothing twice: what is open is read anew, and named by its ticket.
        """
        magic, bot_id = int(args["magic"]), int(args.get("bot_id", 0))
        held = self._must(self._terminal.positions_get())
        mine = [position for position in held if position.magic == magic]
        orders = [
            Order(
                installation=self._installation,
                bot_id=bot_id,
                epoch=0,
                seq=next(self._numbers),
                gateway_boot=self._boot,
                decision=f"close|{query_id}",
                bar_time=0,
                decided_at=time.time(),
                decided_mono=time.monotonic(),
                action="close",
                symbol=position.symbol,
                side="buy" if position.type == api.POSITION_TYPE_BUY else "sell",
                volume=position.volume,
                position=position.ticket,
                magic=magic,
                comment="close",
            )
            for position in mine
        ]
        results: dict[str, OrderResult] = {}
        group = [
            Pending(order, f"{self._installation}:{bot_id}:close:{self._boot}:{order.seq}", query_id, 0.0, True)
            for order in orders
        ]
        self._executor.execute(group, lambda pending, result: results.update({pending.id: result}))
        left = self._must(self._terminal.positions_get())
        return {
            "positions": [
                {
                    "ticket": one.order.position,
                    "symbol": one.order.symbol,
                    "volume": one.order.volume,
                    "side": one.order.side,
                    **results[one.id].model_dump(include={"status", "retcode", "reason", "price", "deal"}),
                }
                for one in group
            ],
            "flat": not any(position.magic == magic for position in left),
        }
