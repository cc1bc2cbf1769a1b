"""A made market: bars of one symbol, the same for the same seed, made in chunks.

The logarithm of the price is a random walk with slowly changing drift (trends) and slowly changing volatility
(clusters), pulled weakly to where it began so that years of it stay plausible. Volatility, volume and spread
follow the hours of the day; there are no bars while the market sleeps. Each chunk has a random generator of
its own, seeded by (seed, symbol, timeframe, chunk), so a chunk depends on nothing but those and the five
numbers that the chunk before it hands on.
"""

from __future__ import annotations

import math
import zlib
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from broker.api import RATES_DTYPE, Rates
from broker.calendar import Session, is_open
from broker.market import bar_starts
from broker.symbols import SymbolSpec
from protocol.botconfig import TIMEFRAME_SECONDS

CHUNK: Final = 1024  # bars' places in a chunk, those where the market sleeps included
START: Final = 1_704_067_200  # Monday 2024-01-01 00:00
HISTORY: Final = 1_000  # bars before START, at least
HISTORY_DAYS: Final = 20  # and so many days of small bars, so that larger ones can be put together

_HOUR: Final = 3600
_HALF_HOUR: Final = 1800
_DAY: Final = 86_400
_YEAR: Final = 252 * _DAY

# Share of the usual volatility in each hour of the server's day: Asia, London, New York, the quiet end.
_HOURS: Final = np.array(
    [0.6, 0.6, 0.65, 0.65, 0.6, 0.6, 0.75, 1.0, 1.2, 1.2, 1.1, 1.0,
     1.1, 1.35, 1.5, 1.5, 1.35, 1.15, 0.95, 0.85, 0.8, 0.7, 0.6, 0.6]
)  # fmt: skip
_ALWAYS: Final = 0.5 + 0.5 * _HOURS


class State(NamedTuple):
    """What one chunk hands to the next."""

    log_price: float  # logarithm of the price over the starting price
    drift: float  # in units of the bar's usual volatility
    volatility: float  # logarithm of its factor
    close: float  # last close as shown; 0 before the first bar


FIRST: Final = State(0.0, 0.0, 0.0, 0.0)


def history_bars(timeframe: str) -> int:
    """Bars before START that there are at least."""
    return max(HISTORY, HISTORY_DAYS * _DAY // TIMEFRAME_SECONDS[timeframe])


def base_time(timeframe: str) -> int:
    """Opening time of the first place of chunk 0: early enough for the history before START."""
    seconds = TIMEFRAME_SECONDS[timeframe]
    # Of all usual sessions the index's is shortest: 115 of 168 hours. The longest pause is a weekend.
    places = history_bars(timeframe) * 168 // 115 + 3 * _DAY // seconds + 1
    start = int(bar_starts(np.array([START], np.int64), timeframe)[0])
    return start - places * seconds


def _open_places(times: npt.NDArray[np.int64], seconds: int, session: Session) -> npt.NDArray[np.bool_]:
    """Which bars exist: a bar does when the market trades at its opening, or at any half hour of it."""
    open_ = is_open(times, session)
    for part in range(1, -(-seconds // _HALF_HOUR)):
        open_ = open_ | is_open(times + part * _HALF_HOUR, session)
        if open_.all():
            break
    return open_


def make_chunk(
    spec: SymbolSpec, timeframe: str, seed: int, chunk: int, state: State, spread: int | None = None
) -> tuple[Rates, State]:
    """Bars of chunk number `chunk` (0 is the oldest; possibly none), and the state that the next begins with."""
    seconds = TIMEFRAME_SECONDS[timeframe]
    times = base_time(timeframe) + (np.arange(CHUNK, dtype=np.int64) + chunk * CHUNK) * seconds
    times = times[_open_places(times, seconds, spec.session)]
    count = len(times)
    key = [seed & 0xFFFF_FFFF_FFFF_FFFF, zlib.crc32(spec.name.encode()), seconds, chunk]
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
    draws = random.standard_normal((5, CHUNK))[:, :count]
    usual = spec.volatility * math.sqrt(seconds / _YEAR)
    profile = _profile(times, seconds, spec.session)
    moves, sigma, state = _walk(draws, usual * profile, seconds, state)

    out = np.empty(count, RATES_DTYPE)
    if not count:
        return out, state
    digits = spec.digits
    close = np.round(spec.price * np.exp(moves), digits)
    opened = np.r_[state.close or spec.price, close[:-1]]
    # The market wakes a little away from where it fell asleep.
    woken = np.flatnonzero(np.diff(times, prepend=times[0]) > seconds)
    opened[woken] = np.round(opened[woken] * np.exp(draws[4][woken] * usual), digits)
    reach = np.abs(draws[2:4]) * 0.45 * sigma
    out["time"] = times
    out["open"] = opened
    out["close"] = close
    out["high"] = np.round(np.maximum(opened, close) * np.exp(reach[0]), digits)
    out["low"] = np.round(np.minimum(opened, close) * np.exp(-reach[1]), digits)
    busy = sigma / usual
    out["tick_volume"] = np.maximum(1, seconds / 2 * busy * np.exp(0.2 * draws[4])).astype(np.uint64)
    out["spread"] = _spreads(times, spec.spread if spread is None else spread, busy)
    out["real_volume"] = 0
    return out, state._replace(close=float(close[-1]))


def _profile(times: npt.NDArray[np.int64], seconds: int, session: Session) -> npt.NDArray[np.float64]:
    if seconds >= _DAY:
        return np.ones(len(times))
    hours = times // _HOUR % 24
    return np.asarray((_ALWAYS if session == "always" else _HOURS)[hours])


def _spreads(times: npt.NDArray[np.int64], usual: int, busy: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """Wider when prices move much, and three times as wide around the server's midnight."""
    hour = times // _HOUR % 24
    night = np.where((hour == 23) | (hour == 0), 3.0, 1.0)
    return np.round(usual * night * np.maximum(0.8, busy**0.5)).astype(np.int32)


def _walk(
    draws: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64], seconds: int, state: State
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], State]:
    """The walk's values and volatilities, one a bar. Recursive, so a plain loop over plain floats."""
    pull = min(0.05, 2 * seconds / _YEAR)  # half a year to come back
    log_price, drift, volatility, _ = state
    moves, sigmas = [], []
    for step, shock, trend, size in zip(
        draws[0].tolist(), draws[1].tolist(), draws[4].tolist(), sizes.tolist(), strict=True
    ):
        volatility = 0.97 * volatility + 0.10 * shock
        drift = 0.97 * drift + 0.03 * trend
        sigma = size * math.exp(volatility)
        log_price += sigma * (step + drift) - pull * log_price
        moves.append(log_price)
        sigmas.append(sigma)
    return np.array(moves), np.array(sigmas), State(log_price, drift, volatility, state.close)
