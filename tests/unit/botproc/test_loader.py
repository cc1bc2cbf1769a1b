"""Strategies by name: found, missing, broken; parameters: right, wrong; all as one clear line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import msgpack
import pytest

from botproc import catalogue, loader

GOOD = '''
from typing import Literal
from botproc.strategy import Signal, Strategy, StrategyParams, param

class P(StrategyParams):
    level: float = param(1.5, ge=0.5, le=9.5, step=0.5, label="Level", help="A level.")
    mode: Literal["calm", "wild"] = param("calm")

class Mine(Strategy):
    """Always holds.

    More about it.
    """
    id = "MINE"
    Params = P
    lookback = 3

    def analyze(self, bars):
        return Signal("HOLD", 1.0, "Nothing.")

class Half(Strategy):
    pass

class Odd(Mine):
    lookback = 0

class Raises(Mine):
    def __init__(self, params):
        super().__init__(params)
        raise RuntimeError("no\\nluck")

helper = 3
'''


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "user_good.py").write_text(GOOD)
    (tmp_path / "user_raises.py").write_text("x = 1\n\nraise ValueError('bad\\n  thing')\n")
    (tmp_path / "user_syntax.py").write_text("x = 1\nx x\n")
    (tmp_path / "user_needs.py").write_text("import a_package_that_is_not_there\n")
    (tmp_path / "user_exits.py").write_text("import sys\nsys.exit(3)\n")
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("user_"):
            del sys.modules[name]


def test_ids_come_from_the_entry_points() -> None:
    assert {"MA_CROSSOVER", "RSI_CROSSOVER", "BOLLINGER_REVERSION"} <= set(loader.known())
    for name in ("MA_CROSSOVER", "RSI_CROSSOVER", "BOLLINGER_REVERSION"):
        assert loader.load(name).id == name


def test_only_the_wanted_strategy_is_imported() -> None:
    code = (
        "import sys; from botproc import loader; loader.load('MA_CROSSOVER');"
        "print(sorted(m for m in sys.modules if m.startswith('botproc.strategies.')), 'zmq' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert out.stdout.strip() == "['botproc.strategies.ma_crossover'] False"


def test_a_users_package_adds_a_strategy(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = modules / "user_stables-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: user-stables\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[stablehand.strategies]\nMINE = user_good:Mine\n")
    loader._entries.cache_clear()
    try:
        assert "MINE" in loader.known()
        assert loader.build("MINE", {}).id == "MINE"
    finally:
        loader._entries.cache_clear()


def test_two_packages_with_one_id_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [EntryPoint("TWICE", value, loader.GROUP) for value in ("one:A", "two:B", "one:A")]
    monkeypatch.setattr(loader, "entry_points", lambda group: entries)
    loader._entries.cache_clear()
    try:
        with pytest.raises(loader.StrategyBroken, match="two packages offer it: one:A and two:B"):
            loader.load("TWICE")
    finally:
        loader._entries.cache_clear()


def test_module_and_class(modules: Path) -> None:
    strategy = loader.build("user_good:Mine", {"level": 2})
    assert strategy.lookback == 3
    assert strategy.params.model_dump() == {"level": 2.0, "mode": "calm"}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("MA_CROSOVER", "no strategy is called 'MA_CROSOVER' (did you mean MA_CROSSOVER?)"),
        ("ma_crossover", "no strategy is called 'ma_crossover' (did you mean MA_CROSSOVER?)"),
        ("user_gone:Mine", "no module 'user_gone' on the Python path (strategy user_gone:Mine)"),
        ("user_good.sub:Mine", "no module 'user_good.sub' on the Python path (strategy user_good.sub:Mine)"),
        ("user_good:Mien", "user_good has no class 'Mien' (did you mean user_good:Mine?)"),
        ("user_good:", "user_good has no class ''"),
        (":Mine", "':Mine' names no module: module:Class is wanted"),
    ],
)
def test_not_found_says_the_nearest(modules: Path, name: str, line: str) -> None:
    with pytest.raises(loader.StrategyNotFound) as error:
        loader.load(name)
    assert error.value.line().startswith(line)
    assert "\n" not in error.value.line()


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("user_raises:X", "ValueError: bad thing ({dir}/user_raises.py:3)"),
        ("user_syntax:X", "SyntaxError: invalid syntax ({dir}/user_syntax.py:2)"),
        ("user_needs:X", "ModuleNotFoundError: No module named 'a_package_that_is_not_there' ({dir}/user_needs.py:1)"),
        ("user_exits:X", "SystemExit: 3 ({dir}/user_exits.py:2)"),
        ("user_good:helper", "helper is not a subclass of botproc.strategy.Strategy"),
        ("user_good:Half", "Half does not define analyze, lookback"),
        ("user_good:Odd", "lookback is 0; a whole number of bars from 1 on is wanted"),
        ("user_good:Raises", "RuntimeError: no luck ({dir}/user_good.py:30)"),
    ],
)
def test_broken_says_what_and_where(modules: Path, name: str, error: str) -> None:
    with pytest.raises(loader.StrategyBroken) as broken:
        loader.build(name, {})
    assert broken.value.error == error.format(dir=modules)
    assert broken.value.line() == f"strategy {name} is broken: {broken.value.error}"


@pytest.mark.parametrize(
    ("params", "errors"),
    [
        ({"fast": 1}, [("fast", "fast must be a whole number from 2 to 500, not 1")]),
        ({"fast": 2.5}, [("fast", "fast must be a whole number from 2 to 500, not 2.5")]),
        ({"slow": "x"}, [("slow", "slow must be a whole number from 3 to 1000, not 'x'")]),
        ({"fsat": 5}, [("fsat", "there is no parameter 'fsat'; did you mean 'fast'?")]),
        ({"zzz": 5}, [("zzz", "there is no parameter 'zzz'; there are: fast, slow")]),
        ({"fast": 50, "slow": 20}, [("", "fast (50) must be less than slow (20)")]),
        ({"fast": True}, [("", "fast must be a number, not true")]),
        (
            {"fast": 0, "slow": 5000},
            [
                ("fast", "fast must be a whole number from 2 to 500, not 0"),
                ("slow", "slow must be a whole number from 3 to 1000, not 5000"),
            ],
        ),
    ],
)
def test_wrong_parameters_are_named_with_their_bounds(params: dict[str, object], errors: list[tuple[str, str]]) -> None:
    with pytest.raises(loader.ParamsInvalid) as invalid:
        loader.build("MA_CROSSOVER", params)
    assert invalid.value.errors == errors
    answer = catalogue.validate("MA_CROSSOVER", params)
    assert answer == {"ok": False, "errors": [{"param": name, "message": text} for name, text in errors]}


def test_choices_and_infinities(modules: Path) -> None:
    def first(params: dict[str, object]) -> str:
        return str(catalogue.validate("user_good:Mine", params)["errors"][0]["message"])

    assert first({"mode": "loud"}) == "mode must be one of 'calm', 'wild', not 'loud'"
    assert first({"level": float("nan")}) == "level must be a number from 0.5 to 9.5, not nan"


def test_validate_fills_in_the_defaults() -> None:
    assert catalogue.validate("MA_CROSSOVER", {"fast": 10}) == {
        "ok": True,
        "params": {"fast": 10, "slow": 50},
        "lookback": 51,
    }
    answer = catalogue.validate("MA_CROSSOVR", {})
    assert answer["errors"][0]["param"] == "strategy" and "MA_CROSSOVER" in answer["errors"][0]["message"]


def test_the_catalogue_is_plain_and_complete(modules: Path) -> None:
    answer = catalogue.describe(["RSI_CROSSOVER", "user_good:Mine", "user_raises:X", "NOPE"])
    assert msgpack.unpackb(msgpack.packb(answer)) == answer
    assert set(answer["errors"]) == {"user_raises:X", "NOPE"}
    mine = answer["strategies"]["user_good:Mine"]
    assert mine == {
        "id": "user_good:Mine",
        "title": "Mine",
        "rule": "Always holds.",
        "lookback": 3,
        "params": {
            "level": {
                "type": "number",
                "default": 1.5,
                "minimum": 0.5,
                "maximum": 9.5,
                "step": 0.5,
                "label": "Level",
                "help": "A level.",
                "choices": None,
            },
            "mode": {
                "type": "string",
                "default": "calm",
                "minimum": None,
                "maximum": None,
                "step": None,
                "label": "Mode",
                "help": "",
                "choices": ["calm", "wild"],
            },
        },
    }
    for name, one in catalogue.describe()["strategies"].items():
        assert one["rule"] and one["lookback"] > 1, name
        for parameter in one["params"].values():
            if parameter["type"] == "boolean" or parameter["choices"]:
                continue
            assert None not in (parameter["minimum"], parameter["maximum"], parameter["step"])
            assert parameter["label"] and parameter["help"]


def test_the_command_line_says_the_same(modules: Path) -> None:
    command = [sys.executable, "-m", "botproc.catalogue", "--path", str(modules)]
    run = subprocess.run([*command, "user_good:Mine"], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(run.stdout)["strategies"]["user_good:Mine"]["lookback"] == 3
    questions = json.dumps([["user_good:Mine", {"level": 99}], ["user_good:Mine", {}]])
    run = subprocess.run(
        [*command, "--validate"], input=questions, capture_output=True, text=True, timeout=60, check=True
    )
    assert [answer["ok"] for answer in json.loads(run.stdout)] == [False, True]
