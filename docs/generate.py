"""Writes the generated pages again: `python -m docs.generate` (`make docs`).

Each page is made from what it describes: the configuration from the models, the command line from the verbs,
the lifecycle from the table. A test compares what is committed with what is generated.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from botproc import catalogue, loader
from console import page as command_line
from console import unit
from docs.attributes import descriptions
from protocol.botconfig import AccountConfig, BotConfig, SymbolTerms, Timeframe
from protocol.guardlimits import GuardLimits
from protocol.programconfig import GroupConfig, ProgramConfig
from supervisor.config import SupervisorConfig, ThrottleConfig
from supervisor.policy import page as lifecycle

#: A bound this high only keeps a number within the machine's.
_ENDLESS: Final = 2**62
FOLDER: Final = Path(__file__).resolve().parent

_HEAD: Final = """# The configuration file

*This page is generated from the models (`make docs`); do not edit it.*

One TOML file describes an installation: the supervisor, its accounts, its bots, and the programs beside them. It is
`supervisor.toml` in the current folder, unless `-c FILE` or the variable `STABLEHAND_CONFIG` names another. Paths in it
are relative to the file.

```toml
[supervisor]                   # may be left out
data_dir = "var"

[accounts.main]                # at least one; the name is yours
kind = "paper"
feed = "synthetic"
symbols = ["EURUSD", "XAUUSD"]

[bot_defaults]                 # for every bot that does not say otherwise
risk_percent = 0.5

[[bots]]                       # one table a bot
name = "eurusd-ma"
market = "EURUSD"
strategy = "MA_CROSSOVER"
params = { fast = 20, slow = 50 }
```

`stablehand config check` checks the whole file, strategies and data files included, and starts nothing. An unknown
key is an error, and so is a value out of its bounds: the message names the line, and the nearest right name. A program
whose folder or executable is not there now is told too, and is no error: it is tried again until it is there.

## What takes effect when

- **Bots**: `stablehand reload` shows what differs from the running stable, asks, and applies it. A bot whose settings
  changed is restarted if it ran; a new one starts as its `wanted` says. A bot that is no longer in the file goes on,
  as if it had been added at run time, until `stablehand remove` takes it away.
- **`wanted`** is a first value only. Afterwards the operator's last word holds (`start`, `stop`, `pause`, `resume`),
  over restarts of the supervisor and of the machine.
- **`stablehand update`** of a declared bot is kept as an override: it lies over the file and stays over a reload.
  `stablehand show` and `stablehand reload` display it.
- **`[supervisor]`** and **`[accounts]`** are read when the supervisor starts.

"""

_BOT_DEFAULTS: Final = """## `[bot_defaults]`

Any key of a bot except `name` and `market`: the value that a bot has which does not say otherwise. Bots added at run
time have it too.

"""


def configuration() -> str:
    """The page `docs/configuration.md`."""
    parts = [
        _HEAD,
        _section("`[supervisor]`", SupervisorConfig, "The daemon itself."),
        _section(
            "`[supervisor.throttle]`",
            ThrottleConfig,
            "When the machine suffers: targets, and what is done above them. See [resources](resources.md).",
        ),
        _section(
            "`[accounts.NAME]`",
            AccountConfig,
            "A trading account. Each has a gateway of its own, the one process that holds its terminal. "
            'See [replaying market data](replay.md) for `feed = "replay"`.',
        ),
        _section(
            "`[accounts.NAME.terms.SYMBOL]`",
            SymbolTerms,
            'Terms of one symbol (`"*"`: of all) of a paper account. See [the paper terminal](paper-terminal.md).',
        ),
        _BOT_DEFAULTS,
        _section("`[[bots]]`", BotConfig, "A bot. `name`, `market` and `strategy` must be given."),
        _section(
            "Guards",
            GuardLimits,
            "Keys of an account (for all its bots together, and for positions opened by hand) and of a bot. "
            "0 is no limit. See "
            "[halt and guards](halt-and-guards.md).",
            whole=True,
        ),
        _section(
            "`[[programs]]`",
            ProgramConfig,
            "Any executable, supervised as bots are. `name` and `command` must be given. See [programs](programs.md).",
        ),
        _section("`[groups.NAME]`", GroupConfig, "Members name it with `group`. See [programs](programs.md)."),
        "Timeframes: " + ", ".join(f"`{each}`" for each in get_args(Timeframe)) + ".",
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


_STRATEGIES_HEAD: Final = """# The strategies

*This page is generated from the strategies themselves (`make docs`); do not edit it.*

Each strategy looks at closed bars alone, and decides on the last of them. `params` of a bot sets what is listed here;
what is left out has the value shown. `lookback` is how many bars it needs with these values: a bot waits until it has
them, and looks at no others. Stops and volume are the bot's (`sl_atr_multiplier`, `tp_atr_multiplier`,
`risk_percent`), not the strategy's.

BUY and SELL open a position, and turn one that is open the other way; EXIT closes it and opens nothing. To write your
own, see [writing a strategy](writing-a-strategy.md); to see what one would have done, [backtests](backtest.md).

"""


def strategies() -> str:
    """The page `docs/strategies.md`."""
    parts = [_STRATEGIES_HEAD]
    # Other packages may offer strategies in this environment: the page is of ours.
    ours = [name for name in loader.known() if loader.load(name).__module__.startswith("botproc.")]
    for name, one in catalogue.describe(ours)["strategies"].items():
        parts.append(f"## {name}\n\n*{one['title']}.* {one['rule']}\n\n{catalogue.details_of(name)}")
        parts.append("| parameter | value | default | |\n|---|---|---|---|\n")
        for key, each in one["params"].items():
            cells = (f"`{key}`", _parameter(each), f"`{_toml(each['default'])}`", each["help"])
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
        parts.append(f"\nNeeds {one['lookback']} bars.\n\n")
    return "".join(parts).rstrip("\n") + "\n"


def _parameter(each: dict[str, Any]) -> str:
    if each["choices"]:
        return ", ".join(f"`{_toml(choice)}`" for choice in each["choices"])
    words = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}
    kind = words[each["type"]]
    if each["minimum"] is None or each["maximum"] is None:
        return kind
    return f"{kind}, {_number(each['minimum'])} to {_number(each['maximum'])}"


PAGES: Final[dict[str, Callable[[], str]]] = {
    "configuration.md": configuration,
    "cli.md": command_line.render,
    "lifecycle.md": lifecycle.render,
    "../deploy/systemd/stablehand.service": partial(unit.example, "system"),
    "../deploy/systemd/stablehand-user.service": partial(unit.example, "user"),
    "strategies.md": strategies,
}


def _section(title: str, model: type[BaseModel], text: str, *, whole: bool = False) -> str:
    rows = ["| key | value | default | |", "|---|---|---|---|"]
    told = descriptions(model)
    for name, field in model.model_fields.items():
        if name in GuardLimits.model_fields and not whole:
            continue  # the same for both, in a section of their own
        cells = (f"`{name}`", _value(field), _default(field), told.get(name, ""))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return f"## {title}\n\n{text}\n\n" + "\n".join(rows) + "\n"


def _value(field: FieldInfo) -> str:
    bounds = _bounds(field.metadata)
    return _kind(field.annotation) + (f", {bounds}" if bounds else "")


def _kind(annotation: Any) -> str:
    """A type in the words of a TOML file."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind(get_args(annotation)[0])
    if annotation == Timeframe:
        return f"`{_toml('M1')}`, `{_toml('H1')}`, .. (see below)"
    if origin is Literal:
        return ", ".join(f"`{_toml(each)}`" for each in get_args(annotation))
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(each) for each in get_args(annotation) if each is not type(None))
    if origin is tuple:
        return f"list of {_kind(get_args(annotation)[0])}s"
    if origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "table"
    return {str: "text", int: "whole number", float: "number", bool: "true or false"}[annotation]


def _bounds(metadata: list[Any]) -> str:
    found: dict[type, Any] = {type(each): each for each in metadata}
    low, high = found.get(Ge), found.get(Le)
    if high is not None and high.le >= _ENDLESS:
        high = None
    if low and high:
        return f"{_number(low.ge)} to {_number(high.le)}"
    words = []
    if Gt in found:
        words.append(f"above {_number(found[Gt].gt)}")
    if low:
        words.append(f"at least {_number(low.ge)}")
    if Lt in found:
        words.append(f"below {_number(found[Lt].lt)}")
    if high:
        words.append(f"at most {_number(high.le)}")
    if MinLen in found and not words:
        words.append("not empty")
    return ", ".join(words)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*required*"
    value = field.get_default(call_default_factory=True)
    return "" if value is None or value == "" else f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict | BaseModel):
        return "{}"
    return _number(value)


def _number(value: float) -> str:
    """As it may stand in the file: 0.05, 60, 10000, 1_000_000; a whole float without its point."""
    if isinstance(value, float) and not value.is_integer():
        return repr(value)
    return f"{int(value):_}" if abs(value) >= 100_000 else str(int(value))


def main() -> int:
    """Write every page that differs."""
    for name, render in PAGES.items():
        target, text = FOLDER / name, render()
        if not target.exists() or target.read_text("utf-8") != text:
            target.write_text(text, "utf-8")
            sys.stdout.write(f"{target}: written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
