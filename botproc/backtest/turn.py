"""One bot's work on one bar, stopped wherever it sends an order.

In lockstep all bots that a bar concerns read the same account, and then their orders are executed together, in
the order of bot ids. A trader is written straight on: to stop it in the middle it runs on a thread of its own,
and only one of these threads, or the engine's, is ever moving.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from protocol.messages import Order, OrderResult


class Turn:
    """`advance` runs the work to its next order, or to its end."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._said: SimpleQueue[Order | BaseException | None] = SimpleQueue()
        self._answers: SimpleQueue[OrderResult] = SimpleQueue()
        # Daemonic: where the engine fails in a round, a turn that waits for its answer must not keep the process.
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Order | None:
        """Begin; the first order, or None where there is none. Raises what the work raises."""
        self._thread.start()
        return self._next()

    def advance(self, result: OrderResult) -> Order | None:
        """Go on with the answer to the last order; the next one, or None at the end."""
        self._answers.put(result)
        return self._next()

    def send(self, order: Order) -> OrderResult:
        """The desk's route, on the turn's thread: stop here until there is an answer."""
        self._said.put(order)
        return self._answers.get()

    def _next(self) -> Order | None:
        said = self._said.get()
        if isinstance(said, Order):
            return said
        self._thread.join()
        if said is not None:
            raise said
        return None

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._said.put(error)
        else:
            self._said.put(None)
