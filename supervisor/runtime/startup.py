"""Builds a supervisor: checks first, changes nothing before all is right, then opens, binds, adopts."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import zmq

from protocol import keys
from protocol.endpoints import run_directory
from protocol.halts import HaltState
from protocol.voice import sweep_voices
from store import bots as bot_table
from store import clients, journal, meta, samples
from store import halts as halt_table
from store import runs as run_table
from store.bots import BotRow
from store.clients import ClientKey
from store.database import Database, open_database
from store.halts import supervisor_halts
from store.samples import Minute
from store.writer import Writer
from supervisor.config import Config
from supervisor.policy.fleet import Fleet
from supervisor.policy.states import State
from supervisor.restoring import check_memory
from supervisor.runtime import clock
from supervisor.runtime.accounts import Accounts
from supervisor.runtime.adoption import adopt
from supervisor.runtime.binding import Bound, bind_again, bind_all
from supervisor.runtime.bus import Bus
from supervisor.runtime.cgroups import Cgroups, find
from supervisor.runtime.checking import Files, check_everything
from supervisor.runtime.chronicle import Chronicle
from supervisor.runtime.commands import access
from supervisor.runtime.commands.configure import want
from supervisor.runtime.control import Control
from supervisor.runtime.daemon import Daemon, EventQueue
from supervisor.runtime.equity import EquityKeeper
from supervisor.runtime.halts import Halts
from supervisor.runtime.handlers import handlers_of
from supervisor.runtime.launcherprocess import Place
from supervisor.runtime.launchers import Launchers, choose, modules_of
from supervisor.runtime.limits import check_room
from supervisor.runtime.listener import Listener
from supervisor.runtime.memory import Memory
from supervisor.runtime.monitor import Monitor
from supervisor.runtime.oldruns import OldRuns
from supervisor.runtime.ordering import Ordering
from supervisor.runtime.perform import Performer
from supervisor.runtime.population import check_kept, merge_file, take_in_all
from supervisor.runtime.publishing import Publisher
from supervisor.runtime.registry import Record, Registry
from supervisor.runtime.remote import Remote
from supervisor.runtime.sampling import Sampling
from supervisor.runtime.specs import SpecMaker
from supervisor.runtime.stable import Stable
from supervisor.runtime.throttling import Throttling
from supervisor.runtime.zap import BUS, CONTROL, KeyDoor, run_user

_GATEWAYS_UP = 20.0
_SAMPLE_PATIENCE = 1.0


class Builder:
    """Puts the parts together, in the order in which they may be seen."""

    def __init__(self, config: Config, inherited: Mapping[str, int] | None = None) -> None:
        self.config = config
        self.data_dir = config.data_dir
        self.context: zmq.Context[Any] = zmq.Context(io_threads=2)
        self.context.set(zmq.MAX_SOCKETS, 16_384)
        self.method, self.transport = choose(config)
        self.run_dir = run_directory(self.data_dir)
        self.tcp = self.transport == "tcp"
        secured = self.tcp or bool(config.supervisor.control_bind)
        self.server_keys = keys.load_or_create(self.data_dir, "supervisor") if secured else None
        self.operator_keys = keys.load_or_create(self.data_dir, "operator") if self.tcp else None
        self.on_exit: Callable[[dict[str, Any]], None] = lambda notice: None
        self.on_lost: Callable[[str], None] = lambda name: None
        self.database: Database | None = None
        self.writer: Writer | None = None
        self.door: KeyDoor | None = None
        self.old_runs: OldRuns | None = None
        self.control: Control | None = None
        self.stable: Stable | None = None
        place = Place(
            config=config,
            data_dir=self.data_dir,
            run_dir=self.run_dir,
            method=self.method,
            transport=self.transport,
            server_keys=self.server_keys,
            client_keys=self.operator_keys,
            context=self.context,
        )
        self.launchers = Launchers(place, self._exited, self._lost, modules_of(config), inherited or {})

    async def check(self) -> Files:
        """Everything that can be wrong in the file, before anything is changed; what a replay's files hold."""
        return await check_everything(self.config, self.launchers)

    async def build(self) -> Daemon:
        """The daemon, bound, with every open run of the last one accounted for."""
        config = self.config
        await asyncio.to_thread(check_memory, self.data_dir)
        self.database = await asyncio.to_thread(
            open_database, self.data_dir / "supervisor.db", "supervisor", synchronous=config.supervisor.synchronous
        )
        installation, rows, open_runs, last_seq, halted = await asyncio.to_thread(self._load)
        known_clients = await asyncio.to_thread(self._clients)
        check_room(len(rows))
        if self.server_keys is not None:
            self.door = KeyDoor(self.context)
        if self.door is not None and self.operator_keys is not None:
            self.door.admit(self.operator_keys.public, "operator", CONTROL)
            for row in open_runs:  # before the bind: a run that is refused once never asks again
                self.door.admit(row.public_key or "", run_user(row.bot_id), BUS)
        bound = bind_all(self.context, self.transport, self.data_dir, self.run_dir, config.accounts,
                         self.server_keys if self.tcp else None, os.getpid(), config.path)  # fmt: skip
        remote = self._remote()
        self.writer = Writer(self.database)
        queue = EventQueue()
        stable = self._stable(queue, bound, installation, last_seq)
        stable.remote, stable.server_key = remote, self.server_keys.public if self.server_keys else ""
        self.stable = stable
        for client in known_clients:
            access.admit(stable, client)
        listener = self._speak(stable, bound)
        stable.halts = Halts(halted, stable.registry, stable.accounts, stable.chronicle, stable.commit)
        stable.halts.changed = stable.wake_waiters
        stable.cgroups = Cgroups(*find(config.supervisor.cgroup, installation[:12]))
        specs = SpecMaker(config, self.data_dir, self.run_dir, installation, bound.endpoints, stable.cgroups)
        performer = self._performer(stable, specs, queue)
        listener.performer = performer
        stable.throttling = Throttling(stable)
        stable.ordering.room = stable.throttling.seats.admit
        stable.throttling.admitting.start = performer.record_intent
        performer.admit = stable.throttling.admitting.ask
        performer.queued = lambda: stable.throttling.admitting.waiting
        stable.sampling.sampled = stable.throttling.sampled
        stable.sampling.history.minute_over = lambda minute: _keep_minute(stable, minute)
        stable.accounts.figures_taken = EquityKeeper(stable.writer, stable.accounts.figures.get).took
        self.on_lost = listener.launcher_lost
        daemon = Daemon(
            stable,
            queue,
            performer,
            Monitor(stable.registry, stable.fleet, config.supervisor, stable.sampling, queue.post, _lag(stable)),
        )
        stable.leave = daemon.leave
        take_in_all(stable, rows)
        notices: list[dict[str, Any]] = []
        self.on_exit = notices.append  # those that come before the runs are known wait for that
        listed = await self.launchers.find()
        alive = adopt(open_runs, listed, stable.registry, self.launchers, performer.old_runs, queue.post,
                      config.supervisor.adopt_timeout_seconds)  # fmt: skip
        outlived = [one for one in stable.registry.by_id.values() if one.run is not None]
        performer.reserve(outlived)
        living = {(one.bot_id, one.run.epoch) for one in outlived if one.run is not None}
        await asyncio.to_thread(sweep_voices, self.run_dir, living)
        self.on_exit = listener.exited
        for notice in notices:
            listener.exited(notice)
        role_of = self.door.role_of if self.door is not None else None
        self.control = Control(bound.control, Publisher(bound.events, self._events_again(bound), listener.bad_frame),
                               handlers_of(stable, specs, self._run_door), listener.bad_frame,
                               role_of if self.tcp else None)  # fmt: skip
        stable.chronicle.publish_to(self.control.publish)
        if remote is not None:
            self.control.listen(remote.router, role_of)
            self.control.publishers.append(Publisher(remote.publisher, remote.bind_events, listener.bad_frame))
        stable.cut_subscribers = self.control.cut_subscribers
        stable.cgroups.sweep()
        stable.bus.accepting = True
        text = f"supervisor {stable.boot} started" + (f", adopting {alive} runs" if alive else "")
        stable.chronicle.add("supervisor", text)
        if stable.cgroups.why and config.supervisor.cgroup not in ("auto", "off"):
            stable.chronicle.add("alert", f"control groups are not used: {stable.cgroups.why}")
        bound.endpoints.save(self.data_dir)
        queue.connect(stable, performer)
        for record in sorted(stable.registry.by_id.values(), key=_importance):
            if record.run is None:
                want(stable, record, "boot")
        return daemon

    async def gateways_up(self) -> None:
        """Wait until every gateway is up or has been given up, so that "ready" is true of the accounts too."""
        stable = self.stable
        assert stable is not None
        settled = (State.RUNNING, State.FAILED, State.BACKOFF)
        await stable.wait_until(
            lambda: all(stable.state(one) in settled for one in stable.registry.gateways.values()), _GATEWAYS_UP
        )

    async def close(self) -> None:
        """Give everything back; the launchers and their children stay as they are."""
        self.launchers.hang_up()
        if self.stable is not None:
            await asyncio.to_thread(self.stable.cgroups.close, stopped=self.stable.leaving == "stop")
        if self.control is not None:
            await self.control.close()
        if self.stable is not None and self.stable.remote is not None:
            self.stable.remote.close()
        if self.stable is not None:
            self.stable.bus.close()
        if self.old_runs is not None:
            self.old_runs.close()
        if self.door is not None:
            self.door.close()
        if self.writer is not None:
            await asyncio.to_thread(self.writer.close)
        if self.database is not None:
            self.database.close()
        self.context.destroy(linger=200)

    def _exited(self, notice: dict[str, Any]) -> None:
        self.on_exit(notice)

    def _lost(self, name: str) -> None:
        self.on_lost(name)

    def _load(self) -> tuple[str, list[BotRow], list[run_table.RunRow], int, list[HaltState]]:
        assert self.database is not None
        config = self.config
        with self.database.begin() as conn:
            installation = meta.installation_id(conn)
            merge_file(conn, config)
            rows = bot_table.load_all(conn)
            check_kept(config, rows)  # an error here takes the merge back
            halted = halt_table.standing(supervisor_halts, conn)
            return installation, rows, run_table.open_runs(conn), journal.last_seq(conn), halted

    def _stable(self, queue: EventQueue, bound: Bound, installation: str, last_seq: int) -> Stable:
        assert self.database is not None and self.writer is not None
        registry = Registry()
        sampling = Sampling(
            registry,
            self.config.supervisor.sample_interval_seconds,
            str(self.data_dir),
            lambda: {"supervisor": os.getpid(), **self.launchers.pids()},
        )
        stable = Stable(
            config=self.config,
            data_dir=self.data_dir,
            endpoints=bound.endpoints,
            installation=installation,
            boot=secrets.token_hex(4),
            started=clock.now(),
            database=self.database,
            writer=self.writer,
            memory=Memory(self.writer),
            registry=registry,
            fleet=Fleet(Random()),
            chronicle=Chronicle(self.writer, last_seq),
            launchers=self.launchers,
            sampling=sampling,
            post=queue.post,
            leave=lambda how: None,
            decided=lambda: queue.empty,
            door=self.door,
        )
        stable.ordering = Ordering(registry, stable.fleet, lambda: stable.config.groups, queue.post)
        return stable

    def _speak(self, stable: Stable, bound: Bound) -> Listener:
        listener = Listener(stable, lock_path=lambda record: lock_path(self.data_dir, record))
        stable.bus = Bus(bound.bus, stable.registry, listener, stable.boot,
                         self.config.supervisor.heartbeat_interval_seconds, keyed=self.tcp)  # fmt: skip
        stable.accounts = Accounts(stable.registry, stable.bus.send, stable.state, listener.fenced)
        stable.chronicle.ask_again = listener.history_again
        return listener

    def _performer(self, stable: Stable, specs: SpecMaker, queue: EventQueue) -> Performer:
        self.old_runs = OldRuns(queue.post, lambda record: lock_path(self.data_dir, record))
        return Performer(
            registry=stable.registry,
            writer=stable.writer,
            memory=stable.memory,
            chronicle=stable.chronicle,
            accounts=stable.accounts,
            bus=stable.bus,
            launchers=self.launchers,
            old_runs=self.old_runs,
            ordering=stable.ordering,
            specs=specs,
            door=self._run_door,
            post=queue.post,
            cgroups=stable.cgroups,
        )

    @property
    def _run_door(self) -> KeyDoor | None:
        """The door for runs: on ipc they need no keys, whoever else may come in."""
        return self.door if self.tcp else None

    def _events_again(self, bound: Bound) -> Callable[[], zmq.Socket[bytes]] | None:
        """How the events are bound anew; None where no key is asked for."""
        server_keys, address = self.server_keys, bound.endpoints.events
        if not self.tcp or server_keys is None:
            return None
        return lambda: bind_again(self.context, address, server_keys)

    def _remote(self) -> Remote | None:
        address = self.config.supervisor.control_bind
        if not address:
            return None
        assert self.server_keys is not None
        return Remote(self.context, address, self.server_keys)

    def _clients(self) -> list[ClientKey]:
        assert self.database is not None
        with self.database.read() as conn:
            return clients.load_all(conn)


def lock_path(data_dir: Path, record: Record) -> Path:
    """The lock that a record's run holds for its life."""
    name = f"account-{record.account}" if record.kind == "gateway" else f"{record.name}-{record.bot_id}"
    return data_dir / "locks" / name


def _importance(record: Record) -> tuple[int, int, int]:
    """Gateways first, since bots wait for them; then the most important bots."""
    return (record.kind != "gateway", -(record.settings.priority if record.kind != "gateway" else 0), record.bot_id)


def _keep_minute(stable: Stable, minute: Minute) -> None:
    """Into the store; what it refuses is lost, and nobody waits for it."""
    stable.writer.submit(lambda conn: samples.append(conn, minute), lambda result: None, patience=_SAMPLE_PATIENCE)


def _lag(stable: Stable) -> Callable[[float], None]:
    def keep(seconds: float) -> None:
        # The worst of late, forgotten slowly: one number that a person can read.
        stable.loop_lag = max(seconds, stable.loop_lag * 0.8)

    return keep
