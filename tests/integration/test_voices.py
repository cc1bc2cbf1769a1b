"""Programs that beat over the bus: a real bus, real connections with and without keys, and who is heard there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zmq

from protocol import codec
from protocol.beat import Beat
from protocol.codec import MAX_FRAME
from protocol.keys import KeyPair, new_pair, secure_server
from protocol.messages import Hello, Message, Ready, Unwelcome, Voice, Welcome
from protocol.programconfig import ProgramConfig
from protocol.voice import voice_token
from supervisor.runtime import clock
from supervisor.runtime.bus import Bus
from supervisor.runtime.registry import Record, Registry, Run
from supervisor.runtime.sockets import server_socket
from supervisor.runtime.voices import VoiceState
from supervisor.runtime.zap import BUS, KeyDoor, run_user

PROGRAM = ProgramConfig.model_validate({"name": "one", "command": ["x"], "heartbeat": "bus"})


class Ears:
    """What the daemon would hear."""

    def __init__(self) -> None:
        self.hellos: list[Hello] = []
        self.said: list[Message] = []
        self.bad: list[str] = []

    def hello(self, record: Record, message: Hello) -> None:
        self.hellos.append(message)

    def heard(self, record: Record, message: Message) -> None:
        self.said.append(message)

    def analysis_hello(self, message: Hello, reply: Callable[[Message], bool]) -> bool:
        return False

    def analysis_heard(self, token: str, message: Message) -> None:
        raise AssertionError("there is no analysis")

    def bad_frame(self, error: Exception) -> None:
        self.bad.append(str(error))


@dataclass
class Yard:
    """A bus as a supervisor has it, and two programs' runs of which it knows."""

    context: zmq.Context[Any]
    folder: Path
    server: KeyPair | None
    door: KeyDoor | None
    ears: Ears = field(default_factory=Ears)
    keys: dict[str, KeyPair] = field(default_factory=dict)
    address: str = ""

    def open(self) -> None:
        """Bind; a second time: as the next supervisor, which knows the runs and none of the connections."""
        socket = server_socket(self.context, zmq.ROUTER, MAX_FRAME)
        secure_server(socket, self.server, BUS)
        fresh = "tcp://127.0.0.1:*" if self.server else f"ipc://{self.folder / 'bus.sock'}"
        socket.bind(self.address or fresh)
        self.address = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.registry = Registry()
        self.bus = Bus(socket, self.registry, self.ears, "boot", 0.1, keyed=self.server is not None)
        self.bus.accepting = True

    def program(self, name: str, bot_id: int, *, greeted: bool = True) -> Run:
        """The run of a program, whose minder has said Hello."""
        record = Record(bot_id, name, "program", "running", "", program=PROGRAM)
        self.registry.add(record)
        run = Run(epoch=4, token=f"{name}-token", started_at=0.0, started=0.0)
        self.registry.take_over(record, run)
        if greeted:
            run.voice = VoiceState(since=clock.now())
        if self.door is not None:
            pair = self.keys.setdefault(name, new_pair())
            self.door.admit(pair.public, run_user(bot_id), BUS)
        return run

    def line(self, name: str) -> zmq.Socket[bytes]:
        """A connection with the keys of that program."""
        made: zmq.Socket[bytes] = self.context.socket(zmq.DEALER)
        made.linger = 0
        if self.server is not None:
            made.curve_serverkey = self.server.public.encode()
            made.curve_publickey, made.curve_secretkey = (
                self.keys[name].public.encode(),
                self.keys[name].secret.encode(),
            )
        made.connect(self.address)
        return made

    def told(self, name: str, run: Run) -> dict[str, str]:
        """What its file would say."""
        pair = self.keys.get(name)
        return {
            "bus": self.address,
            "token": voice_token(run.token),
            "server_key": self.server.public if self.server else "",
            "public_key": pair.public if pair else "",
            "secret_key": pair.secret if pair else "",
        }


@contextlib.asynccontextmanager
async def yard(folder: Path, transport: str) -> AsyncIterator[Yard]:
    context: zmq.Context[Any] = zmq.Context()
    door = KeyDoor(context) if transport == "tcp" else None
    made = Yard(context, folder, new_pair() if door else None, door)
    made.open()
    try:
        yield made
    finally:
        made.bus.close()
        if door is not None:
            door.close()
        context.destroy(linger=0)


async def until(what: Callable[[], Any]) -> None:
    for _ in range(1000):
        if what():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not within 10 s")


async def answer(line: zmq.Socket[bytes], said: Message | bytes) -> Message:
    line.send(said if isinstance(said, bytes) else codec.encode(said))
    await until(lambda: line.poll(0))
    return codec.decode(line.recv_multipart()[-1])


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_a_program_beats_and_introduces_itself_again_to_the_next_supervisor(
    tmp_path: Path, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with yard(tmp_path, transport) as made:
            run = made.program("one", 1)
            file = tmp_path / "bus-1-4.json"
            file.write_text(json.dumps(made.told("one", run)))
            monkeypatch.setenv("STABLEHAND_BUS", str(file))
            with Beat.from_environment() as beat:

                def heard(run: Run, cycles: int = 0) -> bool:
                    beat.send()
                    voice = run.voice
                    return voice is not None and voice.beat is not None and voice.beat.cycles > cycles and beat.welcomed

                def refused() -> str:
                    beat.send()
                    return beat.refused

                await until(lambda: heard(run))
                assert run.voice is not None and run.voice.pid == os.getpid()
                first = run.voice.beat.cycles if run.voice.beat else 0
                made.bus.close()
                await asyncio.sleep(0.1)
                made.open()
                again = made.program("one", 1, greeted=False)
                for _ in range(30):  # its minder has not spoken yet
                    assert not heard(again)
                    await asyncio.sleep(0.01)
                again.voice = VoiceState(since=clock.now())
                await until(lambda: heard(again, first))
                assert made.ears.bad == [] and made.ears.said == [] and refused() == ""
                made.registry.end_run(made.registry.by_id[1])
                beats = made.bus.heartbeats
                await until(refused)
                assert refused() == "unknown run" and made.bus.heartbeats == beats

    asyncio.run(story())


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_who_is_not_that_program_is_refused_and_counted(tmp_path: Path, transport: str) -> None:
    async def story() -> None:
        async with yard(tmp_path, transport) as made:
            one, two = made.program("one", 1), made.program("two", 2)
            plain = made.program("plain", 3, greeted=False)
            plain.route = b"its minder"
            with made.line("one") as line:
                wrong = {
                    "not_a_token": "x" * 32,
                    "its_run": one.token,  # with that it would be its own minder
                    "another_run": two.token,
                    "not_of_the_bus": voice_token(plain.token),
                }
                for token in wrong.values():
                    refusal = await answer(line, Voice(token=token, pid=7))
                    assert isinstance(refusal, Unwelcome) and refusal.reason != "hello?", token
                assert len(made.ears.bad) == len(wrong) and all(
                    "process 7 may not beat" in one for one in made.ears.bad
                )
                if transport == "tcp":  # there its key says who it is
                    refusal = await answer(line, Voice(token=voice_token(two.token), pid=7))
                    assert isinstance(refusal, Unwelcome) and "key" in refusal.reason
                    hello = Hello(kind="program", bot_id=2, epoch=4, token=two.token, name="two", pid=7,
                                  start_ticks=1, boot_id="b")  # fmt: skip
                    refusal = await answer(line, hello)
                    assert isinstance(refusal, Unwelcome) and "key" in refusal.reason
                    assert made.ears.hellos == []
                old = voice_token(one.token)
                made.registry.new_run(made.registry.by_id[1], 5, 0.0, 0.0)
                assert isinstance(await answer(line, Voice(token=old, pid=7)), Unwelcome)
            assert one.voice is not None and one.voice.route is None and two.voice is not None
            assert two.voice.route is None and made.bus.heartbeats == 0

    asyncio.run(story())


def test_on_its_route_nothing_but_heartbeats_is_taken(tmp_path: Path) -> None:
    async def story() -> None:
        async with yard(tmp_path, "ipc") as made:
            one, two = made.program("one", 1), made.program("two", 2)
            with made.line("one") as line:
                assert isinstance(await answer(line, Voice(token=voice_token(one.token), pid=7)), Welcome)
                hello = Hello(kind="program", bot_id=1, epoch=4, token=one.token, name="one", pid=7, start_ticks=1,
                              boot_id="b")  # fmt: skip
                refused = [codec.encode(Ready(token=one.token)), codec.encode(hello)]
                refused += [codec.pack([1, 9, 1, -1, 0, 0, 0, 0, 0]), codec.pack([1, 9, 1.5, 0, 0, 0, 0, 0, 0])]
                refused += [codec.pack([1, 2]), b"\xc1"]
                for number, frame in enumerate(refused, 1):
                    line.send(frame)
                    await until(lambda number=number: len(made.ears.bad) == number)  # type: ignore[misc]
                assert isinstance(await answer(line, Voice(token=voice_token(two.token), pid=7)), Unwelcome)
                assert one.voice is not None and one.voice.beat is None and two.voice is not None
                assert two.voice.route is None and (made.ears.hellos, made.ears.said) == ([], [])
                line.send(codec.pack([1, 9, 17, 20, 0, 0, 0, 0, 500, 12, 13]))
                await until(lambda: made.bus.heartbeats == 1)
                beat = one.voice.beat
                assert beat is not None and (beat.cycles, beat.progress_age_ms, beat.limit_ms) == (17, 20, 500)
                assert beat.bar_time == 0  # a program has no bars

    asyncio.run(story())


def test_without_a_supervisor_a_program_is_alone_and_undisturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STABLEHAND_BUS", raising=False)
    with Beat.from_environment() as beat:
        beat.send()
    with Beat(f"ipc://{tmp_path / 'nobody'}", "t") as beat:
        for _ in range(1000):
            beat.send()
        assert not beat.welcomed and not beat.refused
    damaged = tmp_path / "damaged.json"
    damaged.write_text("[]")
    monkeypatch.setenv("STABLEHAND_BUS", str(damaged))
    with pytest.raises(ValueError, match="does not say where the bus is"):
        Beat.from_environment()
