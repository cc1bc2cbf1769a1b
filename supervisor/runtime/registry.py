"""What the daemon knows of each child beside the pure state: configuration, run, heartbeat, sample, figures."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from protocol.botconfig import AccountConfig, BotConfig
from protocol.errors import UNKNOWN_BOT, StablehandError, nearest
from protocol.keys import KeyPair
from protocol.messages import BotFigures, Heartbeat
from protocol.process import ProcessIdentity
from protocol.programconfig import ProgramConfig, Settings
from supervisor.runtime.voices import Voices, VoiceState


@dataclass(slots=True)
class Run:
    """The process of one epoch, as far as it is known."""

    epoch: int
    token: str
    started_at: float  # wall clock
    started: float  # monotonic
    pid: int = 0
    identity: ProcessIdentity | None = None
    launcher: str = ""  # id of the launcher that is its parent; empty: adopted without one
    code_hash: str = ""
    route: bytes | None = None  # how the bus reaches it, once it said Hello
    keys: KeyPair | None = None  # its own pair, on tcp; only the supervisor that launched it has the secret
    public_key: str = ""  # of that pair; known of adopted runs too
    ready_at: float | None = None
    beat: Heartbeat | None = None
    beat_at: float = 0.0  # monotonic time of the last word
    voice: VoiceState | None = None  # of a program that beats over the bus itself
    ended: bool = False
    kills: int = 0  # SIGKILLs that were sent
    cap: float = 0.0  # percent of a core that it is, or was, held to
    uncapped_at: float | None = None  # monotonic; None while it is
    said: ProcessIdentity | None = None  # who it is by its own Hello
    unlaunched: bool = False  # its launcher gave no answer, or a bad one: if it speaks, it lives all the same
    last_words: str = ""  # the reason that it gave in its Bye


@dataclass(slots=True)
class Sample:
    """One psutil sample of a process. None is unknown, never 0."""

    at: float
    cpu_percent: float | None = None
    rss_bytes: int | None = None
    uss_bytes: int | None = None
    pss_bytes: int | None = None
    threads: int | None = None
    open_files: int | None = None
    ctx_switches: int | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None


@dataclass(slots=True)
class Record:
    """One bot, program or gateway."""

    bot_id: int
    name: str
    kind: str  # bot | program | gateway
    wanted: str  # the operator's word, as the store has it
    account: str
    config: BotConfig | None = None  # bots
    program: ProgramConfig | None = None  # programs
    account_config: AccountConfig | None = None  # gateways
    declared: dict[str, Any] | None = None
    added: dict[str, Any] | None = None
    override: dict[str, Any] = field(default_factory=dict)
    epoch_ceiling: int = 0  # epochs up to here are reserved in the store
    magic: int = 0
    run: Run | None = None
    sample: Sample | None = None
    figures: BotFigures | None = None
    pace: float = 1.0
    removing: bool = False  # a remove is under way: nothing may start it now
    stops: int = 0  # how often it was told to stop, which acts at once
    promised: int = 0  # commands on their way to the disk that act when they are there
    fenced: tuple[int, bool] | None = None  # last fence that the gateway acknowledged: (epoch, alive)

    @property
    def settings(self) -> Settings:
        """The configuration of a bot or program."""
        settings = self.config or self.program
        assert settings is not None
        return settings

    @property
    def running_symbol(self) -> str:
        """The bot's market; empty for gateways."""
        return self.config.market if self.config else ""


class Registry:
    """All records, by id, by name, by the bus route of their run, and by run token."""

    def __init__(self) -> None:
        self.by_id: dict[int, Record] = {}
        self.by_name: dict[str, Record] = {}  # bots and programs
        self.gateways: dict[str, Record] = {}  # account -> its gateway
        self.by_route: dict[bytes, Record] = {}
        self.by_token: dict[str, Record] = {}
        self.voices = Voices()  # of programs, beside the routes of their runs
        self.coming_up: set[int] = set()  # bots whose run is not ready yet

    def add(self, record: Record) -> None:
        """Take a record in."""
        self.by_id[record.bot_id] = record
        if record.kind == "gateway":
            self.gateways[record.account] = record
        else:
            self.by_name[record.name] = record

    def drop(self, record: Record) -> None:
        """Forget a removed bot."""
        self.end_run(record)
        self.by_id.pop(record.bot_id, None)
        self.by_name.pop(record.name, None)

    def new_run(self, record: Record, epoch: int, at: float, now: float) -> Run:
        """Begin the run of `epoch`: a token of its own, known before any process exists."""
        self.end_run(record)
        run = Run(epoch=epoch, token=secrets.token_hex(16), started_at=at, started=now)
        self.take_over(record, run)
        if record.kind == "bot":
            self.coming_up.add(record.bot_id)
        return run

    def take_over(self, record: Record, run: Run) -> None:
        """The record's run is this one, which may be older than this supervisor."""
        record.run = run
        self.by_token[run.token] = record
        if record.kind == "program":
            self.voices.expect(record, run)

    def end_run(self, record: Record) -> None:
        """The run of the record is no longer reachable."""
        run = record.run
        self.coming_up.discard(record.bot_id)
        if run is not None:
            run.ended = True
            self.by_token.pop(run.token, None)
            self.unroute(run)
            self.voices.end(run)

    def route(self, record: Record, route: bytes) -> None:
        """The record's run speaks by this route from now on."""
        assert record.run is not None
        self.unroute(record.run)
        record.run.route = route
        self.by_route[route] = record

    def unroute(self, run: Run) -> None:
        """The run has no route any more."""
        if run.route is not None:
            self.by_route.pop(run.route, None)
            run.route = None

    def bots(self) -> Iterator[Record]:
        """The bots, in the order of their names."""
        return (self.by_name[name] for name in sorted(self.by_name))

    def named(self, name: str) -> Record:
        """The bot of that name. Raises StablehandError(unknown_bot) with the nearest name."""
        record = self.by_name.get(name)
        if record is None:
            near = nearest(name, list(self.by_name))
            hint = f"did you mean {near!r}?" if near else "stablehand status lists the bots"
            shown = name if len(name) <= 80 else f"{name[:80]}..."
            raise StablehandError(f"no bot is called {shown!r}", hint=hint, code=UNKNOWN_BOT)
        return record


def magic_of(installation: str, bot_id: int) -> int:
    """MetaTrader's number for a bot's orders: installation in the high half, bot in the low one.

    Two installations, or a database made anew, never share one. 63 bits, since some brokers' bridges
    treat the unsigned number as signed.
    """
    high = int.from_bytes(hashlib.sha256(installation.encode()).digest()[:4], "big") & 0x7FFF_FFFF
    return (high << 32) | (bot_id & 0xFFFF_FFFF)
