"""order_check and order_send: requests in, return codes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker import api
from broker.api import OrderCheckResult, OrderSendResult, TradeRequest
from broker.paper.answers import answers
from broker.paper.requests import TEXTS, Outcome, Refusal, parse_request
from broker.paper.waiting import Waiting
from store.errors import StoreError


class Trading(Waiting):
    """The two functions that take requests."""

    _requests = 0
    _second = -1

    @answers
    def order_check(self, request: Mapping[str, Any]) -> OrderCheckResult:
        """What the account would be after the request; retcode 0 where it may be done. Nothing is changed."""
        parsed = parse_request(request)
        self.checking = True
        try:
            self.check_gates()
            self._perform(parsed)
            retcode, text = 0, TEXTS[0]
        except Refusal as refusal:
            retcode, text = refusal.retcode, refusal.text
        finally:
            self.checking = False
            totals, balance = self.account.totals(), self.account.balance
            self.account.undo()
        free = self.calc.money(totals.equity - totals.margin)
        return OrderCheckResult(
            retcode, balance, totals.equity, totals.floating, totals.margin, free, totals.level, text, parsed
        )

    @answers
    def order_send(self, request: Mapping[str, Any]) -> OrderSendResult:
        """Do the request. 10008, 10009 and 10010 mean that it is done and committed; after any other retcode

        nothing changed. 10011 where the account's database cannot be written.
        """
        parsed = parse_request(request)
        self._requests += 1
        series = self.series.get(parsed.symbol)
        self.arrived = (series.bid, series.ask) if series is not None else (0.0, 0.0)
        outcome = Outcome()
        try:
            self._count()
            self.check_gates()
            outcome = self._perform(parsed)
            self.save()
            retcode, text = outcome.retcode, TEXTS[outcome.retcode]
        except Refusal as refusal:
            self.account.undo()
            retcode, text = refusal.retcode, refusal.text
        except StoreError as error:  # `save` has undone it
            outcome = Outcome()
            retcode, text = api.TRADE_RETCODE_ERROR, f"Not committed: {error.message}"
        return OrderSendResult(
            retcode, outcome.deal, outcome.order, outcome.volume, outcome.price, *self.arrived, text,
            self._requests, 0, parsed,
        )  # fmt: skip

    def _count(self) -> None:
        """Requests in this second of the feed's clock."""
        if self._second != self.now:
            self._second, self.requests_now = self.now, 0
        self.requests_now += 1
        most = self.config.requests_per_second
        if most and self.requests_now > most:
            raise Refusal(api.TRADE_RETCODE_TOO_MANY_REQUESTS)

    def _perform(self, request: TradeRequest) -> Outcome:
        """Do it in memory. Raises Refusal; what is half done then is for the caller to undo."""
        kinds = {
            api.TRADE_ACTION_DEAL: self.deal,
            api.TRADE_ACTION_SLTP: self.move_stops,
            api.TRADE_ACTION_CLOSE_BY: self.close_by,
            api.TRADE_ACTION_PENDING: self.place_pending,
            api.TRADE_ACTION_MODIFY: self.modify_order,
            api.TRADE_ACTION_REMOVE: self.remove_order,
        }
        perform = kinds.get(request.action)
        if perform is None:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        return perform(request)
