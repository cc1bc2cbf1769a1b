"""From a path of keys to its line, in all the ways in which TOML may be written."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.tomlplace import Part, line_of

TEXT = '''# a comment with [brackets] and key = 1
top.dotted = 1
[supervisor]
data_dir = "a [not] # a = comment"
strategy_path = [
  "one", # [[bots]]
  "two",
]
about = """
[accounts.fake]
kind = 5
"""
raw = \'\'\'
[[bots]]
\'\'\'

[accounts.main]   # comment
symbols = ["A", "B"]
"quoted key" = { a = 1, b = [1, 2] }

[[bots]]
name = "one"
params.fast = 1
levels = [
  [1, 2],
  [3, 4]
]
after = 1
[[bots]]
name = "two"
  [bots.params]
  fast = 2
[bot_defaults]
inline = [
  { name = "x",
    },
  { name = "y" },
]
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top", "dotted"), 2),
        (("supervisor",), 3),
        (("supervisor", "data_dir"), 4),
        (("supervisor", "strategy_path"), 5),
        (("supervisor", "strategy_path", 0), 6),
        (("supervisor", "strategy_path", 1), 7),
        (("supervisor", "about"), 9),
        (("supervisor", "kind"), 3),  # stands in a text: not there
        (("supervisor", "raw"), 13),
        (("accounts", "main"), 17),
        (("accounts",), 17),
        (("accounts", "fake"), 17),
        (("accounts", "main", "symbols", 1), 18),
        (("accounts", "main", "quoted key", "b"), 19),
        (("bots", 0), 21),
        (("bots", 0, "params", "fast"), 23),
        (("bots", 0, "levels", 1), 26),
        (("bots", 0, "after"), 28),
        (("bots", 1), 29),
        (("bots", 1, "params", "fast"), 32),
        (("bots", 1, "absent"), 29),
        (("bots", 7), 21),
        (("bot_defaults", "inline", 1, "name"), 37),
        (("nothing",), None),
    ],
)
def test_the_line_of_a_path(path: tuple[Part, ...], line: int | None) -> None:
    tomllib.loads(TEXT.replace('  { name = "x",\n    },\n', '  { name = "x" },\n\n'))  # it is TOML but for that
    assert line_of(TEXT, path) == line


WORDS = st.sampled_from(["a", "b", "c", "long-key", "x_1"])
VALUES = st.sampled_from(["1", '"# [x] = 2"', "'[y]'", "[\n 1,\n 2\n]", '"""\n[z]\nk = 1\n"""', "{ k = [1] }"])


def _leaves(table: dict[str, object], path: tuple[Part, ...] = ()) -> Iterator[tuple[Part, ...]]:
    for key, value in table.items():
        if isinstance(value, dict) and value and path == ():
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key)


@given(st.dictionaries(WORDS, st.dictionaries(WORDS, VALUES, min_size=1), min_size=1))
def test_every_key_is_found_where_it_was_written(tables: dict[str, dict[str, str]]) -> None:
    lines: list[str] = []
    written: dict[tuple[Part, ...], int] = {}
    for table, entries in tables.items():
        lines.append(f"[{table}]")
        for key, value in entries.items():
            written[table, key] = len(lines) + 1
            lines += f"{key} = {value}".split("\n")
    text = "\n".join(lines)
    assert set(_leaves(tomllib.loads(text))) == set(written)
    assert {path: line_of(text, path) for path in written} == written
