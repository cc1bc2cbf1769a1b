"""The halts of one account: in force at once, then in the ledger, and there until they are lifted.

What halts acts first and is remembered as soon as the disk allows; what lifts is committed first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from protocol.halts import ALL, FILE, FLAT, HaltState
from store import halts
from store.database import Database
from store.halts import gateway_halts
from store.writer import Writer

_LIFTED_KEPT: Final = 1_000
_REASON_READ: Final = 2_000
_SHOWN: Final = 500

Told = Callable[[HaltState, str], None]
Lifted = Callable[[list[str], str], None]

log = logging.getLogger("stablehand.gateway")


class Halting:
    """`why`, `latch` and `flattening` are safe from any thread; the rest is for the service thread.

    `post` runs a call on the service thread, `now` is the terminal's clock, `changed` is told when something
    is to be reported, `flatten` when positions are to be closed, `lifted` which key is no longer in force.
    """

    def __init__(
        self,
        account: str,
        ledger: Database,
        writer: Writer,
        folder: Path,
        *,
        post: Callable[..., None],
        now: Callable[[], int],
    ) -> None:
        self._account = account
        self._writer = writer
        self._file = folder / FILE
        self._post = post
        self._now = now
        self.changed: Callable[[], None] = lambda: None
        self.flatten: Callable[[], None] = lambda: None
        self.lifted: Callable[[HaltState], None] = lambda _halt: None
        self._lock = threading.Lock()
        self._writing: set[str] = set()
        self._lifting: set[str] = set()
        self._again: set[str] = set()  # halted anew while they were being lifted
        with ledger.read() as connection:
            active, known = halts.standing(gateway_halts, connection), gateway_halts.all(connection, _LIFTED_KEPT)
        self._forgiven = {row.scope for row in known if row.lifted_at is not None and "@" in row.scope}
        self._standing = {halt.key: halt for halt in active}
        self._held = tuple(active)  # the same, replaced as a whole
        self._look_at_file()

    # --- from any thread -------------------------------------------------------------------------

    def why(self, bot: str) -> str:
        """Why this bot may not enter now; empty when it may."""
        for halt in self._held:
            if halt.covers(self._account, bot) and (not halt.until or self._now() < halt.until):
                return halt.line()
        return ""

    def flattening(self) -> tuple[HaltState, ...]:
        """Halts whose positions are to be closed."""
        return tuple(halt for halt in self._held if halt.flatten)

    def forgiven(self, key: str) -> bool:
        """Whether somebody lifted this very halt: before its time, or since the guards last measured anew."""
        return key in self._forgiven

    def measured_anew(self, halt: HaltState) -> None:
        """The guards have heard that it was lifted: from now on its rule may latch it again."""
        if not halt.until:
            with self._lock:
                self._forgiven.discard(halt.key)

    def is_over(self, halt: HaltState) -> bool:
        """Whether it has ended by itself: its time has come, or it was lifted before."""
        return bool(halt.until) and (self._now() >= halt.until or self.forgiven(halt.key))

    def holds(self, key: str) -> bool:
        """Whether it is in force."""
        return key in self._standing

    def latch(self, halt: HaltState, *, write: bool = True) -> HaltState:
        """Into force, at once. What holds already keeps its first reason, and may come to flatten too."""
        with self._lock:
            known = self._standing.get(halt.key)
            if halt.key in self._lifting:
                self._again.add(halt.key)
            if known is None:
                standing = halt.model_copy(update={"remembered": False, "progress": ""})
            elif halt.flatten and not known.flatten:
                standing = known.model_copy(update={"flatten": True, "remembered": False})
            else:
                return known
            self._put(standing)
        log.warning("%s (by %s)", standing.line(), standing.who)
        if write:
            self._post(self._write, standing.key, None)
        return standing

    def _put(self, halt: HaltState) -> None:
        self._standing = {**self._standing, halt.key: halt}
        self._held = tuple(self._standing.values())

    # --- on the service thread ---------------------------------------------------------------------

    def standing(self) -> list[HaltState]:
        """What is in force, oldest first."""
        return list(self._held)

    def halt(self, halt: HaltState, done: Told) -> None:
        """Halt, and tell `done` what stands and why it is not remembered (empty when it is)."""
        standing = self.latch(halt, write=False)
        if standing.flatten:
            self.flatten()
        if standing.remembered:
            done(standing, "")
        else:
            self._write(standing.key, done)

    def lift(self, scope: str, who: str, done: Lifted) -> None:
        """Lift what was latched for this scope, by people and by guards; `done` is told the keys, or why not.

        Nothing is lifted that the ledger does not remember as lifted.
        """
        if scope == ALL and self._file.exists():
            done([], f"the file {self._file} is still there: remove it first")
            return
        self._lift([halt for halt in self._held if halt.scope == scope], who, done)

    def pulse(self) -> None:
        """Twice a second: the file, halts whose time is over, and what could not be written before."""
        self._look_at_file()
        over = [halt for halt in self._held if halt.until and self._now() >= halt.until]
        if over:
            with self._lock:
                gone = {halt.key for halt in over}
                self._standing = {key: halt for key, halt in self._standing.items() if key not in gone}
                self._held = tuple(self._standing.values())
            self._lift(over, "gateway: its time is over", lambda _keys, _error: None)
            self.changed()
        for halt in self._held:
            if not halt.remembered and halt.key not in self._writing:
                self._write(halt.key, None)

    def progress(self, key: str, text: str) -> None:
        """How far the flatten of a halt has come."""
        with self._lock:
            halt = self._standing.get(key)
            if halt is None or halt.progress == text:
                return
            self._put(halt.model_copy(update={"progress": text}))
        log.warning("halt %s: %s", key, "confirmed flat" if text == FLAT else text)
        self.changed()

    def _look_at_file(self) -> None:
        """The file HALT halts everything; its removal lifts nothing."""
        try:
            with self._file.open(encoding="utf-8", errors="replace") as file:
                text = " ".join(file.read(_REASON_READ).split())[:_SHOWN]
        except FileNotFoundError:
            return
        except OSError as error:
            text = f"the file {FILE}, which cannot be read ({error.strerror})"
        if ALL not in self._standing:
            self.latch(HaltState(scope=ALL, reason=text or f"the file {FILE}", who=f"file {FILE}", at=time.time()))

    def _write(self, key: str, done: Told | None) -> None:
        halt = self._standing.get(key)
        if halt is None:
            return
        self._writing.add(key)

        def write(connection: Any) -> None:
            halts.remember(gateway_halts, connection, halt)

        self._writer.submit(write, lambda outcome: self._post(self._written, halt, outcome, done))

    def _written(self, halt: HaltState, outcome: object, done: Told | None) -> None:
        self._writing.discard(halt.key)
        error = str(outcome) if isinstance(outcome, Exception) else ""
        with self._lock:
            now = self._standing.get(halt.key)
            if now is not None and not error and now.flatten == halt.flatten:
                self._put(now.model_copy(update={"remembered": True}))
        if error:
            log.error("halt %s is in force, NOT remembered: %s; trying again", halt.key, error)
        if done is not None:
            done(self._standing.get(halt.key, halt), error)
        self.changed()

    def _lift(self, lifting: list[HaltState], who: str, done: Lifted) -> None:
        if not lifting:
            done([], "")
            return
        keys = [halt.key for halt in lifting]
        with self._lock:
            self._lifting.update(keys)

        def write(connection: Any) -> None:
            halts.lift(gateway_halts, connection, keys, who, time.time())

        self._writer.submit(write, lambda outcome: self._post(self._is_lifted, lifting, outcome, done))

    def _is_lifted(self, lifting: list[HaltState], outcome: object, done: Lifted) -> None:
        failed = isinstance(outcome, Exception)
        with self._lock:
            again = self._again & {halt.key for halt in lifting}
            self._again -= again
            self._lifting.difference_update(halt.key for halt in lifting)
            gone = [] if failed else [halt for halt in lifting if halt.key not in again]
            # Forgiven before it is out of force: a look at the guards that is under way on the other thread still
            # judges by the old peak. One that has no time of its own is forgiven until `measured_anew`.
            self._forgiven.update(halt.key for halt in gone if halt.until or halt.by_guard)
            keys = {halt.key for halt in gone}
            self._standing = {key: each for key, each in self._standing.items() if key not in keys}
            for key in again & self._standing.keys():
                self._put(self._standing[key].model_copy(update={"remembered": False}))
            self._held = tuple(self._standing.values())
        for key in again:
            self._write(key, None)
        for halt in gone:
            log.warning("lifted: %s", halt.line())
            self.lifted(halt)
        done(
            [halt.key for halt in gone], f"not lifted, because it could not be remembered: {outcome}" if failed else ""
        )
        self.changed()
