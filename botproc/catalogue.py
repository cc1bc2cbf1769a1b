"""What strategies there are, and whether parameters fit: as plain values, for the wire and for forms.

The launcher answers with this. Without one, `python -m botproc.catalogue` says the same as JSON:

    python -m botproc.catalogue [--path DIR]... [NAME ...]     all installed strategies, or these
    python -m botproc.catalogue [--path DIR]... --validate     reads [[strategy, {params}], ...] from stdin
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Sequence
from typing import Any

from botproc import loader
from botproc.strategy import Strategy, StrategyParams
from protocol.errors import StablehandError


def describe(names: Sequence[str] = ()) -> dict[str, Any]:
    """`{"strategies": {name: {id, title, rule, lookback, params}}, "errors": {name: line}}`.

    Without names: all installed ones. One that cannot be loaded is an error of its own and hides no other.
    `lookback` is that of the default parameters, None where a parameter has no default.
    """
    strategies: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name in names or loader.known():
        try:
            strategies[name] = _describe_one(name)
        except StablehandError as error:
            errors[name] = error.line()
    return {"strategies": strategies, "errors": errors}


def validate(strategy: str, params: dict[str, Any]) -> dict[str, Any]:
    """`{ok: True, params, lookback}` with the defaults filled in, or `{ok: False, errors: [{param, message}]}`.

    `broken: True` in an error of `strategy`: it is there, and its code fails.

    Each message is a sentence that names its parameter. `param` is `strategy` where the strategy itself is
    unknown or broken, and empty where several parameters do not fit each other.
    """
    try:
        built = loader.build(strategy, params)
    except loader.ParamsInvalid as error:
        return {"ok": False, "errors": [{"param": name, "message": text} for name, text in error.errors]}
    except StablehandError as error:
        broken = isinstance(error, loader.StrategyBroken)
        return {"ok": False, "errors": [{"param": "strategy", "message": error.line(), "broken": broken}]}
    return {"ok": True, "params": built.params.model_dump(mode="json"), "lookback": built.lookback}


def parameters(params: type[StrategyParams]) -> dict[str, dict[str, Any]]:
    """`{name: {type, default, minimum, maximum, step, label, help, choices}}`; None where there is none."""
    schema = params.model_json_schema()
    return {
        name: {
            "type": entry.get("type", "any"),
            "default": entry.get("default"),
            "minimum": entry.get("minimum"),
            "maximum": entry.get("maximum"),
            "step": entry.get("step"),
            "label": entry.get("label") or name.replace("_", " ").capitalize(),
            "help": entry.get("description", ""),
            "choices": entry.get("enum"),
        }
        for name, entry in schema.get("properties", {}).items()
    }


def rule_of(cls: type[Strategy]) -> str:
    """First paragraph of the class's own docstring, in one line."""
    text = inspect.cleandoc(cls.__doc__ or "")
    return " ".join(text.split("\n\n", 1)[0].split())


def details_of(name: str) -> str:
    """What follows the rule in a strategy's docstring, for a page; empty where nothing does."""
    rest = inspect.cleandoc(loader.load(name).__doc__ or "").partition("\n\n")[2].strip()
    return f"{rest}\n\n" if rest else ""


def _describe_one(name: str) -> dict[str, Any]:
    cls = loader.load(name)
    try:
        lookback: int | None = loader.build(name, {}).lookback
    except loader.ParamsInvalid:
        lookback = None
    return {
        "id": cls.id if ":" not in name else name,
        "title": cls.title,
        "rule": rule_of(cls),
        "lookback": lookback,
        "params": parameters(cls.Params),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 also where a strategy is broken: the JSON says so."""
    parser = argparse.ArgumentParser(prog="python -m botproc.catalogue", description="Strategies, as JSON.")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--path", action="append", default=[], metavar="DIR", help="folder of your own modules")
    parser.add_argument("--validate", action="store_true", help="check [[strategy, {params}], ...] from stdin")
    options = parser.parse_args(arguments)
    sys.path.extend(options.path)  # behind ours: a folder of the user shadows nothing
    answer: Any
    if options.validate:
        answer = [validate(str(strategy), dict(params)) for strategy, params in json.load(sys.stdin)]
    else:
        answer = describe(options.names)
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
