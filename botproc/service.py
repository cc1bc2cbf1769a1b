"""The requests that a launcher and its twin, the spawner, understand: one method each.

The language stands in `protocol/spec.py`. A request that is wrong or fails is answered, never raised.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from typing import Any, Final

from pydantic import ValidationError

from botproc.children import Child, Children, NotMade, number_of
from botproc.preload import Preload
from botproc.spares import Spares
from protocol.spec import RunSpec

Reply = Callable[[dict[str, Any]], None]

#: Runs in one frame of a `list`. Where there are more, the reply has `next`: ask again with `after=next`.
LIST_PART: Final = 500

log = logging.getLogger("stablehand.launcher")


class Service:
    """Answers requests. `start` makes the processes of runs, in their order, and says of each what became of it;
    `ask` answers `catalogue` and `validate`, which run user code.

    Launches wait for `carry_out`, so that several are made together: between two forks of a launcher the less is
    done the better, since each page that it writes to is one more that the child before holds alone.
    """

    def __init__(
        self,
        generation: str,
        preload: Preload,
        start: Callable[[list[RunSpec]], list[Child | NotMade]],
        ask: Callable[[dict[str, Any], Reply], None],
        spares: Spares | None = None,
    ) -> None:
        self.generation = generation
        self.preload = preload
        self.children = Children()
        self.retired = False
        self._start = start
        self._ask = ask
        self._spares = spares
        self._planned: dict[str, tuple[RunSpec, Reply]] = {}

    def handle(self, request: Any, reply: Reply) -> None:
        """Do one request; `reply` is called with each answer, now or (catalogue, validate, launch) soon."""
        if not isinstance(request, dict):
            return  # not even an id to answer to
        number = request.get("id")

        def answer(values: dict[str, Any]) -> None:
            reply({"id": number, **values})

        if request.get("op") != "launch":
            self.carry_out()
        action = getattr(self, f"_do_{request.get('op')}", None)
        if action is None:
            answer({"ok": False, "error": f"unknown request {request.get('op')!r}"})
            return
        try:
            action(request, answer)
        except (KeyError, TypeError, ValueError) as error:
            answer({"ok": False, "error": f"bad request: {type(error).__name__}: {error}"})

    def _do_launch(self, request: dict[str, Any], reply: Reply) -> None:
        try:
            spec = RunSpec.model_validate(request["spec"])
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            reply({"ok": False, "cause": "launch", "error": f"bad specification: {where}: {first['msg']}"})
            return
        if spec.token in self._planned:
            self.carry_out()
        known = self.children.get(spec.token)
        if known is not None:  # asked twice for one run: there is one process
            reply(known.launched())
        elif self.retired:
            reply({"ok": False, "cause": "launch", "error": "this launcher is retired"})
        else:
            self._planned[spec.token] = spec, reply

    def carry_out(self) -> None:
        """Make the processes that were asked for, and answer."""
        if not self._planned:
            return
        planned, self._planned = list(self._planned.values()), {}
        specs = [spec for spec, _ in planned]
        replies = [(spec.name, reply) for spec, reply in planned]
        del planned  # a child is not to find the others' keys: `start` empties the list there
        for (name, reply), made in zip(replies, self._start(specs), strict=True):
            if isinstance(made, Child):
                reply(made.launched())
                continue
            log.warning("launch of %s failed: %s", name, made.reason)
            reply({"ok": False, "cause": "launch", "error": made.reason})

    def _do_signal(self, request: dict[str, Any], reply: Reply) -> None:
        number = number_of(request["signal"])
        reply(self.children.send(str(request["token"]), number, bool(request.get("group", False))))

    def _do_ack(self, request: dict[str, Any], reply: Reply) -> None:
        self.children.acknowledge(str(request["token"]))

    def _do_list(self, request: dict[str, Any], reply: Reply) -> None:
        rows = [child.row() for child in self.children]
        after = str(request.get("after") or "")
        if after:  # the child named may be gone by now; then the list begins anew, and nothing is missed
            at = next((i + 1 for i, row in enumerate(rows) if row["token"] == after), 0)
            rows = rows[at:]
        answer: dict[str, Any] = {"ok": True, "generation": self.generation, "runs": rows[:LIST_PART]}
        if len(rows) > LIST_PART:
            answer["next"] = rows[LIST_PART - 1]["token"]
        answer["spares"] = self._spares.ready if self._spares else 0
        reply({**answer, "broken": self.preload.broken})

    def _do_hello(self, request: dict[str, Any], reply: Reply) -> None:
        reply({"ok": True, "generation": self.generation})

    def _do_stale(self, request: dict[str, Any], reply: Reply) -> None:
        reply({"ok": True, "stale": self.preload.stale()})

    def _do_retire(self, request: dict[str, Any], reply: Reply) -> None:
        self.retired = True
        if self._spares:
            self._spares.dismiss()
        reply({"ok": True})

    def _do_catalogue(self, request: dict[str, Any], reply: Reply) -> None:
        self._ask({"op": "catalogue", "names": [str(name) for name in request.get("names", ())]}, reply)

    def _do_validate(self, request: dict[str, Any], reply: Reply) -> None:
        question = {"strategy": str(request["strategy"]), "params": dict(request.get("params", {}))}
        self._ask({"op": "validate", **question}, reply)


def answer_about_strategies(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to `catalogue` or `validate`. It imports and runs user code: never call it in the launcher."""
    from botproc import catalogue

    before = set(sys.modules)
    importlib.invalidate_caches()
    try:
        if request["op"] == "catalogue":
            return {"ok": True, **catalogue.describe(request["names"])}
        return catalogue.validate(request["strategy"], request["params"])
    except Exception as error:
        log.exception("a question about strategies failed")
        message = f"{type(error).__name__}: {error}"
        return {"ok": False, "error": message, "errors": [{"param": "strategy", "message": message, "broken": True}]}
    finally:
        # Asked again, a module of the user's own must be read again: it may have been repaired in between.
        for name in set(sys.modules) - before:
            if "site-packages" not in (getattr(sys.modules[name], "__file__", None) or ""):
                del sys.modules[name]
