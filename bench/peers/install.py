"""The peers' environments: made once, by name and version, in a folder that is not the project's environment.

PyPI packages get a venv each, pm2 a folder of npm's, and Debian's runit is unpacked, not installed, so that nothing
of it starts by itself. s6 calls its own programs by their full names in /usr/bin: it alone is installed, by root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.part import say

_MARK: Final = ".installed"
_SECONDS: Final = 600.0
_PYPI: Final = {"supervisord": "supervisor==4.3.0", "circus": "circus==0.19.0"}
_NPM: Final = {"pm2": "pm2@7.0.4"}
_DEBIAN: Final = "runit"
_SYSTEM: Final = "s6"


class Unavailable(Exception):
    """A peer that cannot be had here; the text says why."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A peer in its folder, and its version."""

    name: str
    version: str
    root: Path


def default_folder() -> Path:
    """Where environments are kept: below XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stablehand-bench" / "peers"


def installed(name: str, folder: Path) -> Installed | None:
    """A peer that was installed before."""
    if name == _SYSTEM:
        return _in_system(name)
    mark = folder / name / _MARK
    return Installed(name, mark.read_text("utf-8").strip(), folder / name) if mark.exists() else None


def install(name: str, folder: Path) -> Installed:
    """A peer, installed now where it was not yet. Raises Unavailable."""
    if found := installed(name, folder):
        return found
    say(f"installing {name} in {folder / name}")
    if name == _SYSTEM:
        return _install_in_system(name)
    root = folder / name
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    ways: dict[str, Callable[[str, Path], str]] = {**dict.fromkeys(_PYPI, _pypi), **dict.fromkeys(_NPM, _npm)}
    way = {**ways, _DEBIAN: _debian}[name]
    version = way(name, root)
    (root / _MARK).write_text(version + "\n", "utf-8")
    return Installed(name, version, root)


def _pypi(name: str, root: Path) -> str:
    requirement = _PYPI[name]
    _run([sys.executable, "-m", "venv", str(root)])
    _run([str(root / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement])
    return requirement.partition("==")[2]


def _npm(name: str, root: Path) -> str:
    if not shutil.which("npm") or not shutil.which("node"):
        raise Unavailable("there is no node and npm here")
    (root / "package.json").write_text('{"private": true}\n', "utf-8")
    _run(["npm", "install", _NPM[name], "--no-audit", "--no-fund", "--ignore-scripts"], cwd=root)
    return _NPM[name].rpartition("@")[2]


def _debian(name: str, root: Path) -> str:
    _need_apt()
    _run(["apt-get", "download", name], cwd=root)
    file = next(root.glob(f"{name}_*.deb"))
    _run(["dpkg-deb", "-x", str(file), str(root)])
    return _run(["dpkg-deb", "-f", str(file), "Version"]).strip()


def _in_system(name: str) -> Installed | None:
    if not Path("/usr/bin/s6-supervise").exists():
        return None
    version = _run(["dpkg-query", "-W", "-f", "${Version}", name]) if shutil.which("dpkg-query") else "of the system"
    return Installed(name, version, Path("/"))


def _install_in_system(name: str) -> Installed:
    _need_apt()
    if os.geteuid() != 0:
        raise Unavailable(f"it must be in /usr/bin, and only root may install there (apt-get install {name})")
    _run(["apt-get", "install", "--yes", "--no-install-recommends", name])
    found = _in_system(name)
    if found is None:
        raise Unavailable(f"apt-get installed {name}, and it is not in /usr/bin")
    return found


def _need_apt() -> None:
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise Unavailable("there is no apt-get here")


def _run(command: Sequence[str], cwd: Path | None = None) -> str:
    """What a command printed. Raises Unavailable with its last line."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{Path(command[0]).name}: {error}") from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
        raise Unavailable(f"{Path(command[0]).name} {' '.join(command[1:3])}: exit {done.returncode}: {last}")
    return done.stdout
