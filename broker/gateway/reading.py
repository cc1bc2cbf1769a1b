"""Reads of the terminal, once for all bots that ask the same: plain values, closed bars, ready-made frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgpack
import numpy as np

from broker.api import READS, RES_E_NOT_FOUND, Terminal
from broker.gateway.netting import nets
from broker.market import TIMEFRAMES, closed_only
from protocol.codec import pack
from protocol.errors import nearest

_BARS_KEPT: Final = 5_000  # per answer; a strategy that needs more asks with copy_rates


class ReadFailed(Exception):
    """The terminal could not answer a read; the text says what it said. `retry`: it may be able to later."""

    def __init__(self, text: str, *, retry: bool = False) -> None:
        super().__init__(text)
        self.retry = retry


@dataclass(frozen=True, slots=True)
class View:
    """What a run is told at its attach; values are msgpack already, so that they are encoded once for all."""

    symbol: str
    info: bytes
    account: bytes
    position: bytes
    bars: bytes
    last_bar: int  # open time of the last closed bar; 0 without one
    netting: bool
    time: int


def plain(value: Any) -> Any:
    """A terminal's value as plain values: structs as dicts, arrays as their bytes."""
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "_asdict"):
        return {name: plain(field) for name, field in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(name): plain(field) for name, field in value.items()}
    return [plain(item) for item in value]


class Reader:
    """For the terminal thread. `changed` must be called after each step and each order.

    `told` gives the opening time of the last bar that was published of a symbol and timeframe: a history must end
    with it. None: with the last closed one. `knows` says whether a symbol is there although it is not found now.
    """

    def __init__(
        self,
        terminal: Terminal,
        told: Callable[[str, str], int | None] = lambda _s, _t: None,
        knows: Callable[[str], bool] = lambda _s: False,
    ) -> None:
        self._terminal = terminal
        self._told = told
        self._knows = knows
        self._infos: dict[str, bytes] = {}
        self._bars: dict[tuple[str, str], tuple[int, Any]] = {}
        self._account: tuple[bytes, bool] | None = None

    def changed(self) -> None:
        """Prices, positions or the account are other than they were."""
        self._infos.clear()
        self._bars.clear()
        self._account = None

    def call(self, fn: str, args: list[Any], kwargs: dict[str, Any]) -> tuple[Any, list[Any] | None]:
        """A read by name: (value, None), or (None, [code, text]) where the terminal answered None or False."""
        if fn not in READS:
            return None, [-7, f"{fn} is not a function that bots may call"]
        try:
            value = getattr(self._terminal, fn)(*args, **kwargs)
        except Exception as error:
            return None, [-2, f"{fn}: {type(error).__name__}: {error}"]
        if value is None or value is False:
            return None, list(self._terminal.last_error())
        return plain(value), None

    def view(self, symbol: str, timeframe: str, lookback: int, magic: int, now: int) -> View:
        """What a run needs to begin. Raises ReadFailed with the line to show."""
        info = self._info(symbol)
        if self._account is None:
            account = self._terminal.account_info()
            if account is None:
                raise self._failed("account", symbol)
            self._account = pack(account._asdict()), nets(account)
        bars = self._closed(symbol, timeframe, lookback, now)
        return View(
            symbol=symbol,
            info=info,
            account=self._account[0],
            position=pack(self.position(symbol, magic)),
            bars=bars.tobytes(),
            last_bar=int(bars["time"][-1]) if len(bars) else 0,
            netting=self._account[1],
            time=now,
        )

    def position(self, symbol: str, magic: int) -> dict[str, Any] | None:
        """The position with that magic, or None where there is none. Raises ReadFailed."""
        held = self._terminal.positions_get(symbol=symbol)
        if held is None:
            raise self._failed("positions", symbol)
        return next((plain(position) for position in held if position.magic == magic), None)

    def _info(self, symbol: str) -> bytes:
        known = self._infos.get(symbol)
        if known is not None:
            return known
        info = self._terminal.symbol_info(symbol)
        if info is None or not self._terminal.symbol_select(symbol, True):
            code, text = self._terminal.last_error()
            if code != RES_E_NOT_FOUND or self._knows(symbol):
                raise self._failed(symbol, symbol)
            names = [one.name for one in self._terminal.symbols_get() or ()]
            near = nearest(symbol, names)
            said = f": {text}" if symbol in text else ""
            raise ReadFailed(f"unknown symbol {symbol}{said}" + (f"; did you mean {near}?" if near else ""))
        self._infos[symbol] = pack(plain(info))
        return self._infos[symbol]

    def _closed(self, symbol: str, timeframe: str, lookback: int, now: int) -> Any:
        if timeframe not in TIMEFRAMES:
            raise ReadFailed(f"unknown timeframe {timeframe}")
        wanted = min(max(lookback, 1), _BARS_KEPT)
        kept = self._bars.get((symbol, timeframe))
        if kept is None or kept[0] < wanted:
            last = self._told(symbol, timeframe)
            # One more than asked for: the forming bar is not closed; and one that may have closed and is not told yet.
            more = 1 if last is None else 2
            rates = self._terminal.copy_rates_from_pos(symbol, TIMEFRAMES[timeframe], 0, wanted + more)
            if rates is None:
                raise self._failed(f"bars of {symbol} {timeframe}", symbol)
            closed = closed_only(rates, timeframe, now) if last is None else rates[rates["time"] <= last]
            kept = self._bars[(symbol, timeframe)] = wanted, closed
        return kept[1][-wanted:]

    def _failed(self, what: str, symbol: str) -> ReadFailed:
        """What the terminal said. Where it does not know the thing asked for it never will; all else may pass."""
        code, text = self._terminal.last_error()
        return ReadFailed(f"{what}: {text}", retry=code != RES_E_NOT_FOUND or self._knows(symbol))


def attached_frame(view: View, *, gateway_boot: str, bar_seq: int, lockstep: bool) -> bytes:
    """An `Attached` message out of ready-made parts; the same bytes that encoding the message would give."""
    packer = msgpack.Packer()
    fields: dict[str, bytes] = {
        "t": pack("attached"),
        "gateway_boot": pack(gateway_boot),
        "symbol": pack(view.symbol),
        "info": view.info,
        "account": view.account,
        "position": view.position,
        "bars": pack(view.bars),
        "bar_seq": pack(bar_seq),
        "lockstep": pack(lockstep),
        "time": pack(float(view.time)),
        "clock": pack(time.monotonic()),
    }
    parts = [packer.pack_map_header(len(fields))]
    for name, value in fields.items():
        parts.append(packer.pack(name))
        parts.append(value)
    return b"".join(parts)
