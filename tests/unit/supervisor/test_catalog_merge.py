"""What a bot is in the end: defaults, below the file, below what `update` said."""

from __future__ import annotations

import re
from typing import Any

import pytest

from protocol.botconfig import AccountConfig, BotConfig
from protocol.errors import StablehandError
from supervisor.runtime import catalog
from supervisor.runtime.catalog import WITHOUT_RESTART, difference, overridden, unflatten, updated, without

ACCOUNTS = {"main": AccountConfig.model_validate({})}
BASE: dict[str, Any] = {"market": "EURUSD", "strategy": "MA_CROSSOVER", "params": {"fast": 10, "slow": 50}}


def effective(*args: Any) -> BotConfig:
    found = catalog.effective(*args)
    assert isinstance(found, BotConfig)
    return found


def test_an_override_lies_over_the_file_parameter_by_parameter() -> None:
    config = effective("one", BASE, {"params": {"fast": 12}, "risk_percent": 2}, {"risk_percent": 3}, ACCOUNTS)
    assert (config.params, config.risk_percent, config.account) == ({"fast": 12, "slow": 50}, 2.0, "main")
    assert BASE["params"] == {"fast": 10, "slow": 50}


def test_another_strategy_begins_without_the_old_ones_parameters() -> None:
    assert effective("one", BASE, {"strategy": "RSI_CROSSOVER"}, {}, ACCOUNTS).params == {}
    both = {"strategy": "RSI_CROSSOVER", "params": {"rsi": 10}}
    assert overridden(BASE, both)["params"] == {"rsi": 10}


def test_an_update_to_another_strategy_drops_what_earlier_updates_said_of_parameters() -> None:
    said = updated({"params": {"fast": 12}}, {"strategy": "RSI_CROSSOVER"}, "MA_CROSSOVER")
    assert said == {"strategy": "RSI_CROSSOVER", "params": {}}
    # and back again: the file's own parameters hold.
    back = updated(said, {"strategy": "MA_CROSSOVER"}, "RSI_CROSSOVER")
    assert overridden(BASE, back)["params"] == {"fast": 10, "slow": 50}


def test_an_update_keeps_what_earlier_updates_said() -> None:
    said = updated({"priority": 7, "params": {"fast": 12}}, {"params": {"slow": 60}}, "MA_CROSSOVER")
    assert said == {"priority": 7, "params": {"fast": 12, "slow": 60}}


def test_the_difference_names_keys_and_parameters_and_leaves_out_what_is_wanted() -> None:
    before = effective("one", BASE, {}, {}, ACCOUNTS)
    after = effective("one", {**BASE, "wanted": "stopped"}, {"params": {"slow": 60}, "priority": 9}, {}, ACCOUNTS)
    assert difference(before, after) == {"priority": [5, 9], "params.slow": [50, 60]}
    assert difference(before, before) == {}


def test_dotted_parameters() -> None:
    assert unflatten({"params.fast": 10, "params": {"slow": 30}, "priority": 1}) == {
        "params": {"fast": 10, "slow": 30}, "priority": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"name": "x"}, "name cannot"), ({"wanted": "stopped"}, "use start, stop"), ({"risk.percent": 1}, "risk.percent")],
)
def test_what_cannot_be_updated(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(StablehandError) as caught:
        unflatten(settings)
    assert words in caught.value.line() and caught.value.code == "invalid"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"risk_percnt": 1}, ("'risk_percnt'", "'risk_percent'")),
        ({"risk_percent": "much"}, ("risk_percent = 'much'",)),
        ({"market": "EURUDS"}, ("'EURUDS'", "'EURUSD'")),
        ({"params": {"x": float("nan")}}, ("x = nan",)),
    ],
)
def test_a_wrong_override_is_one_line(override: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(StablehandError) as caught:
        effective("one", BASE, override, {}, ACCOUNTS)
    assert all(word in caught.value.line() for word in words)


def test_what_update_said_is_taken_back_key_by_key() -> None:
    said = {"priority": 7, "params": {"fast": 5, "slow": 15}, "risk_percent": 2.0}
    assert without(said, ["priority", "params.fast"], "one") == {"params": {"slow": 15}, "risk_percent": 2.0}
    assert without(said, ["params.fast", "params.slow"], "one") == {"priority": 7, "risk_percent": 2.0}
    assert without(said, ["params"], "one") == {"priority": 7, "risk_percent": 2.0}
    assert said["params"] == {"fast": 5, "slow": 15}, "what was said is left as it was"
    for wrong in ("priorty", "params.medium", "market", "params.fast.x"):
        with pytest.raises(StablehandError, match=re.escape(f"one: {wrong} was not set by update")):
            without(said, [wrong], "one")


def test_keys_without_a_restart_are_keys() -> None:
    assert BotConfig.model_fields.keys() >= WITHOUT_RESTART
