"""`stablehand backtest` as a person runs it; how fast it is; what `--dump` says of a file."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from tests.console import stablehand
from tests.papermarket import flat, write_csv

T = TypeVar("T")

FILE = """
[supervisor]
strategy_path = ["mine"]
[accounts.old]
feed = "replay"
path = "."
symbols = ["EURUSD"]
[accounts.made]
[bot_defaults]
risk_percent = 0.5
[[bots]]
name = "one"
account = "old"
market = "EURUSD"
strategy = "MA_CROSSOVER"
params = { fast = 3, slow = 9 }
[[bots]]
name = "two"
account = "made"
market = "EURUSD"
strategy = "MA_CROSSOVER"
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A configuration file, and a file of bars that go up and down."""
    rows = []
    price = 1.1
    for hour in range(400):
        after = round(price + (0.001 if hour // 25 % 2 else -0.001), 5)
        rows.append((hour, price, max(price, after) + 0.0002, min(price, after) - 0.0002, after))
        price = after
    write_csv(tmp_path, "EURUSD", rows)
    (tmp_path / "supervisor.toml").write_text(FILE)
    return tmp_path / "supervisor.toml"


def test_bots_of_the_file_and_a_strategy_by_itself_are_the_same(site: Path) -> None:
    bot = stablehand(site, "backtest", "one", "--json").json()
    assert bot["bots"][0]["risk_percent"] == 0.5 and bot["bots"][0]["params"] == {"fast": 3, "slow": 9}
    words = ("--strategy", "MA_CROSSOVER", "--data", "EURUSD_H1.csv", "-p", "fast=3", "-p", "slow=9",
             "--set", "risk_percent=0.5", "--set", "name=one", "--json")  # fmt: skip
    alone = stablehand(site, "backtest", *words).json()
    assert alone["deals"] == bot["deals"] and len(bot["trades"]) > 5
    (site.parent / "supervisor.toml").unlink()  # a strategy on a file needs no configuration
    assert stablehand(site, "backtest", *words).json()["deals"] == bot["deals"]


def test_what_a_person_sees(site: Path) -> None:
    page = site.parent / "report.html"
    answer = stablehand(site, "backtest", "one", "--from", "2024-01-05", "--html", str(page))
    assert answer.code == 0 and answer.err == "", answer
    for word in ("one (MA_CROSSOVER, EURUSD H1)", "net profit", "drawdown", "Sharpe", f"report: {page}"):
        assert word in answer.out, answer
    assert page.read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), ("name bots", "--strategy")),
        (("one", "--strategy", "MA_CROSSOVER"), ("name bots",)),
        (("--strategy", "MA_CROSSOVER"), ("needs --data FILE",)),
        (("onee",), ("no bot is called 'onee'", "did you mean one?")),
        (("two",), ("'made'", "made market", "--data FILE")),
        (("one", "two"), ("several accounts: made, old",)),
        (("one", "-p", "fats=3"), ("'fats'", "fast")),
        (("one", "-p", "fast"), ("'fast' is not key=value",)),
        (("one", "--set", "account=3"), ("account.commission_per_lot",)),
        (("one", "--set", "risk_precent=3"), ("did you mean 'risk_percent'?",)),
        (("one", "--set", "account.leverag=3"), ("did you mean 'leverage'?",)),
        (("one", "--from", "2019-01-01"), ("outside the data",)),
        (("one", "--data", "nowhere.csv"), ("nowhere.csv: no such file", "EURUSD_H1.csv")),
        (("one", "--html", "no/where.html"), ("there is no folder",)),
        (("--strategy", "MA_CROSOVER", "--data", "EURUSD_H1.csv"), ("MA_CROSSOVER?",)),
        (("--strategy", "MA_CROSSOVER", "--data", "bars.csv"), ("--market",)),
        (("--strategy", "MA_CROSSOVER", "--data", "bars.csv", "--market", "EURUSD"), ("--timeframe",)),
        (("--strategy", "MA_CROSSOVER", "--data", "EURUSD_H1.csv", "--timeframe", "H7"), ("timeframe",)),
        (
            ("--strategy", "MA_CROSSOVER", "--data", "supervisor.toml", "--market", "EURUSD", "--timeframe", "H1"),
            ("stablehand: supervisor.toml: line 1:",),  # by the name that was given
        ),
    ],
)
def test_wrong_input_is_one_line(site: Path, words: tuple[str, ...], said: tuple[str, ...]) -> None:
    write_csv(site.parent, "EURUSD", flat(1.1, range(100))).rename(site.parent / "bars.csv")
    write_csv(site.parent, "EURUSD", flat(1.1, range(100)))
    line = stablehand(site, "backtest", *words).line(2)
    for word in said:
        assert word in line, line


def test_a_file_that_is_wrong_is_named_with_its_line(site: Path) -> None:
    site.write_text(FILE.replace("risk_percent", "risk_precent"))
    assert "supervisor.toml:10:" in stablehand(site, "backtest", "one").line(2)


def test_the_file_is_dumped_complete(site: Path) -> None:
    command = [sys.executable, "-m", "supervisor", "--config", str(site), "--dump"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = json.loads(done.stdout)
    assert found["folder"] == str(site.parent.resolve())
    assert found["strategy_path"] == [str(site.parent.resolve() / "mine")]
    assert found["accounts"]["old"]["path"] == "." and found["accounts"]["made"]["feed"] == "synthetic"
    assert [(bot["name"], bot["risk_percent"], bot["timeframe"]) for bot in found["bots"]] == [
        ("one", 0.5, "H1"), ("two", 0.5, "H1"),
    ]  # fmt: skip
    assert not (site.parent / "var").exists()


def processor(action: Callable[[], T]) -> tuple[T, float]:
    """What the action gives, and the seconds of the processor that the processes which it ran to their end took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = action()
    return found, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before.ru_utime


@pytest.mark.market
@pytest.mark.parametrize("strategy", ["MA_CROSSOVER", "RSI_CROSSOVER", "PULSE_SYNC"])
def test_five_years_of_hours_take_seconds(market: Path, tmp_path: Path, strategy: str) -> None:
    """35,000 bars in the time of so many imports of what a bot imports: the same machine has been four times slower on
    another day, and its clock would judge its other work."""

    def imports() -> object:
        return subprocess.run([sys.executable, "-c", "import pandas, talib, zmq"], timeout=60, check=True)

    words = ("--strategy", strategy, "--data", str(market / "EURUSD_H1.csv"), "--json")
    _, before = processor(imports)
    found, took = processor(lambda: stablehand(tmp_path / "none.toml", "backtest", *words).json())
    _, after = processor(imports)
    assert found["period"]["bars"] > 34_000 and found["result"]["trades"] > 100
    assert took < 25 * (before + after) / 2  # ten to sixteen are measured, with a fresh Python's own start in each
