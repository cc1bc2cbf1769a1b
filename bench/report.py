"""The figures as a table, for a terminal and for docs/performance.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from bench.machine import ROOT

PAGE: Final = ROOT / "docs" / "performance.md"
_BEGIN: Final = "<!-- the last run, written by `python -m bench --write-docs` -->"
Row = tuple[str, str, str, str]


def rows(figures: dict[str, Any]) -> list[Row]:
    """(what, measured, target, verdict) of every part that was measured."""
    found: list[Row] = []
    start = figures.get("start", {})
    for count in [key for key in start if key.isdigit()]:
        found += _start_rows(count, start[count]["median"])
    if memory := figures.get("memory"):
        for key, what in (("idle", "after its first cycle"), ("after_cycles", "after eleven cycles, market moving")):
            value = memory[key]
            found.append(_judged(f"private memory of a bot, {what}: median", value["median"], 10.0, "MB"))
            found.append((f"private memory of a bot, {what}: largest", f"{value['max']:.1f} MB", "", ""))
    if recovery := figures.get("recovery"):
        kills = f"kill -9 until the successor is ready ({recovery['kills']} kills, {recovery['bots']} bots)"
        found.append(_judged(f"{kills}: median", recovery["ready"]["median"], 40.0, "ms"))
        found.append((f"{kills}: p99", f"{recovery['ready']['p99']:.1f} ms", "", ""))
        found.append((f"{kills}, as a subscriber sees it: median", f"{recovery['told']['median']:.1f} ms", "", ""))
    if idle := figures.get("idle"):
        for name, percent in idle["cpu_percent"].items():
            found.append((f"CPU of {name}, {idle['bots']} idle bots at 1 Hz", f"{percent:.1f} % of a core", "", ""))
        found.append((f"status of {idle['bots']} bots: median", f"{idle['status_ms']['median']:.1f} ms", "", ""))
    if status := figures.get("status"):
        found += _status_rows(status)
    if beats := figures.get("heartbeats"):
        enough = "met" if beats["a_second"] >= 50_000 else f"missed by {50_000 - beats['a_second']:,.0f}"
        found.append(("heartbeats taken into the registry", f"{beats['a_second']:,.0f} a second", ">= 50,000", enough))
        found.append(("the same, by the loop's CPU time", f"{beats['a_cpu_second']:,.0f} a second", "", ""))
        found.append(_judged(f"loop lag with {beats['bots']} bots at 1 Hz: p99", beats["lag_ms"]["p99"], 20.0, "ms"))
    return found


def _status_rows(status: dict[str, Any]) -> list[Row]:
    bots = status["bots"]
    one, every, verb = status["one_ms"], status["all_ms"], status["verb_ms"]
    return [
        _judged(f"status of one bot through the client, {bots} bots live: median", one["median"], 0.30, "ms", 2),
        _judged(f"status of one bot through the client, {bots} bots live: p99", one["p99"], 1.5, "ms", 2),
        _judged(f"status of all {bots}, with CPU and memory: median", every["median"], 10.0, "ms"),
        _judged("`stablehand status BOT` as a process: median", verb["median"], 110.0, "ms"),
        ("`python -c pass` beside it: median", f"{status['python_ms']['median']:.1f} ms", "", ""),
        _judged(f"memory of the supervisor (PSS), {bots} bots", status["pss_mb"], 80.0, "MB"),
    ]


def _start_rows(count: str, median: dict[str, float]) -> list[Row]:
    stable, raw = median["stable"], median["raw_fork"]
    found: list[Row] = [
        (f"{count} bots from `start --all` until all are running", f"{stable:.2f} s", "", ""),
        (f"{count} raw forks of the same preload, one message each", f"{raw:.2f} s", "", ""),
        _judged(f"{count}: this stable / raw fork", stable / raw, 2.0 if count == "100" else None, "x"),
    ]
    if "subprocess" in median:
        ratio = median["subprocess"] / stable
        verdict = ("met" if ratio >= 12 else f"missed by {12 - ratio:.1f}") if count == "100" else ""
        found += [
            (f"{count} plain subprocesses, the same imports", f"{median['subprocess']:.2f} s", "", ""),
            (f"{count}: plain subprocesses / this stable", f"{ratio:.1f} x", ">= 12 x" if verdict else "", verdict),
        ]
    return found


def _judged(what: str, value: float, most: float | None, unit: str, digits: int = 1) -> Row:
    shown = f"{value:.2f} {unit}" if unit == "x" else f"{value:.{digits}f} {unit}"
    if most is None:
        return what, shown, "", ""
    verdict = "met" if value <= most else f"missed by {value - most:.2g} {unit}"
    return what, shown, f"<= {most:g} {unit}", verdict


def table(figures: dict[str, Any]) -> str:
    """The rows as a Markdown table, under a line about the machine."""
    machine = figures["machine"]
    lines = [
        f"{machine['at']}: {machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']} GB, "
        f"{machine['kernel']}, {machine['python']}, store on {machine['disk']}, "
        f"load before the run {machine['load_before']}, median of {machine['rounds']}.",
        "",
        "| what | measured | target | |",
        "|---|---|---|---|",
    ]
    lines += ["| " + " | ".join(row) + " |" for row in rows(figures)]
    return "\n".join(lines) + "\n"


def write_page(figures: dict[str, Any], page: Path = PAGE) -> None:
    """Put the table of this run in the place of the last one."""
    head = page.read_text("utf-8").split(_BEGIN)[0]
    page.write_text(f"{head}{_BEGIN}\n{table(figures)}", "utf-8")
