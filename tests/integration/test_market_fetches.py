"""Market data is fetched once for all bots: many cost the terminal no more calls than one a symbol."""

from __future__ import annotations

import pytest

from broker.client import GatewayClient
from broker.feed import MarketFeed
from tests.faults.stage import Stage
from tests.scale import FEED_BOTS
from tests.support import eventually

pytestmark = [pytest.mark.posix]

SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "XAUUSD", "BTCUSD", "US500")
#: What a gateway may ask of a terminal to know the market.
MARKET = ("copy_rates_from_pos", "copy_rates_from", "copy_rates_range", "symbol_info", "symbol_info_tick")
_BARS = 3


def attached(stage: Stage, bot_id: int) -> tuple[GatewayClient, MarketFeed]:
    """A bot on one of the symbols, and its feed."""
    symbol = SYMBOLS[bot_id % len(SYMBOLS)]
    assert stage.rig.supervisor.fence(bot_id, 1).ok
    feed = stage.rig.feed(bot_id, 1, symbol)
    client = stage.rig.client(bot_id, 1)
    client.attach(symbol, "H1", 60, timeout=20.0)
    return client, feed


def fetches(stage: Stage) -> int:
    """Calls of the terminal for market data so far."""
    return sum(stage.crossing.requests[name] for name in MARKET)


def bars(stage: Stage, feeds: list[MarketFeed]) -> tuple[int, int]:
    """Let every bot receive some bars: fetches, and steps of the market, meanwhile."""
    before, steps = fetches(stage), stage.crossing.requests["step"]
    seen = dict.fromkeys(range(len(feeds)), 0)

    def received() -> bool:
        for number, feed in enumerate(feeds):
            seen[number] += len(feed.read())
        return min(seen.values()) >= _BARS

    eventually(received, 30.0, what="bars for all")
    return fetches(stage) - before, stage.crossing.requests["step"] - steps


def test_many_bots_on_six_symbols_cost_no_more_fetches_than_six() -> None:
    with Stage(speed=4.0, symbols=SYMBOLS) as stage:
        began = fetches(stage)
        feeds = [attached(stage, bot_id)[1] for bot_id in range(1, 1 + len(SYMBOLS))]
        few = fetches(stage) - began
        assert few >= len(SYMBOLS), "the count sees what is fetched"
        idle, _steps = bars(stage, feeds)

        # While many attach the market goes on: after each step the bars of a symbol are fetched once again.
        began, steps = fetches(stage), stage.crossing.requests["step"]
        feeds += [attached(stage, bot_id)[1] for bot_id in range(1 + len(SYMBOLS), 1 + FEED_BOTS)]
        steps = stage.crossing.requests["step"] - steps
        assert fetches(stage) - began <= few * (1 + steps)

        busy, steps = bars(stage, feeds)
        assert busy == idle == 0, "bars are published as they close, and fetched by nobody"
        assert steps < FEED_BOTS
