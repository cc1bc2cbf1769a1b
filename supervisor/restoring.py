"""Putting a backup back while no supervisor runs, and refusing to start on a memory that is damaged.

A restored memory is older than the world: bots ran since under epochs that it does not know. So every bot's
epochs are raised by a gap, and no run of before, nor an order of one, is ever taken for a new one. What was forbidden
since, by a halt or a revoked key, stays so (`supervisor.kept`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from sqlalchemy import func, select

from protocol.errors import NOT_REMEMBERED, Refused, StablehandError
from protocol.locks import FileLock, LockHeld
from store import bots as bot_table
from store import journal
from store import runs as run_table
from store.copies import damage, keep_aside, put_back
from store.database import open_database
from store.errors import StoreError
from store.journal import NewRow
from store.paper import paper_account, paper_positions
from store.tables import Which, ledger_deals
from supervisor import backup
from supervisor.backup import STORE, Backup
from supervisor.kept import GAP, Kept, of_backup, of_ledger, of_store, put_into
from supervisor.kept import lines as what_stays
from supervisor.policy.states import Cause

_UNFINISHED: Final = "restore.unfinished"
_ASIDE: Final = ".corrupt-"


def check_memory(data_dir: Path) -> None:
    """Before the store is opened: whole, and nothing half restored. Raises StablehandError with what to do.

    A damaged store is kept aside, and no start happens without it until a person has decided: an empty memory
    would forget which bots are to stand still.
    """
    path = data_dir / STORE
    if (data_dir / _UNFINISHED).exists():
        raise StablehandError(f"a restore into {data_dir} was interrupted", code=NOT_REMEMBERED,
                              hint="do it again: stablehand restore FOLDER")  # fmt: skip
    problem = damage(path)
    if path.exists() and path.stat().st_size == 0 and not (data_dir / "endpoints.json").exists():
        problem = ""  # nobody ever ran here: it is just being made
    aside = sorted(data_dir.glob(f"{STORE}{_ASIDE}*[0-9]"))
    if problem:
        aside = [keep_aside(path, _ASIDE + time.strftime("%Y%m%d-%H%M%S"))]
    elif path.exists() or not aside:
        return
    why = f"is damaged ({problem})" if problem else "was damaged"
    raise StablehandError(f"{path} {why}; it is kept as {aside[-1].name}", code=NOT_REMEMBERED, hint=_offer(data_dir))


def _offer(data_dir: Path) -> str:
    found = backup.last(data_dir)
    empty = "stablehand restore --nothing begins with an empty memory"
    if found is None:
        return f"there is no backup; {empty}"
    folder, at = found
    return f"last backup, {_moment(at)}: stablehand restore {folder}; {empty}"


def restore(data_dir: Path, folder: Path, *, apply: bool) -> list[str]:
    """What a backup would change, line by line; with `apply` it is put back. The caller holds the data directory.

    Raises InvalidInput (no backup, or a damaged one), Refused (something of the installation runs), StoreError.
    """
    found = backup.read(folder)
    _refuse_living(data_dir)
    marker = data_dir / _UNFINISHED
    known = Kept.load(marker) or _kept(data_dir, found)
    lines = [
        f"backup of {_moment(found.at)}, made by stablehand {found.version}",
        *_differences(data_dir, folder, found, known),
    ]
    if not apply:
        return lines
    known.save(marker)
    aside = _set_aside(data_dir, found)
    for part in found.parts:
        put_back(folder / part.name, data_dir / part.name)
    _begin_again(data_dir / STORE, known, f"restored from {folder}, a backup of {_moment(found.at)}")
    _give_to_owner(data_dir)
    marker.unlink()
    return [*lines, f"restored; every epoch is {GAP} higher; what was here is kept in {aside}"]


def nothing(data_dir: Path, *, apply: bool) -> list[str]:
    """Begin with an empty memory where the store is damaged or gone. Raises Refused where it is whole."""
    path = data_dir / STORE
    if path.exists() and not damage(path):
        raise Refused(f"{path} is whole", hint="an empty memory is for a damaged one; move the file away yourself")
    _refuse_living(data_dir)
    text = "bots added at run time, wishes and history are forgotten; positions of before belong to nobody"
    if not apply:
        return [text]
    if path.exists():
        keep_aside(path, _ASIDE + time.strftime("%Y%m%d-%H%M%S"))
    open_database(path, "supervisor").close()
    _give_to_owner(data_dir)
    (data_dir / _UNFINISHED).unlink(missing_ok=True)
    return [text, "the memory is empty; ledgers and accounts stay as they are"]


def _refuse_living(data_dir: Path) -> None:
    """Bots and gateways may outlive a supervisor: none may write while its database is exchanged."""
    for path in sorted((data_dir / "locks").glob("*")):
        try:
            FileLock(path).release()
        except LockHeld as held:
            who = f"process {held.pid}" if held.pid else "a process"
            raise Refused(f"{who} of this installation still runs ({path.name})",
                          hint="stablehand up, then stablehand down, ends it in order") from None  # fmt: skip


def _set_aside(data_dir: Path, found: Backup) -> Path:
    """Keep the databases of now. Those of a restore that was interrupted are kept too."""
    aside = data_dir / f"before-restore-{time.strftime('%Y%m%d-%H%M%S')}"
    aside.mkdir(mode=0o700, exist_ok=True)
    for part in found.parts:
        path = data_dir / part.name
        if path.exists():
            keep_aside(path, ".old")
            for old in data_dir.glob(f"{part.name}.old*"):
                old.rename(aside / old.name.replace(".old", ""))
    return aside


def _begin_again(path: Path, known: Kept, text: str) -> None:
    database = open_database(path, "supervisor")
    try:
        with database.begin() as conn:
            put_into(conn, known)
            # Nothing of the installation runs now: what ran when the backup was taken is no crash of today.
            for row in run_table.open_runs(conn):
                run_table.record_end(conn, row.token, time.time(), -1, Cause.OPERATOR,
                                     "it ran when the backup was taken that was restored")  # fmt: skip
            journal.append(conn, [NewRow(at=time.time(), type="supervisor", bot=None, bot_id=None, text=text, data={},
                                         cause_id="restore", epoch=None, run_seq=None)])  # fmt: skip
    finally:
        database.close()


def _kept(data_dir: Path, found: Backup) -> Kept:
    """What the memory of now knows, where it can still tell."""
    kept: Kept = _ask(data_dir / STORE, "supervisor", of_store) or Kept()
    for part in found.parts:
        if part.name.startswith("ledger-"):
            kept = kept.beside(_ask(data_dir / part.name, "ledger", of_ledger) or ())
    return kept


def _give_to_owner(data_dir: Path) -> None:
    """Where root restored for a service of another user: what was made is that user's."""
    if os.name != "posix" or os.geteuid() != 0:
        return
    owner = data_dir.stat()
    if owner.st_uid == 0:
        return
    for path in (*data_dir.glob("*.db*"), *data_dir.glob("before-restore-*"), *data_dir.glob("before-restore-*/*")):
        os.chown(path, owner.st_uid, owner.st_gid)


def _differences(data_dir: Path, folder: Path, found: Backup, known: Kept) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="stablehand-restore-") as place:
        copies = Path(place)  # opening a database writes to it, and a backup must stay as it was made
        for part in found.parts:
            shutil.copyfile(folder / part.name, copies / part.name)
        lines = _bots(_rows(copies / STORE), _rows(data_dir / STORE))
        then = _ask(copies / STORE, "supervisor", of_backup)
        lines += what_stays(then, known) if then is not None else []
        for part in found.parts:
            which: Which | None = next((kind for kind in _SUMMARIES if part.name.startswith(f"{kind}-")), None)
            if which is not None:
                then, now = (_ask(where / part.name, which, _SUMMARIES[which]) for where in (copies, data_dir))
                change = f"{now or 'not there'} → {then}" if then != now else f"{then}, the same"
                lines.append(f"{part.name}: {change}")
    return lines


def _bots(then: dict[str, Any] | None, now: dict[str, Any] | None) -> list[str]:
    if now is None:
        return [f"{len(then or {})} bots; what is here now cannot be read"]
    then = then or {}
    lines = [f"+ {name}: only in the backup, wanted {then[name]}" for name in sorted(then.keys() - now.keys())]
    lines += [f"- {name}: only here, wanted {now[name]}" for name in sorted(now.keys() - then.keys())]
    lines += [f"~ {name}: wanted {now[name]} → {then[name]}" for name in sorted(then.keys() & now.keys())
              if then[name] != now[name]]  # fmt: skip
    return lines or [f"{len(then)} bots, wanted as here"]


def _rows(path: Path) -> dict[str, Any] | None:
    rows = _ask(path, "supervisor", bot_table.load_all)
    return None if rows is None else {one.name: one.wanted for one in rows if one.kind == "bot"}


def _deals(conn: Any) -> str:
    count, last = conn.execute(select(func.count(), func.max(ledger_deals.c.ticket)).select_from(ledger_deals)).one()
    return f"{count} deals, the last #{last}" if count else "no deals"


def _account(conn: Any) -> str:
    balance = conn.execute(select(paper_account.c.balance)).scalar()
    held = conn.execute(select(func.count()).select_from(paper_positions)).scalar()
    return f"balance {balance:.2f}, {held} positions" if balance is not None else "never used"


_SUMMARIES: Final[dict[Which, Any]] = {"ledger": _deals, "paper": _account}


def _ask(path: Path, which: Which, query: Any) -> Any:
    """Read from a database that nobody has open; None where it is not there or cannot be read."""
    if not path.exists() or damage(path):
        return None
    try:
        database = open_database(path, which)
    except StoreError:
        return None
    try:
        with database.read() as conn:
            return query(conn)
    except StoreError:
        return None
    finally:
        database.close()


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
