"""The command `stablehand`: finds the verb, and turns every failure into one line and an exit code.

`status` is asked most, by people and by scripts, so it is answered here before the machinery of the other
verbs is imported. Its options are those that `console.app` declares: what this does not know goes there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from protocol.errors import WRONG_INPUT, InvalidInput, StablehandError, Unreachable

DONE: Final = 0
FAILED: Final = 1
WRONG: Final = 2
NOT_REACHABLE: Final = 3
_INTERRUPTED: Final = 130


class Status(NamedTuple):
    """A `status` that needs no further parsing."""

    bots: tuple[str, ...]
    as_json: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code. Never raises, but for a request to exit by the shell's completion."""
    for stream in (sys.stdout, sys.stderr):
        # A console that cannot show a character shows another: no reason to fail.
        getattr(stream, "reconfigure", lambda **_: None)(errors="replace")
    return guarded(lambda: _run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(arguments: list[str]) -> int:
    from console import settings

    config, rest = take_config(arguments)
    if config is not None:
        settings.choose(config)
    file, rest = take_connect(rest)
    if file is not None:
        if config is not None:
            raise InvalidInput("-c names an installation of this machine, --connect one of another: say one of them")
        settings.choose_remote(file)
    quick = None if "_STABLEHAND_COMPLETE" in os.environ else parse_status(rest)
    if quick is not None:
        return status(quick.bots, as_json=quick.as_json)
    from console.app import run

    return run(rest)


def take_config(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """(what `-c` names, the other arguments): it may stand before or after the verb."""
    config: str | None = None
    rest: list[str] = []
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word == "--":
            return config, [*rest, word, *left]
        if word in ("-c", "--config"):
            if not left:
                raise InvalidInput(f"{word} needs a file")
            config = left.pop(0)
        elif word.startswith("--config="):
            config = word.removeprefix("--config=")
        elif word.startswith("-c") and len(word) > 2 and not word.startswith("--"):
            config = word[2:]
        else:
            rest.append(word)
    return config, rest


def take_connect(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """(the file that `--connect` names, the other arguments): it may stand before or after the verb."""
    file: str | None = None
    rest: list[str] = []
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word == "--":
            return file, [*rest, word, *left]
        if word == "--connect":
            if not left:
                raise InvalidInput("--connect needs a file")
            file = left.pop(0)
        elif word.startswith("--connect="):
            file = word.removeprefix("--connect=")
        else:
            rest.append(word)
    return file, rest


def parse_status(arguments: Sequence[str]) -> Status | None:
    """`status [BOT..] [--json]`; None for anything else, which typer then judges."""
    if not arguments or arguments[0] != "status":
        return None
    words = list(arguments[1:])
    names = [word for word in words if word != "--json"]
    if any(word.startswith("-") for word in names):
        return None
    return Status(tuple(names), "--json" in words)


def status(bots: Sequence[str], *, as_json: bool) -> int:
    """Do the verb `status`."""
    from console import grid, settings, stable

    with settings.connect() as client:
        rows = client.status(list(bots))
        behind = None if as_json else client.ping().get("not_remembered")
    if as_json:
        import json

        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        width, colour = grid.width_of(sys.stdout), grid.colour_of(sys.stdout)
        sys.stdout.write("\n".join(stable.lines(rows, width=width, colour=colour)) + "\n")
        if behind:
            sys.stdout.flush()
            sys.stderr.write(f"stablehand: NOT REMEMBERED: {' '.join(str(behind).split())}\n")
    return DONE


def guarded(work: Callable[[], int]) -> int:
    """Do the work; an error becomes one line on stderr and its exit code."""
    try:
        code = work()
        sys.stdout.flush()
        return code
    except StablehandError as error:
        return complain(error)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough (`| head`). Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except PermissionError as error:
        where = f"{error.filename}: " if error.filename else ""
        return complain(InvalidInput(f"{where}permission denied", hint="it belongs to another user"))
    except Exception as error:
        if os.environ.get("STABLEHAND_DEBUG"):
            raise
        hint = "STABLEHAND_DEBUG=1 shows where"
        return complain(StablehandError(f"internal error: {type(error).__name__}: {error}", hint=hint))


def complain(error: StablehandError) -> int:
    """Write the one line; the exit code that belongs to the error."""
    sys.stderr.write(f"stablehand: {' '.join(error.line().split())}\n")
    if isinstance(error, Unreachable):
        return NOT_REACHABLE
    return WRONG if error.code in WRONG_INPUT else FAILED
