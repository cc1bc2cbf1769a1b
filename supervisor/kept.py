"""What a restore must not take back: halts, revoked keys, and the numbers that were given out since the backup."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from protocol.halts import HaltState
from store import bots as bot_table
from store import clients, journal
from store import halts as halt_table
from store.copies import raise_epochs, raise_numbers
from store.halts import gateway_halts, supervisor_halts

GAP: Final = 1000
#: Numbers of the journal that are passed over where the last one is not known: who follows it would wait for the next.
_JOURNAL_GAP: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Kept:
    """What the memory of before knew, where it could still be read. Epochs by bot id; revocations by public key."""

    epochs: dict[int, int] = field(default_factory=dict)
    journal: int = 0
    revoked: dict[str, float] = field(default_factory=dict)
    halts: tuple[HaltState, ...] = ()

    def beside(self, halts: Iterable[HaltState]) -> Kept:
        """With these halts of a ledger too, each key once."""
        known = {halt.key: halt for halt in (*halts, *self.halts)}
        return Kept(self.epochs, self.journal, self.revoked, tuple(known.values()))

    def save(self, path: Path) -> None:
        """Write it, for the case that the restore is interrupted."""
        values = asdict(self) | {"halts": [halt.model_dump() for halt in self.halts]}
        path.write_text(json.dumps(values), "utf-8")

    @staticmethod
    def load(path: Path) -> Kept | None:
        """What a restore that was interrupted knew of the memory that it put aside; None where none was."""
        try:
            raw = json.loads(path.read_text("utf-8"))
            epochs = {int(number): int(epoch) for number, epoch in raw["epochs"].items()}
            halts = tuple(HaltState.model_validate(halt) for halt in raw["halts"])
            return Kept(epochs, int(raw["journal"]), dict(raw["revoked"]), halts)
        except (OSError, ValueError, AttributeError, KeyError, TypeError):
            return None


def of_store(conn: Connection) -> Kept:
    """What the supervisor's store knows."""
    gone = {
        one.public_key: one.revoked_at for one in clients.load_all(conn, revoked=True) if one.revoked_at is not None
    }
    standing = tuple(halt_table.standing(supervisor_halts, conn))
    return Kept(bot_table.last_epochs(conn), journal.last_seq(conn), gone, standing)


def of_ledger(conn: Connection) -> list[HaltState]:
    """The halts that a gateway enforces."""
    return halt_table.standing(gateway_halts, conn)


def put_into(conn: Connection, kept: Kept) -> None:
    """Have the restored store know it. A halt of a bot that it does not have could never be lifted: it is left out."""
    raise_epochs(conn, kept.epochs, GAP)
    # A magic comes of an id, and positions of bots that came after the backup may still be open.
    raise_numbers(conn, "bots", max(kept.epochs or (max(bot_table.last_epochs(conn), default=0) + GAP,)))
    raise_numbers(conn, "journal", kept.journal or journal.last_seq(conn) + _JOURNAL_GAP)
    for one in clients.load_all(conn):
        at = kept.revoked.get(one.public_key)
        if at is not None:
            clients.revoke(conn, one.id, at)
    names = {row.name for row in bot_table.load_all(conn)}
    for halt in kept.halts:
        if not halt.scope.startswith("bot:") or halt.scope.removeprefix("bot:") in names:
            halt_table.remember(supervisor_halts, conn, halt)


def lines(then: dict[str, Any], kept: Kept) -> list[str]:
    """What of it a person should know. `then`: {"halts": keys, "clients": {public key: name}} of the backup."""
    found = [f"stays {halt.line()}" for halt in kept.halts if halt.key not in then["halts"]]
    found += [f"client {name!r} stays revoked" for key, name in then["clients"].items() if key in kept.revoked]
    return found


def of_backup(conn: Connection) -> dict[str, Any]:
    """What `lines` needs of the backup's store."""
    return {
        "halts": {halt.key for halt in halt_table.standing(supervisor_halts, conn)},
        "clients": {one.public_key: one.name for one in clients.load_all(conn)},
    }
