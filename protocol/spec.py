"""What a new process is told: over the launcher's private socket, never on a command line.

The launcher's own language stands here too: requests `{op, id, ...}` and replies `{id, ok, ...}` in msgpack,
one frame each, and `exit` notices that are repeated until they are acknowledged.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from protocol.botconfig import AccountConfig, BotConfig
from protocol.programconfig import ProgramConfig

#: Exit codes of our own children (sysexits.h where it has one).
EXIT_OK: Final = 0
EXIT_STRATEGY: Final = 65  # EX_DATAERR: the strategy cannot be built; no restart helps before it changes
EXIT_UNAVAILABLE: Final = 69  # EX_UNAVAILABLE: what the gateway needs is not to be had now: a port, the disk
EXIT_NOT_EXECUTED: Final = 71  # EX_OSERR: the system would not execute the program; its last word says why
#: How the last word (Bye) begins of a run that ends so.
NOT_EXECUTED: Final = "not executed: "
EXIT_LOCK_HELD: Final = 75  # EX_TEMPFAIL: an older run still holds the lock
EXIT_UNWELCOME: Final = 76  # EX_PROTOCOL: the supervisor refused the Hello
EXIT_CONFIG: Final = 78  # EX_CONFIG: the gateway cannot use its account


class RunSpec(BaseModel):
    """Everything that one run needs. Paths are absolute."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["bot", "program", "gateway", "analysis"]
    token: str  # names the run; random, 128 bits
    bot_id: int
    epoch: int
    name: str
    installation: str
    magic: int = 0
    data_dir: str
    lock_path: str
    log_path: str  # JSON lines; raw output goes beside it, with the suffix .out
    log_max_bytes: int = 10_000_000
    log_backups: int = 3
    bus: str
    orders: str = ""
    market: str = ""
    #: Gateways: {orders, market, control} to bind; one that runs by itself also `link`, where its stable comes in.
    gateway_bind: dict[str, str] = {}
    server_key: str = ""  # public key of the supervisor's bus
    gateway_key: str = ""  # public key of the gateway's sockets
    public_key: str = ""  # this run's own pair
    secret_key: str = ""
    gateway_secret: str = ""  # gateways: secret of gateway_key
    operator_key: str = ""  # gateways: public key of the operator, who alone may speak to the control socket
    heartbeat_interval: float = 1.0
    orphan_after: float = 60.0
    cgroup: str = ""  # control group to enter, and its values
    cgroup_values: dict[str, str] = {}
    first_work_after: float = 0.0  # seconds from Ready to the first cycle, where many start at once
    bot: BotConfig | None = None
    program: ProgramConfig | None = None
    account: AccountConfig | None = None
    account_name: str = ""
    config_dir: str = ""  # folder of supervisor.toml: paths of the account are relative to it
    python_path: tuple[str, ...] = ()  # folders of the user's own strategy modules
    withheld: tuple[str, ...] = ()  # variables of the environment that are not for it: passwords of accounts

    def __repr__(self) -> str:
        return f"RunSpec({self.kind} {self.name} epoch {self.epoch})"  # no secret in a log


# Requests to a launcher: {"op": ..., "id": n, ...}; each is answered by {"id": n, ...}.
#   launch    {spec: RunSpec as a map}   {ok, pid, start_ticks, code_hash} | {ok: False, cause, error}
#   signal    {token, signal, group}     {ok} | {ok: False, error: "gone"}
#   ack       {token}                    (no reply) the exit is committed: reap it
#   list      {}                         {ok, generation, runs: [{token, pid, start_ticks, kind, name,
#                                         bot_id, epoch, code_hash, exited, status}], broken,
#                                         spares: how many rehearsed children wait for a bot}
#   catalogue {names: [str]}             {ok, strategies: {name: {...}}, errors: {name: str}}
#   validate  {strategy, params}         {ok, params, lookback} | {ok: False, errors: [{param, message}]}
#   stale     {}                         {ok, stale: bool}: a preloaded user module's file changed
#   retire    {}                         {ok}: leave when the last child has ended
# Notices: {"op": "exit", "token", "pid", "status", "code", "signal", "at"}, sent anew on every connection
# until acknowledged. status: as waitpid gives it, -1 where unknown; code: exit code or -1; signal: or 0.
