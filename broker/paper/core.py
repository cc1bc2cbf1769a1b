"""What the parts of the paper terminal share: the account, the market's clock, the last error, the database."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from broker.api import RES_E_INVALID_PARAMS, RES_E_NOT_FOUND
from broker.calendar import check_zone
from broker.market import bar_ends, bar_starts
from broker.paper.account import Account
from broker.paper.answers import SUCCESS, Failed
from broker.paper.calc import Calculator
from broker.paper.feeds import ChunkState, Feed, make_feed
from broker.paper.path import LEAST_TICKS
from broker.paper.series import NEVER, Series
from broker.paper.synthetic import State
from broker.paper.trades import Costs
from protocol.botconfig import AccountConfig
from protocol.errors import InvalidInput
from store import paper as tables
from store.database import open_database
from store.errors import StoreError

#: Moments and seconds after which the clock is kept though nothing else changed.
_KEEP_MOMENTS: Final = 500
_KEEP_SECONDS: Final = 1.0
_OLD_CHUNKS: Final = 64
SERVER: Final = "Stablehand-Paper"


class Made(NamedTuple):
    """What of the configuration an account's database was made with; it cannot change afterwards."""

    feed: str
    timeframe: str
    seed: int | None
    start: str | None
    currency: str
    margin_mode: str
    balance: float


@dataclass(slots=True)
class Switches:
    """What may stop all trading: set from the configuration, and by whoever plays the user or the broker."""

    autotrading: bool = True  # the terminal's button
    experts_allowed: bool = True  # by the server
    trade_allowed: bool = True  # of the account
    online: bool = True  # the terminal's connection with the trade server
    api_disabled: bool = False  # trading through the Python API, in the terminal's options


class Core:
    """An account, its market and its database, opened or made.

    Raises InvalidInput for a configuration that is wrong or does not fit the database, StoreError for the
    database itself.
    """

    def __init__(
        self, config: AccountConfig, *, name: str, database: Path, base_dir: Path, login: int | None = None,
        server: str = SERVER,
    ) -> None:  # fmt: skip
        _check(config)
        self.config = config
        self.name = name
        self.login_number = login_of(name) if login is None else login
        self.server = server
        self.switches = Switches(config.autotrading, config.experts_allowed, config.trade_allowed)
        self.requests_now = 0  # requests in this second of the feed's clock
        self.connected = True
        self.error: tuple[int, str] = SUCCESS
        self.watched: dict[tuple[str, str], int] = {}  # (symbol, larger timeframe) -> end of its forming bar
        self._path = database
        self._db = open_database(database, "paper", keep=True)
        try:
            self._open(base_dir)
        except BaseException:
            self._db.close()
            raise

    def _open(self, base_dir: Path) -> None:
        config = self.config
        with self._db.read() as conn:
            row = tables.load_account(conn)
            states = [
                ChunkState(each["symbol"], each["chunk"], State(*each["state"])) for each in tables.load_chunks(conn)
            ]
        if row is not None:
            self._check_made(row["made_with"])
        self.feed: Feed = make_feed(config, base_dir, states)
        self.now: int = self.feed.start if row is None else row["now"]
        self.feed.seek(self.now)
        self.series: dict[str, Series] = self.feed.series
        self.calc = Calculator(config.currency, config.leverage, self.series)
        self.account = Account(
            self.calc,
            self.series,
            netting=config.margin_mode == "netting",
            costs=Costs(config.commission_per_lot, config.fee_per_lot),
        )
        if row is None:
            self.account.deposit(self.calc.money(config.balance), self.now * 1000)
            self._save(create=True)
        else:
            with self._db.read() as conn:
                self.account.load(conn, row)
            self._check_open_symbols()
        self._kept_now, self._kept_at, self._moments = self.now, time.monotonic(), 0

    # --- the database --------------------------------------------------------------------------------

    def save(self) -> None:
        """Commit what changed. Raises StoreError; then the account is as it was before the change."""
        try:
            self._save()
        except StoreError:
            self.account.undo()
            raise

    def keep_clock(self, *, force: bool = False) -> None:
        """Commit the clock now and then. A failure harms nothing: a restart then repeats moments without trades."""
        self._moments += 1
        due = self._moments >= _KEEP_MOMENTS or time.monotonic() - self._kept_at >= _KEEP_SECONDS
        if self.now == self._kept_now or not (due or force):
            return
        try:
            with self._db.begin() as conn:
                tables.set_now(conn, self.now)
                self._save_chunks(conn)
        except StoreError:
            self._kept_at, self._moments = time.monotonic(), 0  # asked again in a while
            return
        self.feed.saved()
        self._kept()

    def _save(self, *, create: bool = False) -> None:
        with self._db.begin() as conn:
            if create:
                made = {"made_with": self._made()._asdict(), "name": self.name}
                start: tables.Row = {"balance": 0.0, "now": self.now, "next_order": 0, "next_deal": 0}
                tables.create_account(conn, made | start)
            self.account.flush(conn, self.now)
            self._save_chunks(conn)
        self.account.committed()
        self.feed.saved()
        self._kept()

    def _save_chunks(self, conn: Any) -> None:
        fresh = self.feed.unsaved()
        if fresh:
            rows: list[tables.Row] = [
                {"symbol": each.symbol, "chunk": each.chunk, "state": list(each.state)} for each in fresh
            ]
            tables.put_chunks(conn, rows, oldest=min(each.chunk for each in fresh) - _OLD_CHUNKS)

    def _kept(self) -> None:
        self._kept_now, self._kept_at, self._moments = self.now, time.monotonic(), 0

    def _made(self) -> Made:
        config = self.config
        synthetic = config.feed == "synthetic"
        return Made(
            feed=config.feed,
            timeframe=config.timeframe,
            seed=config.seed if synthetic else None,
            start=None if synthetic else config.start,
            currency=config.currency,
            margin_mode=config.margin_mode,
            balance=config.balance,
        )

    def _check_made(self, before: dict[str, Any]) -> None:
        for key, value in self._made()._asdict().items():
            if before.get(key) != value:
                raise InvalidInput(
                    f"account {self.name}: {key} is {value}, but {self._path} was made with {before.get(key)}",
                    hint=f"set {key} back, or use another account name or data_dir",
                )

    def _check_open_symbols(self) -> None:
        held = [("position", each.ticket, each.symbol) for each in self.account.positions.values()]
        held += [("order", each.ticket, each.symbol) for each in self.account.pending.values()]
        for kind, ticket, symbol in held:
            series = self.series.get(symbol)
            if series is None or not self.calc.converts(series.spec):
                raise InvalidInput(
                    f"account {self.name}: {kind} {ticket} is open on {symbol}, which symbols"
                    f" {'has not' if series is None else 'no longer converts to ' + self.config.currency}",
                    hint="set symbols back",
                )

    # --- shared by the functions ---------------------------------------------------------------------

    def series_of(self, symbol: object) -> Series:
        """The bars of a symbol. Raises Failed."""
        if not isinstance(symbol, str):
            raise Failed(RES_E_INVALID_PARAMS, 'Invalid "symbol" argument')
        series = self.series.get(symbol)
        if series is None:
            raise Failed(RES_E_NOT_FOUND)
        return series

    def watch(self, series: Series, timeframe: str) -> None:
        """From now on, steps also tell when bars of this larger timeframe close."""
        key = (series.spec.name, timeframe)
        if key not in self.watched:
            end = larger_end(series, timeframe) if series.opened else NEVER  # until its first bar opens
            self.watched[key] = end if end > self.now else NEVER


def login_of(name: str) -> int:
    """The account number that goes with an account's name."""
    return zlib.crc32(name.encode()) % 90_000_000 + 10_000_000


def _check(config: AccountConfig) -> None:
    """What the model alone cannot tell. Raises InvalidInput."""
    speed, ticks = config.bars_per_second, config.ticks_per_bar
    if speed != "max" and not 0 < speed <= 10_000:
        raise InvalidInput(f"bars_per_second {speed} is out of bounds", hint='above 0, at most 10000, or "max"')
    if 1 < ticks < LEAST_TICKS:
        raise InvalidInput(f"ticks_per_bar {ticks}: a bar's way has three legs", hint="1, or 3 and more")
    if ticks > 1 and config.price_model != "ohlc":
        raise InvalidInput(
            f'ticks_per_bar {ticks} shows one way inside a bar, which price_model = "{config.price_model}" has not',
            hint='set price_model = "ohlc"',
        )
    check_zone(config.server_timezone)


def larger_end(series: Series, timeframe: str) -> int:
    """When the bar of a larger timeframe ends that holds the newest bar."""
    return int(bar_ends(bar_starts(series.last()["time"], timeframe), timeframe)[0])
