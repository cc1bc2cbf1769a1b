"""The adapter's parts: the server's clock, symbols at a broker, bars by polling, passwords, the shell's lines."""

from __future__ import annotations

import os
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker.api import RATES_DTYPE, Rates, Tick
from broker.mt5 import takeover
from broker.mt5.aliases import Aliases
from broker.mt5.opening import open_mt5
from broker.mt5.polling import Polled
from broker.mt5.secret import password_of
from broker.mt5.servertime import ServerTime, observe
from broker.mt5.symbols import base_of, fits, resolve
from broker.mt5.terminal import Mt5Terminal
from protocol.botconfig import AccountConfig
from protocol.errors import InvalidInput
from protocol.locks import FileLock
from tests.support import eventually

# --- the clock -----------------------------------------------------------------------------------------

UTC = 1_790_000_000.0


def ticks(
    state: ServerTime, ahead: float, count: int = 3, at: float = UTC, every: float = 1.0
) -> tuple[ServerTime, str]:
    told = ""
    for number in range(count):
        utc = at + number * every
        state, line = observe(state, utc + ahead, utc, utc, fresh=True)
        told = told or line
    return state, told


@pytest.mark.parametrize(
    ("ahead", "zone"), [(7200, "UTC+2"), (0, "UTC+0"), (-18000, "UTC-5"), (20700, "UTC+5:45"), (10800 - 0.7, "UTC+3")]
)
def test_the_zone_is_told_from_fresh_ticks(ahead: float, zone: str) -> None:
    state, told = ticks(ServerTime(), ahead)
    assert told == f"the server's time is {zone}" and state.zone == zone
    assert abs(state.now(UTC + 100) - (UTC + 100 + ahead)) <= 1


def test_old_ticks_tell_no_zone() -> None:
    state = ServerTime()
    for number in range(10):
        state, line = observe(state, UTC - 7200, UTC + number, UTC + number, fresh=False)
        assert line == ""
    assert state.offset is None and state.now(UTC + 50) == int(UTC - 7200)


@pytest.mark.parametrize("ahead", [400.0, 86_400 * 30, -86_400 * 400])
def test_what_is_no_zone_of_this_world_leaves_the_ticks_as_the_clock(ahead: float) -> None:
    state, told = ticks(ServerTime(), ahead, 20)
    assert told == "" and state.offset is None and state.now(UTC + 999) == int(UTC + ahead + 19)


def test_summer_time_is_noticed_and_one_odd_tick_is_not() -> None:
    state, _ = ticks(ServerTime(), 7200)
    odd, told = ticks(state, 10800, 1, at=UTC + 50)
    assert told == "" and odd.offset == 7200 and odd.now(UTC + 51) == int(UTC + 7200 + 51)
    state, told = ticks(state, 10800, 8, at=UTC + 50)
    assert told == "the server's time is UTC+3 now; it was UTC+2" and state.offset == 10800
    back, told = ticks(state, 7200, 8, at=UTC + 90)
    assert told and back.now(UTC + 98) == int(UTC + 98 + 7200)


@pytest.mark.parametrize("ahead", [130.0, 400.0, 3600.0, 3 * 3600.0, 86_400.0])
@pytest.mark.parametrize("fresh", [True, False])
def test_an_odd_tick_moves_the_clock_neither_then_nor_later(ahead: float, fresh: bool) -> None:
    state, _ = ticks(ServerTime(), 7200, 9)
    state, line = observe(state, UTC + 9 + 7200 + ahead, UTC + 9, UTC + 9, fresh=fresh)
    clocks = []
    for second in range(9, 30):
        clocks.append(state.now(UTC + second))
        state, more = observe(state, UTC + second + 7200, UTC + second, UTC + second, fresh=True)
        line += more
    assert clocks == [int(UTC + 7200 + second) for second in range(9, 30)] and line == ""


def test_an_odd_tick_before_the_zone_is_known_is_forgotten_with_it() -> None:
    state, _ = observe(ServerTime(), UTC + 7200 + 3 * 3600, UTC, UTC, fresh=False)
    assert state.now(UTC) == int(UTC + 7200 + 3 * 3600), "it is all that is known"
    state, told = ticks(state, 7200)
    assert told == "the server's time is UTC+2" and state.now(UTC + 3) == int(UTC + 7200 + 3)


def test_the_clock_goes_on_over_a_weekend_at_whose_end_it_is_summer() -> None:
    state, _ = ticks(ServerTime(), 7200, 9)
    monday = UTC + 49 * 3600
    assert state.now(monday) == int(monday + 7200)
    state, told = ticks(state, 10800, 5, at=monday)
    assert told == "" and state.now(monday + 5) == int(monday + 7200 + 5), "not yet: it may be an odd one"
    state, told = ticks(state, 10800, 3, at=monday + 5)
    assert told.startswith("the server's time is UTC+3") and state.now(monday + 9) == int(monday + 10800 + 9)


def test_nothing_ends_by_the_clock_of_summer_after_a_weekend_at_whose_end_it_is_winter() -> None:
    state, _ = ticks(ServerTime(), 10800, 9)
    monday = UTC + 49 * 3600
    assert state.surely(monday) == state.now(monday) == int(monday + 10800)
    for count in range(1, 6):
        late, told = ticks(state, 7200, count, at=monday)
        assert told == "" and late.now(monday + 5) == int(monday + 10800 + 5), "not yet: it may be an odd one"
        assert late.surely(monday + 5) == int(monday + 7200 + 5)
    state, told = ticks(state, 7200, 8, at=monday)
    assert told.startswith("the server's time is UTC+2")
    assert state.surely(monday + 9) == state.now(monday + 9) == int(monday + 7200 + 9)


def test_a_host_that_stood_still_with_a_wrong_wall_clock_follows_ticks_that_agree() -> None:
    """A virtual machine that was paused: both of its clocks are ten minutes late, and nobody sets the wall clock."""
    state, _ = ticks(ServerTime(), 7200, 9)
    late, told = ticks(state, 7200 + 600, 5, at=UTC + 20)
    assert told == "" and late.now(UTC + 25) == int(UTC + 7200 + 25)
    late, told = ticks(late, 7200 + 600, 3, at=UTC + 25)
    assert told == "the server's time is +600 s from where it was counted on to, and is followed"
    assert late.offset == 7200 and late.now(UTC + 30) == int(UTC + 7200 + 600 + 30)
    slow, told = ticks(state, 7200 - 600, 20, at=UTC + 20)
    assert told == "" and slow.now(UTC + 40) == int(UTC + 7200 + 40), "quotes that are late are no other clock"


@pytest.mark.parametrize("step", [3600, -3600, 400, 86_400])
def test_a_wall_clock_that_is_set_moves_no_bar(step: int) -> None:
    state, _ = ticks(ServerTime(), 7200, 9)
    told, clocks = [], []
    for second in range(9, 30):
        mono = UTC + second
        clocks.append(state.now(mono))
        state, line = observe(state, mono + 7200, mono + step, mono, fresh=True)
        told += [line] if line else []
    assert clocks == [int(UTC + 7200 + second) for second in range(9, 30)]
    zone = "UTC+1" if step > 0 else "UTC+3"
    line = f"this host's clock was set by {step:+d} s; the server's goes on, and is {zone} by it now"
    assert told == ([line] if abs(step) == 3600 else [])
    assert state.now(UTC + 1000) == int(UTC + 7200 + 1000)
    state, line = observe(state, UTC + 3600, UTC + step, UTC + 31, fresh=True)  # an old one, of a symbol just chosen
    assert state.now(UTC + 32) == int(UTC + 7200 + 32)


def test_a_host_that_slept_goes_on_with_the_next_tick() -> None:
    """The monotonic clock stands while a host sleeps; the wall clock does not."""
    state, _ = ticks(ServerTime(), 7200, 9)
    assert state.now(UTC + 10) == int(UTC + 7210)
    state, line = observe(state, UTC + 5000 + 7200, UTC + 5000, UTC + 11, fresh=True)
    assert line == "" and state.now(UTC + 12) == int(UTC + 5000 + 7200 + 1)


# --- symbols -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "names", "server", "found"),
    [
        ("EURUSD", ["EURUSD", "EURUSDm"], "", "EURUSD"),
        ("EURUSD", ["EURUSDm", "EURUSD.raw"], "Exness-Real", "EURUSDm"),
        ("EURUSD", ["EURUSD.raw", "EURUSD.ecn"], "", "EURUSD.ecn"),
        ("EURUSD", ["EUR/USD"], "", "EUR/USD"),
        ("EURUSD", ["#EURUSD"], "", "#EURUSD"),
        ("XAUUSD", ["GOLD", "GOLDmicro", "EURUSD"], "XMGlobal-MT5", "GOLD"),
        ("XAUUSD", ["XAUUSD.c", "SILVER"], "", "XAUUSD.c"),
        ("GOLD", ["XAUUSDm"], "Exness-Trial", "XAUUSDm"),
        ("US500", ["US500.cash"], "", "US500.cash"),
        ("EURUSDm", ["EURUSD"], "", "EURUSD"),
        # never another instrument
        ("EURUSD", ["XAUUSD", "GOLD"], "XM", None),
        ("BTCUSD", ["BTCUSDT", "BTCUSDC"], "", None),
        ("EUR", ["EUR_USD", "EURUSD"], "", None),
        ("US500", ["US500-DEC25", "US5000", "AUS500", "US500Dec"], "", None),
        ("GOLD", ["GOLDMAN", "GOLD.USD"], "", None),
        ("USDJPY", ["AUDUSDJPY", "USDJPYUSD"], "", None),
    ],
)
def test_a_symbol_is_found_or_it_is_not(wanted: str, names: list[str], server: str, found: str | None) -> None:
    assert resolve(wanted, names, server) == found


def test_every_variant_fits_its_own_base_only() -> None:
    from broker.mt5.symbols import VARIANTS

    for base, names in VARIANTS.items():
        for name in names:
            assert fits(base, name) and base_of(name) == base
            assert [other for other in VARIANTS if fits(other, name)] == [base]


def test_changes_of_the_broker_are_shown(tmp_path: Path) -> None:
    told: list[tuple[str, bool]] = []
    file = tmp_path / "symbols.json"

    def at(server: str, *names: str) -> Aliases:
        aliases = Aliases(file, lambda line, bad: told.append((line, bad)))
        aliases.serve(server)
        aliases.know(names)
        return aliases

    first = at("A-Live", "GOLD", "EURUSD")
    assert first.find("XAUUSD") == "GOLD" and first.find("EURUSD") == "EURUSD"
    assert first.to_wanted("GOLD") == "XAUUSD"
    assert told == [("XAUUSD is GOLD at A-Live", False)]
    told.clear()
    assert at("A-Live", "GOLD").find("XAUUSD") == "GOLD" and told == []
    assert at("B-Live", "XAUUSDm").find("XAUUSD") == "XAUUSDm"
    assert told == [("XAUUSD is XAUUSDm at B-Live; it was GOLD at A-Live", True)]


def test_two_names_of_one_symbol_are_refused(tmp_path: Path) -> None:
    aliases = Aliases(tmp_path / "s.json", lambda _line, _bad: None)
    aliases.serve("A")
    aliases.know(("GOLD",))
    assert aliases.find("XAUUSD") == "GOLD"
    with pytest.raises(ValueError, match="traded as XAUUSD already"):
        aliases.find("GOLD")


# --- bars ----------------------------------------------------------------------------------------------


class Market:
    """Bars of one minute up to `forming`, and a tick."""

    def __init__(self) -> None:
        self.forming, self.stamp, self.fetched = 600, 605, 0
        self.away = False

    def rates(self, _symbol: str, _timeframe: int, _start: int, count: int) -> Rates | None:
        self.fetched += 1
        if self.away:
            return None
        rates = np.zeros(min(count, self.forming // 60 + 1), RATES_DTYPE)
        rates["time"] = self.forming - 60 * np.arange(len(rates))[::-1]
        return rates

    def tick(self, _symbol: str) -> Tick:
        return Tick(self.stamp, 1.0, 1.1, 0.0, 0, self.stamp * 1000, 6, 0.0)


def told(polled: Polled, now: int, mono: float = 0.0) -> list[int]:
    bars = polled.step(polled.quotes(), now, mono)
    return [int(np.frombuffer(bar.row, RATES_DTYPE)["time"][0]) for bar in bars]


@pytest.fixture
def polled() -> tuple[Market, Polled]:
    market = Market()
    made = Polled(market.rates, market.tick)
    made.watch("EURUSD", "M1", 605)
    return market, made


def test_a_bar_is_told_when_a_newer_one_is_there_and_asked_for_no_sooner(polled: tuple[Market, Polled]) -> None:
    market, feed = polled
    assert feed.closed("EURUSD", "M1") == 540
    before = market.fetched
    for second in range(606, 660):
        market.stamp = second
        assert told(feed, second) == []
    assert market.fetched == before
    market.forming, market.stamp = 660, 660
    assert told(feed, 660) == [600] and told(feed, 660) == []
    assert feed.closed("EURUSD", "M1") == 600


def test_bars_that_were_missed_are_all_told(polled: tuple[Market, Polled]) -> None:
    market, feed = polled
    market.forming, market.stamp = 1200, 1201
    assert told(feed, 1201) == list(range(600, 1200, 60))


def test_the_last_bar_of_a_week_closes_by_the_clock(polled: tuple[Market, Polled]) -> None:
    market, feed = polled
    assert told(feed, 661) == []
    assert told(feed, 662) == [600]
    before = market.fetched
    assert [told(feed, 663 + n, mono=n * 0.25) for n in range(20)] == [[]] * 20
    assert market.fetched - before <= 2, "a market that is closed is hardly asked"
    market.forming, market.stamp = 9000, 9000  # the next week
    assert told(feed, 9000, mono=9.0)[-1] == 8940


def test_no_answer_is_no_bar_and_nothing_is_lost(polled: tuple[Market, Polled]) -> None:
    market, feed = polled
    market.forming, market.stamp, market.away = 660, 660, True
    assert told(feed, 660) == []
    market.away, market.stamp = False, 661
    assert told(feed, 661) == [600]


# --- the password, and the lines of the shell ------------------------------------------------------------


def config(**keys: Any) -> AccountConfig:
    return AccountConfig.model_validate({"kind": "mt5", "login": 7, "server": "Broker-Live", **keys})


def test_the_password_is_read_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", "one")
    assert password_of(config(password_env="PW")) == "one"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "mt5").write_text("two\n")
    assert password_of(config(password_credential="mt5")) == "two"
    keyring = types.ModuleType("keyring")
    keyring.get_password = lambda service, user: "three" if (service, user) == ("stable", "7") else None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    assert password_of(config(password_keyring="stable")) == "three"


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"password_env": "NOT_SET"}, "the environment variable NOT_SET is not set"),
        ({"password_credential": "absent"}, "systemd credential absent: No such file"),
        ({"password_credential": "../up"}, "is no name"),
        ({"password_keyring": "absent"}, "the keyring has none for service absent, user 7"),
        ({"password_keyring": "locked"}, "keyring: RuntimeError: it is locked"),
    ],
)
def test_a_password_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, str], line: str
) -> None:
    def get_password(service: str, _user: str) -> None:
        if service == "locked":
            raise RuntimeError("it is locked")

    keyring = types.ModuleType("keyring")
    keyring.get_password = get_password  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(InvalidInput) as error:
        password_of(config(**keys))
    assert line in error.value.line() and "\n" not in error.value.line()


def test_without_keyring_or_credentials_the_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(InvalidInput, match="the package keyring is not installed"):
        password_of(config(password_keyring="stable"))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(InvalidInput, match="CREDENTIALS_DIRECTORY is not set"):
        password_of(config(password_credential="mt5"))


class Module:
    """A package that refuses, and remembers how it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def initialize(self, *args: Any, **kwargs: Any) -> bool:
        self.asked.append((args, kwargs))
        return False

    def shutdown(self) -> None:
        pass

    def last_error(self) -> tuple[int, str]:
        return -6, "Terminal: Authorization failed"


def shell(tmp_path: Path, **keys: Any) -> tuple[Mt5Terminal, Module, list[str]]:
    lines: list[str] = []
    module = Module()
    terminal = Mt5Terminal(
        module, config(**keys), file=tmp_path / "s.json", base_dir=tmp_path, tell=lambda line, _bad: lines.append(line),
        mono=lambda: 100.0,
    )  # fmt: skip
    terminal.tend()
    terminal.tend()
    return terminal, module, lines


def test_a_wrong_login_is_one_line_and_no_second_attempt_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PW", "s3cret")
    (tmp_path / "terminal64.exe").touch()
    terminal, module, lines = shell(tmp_path, path="terminal64.exe", password_env="PW")
    path, arguments = module.asked[0]
    assert path == (str(tmp_path / "terminal64.exe"),) and arguments["password"] == "s3cret"
    assert arguments["timeout"] == 60_000 and arguments["server"] == "Broker-Live"
    assert len(module.asked) == 1
    assert (
        len(lines) == 1 and lines[0].startswith("login 7 at Broker-Live was refused (-6") and "s3cret" not in lines[0]
    )
    assert terminal.held() == terminal.barred() == lines[0]
    as_held: Any = terminal
    assert as_held.positions_get() is None and terminal.last_error() == (-10004, lines[0])


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"password_env": "NOT_SET"}, "the environment variable NOT_SET is not set"),
        ({"password_env": "PW", "path": "nowhere/terminal64.exe"}, "there is no terminal at"),
    ],
)
def test_what_is_missing_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, str], line: str
) -> None:
    monkeypatch.setenv("PW", "s3cret")
    terminal, module, lines = shell(tmp_path, **keys)
    assert len(lines) == 1 and line in lines[0] and line in terminal.held() and module.asked == []


def test_a_host_has_one_gateway_of_an_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STABLEHAND_MT5_MODULE", "broker.paper")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    here, there, lines = tmp_path / "here", tmp_path / "there", list[str]()

    def opened(folder: Path) -> Mt5Terminal:
        keys = config(password_env="NOT_SET", reconnect_initial_seconds=0.05, reconnect_max_seconds=0.1)
        return open_mt5(keys, name="live", folder=folder, base_dir=tmp_path, tell=lambda line, _bad: lines.append(line))

    first, second = opened(here), opened(there)
    first.tend()
    assert "NOT_SET" in first.held() and len(lines) == 1
    second.tend()
    line = (
        f"login 7 at Broker-Live has a gateway on this host already (process {os.getpid()}, data in {here.resolve()})"
    )
    assert second.held().startswith(line) and lines[1:] == [second.held()]
    second.tend()
    monkeypatch.setattr(takeover, "SECONDS", 0.2)
    first.close()
    eventually(lambda: [second.tend(), "which may come back" in second.held()][1], what="the second sees that it went")
    eventually(lambda: [second.tend(), "NOT_SET" in second.held()][1], 15.0, what="the second takes over")
    assert len(lines) == 3, lines
    second.close()


def test_a_lock_of_another_user_is_one_line(tmp_path: Path) -> None:
    def hold() -> FileLock:
        raise PermissionError(13, "Permission denied", "/tmp/x.lock")

    terminal = Mt5Terminal(
        Module(), config(), file=tmp_path / "s", base_dir=tmp_path, tell=lambda _l, _b: None, hold=hold
    )
    terminal.tend()
    assert "cannot be locked on this host: /tmp/x.lock: Permission denied; it is another user's" in terminal.held()


def test_without_the_package_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "MetaTrader5", None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("STABLEHAND_MT5_MODULE", raising=False)
    with pytest.raises(InvalidInput, match="cannot be imported") as error:
        open_mt5(config(), name="live", folder=tmp_path, base_dir=tmp_path, tell=lambda _line, _bad: None)
    assert "mt5-remote" in error.value.line()
