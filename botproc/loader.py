"""From a name to a strategy: an id of the entry-point group `stablehand.strategies`, or `module:Class`.

Only the wanted strategy is imported. What goes wrong is told in one line that names the strategy.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import traceback
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from pydantic import ValidationError

from botproc.complaints import complaints
from botproc.strategy import Strategy, StrategyParams
from protocol.errors import InvalidInput, nearest

GROUP: Final = "stablehand.strategies"
_LONGEST_LINE: Final = 400


class StrategyNotFound(InvalidInput):
    """No strategy has this name."""

    def __init__(self, name: str, known: list[str], *, why: str = "") -> None:
        near = nearest(name, known)
        hint = f"did you mean {near}?" if near else f"there are: {', '.join(known)}" if known else None
        super().__init__(why or f"no strategy is called {name!r}", hint=hint)
        self.name = name


class StrategyBroken(InvalidInput):
    """The strategy is there and cannot be used; `error` says why in one line."""

    def __init__(self, name: str, error: str) -> None:
        super().__init__(f"strategy {name} is broken: {error}")
        self.name = name
        self.error = error


class ParamsInvalid(InvalidInput):
    """Parameters that the strategy refuses. `errors`: (parameter, sentence that names it) each."""

    def __init__(self, name: str, errors: list[tuple[str, str]]) -> None:
        super().__init__(f"parameters of {name}: {'; '.join(message for _, message in errors)}")
        self.name = name
        self.errors = errors


@functools.cache
def _entries() -> dict[str, tuple[EntryPoint, ...]]:
    # Reading the metadata of all installed packages takes milliseconds: once a process, before any fork.
    found: dict[str, dict[str, EntryPoint]] = {}
    for entry in entry_points(group=GROUP):
        # A package that is seen twice (installed, and on the path) says the same value twice.
        found.setdefault(entry.name, {})[entry.value] = entry
    return {name: tuple(entries.values()) for name, entries in sorted(found.items())}


def known() -> list[str]:
    """Ids of all installed strategies, sorted. Imports none of them."""
    return list(_entries())


def load(name: str) -> type[Strategy]:
    """The class of a strategy. Raises StrategyNotFound (with the nearest name) or StrategyBroken."""
    target = name
    if ":" not in name:
        entries = _entries().get(name)
        if entries is None:
            raise StrategyNotFound(name, known())
        if len(entries) > 1:
            raise StrategyBroken(name, f"two packages offer it: {' and '.join(entry.value for entry in entries)}")
        target = entries[0].value
    module_name, _, attribute = target.partition(":")
    return _class_of(name, _module(name, module_name.strip()), attribute.strip())


def build(name: str, params: dict[str, Any]) -> Strategy:
    """A strategy with these parameters. Raises as `load` does, and ParamsInvalid."""
    cls = load(name)
    try:
        checked = cls.Params.model_validate(params)
    except ValidationError as error:
        raise ParamsInvalid(name, complaints(error, cls.Params)) from None
    try:
        strategy = cls(checked)
        lookback = strategy.lookback
    except Exception as error:
        raise StrategyBroken(name, describe_error(error)) from error
    if isinstance(lookback, bool) or not isinstance(lookback, int) or lookback < 1:
        raise StrategyBroken(name, f"lookback is {lookback!r}; a whole number of bars from 1 on is wanted")
    return strategy


def describe_error(error: BaseException) -> str:
    """`ExceptionType: message (file:line)` in one line; the place is the innermost that the traceback knows."""
    where = ""
    if isinstance(error, SyntaxError) and error.filename:
        where, message = f" ({error.filename}:{error.lineno})", error.msg
    else:
        message = str(error)
        # Frames of the import system itself have names in angle brackets: not where the mistake is.
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename[:1] != "<"]
        if frames:
            where = f" ({frames[-1].filename}:{frames[-1].lineno})"
    text = " ".join(f"{type(error).__name__}: {message}".split()).removesuffix(":")
    return text[:_LONGEST_LINE] + where


def _module(name: str, module_name: str) -> Any:
    if not module_name:
        raise StrategyNotFound(name, known(), why=f"{name!r} names no module: module:Class is wanted")
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A module of the path itself is missing; a missing import inside the module is a broken strategy.
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise StrategyNotFound(
                name, [], why=f"no module {module_name!r} on the Python path (strategy {name})"
            ) from None
        raise StrategyBroken(name, describe_error(error)) from error
    except (Exception, SystemExit) as error:  # user code: it may raise anything, or call sys.exit
        raise StrategyBroken(name, describe_error(error)) from error


def _class_of(name: str, module: Any, attribute: str) -> type[Strategy]:
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None) if part else None
    if found is None:
        offered = [
            f"{module.__name__}:{key}"
            for key, value in vars(module).items()
            if inspect.isclass(value) and issubclass(value, Strategy) and value.__module__ == module.__name__
        ]
        raise StrategyNotFound(name, offered, why=f"{module.__name__} has no class {attribute!r}")
    if not inspect.isclass(found) or not issubclass(found, Strategy):
        raise StrategyBroken(name, f"{attribute} is not a subclass of botproc.strategy.Strategy")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise StrategyBroken(name, f"{attribute} does not define {missing}")
    if not inspect.isclass(found.Params) or not issubclass(found.Params, StrategyParams):
        raise StrategyBroken(name, f"{attribute}.Params is not a subclass of botproc.strategy.StrategyParams")
    return found
