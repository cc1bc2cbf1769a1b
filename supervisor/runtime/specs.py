"""What each new process is told: the run's specification, made of configuration, sockets and keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from protocol.botconfig import AccountConfig
from protocol.endpoints import Endpoints
from protocol.keys import KeyPair, load_or_create
from protocol.spec import RunSpec
from supervisor.config import Config
from supervisor.runtime import clock
from supervisor.runtime.cgroups import Cgroups
from supervisor.runtime.registry import Record, Run

_FRESH: Final = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class SpecMaker:
    """Makes specifications; holds what is the same for all runs of one supervisor."""

    config: Config
    data_dir: Path
    run_dir: Path
    installation: str
    endpoints: Endpoints
    cgroups: Cgroups
    _places: dict[Path, tuple[float, str]] = field(default_factory=dict, repr=False)

    def bot(self, record: Record, run: Run, first_work_after: float = 0.0) -> RunSpec:
        """For a bot's run."""
        assert record.config is not None
        return self._make("bot", record, run).model_copy(
            update={
                "lock_path": str(self.data_dir / "locks" / f"{record.name}-{record.bot_id}"),
                "log_path": str(log_path(self.data_dir, record)),
                "log_max_bytes": record.config.log_max_bytes,
                "log_backups": record.config.log_backups,
                "bot": record.config,
                "first_work_after": first_work_after,
                **self.cgroups.placed(record, run.epoch),
            }
        )

    def program(self, record: Record, run: Run) -> RunSpec:
        """For a program's run."""
        assert record.program is not None
        return self._make("program", record, run).model_copy(
            update={
                "lock_path": str(self.data_dir / "locks" / f"{record.name}-{record.bot_id}"),
                "log_path": str(log_path(self.data_dir, record)),
                "log_max_bytes": record.program.log_max_bytes,
                "log_backups": record.program.log_backups,
                "program": record.program,
                **self.cgroups.placed(record, run.epoch),
            }
        )

    def analysis(self, record: Record, token: str, keys: KeyPair | None) -> RunSpec:
        """For one analysis on demand of a bot that does not run."""
        run = Run(epoch=0, token=token, started_at=0.0, started=0.0, keys=keys)
        spec = self.bot(record, run)
        return spec.model_copy(
            update={
                "kind": "analysis",
                "cgroup": "",
                "lock_path": "",
                "log_path": str(self.data_dir / "logs" / "analysis.log"),
            }
        )

    def gateway(self, record: Record, run: Run) -> RunSpec:
        """For an account's gateway."""
        assert record.account_config is not None
        account: AccountConfig = record.account_config
        spec = self._make("gateway", record, run)
        if account.kind == "mt5-remote":  # its keys are its host's; what runs here passes on
            link = self.endpoints.accounts[record.account]["link"]
            return spec.model_copy(
                update={
                    "lock_path": str(self.data_dir / "locks" / f"account-{record.account}"),
                    "log_path": str(log_path(self.data_dir, record)),
                    "gateway_bind": {"link": link},
                    "account": account,
                }
            )
        secret = load_or_create(self.data_dir, f"gateway-{record.account}").secret if spec.gateway_key else ""
        operator = load_or_create(self.data_dir, "operator").public if spec.gateway_key else ""
        return spec.model_copy(
            update={
                "lock_path": str(self.data_dir / "locks" / f"account-{record.account}"),
                "log_path": str(log_path(self.data_dir, record)),
                "gateway_bind": dict(self.endpoints.accounts[record.account]),
                "gateway_secret": secret,
                "operator_key": operator,
                "account": account,
            }
        )

    def _make(self, kind: Literal["bot", "program", "gateway"], record: Record, run: Run) -> RunSpec:
        keys = run.keys
        trades = kind != "program"
        sockets = self.endpoints.accounts[record.account] if trades else {"orders": "", "market": ""}
        gateway_key = self._gateway_key(record.account) if keys and trades else ""
        return RunSpec(
            kind=kind,
            token=run.token,
            bot_id=record.bot_id,
            epoch=run.epoch,
            name=record.name,
            installation=self.installation,
            magic=record.magic,
            data_dir=str(self.data_dir),
            lock_path="",
            log_path="",
            bus=self.endpoints.bus,
            orders=sockets["orders"],
            market=sockets["market"],
            server_key=self.endpoints.server_key,
            gateway_key=gateway_key,
            public_key=keys.public if keys else "",
            secret_key=keys.secret if keys else "",
            heartbeat_interval=self.config.supervisor.heartbeat_interval_seconds,
            orphan_after=self.config.supervisor.orphan_after_seconds,
            account_name=record.account,
            config_dir=self._resolved(self.config.folder),
            python_path=tuple(self._resolved(self.config.folder / one) for one in self.config.supervisor.strategy_path),
            withheld=self._withheld(record.account if kind == "gateway" else None),
        )

    def _resolved(self, path: Path) -> str:
        """The path without symbolic links; looked up once a second, for hundreds that start ask for the same."""
        until, place = self._places.get(path, (0.0, ""))
        if clock.now() >= until:
            place = str(path.resolve())
            self._places[path] = (clock.now() + _FRESH, place)
        return place

    def _withheld(self, own: str | None) -> tuple[str, ...]:
        """Variables with passwords: a gateway finds its account's, nobody else finds any."""
        kept = {self.config.accounts[own].password_env} if own is not None else set()
        return tuple(sorted({one.password_env for one in self.config.accounts.values()} - kept - {""}))

    def _gateway_key(self, account: str) -> str:
        config = self.config.accounts[account]
        return config.gateway_key or load_or_create(self.data_dir, f"gateway-{account}").public


def log_path(data_dir: Path, record: Record) -> Path:
    """The log of a child: JSON lines."""
    name = f"gateway-{record.account}" if record.kind == "gateway" else record.name
    return data_dir / "logs" / f"{name}.log"
