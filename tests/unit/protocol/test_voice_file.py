"""What a program is told of the bus: who may read it, when it goes, and what its own client needs of Stablehand."""

from __future__ import annotations

import ast
import json
import stat
import sys
from pathlib import Path

import pytest

from protocol import beat
from protocol.codec import decode, pack
from protocol.errors import BadFrame
from protocol.link import HELLO_AGAIN
from protocol.messages import WIRE, Phase, Voice
from protocol.spec import RunSpec
from protocol.voice import remove_voice, sweep_voices, voice_path, voice_token, write_voice


def spec(bot_id: int, epoch: int) -> RunSpec:
    return RunSpec(
        kind="program", token=f"t{epoch}", bot_id=bot_id, epoch=epoch, name="one", installation="i", data_dir="/",
        lock_path="", log_path="", bus="ipc:///b", server_key="s", public_key="p", secret_key="k",
    )  # fmt: skip


def test_the_file_is_private_and_does_not_lead_back_to_the_run(tmp_path: Path) -> None:
    path = write_voice(tmp_path, spec(1, 7))
    assert path.name == "bus-1-7.json" and stat.S_IMODE(path.stat().st_mode) == 0o600
    told = json.loads(path.read_text())
    assert told == {
        "bus": "ipc:///b", "token": voice_token("t7"), "server_key": "s", "public_key": "p", "secret_key": "k",
    }  # fmt: skip
    assert len(voice_token("t7")) == 32 and "t7" not in path.read_text()
    assert voice_token("t7") != voice_token("t8")


def test_files_go_with_their_runs(tmp_path: Path) -> None:
    for bot_id, epoch in ((1, 7), (12, 3), (13, 1)):
        write_voice(tmp_path, spec(bot_id, epoch))
    (tmp_path / "bus.sock").touch()
    write_voice(tmp_path, spec(1, 8))  # in the place of the older one, and of no other program's
    write_voice(tmp_path, spec(1, 8))  # what a killed minder left of the same epoch does not matter
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"bus-1-8.json", "bus-12-3.json", "bus-13-1.json", "bus.sock"}
    remove_voice(tmp_path, 1, 8)
    remove_voice(tmp_path, 1, 8)
    sweep_voices(tmp_path, {(12, 3), (13, 2)})
    assert {path.name for path in tmp_path.iterdir()} == {"bus-12-3.json", "bus.sock"}
    assert voice_path(tmp_path, 12, 3).exists()


def test_the_introduction_is_a_message() -> None:
    assert decode(pack({"t": "voice", "wire": 1, "token": "x", "pid": 3, "later": 1})) == Voice(token="x", pid=3)
    for wrong in ({"t": "voice", "token": 1, "pid": 3}, {"t": "voice", "token": "x"}):
        with pytest.raises(BadFrame):
            decode(pack(wrong))


def test_a_program_may_take_the_client_along_alone() -> None:
    assert beat.__file__ is not None
    imported = set()
    for node in ast.walk(ast.parse(Path(beat.__file__).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).split(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"zmq", "msgpack"}
    # So it repeats what the protocol says elsewhere.
    assert (beat._WIRE, beat._WATCHED, beat._SAY_IT_AGAIN) == (WIRE, Phase.WATCHED, HELLO_AGAIN)
