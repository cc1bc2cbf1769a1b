"""`python -m bench faults`: the same four faults under Stablehand, supervisord, circus and pm2, as they are shipped.

One program for all: it says hello, and beats once a second. What becomes of it is read from the process table and
from its own word, not from what the manager says; that stands beside it.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import psutil

from bench.machine import ROOT
from bench.part import Figures, Part, markdown, say
from bench.peers import install
from bench.peers.hub import Hub
from bench.peers.manager import Manager, Task, copies
from bench.peers.measure import short_folder
from bench.peers.part import STABLE
from bench.peers.programs import Programs
from bench.peers.table import MANAGERS, WATCHED

NAMES: Final = ("child-0", "child-1", "child-2")
#: Programs that end by themselves, so many seconds after they have begun.
CRASHING: Final = ("crash-0.2", "crash-1.6")
_WATCH: Final = 30.0  # seconds that a fault has to be noticed and mended
#: As long as Stablehand may suspend its verdict on a machine that is starved, and its watchdog, and a margin.
_HANG: Final = 80.0
_LOOP: Final = 75.0  # seconds that a crash loop is watched
_AWAY: Final = 2.0  # seconds without a manager
_LATER: Final = 3.0  # seconds after a fault until copies are counted
_START: Final = 240.0
_HEALTHY: Final = frozenset({"running", "RUNNING", "active", "online"})
_GIVEN_UP: Final = frozenset({"failed", "FATAL", "stopped", "errored"})
_PEERS: Final = ("supervisord", "circus", "pm2")


class Case:
    """One fault of one manager: its bots are up, and the fault may come."""

    def __init__(self, manager: Manager, hub: Hub) -> None:
        self.manager, self.hub = manager, hub

    def newest(self, name: str) -> int:
        """The pid that said hello last under this name."""
        return next(hello.pid for hello in reversed(self.hub.hellos) if hello.name == name)

    def successor(self, name: str, old: int, seconds: float) -> float | None:
        """Seconds until another process of this name says hello; None when none did."""
        began = time.perf_counter()
        while (left := seconds - (time.perf_counter() - began)) > 0:
            self.hub.pump(min(left, 0.2))
            if (hello := self.hub.hellos[-1]).name == name and hello.pid != old:
                return hello.at - began
        return None

    def copies(self) -> dict[str, int]:
        """How many living processes each bot has."""
        return {name: len(copies(self.manager.task.folder, name)) for name in NAMES}

    def healthy(self, seconds: float) -> float | None:
        """Seconds until the manager calls every bot well and each has one process; None when that did not come."""
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            self.hub.listen(0.2)
            if set(self.copies().values()) == {1} and self.words() <= _HEALTHY:
                return time.perf_counter() - began
        return None

    def words(self) -> set[str]:
        """What the manager says of the bots."""
        try:
            return {self.manager.verdict(name) for name in NAMES}
        except (OSError, RuntimeError, ValueError) as error:
            return {type(error).__name__}


def killed_child(case: Case) -> Figures:
    """kill -9 of one of three."""
    old = case.newest(NAMES[0])
    os.kill(old, signal.SIGKILL)
    seconds = case.successor(NAMES[0], old, _WATCH)
    case.hub.listen(_LATER)
    return {"seconds": seconds, "copies": case.copies()[NAMES[0]]}


def killed_manager(case: Case) -> Figures:
    """kill -9 of the manager, and the same command again two seconds later."""
    old = {name: case.newest(name) for name in NAMES}
    case.manager.kill_main()
    case.hub.listen(_AWAY)
    meanwhile = sum(psutil.pid_exists(pid) for pid in old.values())
    began = time.perf_counter()
    case.manager.launch()
    seconds = case.healthy(_WATCH)
    took = time.perf_counter() - began
    case.hub.listen(_LATER)
    kept = sum(pid in copies(case.manager.task.folder, name) for name, pid in old.items())
    return {
        "alive_meanwhile": meanwhile, "copies": max(case.copies().values()), "same_processes": kept,
        "seconds": None if seconds is None else took,
    }  # fmt: skip


def hung_child(case: Case) -> Figures:
    """One that lives and stands still."""
    old = case.newest(NAMES[0])
    case.hub.hang(old)
    seconds = case.successor(NAMES[0], old, _HANG)
    return {"seconds": seconds, "copies": case.copies()[NAMES[0]], "says": case.manager.verdict(NAMES[0])}


def crash_loop(case: Case) -> Figures:
    """Programs that crash again and again, until all are given up: starts, seconds to the last, and its last word."""
    began, until = time.time(), time.monotonic() + _LOOP
    says: dict[str, str] = {}
    while time.monotonic() < until and not (says and set(says.values()) <= _GIVEN_UP):
        case.hub.listen(2.0)
        says = {name: case.manager.verdict(name) for name in CRASHING}
    found: Figures = {"watched": round(time.time() - began)}
    for name in CRASHING:
        starts = [float(line) for line in case.manager.task.starts(name).read_text("utf-8").split()]
        found[name] = {"starts": len(starts), "last": starts[-1] - starts[0], "says": says[name]}
    return found


FAULTS: Final[dict[str, tuple[Callable[[Case], Figures], tuple[str, ...]]]] = {
    "child": (killed_child, NAMES),
    "manager": (killed_manager, NAMES),
    "hang": (hung_child, NAMES),
    "loop": (crash_loop, CRASHING),
}


def one_fault(fault: str, peer: install.Installed, kind: type[Manager], hubs: list[Hub]) -> Figures:
    """A fresh manager with its bots, and one fault. Raises TimeoutError when the bots do not come up.

    Its hub is told to `hubs`, so that another thread can stop it.
    """
    measure, names = FAULTS[fault]
    with short_folder() as folder, Hub(folder) as hub:
        hubs.append(hub)
        task = Task(folder, hub.address, names, alike=False, as_shipped=True)
        with kind(peer, task) as manager:
            manager.launch()
            manager.start_all()
            if fault != "loop":
                hub.wait_hellos(len(names), _START)
                hub.listen(_LATER)
            return measure(Case(manager, hub))


def run(_folder: Path, options: argparse.Namespace) -> Figures:
    """All faults of all managers that can be had; what fails is told and does not end the run."""
    own = install.Installed(STABLE, "", ROOT)
    told: dict[str, tuple[install.Installed, type[Manager]]] = {STABLE: (own, Programs)}
    missing: dict[str, str] = {}
    kinds = {name: (name, MANAGERS[name]) for name in _PEERS} | WATCHED
    for name, (package, kind) in kinds.items():
        try:
            told[name] = (install.install(package, options.peers_dir.resolve()), kind)
        except install.Unavailable as reason:
            missing[name] = str(reason)
    say("about six minutes, all managers at the same time")
    figures: Figures = {
        "versions": {name: peer.version for name, (peer, _) in told.items()}, "missing": missing, "failed": {},
        "of": {name: {} for name in told},
    }  # fmt: skip
    for fault in FAULTS:
        for name, found in _side_by_side(fault, told).items():
            if isinstance(found, Exception):
                figures["failed"][f"{fault}, {name}"] = f"{type(found).__name__}: {found}"
            else:
                figures["of"][name][fault] = found
            say(f"{fault}, {name}: {found!r}")
    return figures


def _side_by_side(
    fault: str, told: dict[str, tuple[install.Installed, type[Manager]]]
) -> dict[str, Figures | Exception]:
    """One fault of all managers at the same time: three small programs each, which mostly wait."""
    hubs: list[Hub] = []
    with ThreadPoolExecutor(len(told)) as pool:
        running = {name: pool.submit(one_fault, fault, peer, kind, hubs) for name, (peer, kind) in told.items()}
        try:
            return {name: _outcome(future) for name, future in running.items()}
        except BaseException:
            for hub in hubs:
                hub.stopped = True
            raise


def _outcome(future: Future[Figures]) -> Figures | Exception:
    try:
        return future.result()
    except Exception as error:
        return error


def show(figures: Figures) -> str:
    """The faults side by side."""
    names = list(figures["versions"])
    packages = {name: WATCHED[name][0] if name in WATCHED else name for name in names}
    heads = [
        name.replace(package, f"{package} {figures['versions'][name]}".strip()) for name, package in packages.items()
    ]
    rows = [
        (what, *(_told(figures["of"][name].get(fault), tell) for name in names)) for fault, what, tell in _ROWS
    ]  # fmt: skip
    lines = [f"- {name} could not be installed: {reason}." for name, reason in figures["missing"].items()]
    lines += [f"- {what} failed: {reason}." for what, reason in figures["failed"].items()]
    return markdown(("", *heads), rows) + ("\n" + "\n".join(lines) + "\n" if lines else "")


def _told(found: Figures | None, tell: Callable[[Figures], str]) -> str:
    return "-" if found is None else tell(found)


def _seconds(found: Figures) -> str:
    return f"not within {_WATCH:g} s" if found["seconds"] is None else f"{found['seconds']:.1f} s"


def _copies(count: int) -> str:
    return "one copy" if count == 1 else f"**{count} copies**" if count > 1 else "no copy"


def _again(found: Figures) -> str:
    if found["copies"] == 1 and found["same_processes"] == len(NAMES):
        return "one copy of each: the same processes, taken over"
    if found["copies"] == 1:
        return f"one copy of each; {found['same_processes']} of {len(NAMES)} are the same processes"
    return f"{_copies(found['copies'])} of each"


def _hang(found: Figures) -> str:
    if found["seconds"] is None:
        return f"not noticed in {_HANG:g} s: it says `{found['says']}`"
    return f"replaced after {found['seconds']:.1f} s, {_copies(found['copies'])}"


def _loop(name: str) -> Callable[[Figures], str]:
    def tell(found: Figures) -> str:
        starts, last, says = found[name]["starts"], found[name]["last"], found[name]["says"]
        if says in _GIVEN_UP:
            return f"given up after {starts} starts in {last:.0f} s: it says `{says}`"
        return f"**on and on**: {starts} starts in {last:.0f} s, it says `{says}`"

    return tell


_ROWS: Final[tuple[tuple[str, str, Callable[[Figures], str]], ...]] = (
    ("child", "kill -9 of a child: until its successor is ready", _seconds),
    ("child", "... copies of it afterwards", lambda found: _copies(found["copies"])),
    ("manager", "kill -9 of the manager: children that run on", lambda f: f"{f['alive_meanwhile']} of {len(NAMES)}"),
    ("manager", "... started again with the same command", _again),
    ("manager", "... until it calls all well and each is there once", _seconds),
    ("hang", "a child that lives and stands still", _hang),
    ("loop", "a program that crashes after 0.2 s, every time", _loop("crash-0.2")),
    ("loop", "a program that crashes after 1.6 s, every time", _loop("crash-1.6")),
)

PART: Final = Part(
    "faults",
    "four faults, side by side with supervisord, circus and pm2 as they are shipped",
    run,
    show,
    by_default=False,
    page=ROOT / "docs" / "fault-comparison.md",
)
