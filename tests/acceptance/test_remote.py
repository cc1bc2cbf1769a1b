"""A supervisor reached from another machine: keys, roles, refusals, revocation."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import zmq

from protocol.client import CommandFailed, ControlClient
from protocol.clientfile import ClientFile
from protocol.endpoints import Endpoints
from protocol.errors import DENIED, StablehandError
from protocol.keys import new_pair, secure_client
from supervisor.runtime.control import VIEWERS
from tests.console import COMMAND, stablehand
from tests.daemon import Daemon, bot_text, config_text
from tests.ports import two_free_ports
from tests.support import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.posix]

Make = Callable[..., Daemon]


@pytest.fixture
def remote(stable: Make) -> Daemon:
    port = two_free_ports()
    text = config_text(supervisor=f'control_bind = "tcp://127.0.0.1:{port}"\n', bots=bot_text("one"))
    daemon = stable(text).start()
    daemon.wait_all("running")
    return daemon


def key(daemon: Daemon, name: str, role: str) -> Path:
    return Path(stablehand(daemon.config, "keys", "new", name, "--role", role, "--json").json()["file"])


def events(client: ControlClient, since: int | None) -> Generator[dict[str, Any], None, None]:
    return cast("Generator[dict[str, Any], None, None]", client.follow(since=since))


def over(file: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command on another machine: it has the client file and nothing else."""
    return subprocess.run(
        [*COMMAND, "--connect", str(file), *words], capture_output=True, text=True, check=False, timeout=60, cwd="/"
    )  # fmt: skip


@pytest.mark.both_profiles
def test_a_viewer_looks_and_an_operator_does(remote: Daemon) -> None:
    anna, otto = key(remote, "anna", "viewer"), key(remote, "otto", "operator")
    assert stat.S_IMODE(anna.stat().st_mode) == 0o600
    assert anna.parent == remote.data_dir / "keys"
    done = over(anna, "status")
    assert done.returncode == 0 and "one" in done.stdout, done
    done = over(anna, "stop", "one")
    assert (done.returncode, done.stderr) == (
        1, "stablehand: stop: a viewer may only look (it needs the role operator)\n",
    )  # fmt: skip
    with ControlClient.from_file(anna) as viewer:
        assert viewer.ping()["pid"] == remote.pid
        assert eventually(lambda: viewer.request("equity"), what="a sample of the account")[0]["account"] == "main"
        for command in ("start", "stop", "add", "update", "remove", "reload", "down", "handover", "keys", "key_add",
                        "key_revoke", "halt", "backup", "nonsense"):  # fmt: skip
            with pytest.raises(CommandFailed) as refused:
                viewer.request(command, {"all": True})
            assert refused.value.code == DENIED and command not in VIEWERS
    assert remote.bot("one")["wanted"] == "running"
    assert over(otto, "stop", "one", "--wait", "20").returncode == 0
    assert remote.bot("one")["state"] == "stopped"
    done = over(otto, "config", "check")
    assert done.returncode == 2 and "own machine" in done.stderr
    assert stablehand(remote.config, "keys", "list", "--json").json()[0]["name"] == "anna"


def test_strangers_are_refused_and_counted(remote: Daemon) -> None:
    file = ClientFile.load(key(remote, "anna", "viewer"))
    before = remote.ask("host")["refused_keys"]
    pair = new_pair()
    with ControlClient(endpoints=file.endpoints, key=pair) as stranger, pytest.raises(StablehandError) as refused:
        stranger.ping()
    assert refused.value.code == DENIED
    other = replace(file.endpoints, server_key=new_pair().public)  # a supervisor that only says that it is ours
    with ControlClient(endpoints=other, key=file.keys, timeout=1.0) as fooled, pytest.raises(StablehandError):
        fooled.ping()
    eventually(lambda: remote.ask("host")["refused_keys"] > before)
    log = (remote.data_dir / "logs" / "supervisor.log").read_text()
    assert "an unknown key was refused" in log
    assert file.secret not in log


def test_revoking_holds_at_once_and_over_a_restart(remote: Daemon) -> None:
    made, otto = key(remote, "anna", "viewer"), key(remote, "otto", "operator")
    anna = remote.folder / "old.client"
    shutil.copy(made, anna)  # as it lies on the machine that it was brought to
    with ControlClient.from_file(anna) as viewer, ControlClient.from_file(otto) as operator:
        assert viewer.status() and operator.status()
        seen: list[str] = []
        follower = events(viewer, None)
        operator.restart(["one"], wait=20)
        seen.append(next(follower)["type"])
        assert stablehand(remote.config, "keys", "revoke", "anna").code == 0
        with pytest.raises(CommandFailed, match="no longer known"):
            viewer.request("status")  # over the connection that stands
        assert operator.status()
        # The stream of events comes back for those who may still see it.
        following = events(operator, operator.events(limit=1)["last"])
        operator.restart(["one"], wait=20)
        assert next(following)["bot"] == "one"
        following.close()
        follower.close()
    with ControlClient.from_file(anna) as viewer, pytest.raises(StablehandError) as refused:
        viewer.ping()
    assert refused.value.code == DENIED
    # The name is free again, and the old key does not come back with it.
    assert not made.exists()
    key(remote, "anna", "viewer")
    remote.down()
    remote.start()
    assert over(otto, "status").returncode == 0
    assert over(remote.data_dir / "keys" / "anna.client", "status").returncode == 0
    assert over(remote.folder / "old.client", "status").returncode == 1


def test_what_is_wrong_with_keys_is_said_in_one_line(remote: Daemon, stable: Make) -> None:
    anna = key(remote, "anna", "viewer")

    def said(*words: str, code: int = 2) -> str:
        return stablehand(remote.config, "keys", *words).line(code)

    assert "there is a" in said("new", "anna", "--role", "viewer")
    assert "exists already" in said("new", "anna", "--role", "viewer", "--to", "x.client", code=1)
    assert not (remote.folder / "x.client").exists()
    assert "unknown role 'king'" in said("new", "otto", "--role", "king")
    assert "is no name" in said("new", "a b", "--role", "viewer")
    assert "did you mean 'anna'" in said("revoke", "ana")
    anna.chmod(0o644)
    done = over(anna, "status")
    assert done.returncode == 1 and "can be read by others" in done.stderr
    closed = stable(config_text(profile="default", bots=bot_text("one")), "two").start()
    assert "control_bind" in stablehand(closed.config, "keys", "new", "x", "--role", "viewer").line(1)


def test_a_halt_from_another_machine_tells_what_is_in_force(remote: Daemon) -> None:
    """Also while a gateway does not hear: the supervisor has it, and only that can be said from there."""
    otto = key(remote, "otto", "operator")
    gateway = remote.ask("accounts")[0]["pid"]
    os.kill(gateway, signal.SIGSTOP)
    try:
        done = over(otto, "halt", "--reason", "from afar")
        assert (done.returncode, done.stdout) == (0, "halted: all\n"), done
        assert done.stderr.startswith("stablehand: account main: not told yet: ") and done.stderr.count("\n") == 1
    finally:
        os.kill(gateway, signal.SIGCONT)
    remote.kill()
    done = over(otto, "halt", "--reason", "from afar")
    assert done.returncode == 3 and "no supervisor answers" in done.stderr and "own machine" not in done.stderr, done
    remote.start()


@pytest.mark.parametrize("beside", [False, True], ids=["own_socket", "control_bind"])
def test_a_revoked_key_hears_nothing_more_over_the_stream_that_stands(stable: Make, beside: bool) -> None:
    """Over whichever socket it came: with keys, the one for this machine lets the same clients in."""
    port = two_free_ports()
    more = f'control_bind = "tcp://127.0.0.1:{port}"\n' if beside else ""
    daemon = stable(config_text(profile="portable", supervisor=more, bots=bot_text("one"))).start()
    daemon.wait_all("running")
    anna, otto = (ClientFile.load(key(daemon, name, "viewer")) for name in ("anna", "otto"))
    where = Endpoints.load(daemon.data_dir).events  # of this machine
    with zmq.Context() as context, ExitStack() as stack:
        heard = []
        for client in (anna, otto):
            socket = stack.enter_context(context.socket(zmq.SUB))
            socket.linger = 0
            secure_client(socket, client.keys, client.endpoints.server_key)
            socket.subscribe(b"")
            socket.connect(where)
            heard.append(socket)

        def made() -> bool:
            daemon.ask("restart", bots=["one"], wait=20)
            return all(socket.poll(500) for socket in heard)

        eventually(made, 30, what="both hear what happens")
        assert stablehand(daemon.config, "keys", "revoke", "anna").code == 0
        for socket in heard:
            while socket.poll(200):  # what was on its way
                socket.recv_multipart()

        def still() -> bool:
            daemon.ask("restart", bots=["one"], wait=20)
            return bool(heard[1].poll(500))

        eventually(still, 30, what="the other hears on")
        assert not heard[0].poll(500)
