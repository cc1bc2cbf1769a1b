"""Answers about strategies for the spawner, from a process of its own: user code never runs in the spawner itself.

One helper serves all questions, one after the other. It is started at the first question, killed when an answer
takes too long, and leaves the memory after some idle seconds. Started as `python -m botproc.answers`, this module
is that helper: msgpack maps on stdin, one answer each on stdout, until stdin ends.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

import msgpack

from botproc.service import Reply, answer_about_strategies

_TIMEOUT: Final = 30.0  # the first answer includes the imports of pandas and of the strategies
_IDLE: Final = 30.0
_CLOSE: Final = 2.0
_PART: Final = 1 << 16


class Answers:
    """`deliver(call)` has the loop's thread make the call: sockets are its own."""

    def __init__(self, deliver: Callable[[Callable[[], None]], None]) -> None:
        self._deliver = deliver
        self._questions: queue.SimpleQueue[tuple[dict[str, Any], Reply] | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._late = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)

    def ask(self, request: dict[str, Any], reply: Reply) -> None:
        """Queue a question; `reply` gets the answer, or the reason why there is none."""
        if not self._thread.is_alive():
            self._thread.start()
        self._questions.put((request, reply))

    def close(self) -> None:
        """End the helper and wait for it: nothing of ours outlives who asked. What it was asked stays unanswered."""
        self._closing = True
        if self._thread.is_alive():
            self._questions.put(None)
            asked = self._process
            if asked is not None:
                asked.kill()
            self._thread.join(_CLOSE)

    def _run(self) -> None:
        while True:
            try:
                question = self._questions.get(timeout=_IDLE)
            except queue.Empty:
                self._end()
                continue
            if question is None or self._closing:
                self._end()
                return
            request, reply = question
            answer = self._answer(request)
            self._deliver(lambda reply=reply, answer=answer: reply(answer))  # type: ignore[misc]

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        reason = "the strategy's module ended the process that imported it"
        try:
            if self._process is None:
                command = [sys.executable, "-m", "botproc.answers"]
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
            answer = self._exchange(self._process, request)
            if answer is not None:
                return answer
        except OSError as error:
            reason = str(error)
        self._end()
        reason = f"no answer within {_TIMEOUT:g} s" if self._late else reason
        return {"ok": False, "error": reason, "errors": [{"param": "strategy", "message": reason, "broken": True}]}

    def _exchange(self, process: subprocess.Popen[bytes], request: dict[str, Any]) -> dict[str, Any] | None:
        """The helper's answer; None when it ended, or was ended, before it gave one."""
        assert process.stdin is not None and process.stdout is not None
        self._late = False
        timer = threading.Timer(_TIMEOUT, self._too_late, (process,))
        timer.daemon = True
        timer.start()
        try:
            process.stdin.write(msgpack.packb(request))
            unpacker = msgpack.Unpacker()
            while part := os.read(process.stdout.fileno(), _PART):
                unpacker.feed(part)
                for answer in unpacker:
                    return dict(answer)
            return None
        finally:
            timer.cancel()

    def _too_late(self, process: subprocess.Popen[bytes]) -> None:
        self._late = True
        process.kill()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what it never read is lost, as it should be
                    pipe.close()


def serve() -> int:
    """The helper. What user code prints goes to stderr: stdout is for answers."""
    out = os.dup(1)
    os.dup2(2, 1)
    unpacker = msgpack.Unpacker()
    while part := os.read(0, _PART):
        unpacker.feed(part)
        for request in unpacker:
            answer = memoryview(msgpack.packb(answer_about_strategies(request)))
            while answer:
                answer = answer[os.write(out, answer) :]
    return 0


if __name__ == "__main__":
    sys.exit(serve())
