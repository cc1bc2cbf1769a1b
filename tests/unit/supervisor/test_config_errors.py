"""Every mistake in the file is one line that names file, line, what is wrong and, where it can, what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.errors import StablehandError
from supervisor.config import Config, load

SUPERVISOR = '[supervisor]\ndata_dir = "var"\n'  # lines 1 and 2
ACCOUNT = SUPERVISOR + '[accounts.main]\nkind = "paper"\n'  # lines 3 and 4
BOT = '[[bots]]\nname = "one"\nmarket = "EURUSD"\nstrategy = "MA_CROSSOVER"\n'
PROGRAM = '[[programs]]\nname = "one"\ncommand = ["x"]\n'  # after ACCOUNT lines 5 to 7
ONE = ACCOUNT + BOT  # lines 5 to 8: what is appended stands at line 9
TWO = ONE + BOT.replace('"one"', '"two"')  # lines 9 to 12

#: name: (file, line of the mistake or None for the file as a whole, words of the message)
MISTAKES: dict[str, tuple[str, int | None, tuple[str, ...]]] = {
    "empty_file": ("", None, ("there is no account", "[accounts.main]")),
    "no_account": (SUPERVISOR, None, ("there is no account",)),
    "not_toml": (ACCOUNT + "balance = \n", 5, ("not valid TOML",)),
    "not_toml_at_the_end": (ACCOUNT + "symbols = [", 5, ("not valid TOML",)),
    "key_twice": (ACCOUNT + 'kind = "paper"\n', 5, ("not valid TOML",)),
    "unknown_table": (ACCOUNT + "[acounts.x]\n", 5, ("unknown table 'acounts'", "'accounts'")),
    "unknown_key_of_supervisor": (SUPERVISOR + 'lanch = "fork"\n', 3, ("'lanch'", "did you mean 'launch'?")),
    "unknown_key_of_account": (ACCOUNT + "leverge = 50\n", 5, ("'leverge'", "'leverage'")),
    "unknown_key_of_bot": (ONE + "risk_precent = 1\n", 9, ("'risk_precent'", "'risk_percent'")),
    "unknown_key_of_the_second_bot": (TWO + "prioritty = 1\n", 13, ("'prioritty'", "'priority'")),
    "unknown_subtable_of_bot": (ONE + "[bots.paramz]\nfast = 1\n", 9, ("'paramz'", "'params'")),
    "unknown_default": (ACCOUNT + "[bot_defaults]\nrisk = 2\n", 6, ("'risk'", "'risk_percent'")),
    "default_that_cannot_be_one": (ACCOUNT + '[bot_defaults]\nname = "x"\n', 6, ("'name'",)),
    "wrong_default_without_bots": (ACCOUNT + '[bot_defaults]\npriority = "high"\n', 6, ("priority", "whole number")),
    "wrong_default_with_bots": (ACCOUNT + "[bot_defaults]\nrisk_percent = 500\n" + BOT, 6, ("risk_percent = 500",)),
    "unknown_timeframe": (ONE + 'timeframe = "H5"\n', 9, ("unknown timeframe 'H5'", "did you mean '")),
    "timeframe_that_the_feed_has_not": (ONE + 'timeframe = "M5"\n', 9, ("'M5'", "H1")),
    "unknown_symbol": (ONE.replace('"EURUSD"', '"EURUDS"'), 7, ("'EURUDS'", "did you mean 'EURUSD'?")),
    "unknown_account": (ONE + 'account = "mian"\n', 9, ("unknown account 'mian'", "'main'")),
    "account_not_said": (ONE.replace("[[bots]]", "[accounts.b]\n[[bots]]"), 6, ("names no account", "b, main")),
    "unknown_kind": (SUPERVISOR + '[accounts.main]\nkind = "papre"\n', 4, ("'papre'", "paper")),
    "unknown_wanted": (ONE + 'wanted = "runing"\n', 9, ("'runing'", "'running'")),
    "unknown_restart": (ONE + 'restart = "always"\n', 9, ("'always'", "permanent, transient or temporary")),
    "duplicate_name": (ONE + BOT, 10, ("'one'", "the first is at line 5")),
    "risk_above": (ONE + "risk_percent = 100.5\n", 9, ("risk_percent = 100.5", "100")),
    "risk_zero": (ONE + "risk_percent = 0\n", 9, ("risk_percent = 0", "greater than 0")),
    "risk_negative": (ONE + "risk_percent = -1\n", 9, ("risk_percent = -1",)),
    "risk_nan": (ONE + "risk_percent = nan\n", 9, ("risk_percent = nan", "finite")),
    "interval_zero": (ONE + "check_interval_seconds = 0\n", 9, ("check_interval_seconds = 0", "0.1")),
    "interval_huge": (ONE + "check_interval_seconds = 1e9\n", 9, ("86400",)),
    "balance_infinite": (ACCOUNT + "balance = inf\n", 5, ("balance = inf",)),
    "seed_huge": (ACCOUNT + f"seed = {10**30}\n", 5, ("seed", "9223372036854775807")),
    "seed_negative": (ACCOUNT + "seed = -1\n", 5, ("seed = -1",)),
    "rows_huge": (SUPERVISOR + f"journal_rows = {10**20}\n", 3, ("journal_rows",)),
    "speed_zero": (ACCOUNT + "bars_per_second = 0\n", 5, ("bars_per_second = 0", "max")),
    "speed_word": (ACCOUNT + 'bars_per_second = "fast"\n', 5, ("bars_per_second = 'fast'", 'a number or "max"')),
    "text_for_a_number": (ONE + 'risk_percent = "1.0"\n', 9, ("risk_percent = '1.0'", "a number")),
    "text_for_a_whole_number": (ONE + 'priority = "5"\n', 9, ("priority = '5'", "a whole number")),
    "true_for_a_number": (ONE + "priority = true\n", 9, ("priority = true", "a whole number")),
    "number_for_a_text": (ONE.replace('"MA_CROSSOVER"', "5"), 8, ("strategy = 5", "a text")),
    "unknown_heartbeat": (ACCOUNT + PROGRAM + 'heartbeat = "buss"\n', 8, ("heartbeat 'buss'", "did you mean 'bus'")),
    "two_watches": (
        ACCOUNT + PROGRAM + 'heartbeat = "bus"\nwatchdog_seconds = 5\n',
        8,
        ("heartbeat", "watchdog_seconds exclude each other"),
    ),
    "text_for_a_list": (ACCOUNT + 'symbols = "EURUSD"\n', 5, ("symbols = 'EURUSD'", "a list")),
    "list_for_a_table": (ONE + "params = [1]\n", 9, ("params = [1]", "a table")),
    "number_for_a_table": ("supervisor = 5\n[accounts.main]\n", 1, ("supervisor is a table",)),
    "number_for_defaults": ("bot_defaults = 5\n" + ACCOUNT, 1, ("bot_defaults is a table",)),
    "numbers_for_bots": ("bots = [1]\n" + ACCOUNT, 1, ("a bot is a table", "1")),
    "table_for_bots": (ACCOUNT + '[bots]\nname = "x"\n', 5, ("[[bots]]",)),
    "huge_parameter": (ONE + f"params = {{ fast = {10**30} }}\n", 9, ("fast", "no plain value")),
    "date_parameter": (ONE + "params = { since = 2020-01-01 }\n", 9, ("since", "no plain value")),
    "no_symbols": (ACCOUNT + "symbols = []\n", 5, ("needs symbols",)),
    "wrong_symbol_of_a_long_list": (ACCOUNT + 'symbols = [\n  "EURUSD", # a\n  "x y",\n]\n', 7, ("number 2", "'x y'")),
    "name_missing": (ACCOUNT + '[[bots]]\nmarket = "EURUSD"\n', 5, ("name is missing",)),
    "name_with_slash": (ONE.replace('"one"', '"a/b"'), 6, ("'a/b'", "letters")),
    "name_with_dots_only": (ONE.replace('"one"', '".."'), 6, ("'..'",)),
    "name_unicode": (ONE.replace('"one"', '"bot-ü"'), 6, ("'bot-ü'", "letters")),
    "name_empty": (ONE.replace('"one"', '""'), 6, ("name = ''",)),
    "name_long": (ONE.replace('"one"', f'"{"a" * 5000}"'), 6, ("at most 64",)),
    "name_of_our_own_log": (ONE.replace('"one"', '"gateway-main"'), 6, ("gateway-main",)),
    "account_name_with_slash": (SUPERVISOR + '[accounts."a/b"]\n', 3, ("'a/b'",)),
    "account_name_with_line_break": (SUPERVISOR + '[accounts."a\\n"]\n', 3, (r"'a\n'",)),
    "replay_without_path": (ACCOUNT + 'feed = "replay"\n', 5, ("needs a path",)),
    "start_is_no_date": (ACCOUNT + 'start = "soon"\n', 5, ("start = 'soon'", "2020-01-01")),
    "data_dir_empty": ('[supervisor]\ndata_dir = ""\n[accounts.main]\n', 2, ("data_dir",)),
    "data_dir_with_nul": ('[supervisor]\ndata_dir = "a\\u0000"\n[accounts.main]\n', 2, ("data_dir",)),
    "netting": (
        ACCOUNT + 'margin_mode = "netting"\n' + BOT + BOT.replace('"one"', '"two"'), 12, ("'one' and 'two'", "EURUSD"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_one_line_with_its_place(mistake: str, tmp_path: Path) -> None:
    text, line, words = MISTAKES[mistake]
    path = tmp_path / "supervisor.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(StablehandError) as caught:
        load(path)
    said = caught.value.line()
    place = f"{path}: " if line is None else f"{path}:{line}: "
    assert said.startswith(place), said
    assert all(word in said for word in words), said
    assert "\n" not in said and len(said) < len(str(path)) + 400


def test_a_file_that_is_no_text_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.toml"
    path.write_bytes(ONE.encode() + b"# caf\xe9\n")
    with pytest.raises(StablehandError, match=r"supervisor\.toml:9: not UTF-8"):
        load(path)


@pytest.mark.parametrize("what", ["missing", "folder"])
def test_no_file(what: str, tmp_path: Path) -> None:
    path = tmp_path / "absent.toml" if what == "missing" else tmp_path
    with pytest.raises(StablehandError) as caught:
        load(path)
    assert str(path) in caught.value.line() and "\n" not in caught.value.line()


def load_text(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "supervisor.toml"
    path.write_text(text, "utf-8")
    return load(path)


def test_a_byte_order_mark_and_windows_line_ends_are_no_mistake(tmp_path: Path) -> None:
    config = load_text(tmp_path, "\ufeff" + ONE.replace("\n", "\r\n"))
    assert [bot.name for bot in config.bots] == ["one"]


def test_a_whole_number_is_good_where_a_number_is_wanted(tmp_path: Path) -> None:
    assert load_text(tmp_path, ONE + "risk_percent = 2\n").bots[0].risk_percent == 2.0


def test_defaults_lie_below_what_a_bot_says_and_parameters_key_by_key(tmp_path: Path) -> None:
    defaults = "[bot_defaults]\nrisk_percent = 2.5\nparams = { fast = 10, slow = 60 }\n"
    bots = BOT + "params = { fast = 12 }\n" + BOT.replace('"one"', '"two"') + "risk_percent = 3\n"
    one, two = load_text(tmp_path, ACCOUNT + defaults + bots).bots
    assert (one.risk_percent, one.params) == (2.5, {"fast": 12, "slow": 60})
    assert (two.risk_percent, two.params) == (3.0, {"fast": 10, "slow": 60})


def test_default_parameters_belong_to_the_default_strategy(tmp_path: Path) -> None:
    defaults = '[bot_defaults]\nstrategy = "MA_CROSSOVER"\nparams = { fast = 10 }\n'
    other = BOT.replace("MA_CROSSOVER", "RSI_CROSSOVER")
    assert load_text(tmp_path, ACCOUNT + defaults + other).bots[0].params == {}
