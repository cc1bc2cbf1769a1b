"""Whether what the programs name is on this machine now: said by `config check`, and no error, since a program that is
missing is tried again until it is there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from protocol.programconfig import ProgramConfig
from supervisor.config import Config
from supervisor.tomlplace import line_of


def missing_lines(config: Config, environment: Mapping[str, str]) -> list[str]:
    """A line for each program whose folder or executable is not there, for a person."""
    found = []
    for program in config.programs:
        key, why = _missing(program, config.folder.resolve(), environment)
        if why:
            line = line_of(config.text, (*config.place_of(program.name), key))
            found.append(
                f"  {config.path}{f':{line}' if line else ''}: program {program.name!r} cannot start now: {why}"
            )
    return found


def _missing(program: ProgramConfig, base: Path, environment: Mapping[str, str]) -> tuple[str, str]:
    """The key whose value is not there, and in words; no words when all is."""
    folder = base / (program.cwd or "")
    if not folder.is_dir():
        return "cwd", f"{folder} is not a folder"
    name = program.command[0]
    if "/" in name or os.sep in name:  # as execvp decides
        path = folder / name
        if not path.is_file():
            return "command", f"there is no file {path}"
        return "command", "" if os.access(path, os.X_OK) else f"{path} may not be executed"
    places = {**environment, **program.environment}.get("PATH", os.defpath)
    return "command", "" if shutil.which(name, path=places) else f"no {name} in PATH ({places})"
