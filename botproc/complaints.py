"""What is wrong with a strategy's parameters, each in one sentence that names the parameter and its bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protocol.errors import nearest

if TYPE_CHECKING:
    from pydantic import ValidationError

    from botproc.strategy import StrategyParams

_KINDS = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "a text"}


def complaints(error: ValidationError, params: type[StrategyParams]) -> list[tuple[str, str]]:
    """(parameter, sentence) for each mistake. The parameter is empty where several do not fit each other."""
    properties: dict[str, dict[str, Any]] = params.model_json_schema().get("properties", {})
    return [_complaint(dict(item), properties) for item in error.errors(include_url=False)]


def _complaint(item: dict[str, Any], properties: dict[str, dict[str, Any]]) -> tuple[str, str]:
    where = [str(part) for part in item["loc"]]
    if not where:  # a check across parameters wrote its own sentence
        return "", item["msg"].removeprefix("Value error, ")
    name = where[0]
    if item["type"] == "extra_forbidden":
        return name, _unknown(name, list(properties))
    if item["type"] == "missing":
        return name, f"{name} is missing: it must be {_wanted(properties.get(name, {}))}"
    if item["type"] == "value_error":
        return name, f"{'.'.join(where)}: {item['msg'].removeprefix('Value error, ')}"
    return name, f"{'.'.join(where)} must be {_wanted(properties.get(name, {}))}, not {_shown(item['input'])}"


def _unknown(name: str, known: list[str]) -> str:
    near = nearest(name, known)
    if near:
        return f"there is no parameter {name!r}; did you mean {near!r}?"
    return f"there is no parameter {name!r}; there are: {', '.join(known) or 'none'}"


def _wanted(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return f"one of {', '.join(map(_shown, schema['enum']))}"
    kind = _KINDS.get(schema.get("type", ""), "a valid value")
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f"{kind} from {least:g} to {most:g}"
    if least is not None:
        return f"{kind} of at least {least:g}"
    if most is not None:
        return f"{kind} of at most {most:g}"
    return kind


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
