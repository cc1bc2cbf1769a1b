"""A closed bar, from its publication until the last of N bots has received it; and what N bots cost in fetches.

The receivers are processes with many subscriptions each, as a bot's receiving thread has one: N whole Python
processes would measure how the machine shares its cores, which `bench start` and `bench idle` measure. The
stamp is the gateway's, in CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import zmq

from bench.machine import describe, scratch
from broker.feed import MarketFeed
from protocol.spec import RunSpec
from tests.gateway_rig import Rig

SYMBOLS: Final = ("EURUSD", "GBPUSD", "USDJPY", "XAUUSD", "BTCUSD", "US500")
#: Milliseconds until the last of 500 bots has a bar: the 99th of a hundred bars.
TARGET: Final = 50.0
_RECEIVERS: Final = 2  # processes among which the bots are spread
_SPEED: Final = 2.0


def measure(folder: Path, bots: int = 500, bars: int = 60) -> dict[str, Any]:
    """Milliseconds from publication until all of a symbol's bots have the bar, and until all bots have all six."""
    place = folder / "candle"
    place.mkdir()
    with Rig(place, {"bars_per_second": _SPEED, "symbols": SYMBOLS}) as rig:
        rig.start()
        rig.ready()
        receivers = []
        for share in range(_RECEIVERS):
            numbers = range(1 + share * bots // _RECEIVERS, 1 + (share + 1) * bots // _RECEIVERS)
            specs = [rig.bot_spec(number, 1).model_dump() for number in numbers]
            receivers.append(_receiver({"specs": specs, "numbers": list(numbers), "bars": bars}))
        answers = [_answer(one, timeout=60.0 + 2 * bars / _SPEED) for one in receivers]
    last: dict[tuple[str, int], float] = {}
    moments: dict[float, float] = {}
    counts: dict[tuple[str, int], int] = {}
    ready = max(answer["ready"] for answer in answers)  # before it somebody had not subscribed yet
    for answer in answers:
        for symbol, seq, count, published, received in answer["bars"]:
            if published < ready:
                continue
            key = symbol, seq
            counts[key] = counts.get(key, 0) + count
            last[key] = max(last.get(key, 0.0), (received - published) * 1000)
            moments[published] = max(moments.get(published, 0.0), (received - published) * 1000)
    bots_of = {symbol: sum(SYMBOLS[number % 6] == symbol for number in range(1, bots + 1)) for symbol in SYMBOLS}
    whole = [spent for key, spent in last.items() if counts[key] == bots_of[key[0]]]
    spread = _spread(list(moments.values()))
    return {
        "bots": bots, "bars": len(whole), "lost": len(last) - len(whole), "one_symbol": _spread(whole),
        "all_symbols": spread, "met": spread["p99"] <= TARGET and bool(whole),
    }  # fmt: skip


def _receiver(told: dict[str, Any]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.candle", "--receive"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(json.dumps(told))
    process.stdin.close()
    return process


def _answer(process: subprocess.Popen[str], timeout: float) -> dict[str, Any]:
    assert process.stdout is not None
    try:
        lines = process.stdout.read()
        process.wait(timeout)
    finally:
        process.kill()
        process.wait(5)
        process.stdout.close()
    found: dict[str, Any] = json.loads(lines)
    return found


def _receive(told: dict[str, Any]) -> dict[str, Any]:
    """For each bar: symbol, number, how many bots of this process had it, when published, when the last had it."""
    context: zmq.Context[Any] = zmq.Context()
    poller = zmq.Poller()
    feeds: dict[Any, MarketFeed] = {}
    for number, spec in zip(told["numbers"], told["specs"], strict=True):
        feed = MarketFeed(context, RunSpec.model_validate(spec), SYMBOLS[number % 6], "H1")
        feeds[feed.socket] = feed
        poller.register(feed.socket, zmq.POLLIN)
    found: dict[tuple[str, int], list[Any]] = {}
    wanted = told["bars"] * len(SYMBOLS)
    quiet_until = time.monotonic() + 2.0  # while subscriptions travel some bots miss bars
    until = quiet_until + 2 * told["bars"] / _SPEED + 10.0
    while len(found) < wanted and time.monotonic() < until:
        for socket, _event in poller.poll(500):
            for bar in feeds[socket].read():
                now = time.monotonic()
                if bar.published_mono < quiet_until:
                    continue
                row = found.setdefault((bar.symbol, bar.seq), [bar.symbol, bar.seq, 0, bar.published_mono, 0.0])
                row[2] += 1
                row[4] = now
    for feed in feeds.values():
        feed.close()
    context.destroy(linger=0)
    newest = max((row[3] for row in found.values()), default=0.0)
    # The newest may have been cut off by the end.
    return {"ready": quiet_until, "bars": [row for row in found.values() if row[3] < newest]}


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values) or [float("nan")]
    return {
        "median": statistics.median(ordered),
        "p99": ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))],
        "max": ordered[-1],
    }


def main() -> int:
    """Measure and print; 0 when the target is met."""
    if sys.argv[1:] == ["--receive"]:
        print(json.dumps(_receive(json.load(sys.stdin))))
        return 0
    with scratch() as folder:
        figures = {"machine": describe(folder), **measure(folder)}
    print(json.dumps(figures, indent=2))
    every, one = figures["all_symbols"], figures["one_symbol"]
    print(
        f"bar to the last of {figures['bots']} bots: all six symbols' p50 {every['median']:.1f} ms, p99 "
        f"{every['p99']:.1f} ms (target {TARGET:g} ms: {'met' if figures['met'] else 'missed'}); one symbol's p50 "
        f"{one['median']:.1f} ms; {figures['lost']} of {figures['bars'] + figures['lost']} not received by all"
    )
    return 0 if figures["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
