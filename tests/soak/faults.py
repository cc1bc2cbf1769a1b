"""The faults of the random rounds: each strikes (up to its first yield), waits until all is as it should be (up to
the second, which is its recovery), and then says what must hold besides."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import psutil
import zmq

from protocol.client import CommandFailed, ControlClient
from protocol.codec import pack
from protocol.endpoints import Endpoints
from protocol.errors import INTERNAL
from tests.daemon import Daemon
from tests.diskfaults import locked, refusing
from tests.scale import SOAK, SOAK_FAULT
from tests.soak.yard import PATIENCE, Yard, burn
from tests.support import eventually

Play = Callable[[Yard], Iterator[None]]


@dataclass(frozen=True)
class Fault:
    """`beside`: it may be played together with another. `quick`: played in the suite too."""

    name: str
    asserted: str
    play: Play
    weight: float = 1.0
    beside: bool = False
    quick: bool = True


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# --- processes that die ----------------------------------------------------------------------------------


def one_killed(yard: Yard) -> Iterator[None]:
    """A bot."""
    rows = yard.pick(1)
    yard.excuse(rows, "crash")
    _kill(rows[0]["pid"])
    yield
    yard.renewed(rows)
    yield


def bots_killed(yard: Yard) -> Iterator[None]:
    """Several bots and a program at once."""
    rows = yard.pick(max(2, len(yard.epochs) // 10)) + yard.pick(1, programs=True)
    yard.excuse(rows, "crash")
    for row in rows:
        _kill(row["pid"])
    yield
    yard.renewed(rows)
    yield


def gateway_killed(yard: Yard) -> Iterator[None]:
    """The gateway of the account."""
    before, pid = yard.rows(), yard.gateway["pid"]
    _kill(pid)
    yield
    _gateway_back(yard, pid)
    yield
    _untouched(yard, before)


def _gateway_back(yard: Yard, pid: int) -> None:
    def back() -> bool:
        now = yard.gateway
        return now["state"] == "running" and now["pid"] not in (None, pid)

    eventually(back, PATIENCE, every=0.02, what="another gateway")


def _untouched(yard: Yard, before: dict[str, dict[str, Any]]) -> None:
    """Those that no other fault of the round has run on."""
    rows = {name: row for name, row in yard.rows().items() if name not in yard.taken}
    now = {name: (row["pid"], row["epoch"]) for name, row in rows.items()}
    wanted = {name: (row["pid"], row["epoch"]) for name, row in before.items() if name in now}
    assert now == wanted, {name: (wanted[name], pair) for name, pair in now.items() if pair != wanted[name]}


def launcher_killed(yard: Yard) -> Iterator[None]:
    """The launcher; then a bot, whose end nobody's parent tells."""
    before = yard.rows()
    launcher = yard.launcher().pid
    _kill(launcher)
    eventually(lambda: _gone(launcher), 10.0)
    rows = yard.pick(1)
    yard.excuse(rows, "crash")
    _kill(rows[0]["pid"])
    yield
    yard.renewed(rows)
    yield
    _untouched(yard, before)


def supervisor_killed(yard: Yard) -> Iterator[None]:
    """kill -9, and the next one."""
    before = yard.rows()
    yard.daemon.kill()
    yield
    yard.start()
    yard.same(before)
    yield


def supervisor_killed_and_bots(yard: Yard) -> Iterator[None]:
    """Some bots die while there is no supervisor."""
    before, rows = yard.rows(), yard.pick(max(1, len(yard.epochs) // 20))
    yard.excuse(rows, "crash")
    yard.daemon.kill()
    for row in rows:
        _kill(row["pid"])
    yield
    yard.start()
    yard.renewed(rows)
    yield
    yard.settled()
    _untouched(yard, before)


def all_three_killed(yard: Yard) -> Iterator[None]:
    """Supervisor, launcher and gateway."""
    before, pid = yard.rows(), yard.gateway["pid"]
    launcher = yard.launcher().pid
    yard.daemon.kill()
    _kill(launcher)
    _kill(pid)
    yield
    yard.start()
    _gateway_back(yard, pid)
    yard.same(before)
    yield


# --- processes that hang ---------------------------------------------------------------------------------


def bot_stopped(yard: Yard) -> Iterator[None]:
    """SIGSTOP."""
    rows = yard.pick(2)
    yard.excuse(rows, "hang")
    for row in rows:
        os.kill(row["pid"], signal.SIGSTOP)
    yield
    yard.renewed(rows)
    yield


def gateway_stopped(yard: Yard) -> Iterator[None]:
    """SIGSTOP of the gateway."""
    before, row = yard.rows(), yard.gateway
    yard.gateway_hangs += 1
    os.kill(row["pid"], signal.SIGSTOP)
    yield
    _gateway_back(yard, row["pid"])
    yield
    _untouched(yard, before)


def supervisor_stopped(yard: Yard) -> Iterator[None]:
    """SIGSTOP of the supervisor for longer than a heartbeat may take."""
    before = yard.rows()
    os.kill(yard.daemon.pid, signal.SIGSTOP)
    try:
        time.sleep(SOAK_FAULT)
    finally:
        os.kill(yard.daemon.pid, signal.SIGCONT)
    yield
    yard.same(before)
    yield
    time.sleep(SOAK_FAULT / 4)  # a false verdict would be given now
    yard.same(before)


def crash_loop(yard: Yard) -> Iterator[None]:
    """A bot that dies as often as it comes up."""
    (row,) = yard.pick(1)
    name = row["name"]
    yard.scars.add(name)

    def given_up() -> bool:
        now = yard.daemon.bot(name)
        if now["pid"] and now["state"] in ("running", "starting"):
            yard.excuse([now], "crash")
            try:
                _kill(now["pid"])
            except ProcessLookupError:
                return False  # it has died of the last blow
        return bool(now["state"] == "failed")

    eventually(given_up, PATIENCE, every=0.05, what=f"{name} given up")
    assert "6 allowed" in yard.daemon.bot(name)["reason"]
    yield
    assert yard.ask("start", bots=[name], wait=PATIENCE / 2)["reached"] == [name]
    yield


# --- what operators do -----------------------------------------------------------------------------------


def operators(yard: Yard) -> Iterator[None]:
    """Four at once, on the same bots."""
    rows = yard.pick(max(3, len(yard.epochs) // 8)) + yard.pick(1, programs=True)
    names = [row["name"] for row in rows]
    yard.scars.update(names)
    seeds = [yard.random.random() for _ in range(4)]
    until = time.monotonic() + SOAK_FAULT / 2
    threads = [threading.Thread(target=_operator, args=(yard, names, seed, until)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    yield
    yard.ask("start", bots=names, wait=PATIENCE / 2)
    yard.settled()
    yield


def _operator(yard: Yard, names: list[str], seed: float, until: float) -> None:
    import random

    dice = random.Random(seed)
    while time.monotonic() < until:
        verb = dice.choice(("start", "stop", "pause", "resume", "restart", "update", "kill"))
        chosen = dice.sample(names, dice.randint(1, len(names)))
        args: dict[str, Any] = {"bots": chosen}
        if verb == "kill":
            verb, args["mode"] = "stop", "kill"
        elif verb == "update":
            args = {"bots": [name for name in chosen if name.startswith("b")] or names[:1],
                    "set": {"risk_percent": round(dice.uniform(0.01, 0.02), 4)}}  # fmt: skip
        elif dice.random() < 0.3:
            args["wait"] = dice.uniform(0.0, 2.0)
        try:
            with ControlClient(yard.daemon.data_dir, timeout=PATIENCE) as client:
                client.request(verb, args)
        except CommandFailed as error:
            if error.code == INTERNAL:
                yard.trouble.append(f"{verb} {args}: {error}")
        time.sleep(dice.uniform(0.0, 0.2))


def add_and_remove(yard: Yard) -> Iterator[None]:
    """New bots, and their end."""
    names = [f"extra{number}" for number in range(max(2, len(yard.epochs) // 20))]
    yard.ask("add", bots=[{"name": one, "market": "EURUSD", "strategy": "MA_CROSSOVER"} for one in names])
    yield
    eventually(lambda: all(row["state"] == "running" for row in yard.daemon.status(*names)), PATIENCE, every=0.05)
    yield
    assert set(yard.ask("remove", bots=names, positions="close")["removed"]) == set(names)
    assert not set(names) & yard.rows().keys()


def reload(yard: Yard) -> Iterator[None]:
    """One bot of the file changes, another comes and goes."""
    text = yard.daemon.config.read_text("utf-8")
    more = '[[bots]]\nname = "reloaded"\nmarket = "EURUSD"\nstrategy = "MA_CROSSOVER"\n'
    yard.daemon.config.write_text(text + more, "utf-8")
    assert yard.ask("reload", apply=True)["added"]
    yield
    yard.daemon.wait_state("reloaded", "running", PATIENCE)
    yield
    yard.daemon.config.write_text(text, "utf-8")
    assert yard.ask("reload", apply=True)["removed"] == ["reloaded"]
    yard.ask("remove", bots=["reloaded"], positions="close")  # until then it goes on by itself
    assert "reloaded" not in yard.rows()


def handover(yard: Yard) -> Iterator[None]:
    """The supervisor becomes its successor."""
    before, boot = yard.rows(), yard.ask("ping")["boot"]
    yard.ask("handover")
    yard.daemon.forget_client()
    yield
    eventually(lambda: _boot(yard) not in (None, boot), PATIENCE, every=0.05)
    yard.same(before)
    yield


def _boot(yard: Yard) -> Any:
    from protocol.errors import StablehandError

    try:
        return yard.daemon.ask("ping", 5.0)["boot"]
    except StablehandError:
        yard.daemon.forget_client()
        return None


def rolling(yard: Yard) -> Iterator[None]:
    """A rolling restart of some."""
    rows = yard.pick(max(2, len(yard.epochs) // 10))
    yard.excuse(rows, "operator", "clean")
    yield
    for row in rows:
        answer = yard.ask("restart", bots=[row["name"]], wait=PATIENCE / 2)
        assert answer["reached"] == [row["name"]], answer
    yield


def halt(yard: Yard) -> Iterator[None]:
    """Everything is halted and flattened, and resumed."""
    answer = yard.ask("halt", reason="soak", flatten=True, wait=PATIENCE / 2)
    assert answer["flat"], answer
    yield
    assert not [one for one in yard.ask("positions") if one["magic"]]
    time.sleep(SOAK_FAULT / 6)
    assert not [one for one in yard.ask("positions") if one["magic"]], "an entry under a halt"
    yard.ask("resume-trading")
    yield
    assert not yard.ask("halts")


def shutdown(yard: Yard) -> Iterator[None]:
    """SIGTERM, and a start."""
    rows = yard.rows()
    yard.excuse(rows.values(), "operator", "clean", "host")
    yard.scars.update(rows)
    assert yard.daemon.down(PATIENCE) == 0
    eventually(lambda: not yard.daemon.processes(), PATIENCE, every=0.2, what="no process left")
    yield
    yard.start()
    yard.settled()
    yield


def backup(yard: Yard) -> Iterator[None]:
    """An online copy of everything."""
    target = yard.daemon.folder / f"copy-{yard.random.randrange(10**9)}"
    yield
    assert yard.ask("backup", to=str(target))["files"]
    yield


# --- the machine and the disk ----------------------------------------------------------------------------


def busy_machine(yard: Yard) -> Iterator[None]:
    """Twice as many busy processes as cores."""
    before, burners = yard.rows(), burn()
    yield
    for one in burners:
        one.wait(SOAK_FAULT + 60.0)
    yard.same(before)
    yield


def store_locked(yard: Yard) -> Iterator[None]:
    """Another process holds the store's lock."""
    yield from _refusing_store(yard, locked)


def store_refuses(yard: Yard) -> Iterator[None]:
    """Every write of the supervisor fails."""
    yield from _refusing_store(yard, refusing)


def _refusing_store(yard: Yard, fault: Callable[[Daemon], AbstractContextManager[None]]) -> Iterator[None]:
    before, rows = yard.rows(), yard.pick(1)
    yard.excuse(rows, "crash")
    with fault(yard.daemon):
        time.sleep(SOAK_FAULT / 6)
        _kill(rows[0]["pid"])
        yield
        yard.renewed(rows)
        yield
        time.sleep(SOAK_FAULT / 6)
    eventually(lambda: yard.ask("ping")["not_remembered"] is None, PATIENCE, every=0.1, what="all remembered")
    _untouched(yard, before)


def bus_noise(yard: Yard) -> Iterator[None]:
    """Garbage, deep and torn frames at every socket."""
    before = yard.rows()
    endpoints = Endpoints.load(yard.daemon.data_dir)
    addresses = [endpoints.bus, endpoints.control, *endpoints.accounts["main"].values()]
    frames = [yard.random.randbytes(yard.random.randrange(1, 400)) for _ in range(100)]
    frames += [b"\x91" * 5000 + b"\xc0", b"\xdd\xff\xff\xff\xff", b"", pack({"t": "hello"}), b"\x90" * 100_000]
    context: zmq.Context[Any] = zmq.Context()
    try:
        for address in addresses:
            for _ in range(5):
                socket = context.socket(zmq.DEALER)
                socket.linger, socket.sndtimeo = 500, 2000
                socket.connect(address)
                for frame in yard.random.sample(frames, 40):
                    if socket.poll(1000, zmq.POLLOUT):
                        with contextlib.suppress(zmq.Again):  # the other side hung up in the middle of it
                            socket.send_multipart([frame] * yard.random.choice((1, 1, 1, 3)))
                socket.close()
    finally:
        context.term()
    yield
    assert yard.ask("ping")
    yield
    assert yard.ask("host")["bad_frames"] > 0
    yard.same(before)


FAULTS = (
    Fault("kill -9 of a bot", "a new run with a new epoch, running", one_killed, 3, beside=True),
    Fault("kill -9 of a tenth of the bots and a program", "new runs, all running", bots_killed, 2, beside=True),
    Fault("kill -9 of the gateway", "another gateway; bots have the same pids and epochs", gateway_killed, 2,
          beside=True),
    Fault("kill -9 of the launcher, then of a bot", "a new run; all others untouched", launcher_killed, 1),
    Fault("kill -9 of the supervisor, and the next one", "all adopted: same pids, same epochs", supervisor_killed, 3),
    Fault("the same, with bots that die meanwhile", "these have new runs, all others are adopted",
          supervisor_killed_and_bots, 2),
    Fault("kill -9 of supervisor, launcher and gateway", "another gateway, all bots adopted", all_three_killed, 2),
    Fault("SIGSTOP of two bots", "cause hang, new runs", bot_stopped, 1, quick=False),
    Fault("SIGSTOP of the gateway", "another gateway; bots untouched", gateway_stopped, 0.5, quick=False),
    Fault(f"SIGSTOP of the supervisor for {SOAK_FAULT:g} s", "nobody is judged hung", supervisor_stopped, 1),
    Fault("crash loop of a bot", "given up after six failures within a minute; `start` brings it back", crash_loop, 1),
    Fault("four operators at once on the same bots",
          "start, stop, pause, resume, restart, update, kill: what was wanted last is", operators, 2),
    Fault("add and remove", "the new ones run; nothing is left of them", add_and_remove, 1),
    Fault("reload of the file", "a bot comes and goes", reload, 1),
    Fault("handover", "another image under the same pid; all bots untouched", handover, 1.5),
    Fault("restart of a tenth, one after the other", "each comes back", rolling, 1),
    Fault("halt --flatten, resume-trading", "no position, and no entry until it is lifted", halt, 1),
    Fault("SIGTERM and a start", "no process left; what was wanted comes back", shutdown, 0.5, quick=False),
    Fault("backup", "an online copy", backup, 0.5),
    Fault(f"{2 * (os.cpu_count() or 2)} busy processes for {SOAK_FAULT:g} s", "nobody is judged hung", busy_machine, 1,
          beside=SOAK),
    Fault("the store is locked, kill -9 of a bot", "a new run meanwhile; all is remembered later", store_locked, 1),
    Fault("the supervisor's files refuse, kill -9 of a bot", "a new run meanwhile; all is remembered later",
          store_refuses, 1),
    Fault("garbage at bus, control and gateway", "counted and dropped; nobody is touched", bus_noise, 1, beside=True),
)  # fmt: skip
