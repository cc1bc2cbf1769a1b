"""The page of the command line, written from the verbs themselves: docs/cli.md."""

from __future__ import annotations

import inspect
from typing import Any, Final

import typer.main

from console.app import app

_HEAD: Final = """# The command line

*This page is generated from the verbs themselves (`make docs`); do not edit it.*

`stablehand [-c FILE] VERB ..` speaks to the supervisor of one installation. Which one is said by its
configuration file: `-c FILE` (before or after the verb), else the variable `STABLEHAND_CONFIG`, else
`supervisor.toml` in the current folder.

Every verb takes `--json`: then stdout holds plain JSON and nothing else. What goes wrong is one line on stderr,
`stablehand: what (hint)`.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | refused, failed, or not reached in the time given |
| 2 | wrong input; nothing was changed |
| 3 | no supervisor answers |

Colours appear in a terminal only; `NO_COLOR` switches them off, `FORCE_COLOR` on. `COLUMNS` overrules the
terminal's width. `stablehand --install-completion` teaches the shell verbs, options and names of bots.

"""


def render() -> str:
    """The whole page, as Markdown."""
    root: Any = typer.main.get_command(app)
    parts = [_HEAD]
    panels: dict[str, list[str]] = {}
    for name, command in root.commands.items():
        panel = str(getattr(command, "rich_help_panel", None) or "Other")
        panels.setdefault(panel, []).extend(_verbs(name, command))
    for panel, verbs in panels.items():
        parts += [f"## {panel}\n\n", *verbs]
    return "".join(parts).rstrip() + "\n"


def _verbs(name: str, command: Any) -> list[str]:
    inner = getattr(command, "commands", None)
    if inner:
        return [text for each, sub in inner.items() for text in _verbs(f"{name} {each}", sub)]
    options = [each for each in command.params if each.param_type_name == "option" and each.name != "help"]
    words = [_word(each) for each in command.params if each.param_type_name == "argument"]
    usage = " ".join(["stablehand", name, *words, *(["[OPTIONS]"] if options else [])])
    text = inspect.cleandoc(command.help or "")
    lines = [f"### `{name}`\n\n", f"```\n{usage}\n```\n\n", f"{text}\n\n"]
    if options:
        lines.append("| option | |\n|---|---|\n")
        lines += [f"| {_names(each)} | {_help(each)} |\n" for each in options]
        lines.append("\n")
    return lines


def _word(argument: Any) -> str:
    word = argument.metavar or argument.name.upper()
    return str(word)


def _names(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    return names if option.is_flag else f"{names} `{(option.metavar or 'N')}`".replace("|", "\\|")


def _help(option: Any) -> str:
    text = (option.help or "").rstrip(".") + "."
    if option.required:
        text += " Required."
    default = option.default
    if isinstance(default, int | float) and not isinstance(default, bool):
        text += f" Default: {default:g}."
    return text.replace("|", "\\|")
