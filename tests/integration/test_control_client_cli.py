"""The command `stablehand` as a process, against a scripted supervisor with real sockets."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from console import settings
from console.commands import trading
from console.main import main
from protocol.client import ControlClient
from protocol.conversation import encode_request
from protocol.errors import StablehandError
from tests.scripted import T0, ScriptedSupervisor
from tests.support import eventually

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "control-protocol.md"
HEAVY = ("rich", "pydantic", "pandas", "numpy", "sqlalchemy", "typer", "asyncio")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "supervisor.toml").write_text('[supervisor]\ndata_dir = "var"\n')
    return tmp_path


@pytest.fixture
def server(home: Path) -> Iterator[ScriptedSupervisor]:
    with ScriptedSupervisor(home / "var") as supervisor:
        yield supervisor


def run(home: Path, *words: str, code: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    start = ["-c", code] if code else ["-m", "console"]
    return subprocess.run(
        [sys.executable, *start, *words], cwd=home, capture_output=True, text=True, timeout=30, check=False,
        stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT), **env},
    )  # fmt: skip


def daemon(home: Path) -> dict[str, str]:
    """A package `supervisor` that is the scripted one, before the real one on the path."""
    package = home / "fake" / "supervisor"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("from tests.scripted import main\nraise SystemExit(main())\n")
    return {"PYTHONPATH": f"{home / 'fake'}{os.pathsep}{ROOT}"}


@pytest.mark.parametrize("words", [["status", "eurusd-ma"], ["status", "--json"]])
def test_status_imports_nothing_heavy(home: Path, server: ScriptedSupervisor, words: list[str]) -> None:
    code = (
        "import sys; from console.main import main; code = main(sys.argv[1:]); "
        f"sys.stderr.write(','.join(m for m in {HEAVY!r} if m in sys.modules)); sys.exit(code)"
    )
    done = run(home, *words, code=code)
    assert (done.returncode, done.stderr) == (0, "")
    assert "eurusd-ma" in done.stdout


JSON_VERBS = [
    "status", "show eurusd-ma", "analysis eurusd-ma", "history eurusd-ma", "positions", "deals", "account",
    "accounts", "strategies", "symbols", "equity main --since 2020-01-01", "events --since 1", "start --all",
    "stop eurusd-ma --wait 1", "restart --all",
    "pause --where market=EURUSD", "resume eurusd-ma", "add new market=EURUSD strategy=X", "update --all priority=3",
    "reload --dry-run", "reload --yes", "remove eurusd-ma --positions close --yes",
]  # fmt: skip


@pytest.fixture
def stay(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in the home folder, in this process."""
    monkeypatch.setattr(settings, "_chosen", None)
    monkeypatch.chdir(home)
    return home


@pytest.mark.parametrize("verb", JSON_VERBS)
def test_every_verb_speaks_json_and_only_json(
    stay: Path, server: ScriptedSupervisor, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bots = list(server.bots)
    assert main(verb.split()) == 0
    assert capsys.readouterr().out
    server.bots = bots
    assert main([*verb.split(), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) is not None


def test_requests_are_what_was_typed(stay: Path, server: ScriptedSupervisor) -> None:
    (stay / "bots.toml").write_text("[[bots]]\nname = 'a'\npriority = 2\n[[bots]]\nname = 'b'\nwanted = 'stopped'\n")
    for words, cmd, args in (
        ("start eurusd-ma eurusd-ma --wait 3", "start", {"bots": ["eurusd-ma"], "wait": 3.0}),
        ("stop --all --kill", "stop", {"all": True, "mode": "kill"}),
        ("pause --where market=EURUSD --where priority=5", "pause", {"where": {"market": "EURUSD", "priority": 5}}),
        (
            "add x market=EURUSD params.fast=10", "add",
            {"bots": [{"name": "x", "market": "EURUSD", "params": {"fast": 10}}]},
        ),
        ("add --file bots.toml", "add", {"bots": [{"name": "a", "priority": 2}, {"name": "b", "wanted": "stopped"}]}),
        ("update eurusd-ma priority=7", "update", {"bots": ["eurusd-ma"], "set": {"priority": 7}}),
        (
            "update --file bots.toml", "update",
            {"updates": [{"name": "a", "set": {"priority": 2}}, {"name": "b", "set": {"wanted": "stopped"}}]},
        ),
        ("deals --account main --bot eurusd-ma", "deals", {"account": "main", "bot": "eurusd-ma"}),
        ("remove us500-ma --positions keep --yes", "remove", {"bots": ["us500-ma"], "positions": "keep"}),
    ):  # fmt: skip
        assert main(words.split()) == 0
        assert (server.requests[-1]["cmd"], server.requests[-1]["args"]) == (cmd, args)


def test_equity_of_a_long_time_is_thinned_and_says_so(
    stay: Path, server: ScriptedSupervisor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trading, "_PAGE", 50)
    assert main(["equity", "main", "--since", "2020-01-01", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["at"] for row in rows] == [T0 + 60.0 * number for number in range(120)], "every page, nothing twice"
    sent = [one["args"] for one in server.requests]
    assert sent[0] == {"account": "main", "since": 1_577_836_800.0, "limit": 50} and len(sent) == 3
    assert main(["equity", "--since", "2020-01-02T01:30+01:00"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["TIME", "(UTC)", "BALANCE", "EQUITY", "DRAWDOWN"]
    assert lines[1].split() == ["2020-01-02", "00:31:00", "10,000.00", "10,030.00", "0.00", "%"]
    assert "89 samples, 48 shown" in lines[-2] and len(lines) == 1 + 48 + 3
    assert lines[-1] == "equity 10,000.00 to 10,060.00; deepest drawdown 0.60 % at 2020-01-02 00:35:00"
    assert "account" not in server.requests[-1]["args"]
    assert main(["equity", "--since", "90m"]) == 0
    assert capsys.readouterr().out.startswith("no samples since 20")


def test_failures_are_named_and_exit_1(home: Path, server: ScriptedSupervisor) -> None:
    server.answers["start"] = {
        "done": ["a"], "already": ["b"], "failed": {"c": "no strategy X"}, "reached": [],
        "missed": {"a": "starting: dependency: gateway down"},
    }  # fmt: skip
    done = run(home, "start", "a", "b", "c", "--wait", "1")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "stablehand: c: no strategy X",
        "stablehand: a: not running within 1 s: starting: dependency: gateway down",
    ]
    assert run(home, "start", "a", "b", "c", "--wait", "1", "--json").returncode == 1


@pytest.mark.parametrize("words", [["status"], ["positions", "--json"], ["down"]])
def test_no_supervisor_is_exit_3(home: Path, words: list[str]) -> None:
    done = run(home, *words)
    assert (done.returncode, done.stdout) == (3, "")
    assert re.fullmatch(r"stablehand: no supervisor .*\n", done.stderr)


def test_refusal_of_the_supervisor(home: Path, server: ScriptedSupervisor) -> None:
    done = run(home, "status", "eurusd")
    assert (done.returncode, done.stderr) == (2, "stablehand: there is no bot 'eurusd' (did you mean eurusd-ma?)\n")

    def refuse(args: dict[str, Any]) -> Any:
        raise StablehandError("the gateway of main is down", code="unavailable")

    server.answers["positions"] = refuse
    assert run(home, "positions").returncode == 1


def test_reload_without_a_person_only_shows(home: Path, server: ScriptedSupervisor) -> None:
    done = run(home, "reload")
    assert done.returncode == 1
    assert "not applied" in done.stderr
    assert "risk_percent  1.0 → 2.0" in done.stdout
    assert [r["args"] for r in server.requests] == [{"apply": False}]
    run(home, "reload", "--yes")
    assert server.requests[-1]["args"] == {"apply": True}
    server.answers["reload"] = {
        "added": [], "removed": [], "changed": {}, "overrides": {"a": {"priority": 7}},
        "applied": False, "supervisor": {},
    }  # fmt: skip
    lines = run(home, "reload").stdout.splitlines()
    assert lines == ["the file and the stable agree", "  a: set by update, and stays: priority = 7"]


def test_events_follow_over_a_restart_of_the_supervisor(home: Path) -> None:
    first = ScriptedSupervisor(home / "var")
    # As a terminal starts it: where tests run in a shell's background, an interrupt is ignored.
    opened = (
        "import os,signal,sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.executable, sys.argv[1:])"
    )
    words = [sys.executable, "-c", opened]
    words += [sys.executable, "-m", "console", "events", "-f", "--since", "2", "--json"]
    with subprocess.Popen(words, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert json.loads(follower.stdout.readline())["seq"] == 3
        first.close()
        with ScriptedSupervisor(home / "var") as second:
            second.record("after the restart")
            assert json.loads(follower.stdout.readline())["text"] == "after the restart"
            follower.send_signal(signal.SIGINT)
            assert follower.wait(10) == 130


def test_logs(home: Path, server: ScriptedSupervisor) -> None:
    (home / "var" / "logs").mkdir()
    (home / "var" / "logs" / "eurusd-ma.log").write_text(
        '{"time": "12:00", "level": "INFO", "message": "hello"}\nplain\n'
    )
    assert run(home, "logs", "eurusd-ma").stdout == "12:00 INFO    hello\nplain\n"
    lines = run(home, "logs", "eurusd-ma", "--json").stdout.splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["hello", "plain"]


@pytest.mark.posix
def test_up_detached_and_down(home: Path) -> None:
    env = daemon(home)
    done = run(home, "up", "--detach", **env)
    assert done.returncode == 0, done.stderr
    pid = int(re.fullmatch(r"stablehand 0.1.0 ready: 6 bots, pid (\d+)\n", done.stdout)[1])  # type: ignore[index]
    assert os.getsid(pid) == pid
    done = run(home, "down", "--json", **env)
    assert json.loads(done.stdout) == {"stopping": 6, "pid": pid, "gone": True}
    assert run(home, "up", "--detach", "--json", **env).returncode == 0
    assert run(home, "handover", **env).stdout.startswith("the bots trade on; ")


@pytest.mark.posix
def test_up_passes_a_failure_on(home: Path) -> None:
    env = {**daemon(home), "SCRIPTED_FAILURE": "var is in use by process 7"}
    for words in (["up", "--detach"], ["up"]):
        done = run(home, *words, **env)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", "stablehand: var is in use by process 7\n")


@pytest.mark.posix
def test_up_without_a_terminal_becomes_the_supervisor(home: Path) -> None:
    env = {**os.environ, **daemon(home)}
    up = subprocess.Popen([sys.executable, "-m", "console", "up"], cwd=home, stdout=subprocess.PIPE, text=True, env=env)
    with up:
        assert up.stdout is not None
        assert up.stdout.readline() == f"stablehand 0.1.0 ready: 6 bots, pid {up.pid}\n"
        up.terminate()
        assert up.wait(10) == 0
        assert up.stdout.read() == "stablehand: all stopped\n"


@pytest.mark.posix
def test_live_table_in_a_terminal(home: Path) -> None:
    import pty

    env = {**daemon(home), "SCRIPTED_END": "0.5", "COLUMNS": "100", "LINES": "30", "TERM": "xterm"}
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(home)
        os.execve(sys.executable, [sys.executable, "-m", "console", "up"], {**os.environ, **env})
    seen = bytearray()
    os.set_blocking(terminal, False)

    def shows(text: str) -> bool:
        try:
            seen.extend(os.read(terminal, 65_536))
        except (BlockingIOError, OSError):
            pass  # nothing yet, or (EIO) the other end has closed
        return text in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode("utf-8", "replace"))

    try:
        eventually(lambda: shows("starting…"), 10)
        eventually(lambda: shows("ready: 6 bots"), 10)
        eventually(lambda: shows("Ctrl-C stops everything") and shows("+0.10 @ 1.08524"), 10)
        os.write(terminal, b"\x03")  # the terminal turns it into SIGINT for both
        eventually(lambda: shows("stopping everything"), 10)
        eventually(lambda: shows("stablehand: all stopped"), 10)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(terminal)


def test_the_client_of_the_documentation_runs(home: Path, server: ScriptedSupervisor, tmp_path: Path) -> None:
    section = PAGE.read_text("utf-8").split("## A client in plain pyzmq and msgpack")[1]
    code = re.search(r"```python\n(.*?)```", section, re.S)
    assert code is not None
    assert len(code[1].strip().splitlines()) <= 22
    script = tmp_path / "client.py"
    script.write_text(code[1])
    done = subprocess.run(
        [sys.executable, "-I", str(script), str(home / "var")], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "eurusd-ma running 41.2"


def test_the_python_example_of_the_documentation_runs(home: Path, server: ScriptedSupervisor) -> None:
    section = PAGE.read_text("utf-8").split("## Python")[1]
    code = re.search(r"```python\n(.*?)```", section, re.S)
    assert code is not None
    done = run(home, code=code[1])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "1 state supervisor ready"


def test_the_bytes_of_the_documentation_are_the_bytes() -> None:
    dump = PAGE.read_text("utf-8").split("as a REQ socket sends it:")[1].split("```")[1]
    text = "".join(match[1] for match in re.finditer(r"^(?:frame 2)?\s+((?:[0-9a-f]{2} ?)+)(?:\s{2,}|$)", dump, re.M))
    frame = bytes.fromhex(text.replace(" ", ""))
    assert frame == msgpack.packb({"v": 1, "id": "a1", "cmd": "ping", "args": {}})
    name, ours = encode_request("ping", {})
    assert ours == frame.replace(b"\xa2a1", msgpack.packb(name))


def test_a_repeated_id_is_not_done_twice(home: Path, server: ScriptedSupervisor) -> None:
    with ControlClient(home / "var") as client:
        before = client.ping()["uptime_s"]
        assert client.ping()["uptime_s"] > before
