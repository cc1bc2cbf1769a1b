"""What the parts of the paper terminal share: the account, the market's clock, the last error, the database."""

from __future__ import annotations

import functools
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, TypeVar

from broker.api import (
    RES_E_FAIL,
    RES_E_INTERNAL_FAIL_CONNECT,
    RES_E_INVALID_PARAMS,
    RES_E_NOT_FOUND,
    RES_E_UNSUPPORTED,
    RES_S_OK,
)
from broker.market import bar_ends, bar_starts
from broker.paper.account import Account
from broker.paper.calc import Calculator
from broker.paper.feeds import ChunkState, Feed, make_feed
from broker.paper.series import NEVER, Series
from broker.paper.synthetic import State
from protocol.botconfig import AccountConfig
from protocol.errors import InvalidInput
from store import paper as tables
from store.database import open_database
from store.errors import StoreError

#: Moments and seconds after which the clock is kept though nothing else changed.
_KEEP_MOMENTS: Final = 500
_KEEP_SECONDS: Final = 1.0
_OLD_CHUNKS: Final = 16

_TEXTS: Final = {
    RES_S_OK: "Success",
    RES_E_FAIL: "Terminal: Call failed",
    RES_E_INVALID_PARAMS: "Terminal: Invalid params",
    RES_E_NOT_FOUND: "Terminal: Not found",
    RES_E_UNSUPPORTED: "Terminal: Unsupported",
    RES_E_INTERNAL_FAIL_CONNECT: "No IPC connection",
}

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F")
S = TypeVar("S", bound="Core")


class Failed(Exception):
    """Ends a terminal function: its caller gets None (or False), and `last_error` this code and text."""

    def __init__(self, code: int, text: str | None = None) -> None:
        super().__init__(code, text)
        self.error = (code, text or _TEXTS[code])


def answers(function: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T | None]:
    """Makes a function of the terminal: it sets `last_error`, and answers None after Failed or offline."""
    return answers_or(None)(function)


def answers_or(failed: F) -> Callable[[Callable[Concatenate[S, P], T]], Callable[Concatenate[S, P], T | F]]:
    """The same with another answer than None for a failure."""

    def make(function: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T | F]:
        @functools.wraps(function)
        def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T | F:
            try:
                if not self.connected:
                    raise Failed(RES_E_INTERNAL_FAIL_CONNECT)
                value = function(self, *args, **kwargs)
            except Failed as failure:
                self.error = failure.error
                return failed
            self.error = (RES_S_OK, _TEXTS[RES_S_OK])
            return value

        return call

    return make


class Made(NamedTuple):
    """What of the configuration an account's database was made with; it cannot change afterwards."""

    feed: str
    timeframe: str
    seed: int | None
    start: str | None
    currency: str
    margin_mode: str
    balance: float


class Core:
    """An account, its market and its database, opened or made.

    Raises InvalidInput for a configuration that is wrong or does not fit the database, StoreError for the
    database itself.
    """

    def __init__(self, config: AccountConfig, *, name: str, database: Path, base_dir: Path) -> None:
        speed = config.bars_per_second
        if speed != "max" and not 0 < speed <= 10_000:
            raise InvalidInput(f"bars_per_second {speed} is out of bounds", hint='above 0, at most 10000, or "max"')
        self.config = config
        self.name = name
        self.login_number = zlib.crc32(name.encode()) % 90_000_000 + 10_000_000
        self.connected = True
        self.error: tuple[int, str] = (RES_S_OK, _TEXTS[RES_S_OK])
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
            commission=config.commission_per_lot,
        )
        if row is None:
            self.account.deposit(self.calc.money(config.balance), self.now * 1000)
            self._save(create=True)
        else:
            with self._db.read() as conn:
                self.account.load(conn, row)
            self._check_positions()
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

    def _check_positions(self) -> None:
        for position in self.account.positions.values():
            series = self.series.get(position.symbol)
            if series is None or not self.calc.converts(series.spec):
                raise InvalidInput(
                    f"account {self.name}: position {position.ticket} is open on {position.symbol}, which symbols"
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
        if key not in self.watched and series.opened:
            end = larger_end(series, timeframe)
            self.watched[key] = end if end > self.now else NEVER


def larger_end(series: Series, timeframe: str) -> int:
    """When the bar of a larger timeframe ends that holds the newest bar."""
    return int(bar_ends(bar_starts(series.last()["time"], timeframe), timeframe)[0])
