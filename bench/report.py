"""The figures as Markdown, for a terminal and for the docs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.part import Figures, Part


def environment(machine: Figures, *, turns: bool = False) -> str:
    """A line about the machine and the moment."""
    rounds = f", {machine['rounds']} rounds that take turns" if turns else ""
    return (
        f"{machine['at']}: {machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']} GB, "
        f"{machine['kernel']}, {machine['python']}, store on {machine['disk']}, "
        f"load before the run {machine['load_before']}{rounds}."
    )


def shown(part: Part, figures: Figures) -> str:
    """What a part says of its figures, or why it has none."""
    if "error" in figures:
        return f"not measured: {figures['error']}\n"
    return part.show(figures)


def text(parts: Sequence[Part], figures: Figures) -> str:
    """All measured parts, under the line about the machine."""
    found = [environment(figures["machine"]), ""]
    for part in parts:
        if part.name in figures:
            found += [f"{part.name}: {part.about}", "", shown(part, figures[part.name])]
    return "\n".join(found)


def write_docs(parts: Sequence[Part], figures: Figures) -> list[Path]:
    """Put the table of each measured part in the place of its last one, and its pictures beside; the files written.

    A part that could not be measured leaves the docs as they are. Raises ValueError where a page has no place for a
    part: two lines, `<!-- bench NAME -->` and `<!-- /bench NAME -->`.
    """
    written: list[Path] = []
    for part in parts:
        own = figures.get(part.name)
        if own is None or "error" in own:
            continue
        block = f"{environment(figures['machine'], turns=part.turns)}\n\n{shown(part, own)}"
        part.page.write_text(replaced(part.page.read_text("utf-8"), part.name, block), "utf-8")
        written.append(part.page)
        for name, drawing in (part.pictures(own) if part.pictures else {}).items():
            place = part.page.parent / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(drawing, "utf-8")
            written.append(place)
    return written


def replaced(page: str, name: str, block: str) -> str:
    """The page with another block between the two marks of `name`. Raises ValueError without them."""
    begin, end = f"<!-- bench {name} -->", f"<!-- /bench {name} -->"
    head, first, rest = page.partition(begin)
    _, second, tail = rest.partition(end)
    if not first or not second:
        raise ValueError(f"no place for the part {name}: {begin} and {end}, each on a line of its own")
    return f"{head}{begin}\n{block.rstrip()}\n{end}{tail}"
