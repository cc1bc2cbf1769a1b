"""Windows' way on this machine: nothing that all systems import may need what only POSIX has."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("protocol", "store", "broker", "botproc", "supervisor", "console")
#: The launcher that forks, and its helper, run only where there is a fork; everywhere else the spawner stands in.
FORKING = frozenset({"botproc.launcher", "botproc.helper"})

#: Imports every module as it is, which brings in the libraries (theirs is theirs), then takes POSIX away and
#: imports every module again. Prints {module: what went wrong}.
_PROGRAM = r"""
import importlib, json, sys, traceback, types

names = json.loads(sys.stdin.read())
for name in names:
    importlib.import_module(name)
rooms = {name.split(".")[0] for name in names}
for name in list(sys.modules):
    if name.split(".")[0] in rooms:
        del sys.modules[name]

import asyncio, os, select, signal, socket, subprocess
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "uvloop", "_posixsubprocess", "posix"):
    sys.modules[name] = None
gone = {
    os: "fork forkpty getuid geteuid getgid getpgid setpgid setsid getsid killpg waitid P_PID WNOWAIT WEXITED"
        " WNOHANG register_at_fork nice getloadavg sched_getaffinity posix_spawn pidfd_open O_CLOEXEC pread pwrite"
        " closerange wait3 wait4 CLD_EXITED CLD_DUMPED WIFEXITED fchmod chown mkfifo",
    signal: "SIGKILL SIGHUP SIGCHLD SIGQUIT SIGUSR1 SIGUSR2 SIGALRM SIGSTOP SIGCONT SIGPIPE SIG_BLOCK SIG_SETMASK"
        " pthread_sigmask pidfd_send_signal alarm setitimer siginterrupt sigwait sigtimedwait",
    socket: "AF_UNIX SOCK_SEQPACKET MSG_DONTWAIT SO_PEERCRED SCM_RIGHTS",
    select: "epoll poll",
}
for module, attributes in gone.items():
    for attribute in attributes.split():
        if hasattr(module, attribute):
            delattr(module, attribute)
signal.SIGBREAK, signal.CTRL_BREAK_EVENT = 21, 1
subprocess.CREATE_NEW_PROCESS_GROUP, subprocess.CREATE_BREAKAWAY_FROM_JOB = 0x200, 0x1000000
subprocess.DETACHED_PROCESS = 8
os.O_NOINHERIT = 0
asyncio.WindowsSelectorEventLoopPolicy = asyncio.DefaultEventLoopPolicy
msvcrt = types.ModuleType("msvcrt")
msvcrt.LK_NBLCK, msvcrt.locking = 2, lambda fd, mode, count: None
sys.modules["msvcrt"] = msvcrt
sys.platform = "win32"

wrong = {}
for name in names:
    try:
        importlib.import_module(name)
    except BaseException:
        wrong[name] = traceback.format_exc(limit=-3)
try:
    exec(sys.argv[1])
except BaseException:
    wrong["afterwards"] = traceback.format_exc(limit=-3)
print(json.dumps(wrong))
"""

#: What the modules then say and do.
_AFTERWARDS = r"""
import os, pathlib, tempfile
from botproc.children import number_of
from protocol.endpoints import default_transport, run_directory
from protocol.locks import FileLock, holder_of
from protocol.process import is_alive, own_identity
from supervisor.config import parse
from supervisor.runtime.launchers import choose
from supervisor.runtime.perform import _SIGNALS
text = '[accounts.main]\nkind = "paper"\n[[bots]]\nname = "one"\nmarket = "EURUSD"\nstrategy = "MA_CROSSOVER"\n'
import tomllib
config = parse(pathlib.Path("supervisor.toml"), text, tomllib.loads(text))
assert choose(config) == ("spawn", "tcp"), choose(config)
assert default_transport() == "tcp"
assert [number_of(one) for one in ("KILL", "SIGKILL", 9, "TERM")] == [9, 9, 9, 15]
assert _SIGNALS["KILL"] == 9
assert is_alive(own_identity())
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "locks", "one")
    with FileLock(path):
        assert holder_of(path) == os.getpid()
    assert run_directory(pathlib.Path(folder)).is_dir()
"""


def modules() -> list[str]:
    """Every module of the rooms but those that fork."""
    names = []
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return [name for name in names if name not in FORKING]


def without_posix(names: list[str], afterwards: str = "", folder: Path = ROOT) -> dict[str, str]:
    """What goes wrong when these modules are imported where there is no POSIX, and `afterwards` is done then."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, afterwards],
        input=json.dumps(names),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wrong: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return wrong


def test_every_module_imports_where_there_is_no_posix() -> None:
    names = modules()
    assert len(names) > 100 and {"botproc.spawner", "supervisor.__main__", "broker.gateway.service"} <= set(names)
    wrong = without_posix(names, _AFTERWARDS)
    assert wrong == {}, "\n".join(f"{name}:\n{text}" for name, text in wrong.items())


@pytest.mark.parametrize(
    "line",
    ["import fcntl", "from os import fork", "import signal; X = signal.SIGKILL", "import socket; X = socket.AF_UNIX"],
)
def test_what_only_posix_has_is_seen(tmp_path: Path, line: str) -> None:
    (tmp_path / "needy.py").write_text(line)
    assert list(without_posix(["needy"], folder=tmp_path)) == ["needy"]


#: What asyncio offers on POSIX only, or not on the loop that watches sockets on Windows.
_FOREIGN = frozenset(
    {
        "create_subprocess_exec", "create_subprocess_shell", "subprocess_exec", "subprocess_shell",
        "connect_read_pipe", "connect_write_pipe", "open_unix_connection", "start_unix_server",
        "create_unix_connection", "create_unix_server", "add_child_handler",
    }
)  # fmt: skip


def test_the_daemon_uses_nothing_of_asyncio_that_windows_lacks() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.attr}"
        for path in sorted((ROOT / "supervisor").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in _FOREIGN
    ]
    assert found == []
