"""service install, uninstall, status: the supervisor under systemd."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from console import settings
from console.commands.shared import AsJson, colour, warn, write, write_json
from console.grid import Cell, facts
from console.unit import MARK, Unit
from protocol.errors import InvalidInput, Refused

PANEL: Final = "Running the stable"
_SYSTEM_FOLDER: Final = Path("/etc/systemd/system")
_LINGER: Final = Path("/var/lib/systemd/linger")
_SECONDS: Final = 30.0
_SUBGROUPS_SINCE: Final = 254  # version of systemd that has DelegateSubgroup=
_STOP_DEFAULT: Final = 30.0
_SHOWN: Final = ("LoadState", "UnitFileState", "ActiveState", "SubState", "MainPID", "StatusText", "NRestarts")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,60}")

System = Annotated[bool, typer.Option("--system/--user", help="The system's services, or (as usual) your own.")]
Name = Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the unit.")]


def register(app: typer.Typer) -> None:
    """Add these verbs."""
    service = typer.Typer(help="The supervisor as a service of systemd.", no_args_is_help=True)
    service.command("install")(_install)
    service.command("uninstall")(_uninstall)
    service.command("status")(_status)
    service.callback()(_service)
    app.add_typer(service, name="service", rich_help_panel=PANEL)


def _service() -> None:
    """The supervisor as a service of systemd."""


def _install(
    system: System = False,
    name: Name = "stablehand",
    run_as: Annotated[
        str | None, typer.Option("--run-as", metavar="USER", help="With --system; else the owner of the file.")
    ] = None,
    show: Annotated[bool, typer.Option("--print", help="Only write the unit to stdout.")] = False,
    as_json: AsJson = False,
) -> int:
    """Write the unit and enable it. It starts with the machine (or your session), or now by `systemctl start`."""
    _linux_only()
    site = settings.site()
    if run_as and not system:
        raise InvalidInput("--run-as is for --system")
    if system and site.said.startswith("~"):  # which is root's here, and the user's own in the service
        raise InvalidInput(f"data_dir = {site.said!r}: a service of the machine needs the whole path",
                           hint=f"as in data_dir = {str(site.data_dir)!r}")  # fmt: skip
    unit = Unit(
        name=_named(name), config=site.config, data_dir=site.data_dir.resolve(), python=sys.executable,
        user=(run_as or _owner(site.config)) if system else "", stop_seconds=_stop_seconds(site.config),
        delegate=_knows_subgroups(),
    )  # fmt: skip
    if show:
        sys.stdout.write(unit.text())
        return 0
    path = _folder(system) / f"{unit.name}.service"
    _refuse_foreign(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if system:  # the service may write here and nowhere else, so it must be there
            unit.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.chown(unit.data_dir, unit.user)
        path.write_text(unit.text(), "utf-8")
    except (OSError, LookupError) as error:
        raise Refused(f"{path} cannot be written: {error}", hint="sudo for --system") from None
    problem = _systemctl(system, "daemon-reload") or _systemctl(system, "enable", path.name)
    lingers = system or _lingers()
    if as_json:
        write_json({"unit": str(path), "enabled": not problem, "problem": problem, "linger": lingers})
        return 0
    word = " ".join(_word(system))
    write(f"wrote {path}" + ("" if problem else ", enabled"))
    if problem:
        warn(f"not enabled: {problem}; later: {word} daemon-reload && {word} enable {path.name}")
    else:
        write(f"start it now: {word} start {unit.name}")
    if not lingers:
        write("it ends with your last session, unless: loginctl enable-linger")
    return 0


def _knows_subgroups() -> bool:
    """Whether the systemd here is 254 or later; where none answers, the unit is for another machine."""
    tool = shutil.which("systemctl")
    if tool is None:
        return True
    try:
        done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return True
    found = re.match(r"systemd (\d+)", done.stdout)
    return found is None or int(found[1]) >= _SUBGROUPS_SINCE


def _uninstall(system: System = False, name: Name = "stablehand", as_json: AsJson = False) -> int:
    """Disable and remove the unit. A service that runs must be stopped first; data stay."""
    _linux_only()
    path = _folder(system) / f"{_named(name)}.service"
    if not path.exists():
        raise InvalidInput(f"there is no {path}")
    _refuse_foreign(path)
    facts_ = _shown(system, path.name)
    if facts_.get("ActiveState") in ("active", "activating", "reloading", "deactivating"):
        raise Refused(f"{path.name} runs", hint=f"{' '.join(_word(system))} stop {name}")
    _systemctl(system, "disable", path.name)
    try:
        path.unlink()
    except OSError as error:
        raise Refused(f"{path} cannot be removed: {error.strerror}") from None
    _systemctl(system, "daemon-reload")
    if as_json:
        write_json({"removed": str(path)})
    else:
        write(f"removed {path}")
    return 0


def _status(system: System = False, name: Name = "stablehand", as_json: AsJson = False) -> int:
    """Whether the unit is there, enabled and running; exit code 1 unless it runs."""
    _linux_only()
    path = _folder(system) / f"{_named(name)}.service"
    shown = _shown(system, path.name)
    state = shown.get("ActiveState", "unknown")
    answer = {
        "unit": str(path), "installed": path.exists(), "enabled": shown.get("UnitFileState") == "enabled",
        "state": state, "pid": int(shown.get("MainPID") or 0) or None, "status": shown.get("StatusText", ""),
        "restarts": int(shown.get("NRestarts") or 0), "linger": system or _lingers(),
    }  # fmt: skip
    if as_json:
        write_json(answer)
    elif not answer["installed"]:
        write(f"not installed: there is no {path}")
    else:
        write(facts([
            ("unit", Cell(str(path), "bold")),
            ("at start-up", Cell("enabled" if answer["enabled"] else "not enabled")),
            ("state", Cell(state if shown else "unknown: systemd does not answer here")),
            ("pid", Cell(str(answer["pid"] or "-"))),
            ("restarts", Cell(str(answer["restarts"]))),
            ("says", Cell(str(answer["status"] or "-"))),
            *([] if answer["linger"] else [("linger", Cell("off: it ends with your last session", "yellow"))]),
        ], colour=colour()))  # fmt: skip
    return 0 if state == "active" else 1


def _linux_only() -> None:
    if sys.platform != "linux":
        raise Refused("services are written for systemd here", hint="on Windows: deploy/windows/install-service.ps1")


def _named(name: str) -> str:
    bare = name.removesuffix(".service")
    if not _NAME.fullmatch(bare):
        raise InvalidInput(f"{name!r} is no name of a unit", hint="letters, digits and _ . @ -")
    return bare


def _folder(system: bool) -> Path:
    if system:
        return _SYSTEM_FOLDER
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def _refuse_foreign(path: Path) -> None:
    """A unit that somebody else wrote is his."""
    try:
        first = path.read_text("utf-8").partition("\n")[0]
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path} cannot be read: {error}") from None
    if first != MARK:
        raise Refused(f"{path} was not written by stablehand", hint="choose another --name, or remove it yourself")


def _owner(path: Path) -> str:
    import pwd

    return pwd.getpwuid(path.stat().st_uid).pw_name


def _stop_seconds(config: Path) -> float:
    """The longest that a bot of the file may take to stop; a longer one added later asks systemd for more."""
    table: dict[str, Any] = tomllib.loads(config.read_text("utf-8-sig"))
    bots = table.get("bots") if isinstance(table.get("bots"), list) else []
    said = [one.get("stop_timeout_seconds") for one in [table.get("bot_defaults"), *(bots or [])]
            if isinstance(one, dict)]  # fmt: skip
    return max([_STOP_DEFAULT, *(float(one) for one in said if isinstance(one, int | float))])


def _lingers() -> bool:
    import pwd

    return (_LINGER / pwd.getpwuid(os.getuid()).pw_name).exists()


def _word(system: bool) -> list[str]:
    return ["systemctl"] if system else ["systemctl", "--user"]


def _systemctl(system: bool, *words: str) -> str:
    """Have systemd do something; what it complains, empty when it did it."""
    try:
        done = subprocess.run([*_word(system), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=_SECONDS, check=False)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"systemctl: {error}"
    if done.returncode == 0:
        return ""
    return " ".join(done.stderr.split()) or f"systemctl ended with {done.returncode}"


def _shown(system: bool, unit: str) -> dict[str, str]:
    """What systemd knows of the unit; nothing where it does not answer."""
    try:
        done = subprocess.run(
            [*_word(system), "show", unit, f"--property={','.join(_SHOWN)}"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return {}
    if done.returncode != 0:
        return {}
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
