"""Symbols as the bots name them, and as this broker does: asked of the terminal once, kept, and shown."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from broker.mt5.symbols import resolve

Tell = Callable[[str, bool], None]

log = logging.getLogger("stablehand.gateway")


class Aliases:
    """For the terminal thread. What was found is kept in `file`, so that a change of the broker shows its changes."""

    def __init__(self, file: Path, tell: Tell) -> None:
        self._file = file
        self._tell = tell
        self._server = ""
        self._names: tuple[str, ...] = ()
        self._broker: dict[str, str] = {}  # wanted -> the broker's name
        self._wanted: dict[str, str] = {}  # and back
        self._before: dict[str, str] = {}
        self._before_server = ""
        try:
            kept = json.loads(file.read_text("utf-8"))
            self._before_server, self._before = (
                str(kept["server"]),
                {str(a): str(b) for a, b in kept["symbols"].items()},
            )
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, AttributeError) as error:
            log.warning("%s cannot be read (%s): symbols are looked for anew", file, error)

    def serve(self, server: str) -> None:
        """The terminal speaks to this server now. Another one names its symbols anew."""
        if server == self._server:
            return
        if self._server:
            self._before_server, self._before = self._server, dict(self._broker)
        self._server, self._names = server, ()
        self._broker.clear()
        self._wanted.clear()

    def know(self, names: tuple[str, ...]) -> None:
        """All symbols of the server."""
        self._names = names

    @property
    def names(self) -> tuple[str, ...]:
        """All symbols of the server; empty while they are not known."""
        return self._names

    def known(self, wanted: str) -> str | None:
        """The broker's name, where it was found before."""
        return self._broker.get(wanted)

    @property
    def differ(self) -> bool:
        """Whether any symbol has another name at the broker."""
        return any(wanted != name for wanted, name in self._broker.items())

    def find(self, wanted: str) -> str | None:
        """The broker's name for a symbol; None where it has none. Raises ValueError where another bot has it."""
        found = resolve(wanted, self._names, self._server)
        if found is None:
            return None
        other = self._wanted.get(found)
        if other is not None and other != wanted:
            raise ValueError(f"{wanted} is {found} here, which is traded as {other} already: use one name for it")
        self._broker[wanted], self._wanted[found] = found, wanted
        self._show(wanted, found)
        return found

    def to_wanted(self, name: str) -> str:
        """The bots' name of a broker's symbol."""
        return self._wanted.get(name, name)

    def _show(self, wanted: str, found: str) -> None:
        before = self._before.get(wanted)
        if before is not None and (before != found or self._before_server != self._server):
            was = f"; it was {before} at {self._before_server}" if before != found else ""
            self._tell(f"{wanted} is {found} at {self._server}{was}", bool(was))
        elif before is None and found != wanted:
            self._tell(f"{wanted} is {found} at {self._server}", False)
        if before != found or self._before_server != self._server:
            self._keep()

    def _keep(self) -> None:
        same = self._before_server == self._server
        if same:
            self._before = {**self._before, **self._broker}
        kept: dict[str, Any] = {"server": self._server, "symbols": self._before if same else self._broker}
        partial = self._file.with_suffix(".new")
        try:
            partial.write_text(json.dumps(kept, indent=1), "utf-8")
            partial.replace(self._file)
        except OSError as error:
            log.warning("%s cannot be written (%s): a change of the broker's names will not be told", self._file, error)
