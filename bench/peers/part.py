"""`python -m bench peers`: Stablehand, its peers and the raw fork, in turns in one run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench import rawfork
from bench.part import Figures, Part, markdown, numbers, say
from bench.peers import install, stable
from bench.peers.measure import measure, summary
from bench.peers.table import MANAGERS

STABLE: Final = "Stablehand"
RAW: Final = "raw fork"


def add_options(group: argparse._ArgumentGroup) -> None:
    """Sizes, and where the environments are."""
    group.add_argument(
        "--peer-bots", type=numbers, default="100,200", metavar="N,N",
        help="sizes; the largest is measured whole, the others only how long the start takes",
    )  # fmt: skip
    group.add_argument("--peers", default=",".join(MANAGERS), metavar="NAME,..", help="which of them")
    group.add_argument(
        "--peers-dir", type=Path, default=install.default_folder(), metavar="DIR",
        help="their environments, made there when they are not there yet",
    )  # fmt: skip


def environments(options: argparse.Namespace) -> tuple[dict[str, install.Installed], dict[str, str]]:
    """The peers that can be had, and why the others cannot. Raises ValueError for an unknown name."""
    names = [name for name in options.peers.split(",") if name]
    if wrong := set(names) - set(MANAGERS):
        raise ValueError(f"unknown peer {', '.join(sorted(wrong))}; known: {', '.join(MANAGERS)}")
    found: dict[str, install.Installed] = {}
    missing: dict[str, str] = {}
    for name in names:
        try:
            found[name] = install.install(name, options.peers_dir.resolve())
        except install.Unavailable as reason:
            missing[name] = str(reason)
            say(f"{name} cannot be had: {reason}")
    return found, missing


def run(folder: Path, options: argparse.Namespace) -> Figures:
    """All rounds of all sizes. A manager that fails is told and left out; it does not end the run."""
    peers, missing = environments(options)
    sizes: list[int] = options.peer_bots
    minutes = sum(options.rounds * (len(peers) * (0.25 * count + 45 * (count == max(sizes)))) / 60 for count in sizes)
    say(f"about {minutes:.0f} minutes on two quiet cores: the peers start slowly")
    figures: Figures = {
        "versions": {name: peer.version for name, peer in peers.items()},
        "settings": {name: MANAGERS[name].settings for name in peers},
        "missing": missing, "sizes": {}, "failed": {},
    }  # fmt: skip
    for count in sizes:
        whole = count == max(sizes)
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in (RAW, STABLE, *peers)}
        for turn in range(options.rounds):
            for name in rounds:
                one = _measurer(name, peers, folder / f"peers-{count}-{turn}", count, whole=whole)
                try:
                    rounds[name].append(one())
                    say(f"{count} bots, round {turn + 1}, {name}: ready in {rounds[name][-1]['start']:.2f} s")
                except Exception as error:
                    figures["failed"][f"{name} with {count}, round {turn + 1}"] = f"{type(error).__name__}: {error}"
                    say(f"{count} bots, round {turn + 1}, {name} failed: {type(error).__name__}: {error}")
        figures["sizes"][str(count)] = {
            "rounds": rounds, "of": {name: summary(found) for name, found in rounds.items() if found}, "whole": whole,
        }  # fmt: skip
    return figures


def _measurer(
    name: str, peers: dict[str, install.Installed], folder: Path, count: int, *, whole: bool
) -> Callable[[], dict[str, Any]]:
    timeout = 180.0 + 2.0 * count  # a machine that is busy otherwise counts too
    if name == RAW:
        return lambda: {"start": rawfork.measure(count)}
    if name == STABLE:
        return lambda: stable.measure(folder, count, whole=whole, timeout=timeout)
    return lambda: measure(peers[name], MANAGERS[name], count, whole=whole, timeout=timeout)


def show(figures: Figures) -> str:
    """Starts of all sizes side by side, then everything at the largest, then how each was set up."""
    names = [RAW, STABLE, *figures["versions"]]
    heads = [f"{name} {figures['versions'].get(name, '')}".strip() for name in names]
    rows: list[tuple[str, ...]] = []
    for count, size in figures["sizes"].items():
        cells = (_cell(size["of"], name, "start") for name in names)
        rows.append((f"start of {count} until all are ready", *cells, _start_verdict(size["of"])))
    for count, size in figures["sizes"].items():
        if size["whole"]:
            rows += [
                (
                    what.format(count=count), *(_cell(size["of"], name, key) for name in names),
                    _verdict(size["of"].get(STABLE, {}).get(key), most),
                )
                for key, what, most in _ROWS
            ]  # fmt: skip
    lines = [markdown(("", *heads, "Stablehand shall"), rows)]
    lines += [f"- {line}\n" for line in _remarks(figures)]
    return "\n".join([lines[0], "".join(lines[1:])])


def _remarks(figures: Figures) -> list[str]:
    found = []
    for count, size in figures["sizes"].items():
        of = size["of"]
        peers = {name: of[name]["start"] for name in figures["versions"] if name in of}
        if STABLE in of and RAW in of and peers:
            best = min(peers, key=lambda name: peers[name])
            own = of[STABLE]["start"]
            found.append(
                f"{count} bots: Stablehand takes {own / of[RAW]['start']:.2f} times as long as the raw fork; the "
                f"fastest peer ({best}) {peers[best] / own:.1f} times as long as Stablehand."
            )
    found += [f"{name}: {settings}." for name, settings in figures["settings"].items()]
    found += [f"{name} could not be installed: {reason}." for name, reason in figures["missing"].items()]
    found += [f"{what} failed: {reason}." for what, reason in figures["failed"].items()]
    return found


def _cell(of: dict[str, Any], name: str, key: str) -> str:
    value = of.get(name, {}).get(key)
    if value is None:
        return "-"
    if isinstance(value, dict):
        text = f"{_plain(value['median'])} / {_plain(value['p99'])} ms"
        return f"{text} (no figures)" if key == "all" and not of[name].get("all_figures") else text
    return f"{value:.2f} s" if key == "start" else f"{value:.2g} %" if key.startswith("cpu") else f"{value:.1f} MB"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _start_verdict(of: dict[str, Any]) -> str:
    if STABLE not in of or RAW not in of:
        return ""
    over = of[STABLE]["start"] / of[RAW]["start"]
    return f"<= {_RAW_TIMES:g} x raw fork: " + ("met" if over <= _RAW_TIMES else f"missed, {over:.2f} x")


def _verdict(value: Any, most: tuple[float, ...]) -> str:
    """Whether one figure, or median and p99, are within their bounds; empty without a bound or a figure."""
    if value is None or not most:
        return ""
    measured = (value["median"], value["p99"]) if isinstance(value, dict) else (value,)
    within = all(one <= bound for one, bound in zip(measured, most, strict=False))
    return f"<= {' / '.join(f'{bound:g}' for bound in most)}: " + ("met" if within else "missed")


#: How many times the raw fork's time a start may take.
_RAW_TIMES: Final = 1.5
_ROWS: Final[tuple[tuple[str, str, tuple[float, ...]], ...]] = (
    ("mem_available_per_bot", "memory a bot, {count} bots: MemAvailable taken / bots, manager included", (10.0,)),
    ("pss_per_bot", "the same by the processes' shares (PSS), which nothing else on the machine changes", ()),
    ("uss", "private memory (USS) of a bot, median", (7.0,)),
    ("kills", "kill -9 until the successor is ready, p50 / p99", (20.0, 50.0)),
    ("one", "status of one through its own interface, p50 / p99", (0.3, 1.5)),
    ("all", "status of all {count}, p50 / p99; CPU and memory of each with it where not said", (10.0,)),
    ("verb", "status of one as a command, p50 / p99", (110.0,)),
    ("cpu", "CPU of the manager, percent of a core", (8.0,)),
    ("cpu_all_parts", "the same with gateway and probe", ()),
    ("manager_pss", "memory of the manager (PSS)", (80.0,)),
    ("all_managers_pss", "the same with its helpers (launcher, gateway, probe; runsv, s6-supervise)", ()),
)


PART: Final = Part(
    "peers",
    "Stablehand beside supervisord, circus, pm2, runit and s6, the same bots, in turns",
    run,
    show,
    by_default=False,
    turns=True,
    options=add_options,
)
