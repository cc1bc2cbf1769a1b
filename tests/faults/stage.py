"""A real gateway, a real terminal in its own process with the crossing before it, and real bots. All by pid."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

from broker.paper.remote import RemoteTerminal
from protocol.botconfig import BotConfig
from protocol.codec import pack
from protocol.locks import FileLock
from protocol.messages import Ready
from tests.faults.crossing import Crossing, Policy
from tests.faults.flipper import HOLDS
from tests.gateway_rig import Rig
from tests.scale import ORDER_ROUNDS, TERMINAL_TIMEOUT
from tests.support import eventually

HERE = Path(__file__).resolve().parent
#: Seconds that this stage waits for its own parts, on a machine that may have much else to do. No bound of theirs.
PATIENCE = 60.0 if ORDER_ROUNDS <= 30 else 300.0
SYMBOLS = ("EURUSD", "GBPUSD")
#: Trades the smallest volume with a stop that is hardly ever reached.
_BOT = {
    "account": "main", "strategy": "flipper:Flipper", "risk_percent": 0.01, "min_lot": "accept",
    "sl_atr_multiplier": 20.0, "tp_atr_multiplier": 0.0, "check_interval_seconds": 0.5,
}  # fmt: skip


class Stage:
    """A context manager: it leaves no process behind. `terms`: of the account's table."""

    def __init__(
        self, *, policy: Policy = "keep", timeout: float = TERMINAL_TIMEOUT, speed: float = 0.01, **terms: Any
    ) -> None:
        # Short: the sockets' paths must fit.
        self.folder = Path(tempfile.mkdtemp(prefix="sf-"))
        account: dict[str, Any] = {
            "terminal": "process", "terminal_timeout_seconds": timeout, "bars_per_second": speed,
            "symbols": SYMBOLS, "balance": 100_000.0, **terms,
        }  # fmt: skip
        self.rig = Rig(self.folder, account)
        self.ledger = self.folder / "ledger-main.db"
        self._real = self.folder / "real.sock"
        self.hand: Any = None  # a client that the test holds, once it has one
        self.bots: dict[tuple[int, int], subprocess.Popen[bytes]] = {}
        # As the real terminal's own: a gateway that cannot reach it must not start a second one on the account.
        self._lock = FileLock(self.folder / "paper-main.lock")
        self.terminal = self._start_terminal(account)
        self.crossing = Crossing(self.folder / "paper-main.sock", self._real, self.ledger, self.kill_gateway, policy)
        #: The test's own line to the terminal, past the crossing.
        self.direct: Any = RemoteTerminal(self._real, timeout=20.0)
        try:
            assert eventually(self.direct.hello, PATIENCE, what="terminal")
            self.start_gateway()
        except BaseException:
            self.close()
            raise

    # --- processes -----------------------------------------------------------------------------------

    def _start_terminal(self, account: dict[str, Any]) -> subprocess.Popen[bytes]:
        told = {
            "account": account | {"terminal": "embedded"}, "name": "main", "orphan_after": 600.0,
            "database": str(self.folder / "paper-main.db"), "base_dir": str(self.folder),
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-m", "broker.paper.server", str(self._real)], stdin=subprocess.PIPE
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(told).encode())
        process.stdin.close()
        return process

    def start_gateway(self, *, fence: bool = True, later: float = 0.0) -> None:
        """Start one, wait until it is ready, and tell it who may trade. `later`: its clock is so many seconds ahead."""
        self.rig.supervisor.told.clear()
        self.rig.start(later=later)
        self.rig.supervisor.wait(Ready, timeout=PATIENCE)
        if fence:
            self.rig.supervisor.fence_again()

    @property
    def gateway(self) -> subprocess.Popen[bytes]:
        """The newest gateway process."""
        return self.rig.processes[-1]

    def kill_gateway(self) -> None:
        """kill -9, and wait until it is gone."""
        self.gateway.kill()
        self.gateway.wait(10)

    def revive(self) -> None:
        """Start a gateway where the last one is dead."""
        if self.gateway.poll() is not None:
            self.start_gateway()

    def start_bot(self, bot_id: int, epoch: int, symbol: str) -> subprocess.Popen[bytes]:
        """Fence an epoch in, then start its run: a real bot with a strategy that turns on every bar."""
        assert self.rig.supervisor.fence(bot_id, epoch, timeout=PATIENCE).ok
        config = BotConfig.model_validate(_BOT | {"name": f"bot{bot_id}", "market": symbol})
        spec = self.rig.bot_spec(bot_id, epoch).model_copy(
            update={
                "bot": config,
                "lock_path": str(self.lock_of(bot_id)),
                "log_path": str(self.folder / f"bot{bot_id}-{epoch}.log"),
                "python_path": (str(HERE),),
                "token": f"run-{bot_id}-{epoch}-{os.urandom(4).hex()}",
            }
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "botproc"], stdin=subprocess.PIPE, start_new_session=True,
            env=os.environ | {HOLDS: str(self.folder)},
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(pack({"spec": spec.model_dump(), "code_hash": ""}))
        process.stdin.close()
        self.bots[bot_id, epoch] = process
        return process

    @contextlib.contextmanager
    def held(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Within, a bot has decided on a bar and not yet sent its order."""
        hold = self.folder / str(process.pid)
        which, held = os.urandom(8).hex(), hold.with_suffix(".held")
        fresh = hold.with_suffix(".new")
        fresh.write_text(which)
        fresh.replace(hold)  # at once: who reads it reads it whole
        try:
            eventually(lambda: held.exists() and held.read_text() == which, PATIENCE, what="a decision")
            yield
        finally:
            hold.unlink()
            held.unlink(missing_ok=True)

    def lock_of(self, bot_id: int) -> Path:
        """The lock file of a bot."""
        return self.folder / "locks" / f"bot{bot_id}"

    def step(self) -> None:
        """The market moves by the test's own hand."""
        step = self.direct.step()
        assert step is not None
        self.crossing.watch.stepped(step)

    # --- what is known -------------------------------------------------------------------------------

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Of the ledger."""
        with closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True, timeout=10.0)) as ledger:
            return ledger.execute(query, values).fetchall()

    def done_orders(self, bot_id: int, epoch: int | None = None) -> int:
        """How many orders of a bot were done."""
        query = (
            "SELECT count(*) FROM order_intents i JOIN order_results r ON r.id = i.id"
            " WHERE r.status = 'done' AND i.bot_id = ? AND i.epoch = coalesce(?, i.epoch)"
        )
        return int(self.rows(query, bot_id, epoch)[0][0])

    def intents(self, bot_id: int, epoch: int | None = None) -> int:
        """How many orders of a bot the gateway meant to send."""
        query = "SELECT count(*) FROM order_intents WHERE bot_id = ? AND epoch = coalesce(?, epoch)"
        return int(self.rows(query, bot_id, epoch)[0][0])

    def unresolved(self) -> list[tuple[Any, ...]]:
        """Ids of the intents whose outcome is not known."""
        return self.rows(
            "SELECT i.id FROM order_intents i LEFT JOIN order_results r ON r.id = i.id"
            " WHERE r.id IS NULL OR r.status = 'unknown'"
        )

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """End everything."""
        for process in (*self.bots.values(), *self.rig.processes, self.terminal):
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(10)
        self.crossing.close()
        self.rig.close()
        self._lock.release()
