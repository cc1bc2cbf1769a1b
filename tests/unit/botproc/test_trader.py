"""The trader against a small broker in memory: what it sends, what it never sends, and what it tells."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgpack
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botproc.desk import DeskFailed, OrderDraft, Side
from botproc.orphan import is_flat
from botproc.strategy import Signal
from botproc.trader import Trader
from broker.desk import HELD, NOT_CONNECTED
from protocol.botconfig import BotConfig
from protocol.messages import OrderResult

HOUR = 3600
NEVER_SENT = (f"{HELD}the outcome of order i:2:1:7 is not known yet", NOT_CONNECTED)
Fate = Literal["fill", "refuse", "unknown_filled", "unknown_lost", "lie", "down"]


@dataclass
class Broker:
    """A desk with one symbol and one bot. `fates` are the next orders' fates; then every order is filled."""

    fates: list[Any] = field(default_factory=list)
    open: dict[str, Any] | None = None
    sent: list[OrderDraft] = field(default_factory=list)
    time: int = 0
    deaf: bool = False
    deal: dict[str, Any] | None = None
    balance: float = 10_000.0
    margin_free: float = 10_000.0
    info: dict[str, Any] = field(
        default_factory=lambda: {
            "name": "EURUSD", "digits": 5, "point": 1e-05, "trade_stops_level": 0, "trade_tick_size": 1e-05,
            "volume_min": 0.01, "volume_max": 100.0, "volume_step": 0.01, "volume_limit": 0.0, "trade_mode": 4,
        }
    )  # fmt: skip
    answers: dict[str, OrderResult] = field(default_factory=dict)
    tickets: int = 100
    results_carry_position: bool = True

    def symbol_info(self) -> dict[str, Any]:
        return self._answer(self.info)

    def tick(self) -> dict[str, Any]:
        return self._answer({"bid": 1.1, "ask": 1.1001, "time": self.time, "time_msc": self.time * 1000})

    def account_info(self) -> dict[str, Any]:
        return self._answer({"balance": self.balance, "margin_free": self.margin_free})

    def position(self) -> dict[str, Any] | None:
        if self.deaf:
            raise DeskFailed("positions_get answered None: (-10005, 'IPC timeout')")
        return None if self.open is None else dict(self.open)

    def last_deal(self, position_id: int) -> dict[str, Any] | None:
        return self.deal

    def calc_profit(self, side: Side, volume: float, price_open: float, price_close: float) -> float:
        return round((price_close - price_open) * (1 if side == "buy" else -1) * 100_000 * volume, 2)

    def calc_margin(self, side: Side, volume: float, price: float) -> float:
        return volume * 1000

    def send(self, draft: OrderDraft) -> OrderResult:
        self.sent.append(draft)
        fate = self.fates.pop(0) if self.fates else "fill"
        if fate == "down":
            raise DeskFailed("the gateway does not answer")
        order_id = f"i:1:1:{len(self.sent)}"
        if isinstance(fate, str) and fate in NEVER_SENT:
            return OrderResult(id=order_id, status="refused", reason=fate)
        if isinstance(fate, int):
            return OrderResult(id=order_id, status="refused", retcode=fate, reason="")
        if fate == "lie":
            return OrderResult(id=order_id, status="done", retcode=10009, deal=1, order=1)
        if fate == "unknown_lost":
            self.answers[order_id] = OrderResult(id=order_id, status="refused", reason="never reached the terminal")
            return OrderResult(id=order_id, status="unknown")
        result = self._execute(draft, order_id)
        if fate == "unknown_filled":
            self.answers[order_id] = result
            return OrderResult(id=order_id, status="unknown")
        return result

    def resolve(self, order_id: str) -> OrderResult:
        if self.deaf:
            raise DeskFailed("the gateway does not answer")
        return self.answers.get(order_id) or OrderResult(id=order_id, status="unknown")

    def _answer(self, value: dict[str, Any]) -> dict[str, Any]:
        if self.deaf:
            raise DeskFailed("the terminal does not answer")
        return value

    def _execute(self, draft: OrderDraft, order_id: str) -> OrderResult:
        self.tickets += 1
        if draft.action == "open":
            assert self.open is None, "a second position"
            price = 1.1001 if draft.side == "buy" else 1.1
            self.open = position(self.tickets, draft.side, draft.volume, price, draft.sl, draft.tp)
        else:
            assert self.open is not None and draft.position == self.open["ticket"], "a close that would open"
            assert (draft.side == "buy") == (self.open["type"] == 0)
            price = 1.1 if draft.side == "buy" else 1.1001
            self.open = None
        return OrderResult(
            id=order_id, status="done", retcode=10009, deal=self.tickets, order=self.tickets, volume=draft.volume,
            price=price, position=self.open if self.results_carry_position else None,
        )  # fmt: skip


def position(ticket: int, side: Side, volume: float, price: float, sl: float = 0, tp: float = 0) -> dict[str, Any]:
    kind = 0 if side == "buy" else 1
    return {"ticket": ticket, "identifier": ticket, "type": kind, "volume": volume, "price_open": price,
            "sl": sl, "tp": tp}  # fmt: skip


def bars() -> pd.DataFrame:
    close = np.full(100, 1.1)
    return pd.DataFrame({"high": close + 0.0005, "low": close - 0.0005, "close": close})  # ATR is 0.001


BARS = bars()


class Stall:
    """A trader on its broker, and the history that it wrote."""

    def __init__(self, broker: Broker | None = None, **config: Any) -> None:
        self.broker = broker or Broker()
        self.rows: list[tuple[str, str, dict[str, Any]]] = []
        settings_ = {"name": "a-bot", "market": "EURUSD", "strategy": "X", **config}
        self.trader = Trader(BotConfig(**settings_), self.broker, self._report)
        self.bar = 0

    def _report(self, action: str, text: str, data: dict[str, Any]) -> None:
        msgpack.packb(data)  # every row must travel
        assert "\n" not in text
        self.rows.append((action, text, data))

    def say(self, action: Any, *, same_bar: bool = False, again: bool = False) -> str:
        """One closed bar with this signal; what came of it. `again`: it is given to the trader as one to try again."""
        self.bar += 0 if same_bar else HOUR
        self.broker.time = self.bar + HOUR
        signal = Signal(action, 1.1, "Because.", {"x": 1.0, "nothing": float("nan")})
        return self.trader.on_bar(signal, BARS, self.bar, again=again).action

    def again(self, action: Any) -> str:
        """The same bar, to be tried again."""
        return self.say(action, same_bar=True, again=True)

    @property
    def actions(self) -> list[str]:
        return [action for action, _, _ in self.rows]

    @property
    def orders(self) -> list[tuple[str, str]]:
        return [(draft.action, draft.side) for draft in self.broker.sent]


def test_an_entry_is_sized_by_risk_and_told_after_the_fill() -> None:
    stall = Stall()
    assert stall.say("BUY") == "opened"
    (draft,) = stall.broker.sent
    assert draft == OrderDraft(
        action="open", side="buy", volume=0.5, sl=1.0981, tp=1.1041, deviation=20, comment="a-bot",
        decision="EURUSD|H1|3600", bar_time=3600,
    )  # fmt: skip
    ((action, text, data),) = stall.rows
    assert action == "OPEN_BUY"
    assert text == "opened buy 0.5 EURUSD at 1.1001, SL 1.0981, TP 1.1041: Because."
    assert data["risk"] == 100.0 and data["atr"] == pytest.approx(0.001) and data["position"] == 101
    assert data["figures"] == {"x": 1.0, "nothing": None}
    assert stall.trader.volume == 0.5


def test_same_direction_and_hold_do_nothing() -> None:
    stall = Stall()
    assert [stall.say(action) for action in ("HOLD", "BUY", "BUY", "HOLD")] == ["none", "opened", "none", "none"]
    assert len(stall.broker.sent) == 1


@pytest.mark.parametrize("carry", [True, False])
def test_the_opposite_signal_closes_by_ticket_and_then_opens(carry: bool) -> None:
    stall = Stall(Broker(results_carry_position=carry))
    stall.say("BUY")
    stall.broker.deal = {
        "ticket": 9,
        "entry": 1,
        "reason": 3,
        "profit": -5.0,
        "commission": -1.0,
        "swap": -0.5,
        "fee": 0,
    }
    assert stall.say("SELL") == "reversed"
    assert stall.orders == [("open", "buy"), ("close", "buy"), ("open", "sell")]
    assert stall.actions == ["OPEN_BUY", "CLOSE_BUY", "OPEN_SELL"]
    assert stall.rows[1][2]["profit"] == -6.5  # commission and swap belong to it
    assert stall.trader.volume == -0.5


@pytest.mark.parametrize("fate", [10004, 10018, 10029, 0, "unknown_lost", "down", "lie"])
def test_no_opposite_position_unless_the_close_succeeded(fate: Any) -> None:
    stall = Stall()
    stall.say("BUY")
    stall.broker.fates = [fate]
    assert stall.say("SELL") in ("refused", "held", "failed")
    assert stall.orders == [("open", "buy"), ("close", "buy")]
    assert "OPEN_SELL" not in stall.actions and "CLOSE_BUY" not in stall.actions
    assert stall.actions[-1] in ("ERROR", "WARNING")
    assert stall.trader.volume == 0.5


def test_position_not_known_after_the_close_opens_nothing() -> None:
    class Deafened(Broker):
        def send(self, draft: OrderDraft) -> OrderResult:
            result = super().send(draft)
            self.deaf = draft.action == "close"
            return result

    stall = Stall(Deafened())
    stall.say("BUY")
    assert stall.say("SELL") == "failed"
    assert stall.actions == ["OPEN_BUY", "CLOSE_BUY", "ERROR"]
    assert stall.orders[-1] == ("close", "buy")


def test_none_from_the_terminal_is_never_flat() -> None:
    stall = Stall(Broker(deaf=True))
    assert [stall.say("BUY") for _ in range(3)] == ["failed"] * 3
    assert stall.broker.sent == []
    assert stall.actions == ["ERROR"]  # once, not at every bar
    assert "IPC timeout" in stall.rows[0][1]
    stall.broker.deaf = False
    assert stall.say("BUY") == "opened"
    assert stall.actions == ["ERROR", "INFO", "OPEN_BUY"]


@pytest.mark.parametrize(("signal", "outcome"), [("EXIT", "closed"), ("SELL", "reversed")])
def test_a_bar_on_which_the_position_was_not_known_may_be_acted_on_again(signal: str, outcome: str) -> None:
    stall = Stall()
    stall.say("BUY")
    stall.broker.deaf = True
    assert stall.say(signal) == "failed" and stall.trader.unsent == stall.bar
    assert stall.again(signal) == "failed" and stall.trader.unsent == stall.bar
    stall.broker.deaf = False
    assert stall.say(signal, same_bar=True) == "none", "only where it is asked to"
    assert stall.again(signal) == outcome and stall.trader.unsent == -1
    sent = len(stall.broker.sent)
    assert stall.again(signal) == "none" and len(stall.broker.sent) == sent
    assert {draft.decision for draft in stall.broker.sent[1:]} == {"EURUSD|H1|7200"}


def test_a_bar_that_an_earlier_order_held_may_be_acted_on_again() -> None:
    stall = Stall(Broker(fates=["unknown_filled"]))
    assert stall.say("BUY") == "held" and stall.trader.unsent == -1, "what was sent is never tried again"
    answers, stall.broker.answers = dict(stall.broker.answers), {}
    assert stall.again("BUY") == "held" and stall.trader.unsent == -1
    assert stall.say("EXIT") == "held" and stall.trader.unsent == stall.bar
    stall.broker.answers = answers
    assert stall.again("EXIT") == "closed"
    assert stall.orders == [("open", "buy"), ("close", "buy")]


def test_an_entry_that_could_not_be_sized_is_tried_again_and_told_once() -> None:
    class Uncertain(Broker):
        silent = True

        def account_info(self) -> dict[str, Any]:
            if self.silent:
                raise DeskFailed("account_info answered None")
            return super().account_info()

    broker = Uncertain()
    stall = Stall(broker)
    assert stall.say("BUY") == "failed" and [stall.again("BUY") for _ in range(3)] == ["failed"] * 3
    assert stall.actions == ["ERROR"] and broker.sent == []
    broker.silent = False
    assert stall.again("BUY") == "opened" and stall.actions == ["ERROR", "INFO", "OPEN_BUY"]
    assert stall.again("BUY") == "none" and len(broker.sent) == 1


@pytest.mark.parametrize("reason", NEVER_SENT)
@pytest.mark.parametrize(("signal", "outcome"), [("EXIT", "closed"), ("SELL", "reversed")])
def test_a_close_that_never_left_may_be_tried_again(reason: str, signal: str, outcome: str) -> None:
    stall = Stall()
    stall.say("BUY")
    stall.broker.fates = [reason, reason]
    assert stall.say(signal) == "held" and stall.trader.unsent == stall.bar
    assert stall.again(signal) == "held" and stall.actions == ["OPEN_BUY", "ERROR"], "told once"
    assert stall.again(signal) == outcome and stall.trader.unsent == -1
    assert stall.orders[:4] == [("open", "buy"), *[("close", "buy")] * 3]


@pytest.mark.parametrize("fate", [10004, 10018, 0, "unknown_lost", "unknown_filled", "down", "lie", *NEVER_SENT])
@pytest.mark.parametrize("action", ["open", "close"])
def test_what_was_sent_is_never_tried_again(action: str, fate: Any) -> None:
    """An entry that never left neither: the ledger may have it as the one of its decision."""
    if action == "close" and fate in NEVER_SENT:
        return
    stall = Stall()
    if action == "close":
        stall.say("BUY")
    stall.broker.fates = [fate]
    signal = "EXIT" if action == "close" else "BUY"
    stall.say(signal)
    sent = len(stall.broker.sent)
    assert stall.trader.unsent == -1
    for _ in range(3):
        stall.again(signal)
    assert len(stall.broker.sent) == sent


def test_a_close_without_a_supervisor_is_the_order_of_its_bar() -> None:
    stall = Stall()
    stall.say("BUY")
    stall.broker.deaf = True
    stall.say("EXIT")
    stall.broker.deaf, stall.broker.fates = False, [10018]
    assert stall.trader.flatten("orphaned", stall.bar).action == "refused"
    assert stall.again("EXIT") == "none" and stall.orders == [("open", "buy"), ("close", "buy")]


@pytest.mark.parametrize("fate", [10004, 10020, 10021, 10019, 10030, 0])
def test_a_refused_entry_is_reported_and_left(fate: int) -> None:
    stall = Stall(Broker(fates=[fate, fate]))
    assert stall.say("BUY") == "refused"
    stall.say("BUY", same_bar=True)
    assert len(stall.broker.sent) == 1  # never twice on one bar
    stall.say("BUY")
    assert len(stall.broker.sent) == 2
    assert stall.actions == ["ERROR" if fate in (10019, 10030) else "WARNING"]  # the same refusal is one row
    assert f"({fate})" in stall.rows[0][1] or fate == 0


@pytest.mark.parametrize("action", ["open", "close"])
@pytest.mark.parametrize("fate", ["unknown_filled", "unknown_lost"])
def test_an_unknown_order_holds_the_bot_until_it_is_known(action: str, fate: str) -> None:
    stall = Stall()
    if action == "close":
        stall.say("BUY")
    stall.broker.fates = [fate]
    answers, stall.broker.answers = stall.broker.answers, {}
    first: Any = "SELL" if action == "close" else "BUY"
    assert stall.say(first) == "held"
    answers, stall.broker.answers = dict(stall.broker.answers), {}
    sent, rows = len(stall.broker.sent), len(stall.rows)
    assert stall.trader.unresolved
    assert [stall.say(signal) for signal in ("SELL", "BUY", "HOLD")] == ["held"] * 3
    assert len(stall.broker.sent) == sent and len(stall.rows) == rows
    stall.broker.answers = answers
    assert stall.trader.watch().action == "none"
    assert not stall.trader.unresolved
    assert len(stall.broker.sent) == sent  # nothing was sent anew
    told = stall.actions[rows:]
    if fate == "unknown_filled":
        assert told == ["INFO", "OPEN_BUY" if action == "open" else "CLOSE_BUY"]
    else:
        assert told == ["INFO", "WARNING" if action == "open" else "ERROR"]
    held = fate == ("unknown_filled" if action == "open" else "unknown_lost")
    assert stall.trader.volume == (0.5 if held else 0.0)


def test_market_closed_is_one_row_when_it_begins_and_one_when_it_ends() -> None:
    stall = Stall(Broker(fates=[10018, 10018]))
    frozen = stall.broker
    assert stall.say("BUY") == "refused"
    closed_at = frozen.time
    for _ in range(5):  # the quote stands still: still closed
        frozen.time = closed_at
        stall.trader.watch()
    assert stall.actions == ["WARNING"] and "market closed (10018)" in stall.rows[0][1]
    frozen.time = closed_at + 60
    stall.trader.watch()
    stall.trader.watch()
    assert stall.actions == ["WARNING", "INFO"] and "open again" in stall.rows[1][1]


def test_after_a_stop_out_nothing_is_entered_again_on_the_same_bar() -> None:
    stall = Stall()
    stall.say("BUY")
    stall.broker.open = None
    stall.broker.deal = {"ticket": 8, "entry": 1, "reason": 4, "price": 1.0981, "profit": -100.0, "commission": 0.0,
                         "swap": 0.0, "fee": 0.0}  # fmt: skip
    for _ in range(3):
        assert stall.say("BUY", same_bar=True) == "none"
    assert len(stall.broker.sent) == 1
    assert stall.actions == ["OPEN_BUY", "CLOSE_BUY"]
    assert stall.rows[1][1].startswith("stop loss hit: buy 0.5 at 1.1001") and stall.rows[1][2]["profit"] == -100.0
    assert stall.say("BUY") == "opened"  # a new bar is a new decision


def test_an_older_bar_is_not_decided() -> None:
    stall = Stall()
    stall.say("HOLD")
    outcome = stall.trader.on_bar(Signal("BUY", 1.1, "Late."), BARS, stall.bar - HOUR)
    assert outcome.action == "none" and stall.broker.sent == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"volume": 0.2}, "volume 0.5 -> 0.2"),
        ({"sl": 1.05}, "sl 1.0981 -> 1.05"),
        (None, "gone, and no deal says why"),
    ],
)
def test_a_change_by_hand_is_told_once(change: dict[str, Any] | None, words: str) -> None:
    stall = Stall()
    stall.say("BUY")
    stall.broker.open = None if change is None else {**(stall.broker.open or {}), **change}
    for _ in range(3):
        stall.trader.watch()
    assert stall.actions == ["OPEN_BUY", "WARNING"] and words in stall.rows[1][1]


def test_a_position_closed_by_hand_and_one_that_appears() -> None:
    stall = Stall()
    stall.say("BUY")
    stall.broker.open = None
    stall.broker.deal = {"ticket": 8, "entry": 1, "reason": 0, "price": 1.1, "profit": 3.0}
    stall.say("HOLD")
    assert stall.actions[-1] == "WARNING" and "closed from outside" in stall.rows[-1][1]
    stall.broker.open = position(777, "sell", 0.3, 1.2)
    stall.say("HOLD")
    assert "did not open" in stall.rows[-1][1] and stall.trader.volume == -0.3
    assert stall.say("BUY") == "reversed"  # it is closed by its own ticket


def test_a_restarted_bot_goes_on_with_its_position() -> None:
    stall = Stall(Broker(open=position(42, "sell", 0.7, 1.2)))
    assert stall.say("SELL") == "none"
    assert stall.actions == ["INFO"] and stall.trader.volume == -0.7 and stall.broker.sent == []


@pytest.mark.parametrize(
    ("broker", "config", "words"),
    [
        (Broker(balance=100.0), {}, "less than the smallest volume"),
        (Broker(margin_free=499.0), {}, "0.5 lots need a margin of 500.00; 499.00 is free"),
        (Broker(), {"sl_atr_multiplier": 100, "risk_percent": 0.05}, "less than the smallest volume"),
    ],
)
def test_an_entry_that_does_not_fit_is_a_clear_warning_told_once(
    broker: Broker, config: dict[str, Any], words: str
) -> None:
    stall = Stall(broker, **config)
    assert [stall.say("BUY") for _ in range(3)] == ["refused"] * 3
    assert broker.sent == [] and stall.actions == ["WARNING"] and words in stall.rows[0][1]
    broker.balance = broker.margin_free = 1e6
    assert stall.say("BUY") == "opened"
    assert stall.actions == ["WARNING", "INFO", "OPEN_BUY"]


def test_min_lot_accept_takes_the_smallest_volume_and_warns() -> None:
    stall = Stall(Broker(balance=100.0), min_lot="accept")
    assert stall.say("BUY") == "opened"
    assert stall.broker.sent[0].volume == 0.01
    assert stall.actions == ["WARNING", "OPEN_BUY"] and "above the risk" in stall.rows[0][1]


@pytest.mark.parametrize(("mode", "buy", "sell"), [(0, 0, 0), (1, 1, 0), (2, 0, 1), (3, 0, 0), (4, 1, 1)])
def test_the_symbols_trade_mode_is_kept(mode: int, buy: int, sell: int) -> None:
    for side, allowed in (("BUY", buy), ("SELL", sell)):
        stall = Stall()
        stall.broker.info["trade_mode"] = mode
        assert stall.say(side) == ("opened" if allowed else "refused")


def test_too_few_bars_for_the_atr_is_no_entry() -> None:
    stall = Stall()
    outcome = stall.trader.on_bar(Signal("BUY", 1.1, "Early."), BARS.iloc[:56], HOUR)
    assert outcome.action == "refused" and "ATR(14) needs 57" in outcome.text and stall.broker.sent == []


def test_draining_only_closes() -> None:
    stall = Stall()
    stall.say("BUY")
    stall.trader.entries = False
    assert stall.say("SELL") == "closed"
    assert stall.say("SELL") == "none"
    assert stall.orders == [("open", "buy"), ("close", "buy")]


def test_flatten_closes_what_is_held() -> None:
    stall = Stall()
    assert stall.trader.flatten("orphaned", 0).action == "none"
    stall.say("SELL")
    assert stall.trader.flatten("orphaned", stall.bar).action == "closed"
    assert stall.actions == ["OPEN_SELL", "CLOSE_SELL"] and stall.broker.open is None


@pytest.mark.parametrize("fate", [10004, 10018, 0, "unknown_lost", "unknown_filled", "down", "lie"])
def test_a_bot_without_a_supervisor_ends_only_when_it_is_flat(fate: Any) -> None:
    stall = Stall()
    stall.say("BUY")
    stall.broker.fates = [fate]
    stall.trader.entries = False
    outcome = stall.trader.flatten("orphaned", stall.bar)
    assert not is_flat(outcome) and outcome.volume == 0.5
    assert is_flat(stall.trader.flatten("orphaned", stall.bar))
    assert stall.broker.open is None and stall.trader.volume == 0.0


def test_a_partial_close_is_told_and_opens_nothing() -> None:
    class Partly(Broker):
        def _execute(self, draft: OrderDraft, order_id: str) -> OrderResult:
            before = dict(self.open or {})
            result = super()._execute(draft, order_id)
            if draft.action == "close":
                self.open = {**before, "volume": 0.2}
                return result.model_copy(update={"retcode": 10010, "volume": 0.3, "position": self.open})
            return result

    stall = Stall(Partly())
    stall.say("BUY")
    assert stall.say("SELL") == "refused"
    assert stall.actions == ["OPEN_BUY", "CLOSE_BUY", "WARNING"] and stall.rows[1][2]["volume"] == 0.3
    assert stall.trader.volume == 0.2


FATES = st.sampled_from(["fill", "fill", "fill", 10004, 10018, 0, "unknown_filled", "unknown_lost", "down"])
STEPS = st.lists(
    st.tuples(st.sampled_from(["BUY", "SELL", "HOLD", "again", "watch", "stop-out", "hand"]), FATES, st.booleans()),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_whatever_happens_there_is_one_position_and_one_order_of_a_kind_per_bar(steps: Any) -> None:
    """The broker of this test asserts that no second position opens and that each close names its ticket."""
    stall = Stall()
    stall.say("HOLD")
    for what, fate, deaf in steps:
        stall.broker.fates, stall.broker.deaf = [fate], deaf
        before = len(stall.broker.sent)
        if what == "watch":
            stall.trader.watch()
        elif what == "again":
            stall.say("BUY", same_bar=True)
        elif what == "stop-out":
            stall.broker.open = None
        elif what == "hand" and stall.broker.open is not None:
            stall.broker.open = {**stall.broker.open, "volume": 0.1}
        elif what in ("BUY", "SELL", "HOLD"):
            stall.say(what)
        if what in ("watch", "again", "HOLD") or deaf:
            assert len(stall.broker.sent) == before
    decisions = [(draft.decision, draft.action) for draft in stall.broker.sent]
    assert len(decisions) == len(set(decisions))
    stall.broker.fates, stall.broker.deaf = [], False
    stall.trader.watch()
    truth = stall.broker.open
    signed = 0.0 if truth is None else truth["volume"] * (1 if truth["type"] == 0 else -1)
    assert stall.trader.volume == signed  # at the end it knows what the broker knows


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["BUY", "SELL", "EXIT", "again BUY", "again SELL", "again EXIT", "watch", "flatten"]),
            st.sampled_from(["fill", "fill", 10004, "unknown_filled", "unknown_lost", "down", *NEVER_SENT]),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_however_often_a_bar_is_tried_again_no_order_reaches_the_terminal_twice(steps: Any) -> None:
    """What is tried again may say something else by then: still a decision has one close and one entry."""
    stall = Stall()
    stall.say("HOLD")
    reached: list[tuple[str, str]] = []
    for what, fate, deaf in steps:
        stall.broker.fates, stall.broker.deaf = [fate], deaf
        before = len(stall.broker.sent)
        if what == "watch":
            stall.trader.watch()
        elif what == "flatten":  # each attempt is a decision of its own
            stall.trader.flatten("orphaned", stall.bar)
            before = len(stall.broker.sent)
        elif what.startswith("again "):
            stall.again(what.removeprefix("again "))
        else:
            stall.say(what)
        drafts = stall.broker.sent[before:]
        left = fate in NEVER_SENT and drafts and drafts[0].action == "close"  # this one did not
        reached += [(draft.decision, draft.action) for draft in (drafts[1:] if left else drafts)]
    assert len(reached) == len(set(reached))


def test_a_draft_is_never_changed_after_it_was_sent() -> None:
    stall = Stall()
    stall.say("BUY")
    draft = stall.broker.sent[0]
    with pytest.raises(AttributeError):
        draft.volume = 9.0  # type: ignore[misc]
    assert replace(draft, volume=9.0) != draft


def test_exit_closes_what_is_held_and_opens_nothing() -> None:
    stall = Stall()
    assert stall.say("EXIT") == "none" and stall.orders == []
    assert [stall.say(action) for action in ("BUY", "EXIT", "EXIT", "SELL", "EXIT")] == [
        "opened", "closed", "none", "opened", "closed",
    ]  # fmt: skip
    assert stall.orders == [("open", "buy"), ("close", "buy"), ("open", "sell"), ("close", "sell")]
    assert stall.rows[1][1].endswith("EXIT: Because.")
    stall.say("BUY")
    stall.trader.entries = False  # draining: an exit is what it wants
    assert stall.say("EXIT") == "closed"


def test_a_strategy_is_told_what_the_terminal_says_of_its_position() -> None:
    stall = Stall()
    stall.say("BUY")
    held = stall.trader.own_position(fresh=False)
    assert held is not None and (held.side, held.volume, held.price) == ("buy", 0.5, 1.1001)
    stall.broker.open = None  # the stop was hit within the bar
    assert stall.trader.own_position(fresh=False) == held
    assert stall.trader.own_position(fresh=True) is None
    stall.broker.deaf = True
    assert stall.trader.own_position(fresh=True) is None
