"""Accounts of real terminals in the file: which keys fit, and one line for what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.gateway.standalone import Standalone, main
from protocol.errors import InvalidInput
from protocol.remotegateway import places
from supervisor.config import load
from supervisor.errors import ConfigError
from supervisor.runtime.launchers import choose

#: One and the same in all processes, so that they collect the same tests.
KEY = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
MT5 = '[accounts.live]\nkind = "mt5"\nlogin = 5012345\nserver = "Broker-Live"\npath = "C:/MT5/terminal64.exe"\n'
REMOTE = f'[accounts.live]\nkind = "mt5-remote"\naddress = "tcp://windows:5600"\ngateway_key = "{KEY}"\n'
BOT = '[[bots]]\nname = "gold"\nmarket = "XAUUSD.x"\ntimeframe = "M15"\nstrategy = "MA_CROSSOVER"\n'


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STABLEHAND_MT5_MODULE", "broker.paper")


def line(tmp_path: Path, text: str) -> str:
    path = tmp_path / "supervisor.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(path)
    told = error.value.line()
    assert "\n" not in told
    return told


@pytest.mark.usefixtures("package")
def test_a_complete_account_is_taken_with_any_symbol_and_timeframe(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.toml"
    path.write_text(MT5 + 'password_env = "PW"\nmax_daily_loss = 100.0\n' + BOT)
    assert load(path).accounts["live"].passwords == ("password_env",)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        (MT5 + 'password = "hunter2"\n', 6, ("a password does not belong into the file", "password_env")),
        (MT5 + 'password_env = "PW"\nfeed = "replay"\n', 7, ("feed is no key of an account of kind 'mt5'",)),
        (MT5 + 'password_env = "PW"\nbalance = 5.0\n', 7, ("balance is no key",)),
        (MT5 + 'password_env = "PW"\naddress = "tcp://a:1"\n', 7, ("address is no key",)),
        (MT5, 1, ("where is the password?", "password_keyring")),
        (MT5 + 'password_env = "PW"\npassword_keyring = "s"\n', 6, ("where is the password?", "one of")),
        (MT5.replace("login = 5012345\n", "") + 'password_env = "PW"\n', 1, ("account's number",)),
        (MT5.replace("5012345", '"me"'), 3, ("login = 'me'", "whole number")),
        ('[accounts.main]\nlogin = 5\n', 2, ("login is no key of an account of kind 'paper'", "mt5")),
        ('[accounts.main]\nkind = "mt4"\n', 2, ("unknown kind 'mt4'",)),
        (REMOTE + "login = 5\n", 5, ("login is no key of an account of kind 'mt5-remote'", "address, gateway_key")),
        (REMOTE.replace("tcp://windows:5600", "windows"), 3, ("address = 'windows' is not allowed",)),
        (REMOTE.replace(":5600", ":65534"), 3, ("port 65534", "next three")),
        (REMOTE.replace(f'gateway_key = "{KEY}"\n', ""), 1, ("--show-key",)),
        (REMOTE.replace('address = "tcp://windows:5600"\n', ""), 1, ("where does the gateway listen?",)),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(tmp_path: Path, text: str, where: int, words: tuple[str, ...]) -> None:
    told = line(tmp_path, text)
    assert told.startswith(f"{tmp_path / 'supervisor.toml'}:{where}: "), told
    assert all(word in told for word in words), told
    assert "hunter2" not in told


def test_without_the_package_the_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STABLEHAND_MT5_MODULE", raising=False)
    told = line(tmp_path, MT5 + 'password_env = "PW"\n')
    assert ":2: " in told and "exists for Windows only" in told and 'kind = "mt5-remote"' in told


def test_a_remote_account_needs_keys_so_tcp(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.toml"
    path.write_text(REMOTE)
    assert choose(load(path))[1] == "tcp"
    path.write_text('[supervisor]\ntransport = "ipc"\n' + REMOTE)
    with pytest.raises(Exception, match='needs transport = "tcp"'):
        choose(load(path))


def test_four_ports_of_one_address() -> None:
    assert places("tcp://[::1]:5600") == {
        "link": "tcp://[::1]:5600", "orders": "tcp://[::1]:5601", "market": "tcp://[::1]:5602",
        "control": "tcp://[::1]:5603",
    }  # fmt: skip


GATEWAY = '[gateway]\naccount = "live"\naddress = "tcp://*:5600"\n'
STABLE = f'installation = "abc"\nstable_key = "{KEY}"\noperator_key = "{KEY}"\n'
ACCOUNT = MT5.replace("accounts.live", "account") + 'password_env = "PW"\n'


@pytest.mark.usefixtures("package")
def test_a_gateways_own_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(GATEWAY + ACCOUNT)
    assert main([str(path), "--show-key"]) == 0
    key = capsys.readouterr().out.strip()
    assert main([str(path), "--check"]) == 2
    assert "installation is missing (stablehand keys remote live" in capsys.readouterr().err
    path.write_text(GATEWAY + STABLE + ACCOUNT)
    assert main([str(path), "--check"]) == 0
    spec = Standalone(path).spec()
    assert spec.gateway_key == key and spec.gateway_bind["orders"] == "tcp://0.0.0.0:5601"
    assert spec.server_key == KEY and spec.gateway_secret not in repr(spec)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("text", "word"),
    [
        (GATEWAY + "stabel_key = 'x'\n" + ACCOUNT, "did you mean stable_key?"),
        (GATEWAY + ACCOUNT + 'password = "hunter2"\n', "a password does not belong into the file"),
        (GATEWAY + ACCOUNT + 'feed = "replay"\n', "feed is no key of kind 'mt5'"),
        (GATEWAY + ACCOUNT.replace('password_env = "PW"\n', ""), "where is the password?"),
        (GATEWAY + ACCOUNT.replace('"mt5"', '"mt5-remote"'), "a gateway holds a terminal itself"),
        (GATEWAY.replace("5600", "65535") + ACCOUNT, "port 65535"),
        (ACCOUNT, "account: Field required"),
        ("[gateway\n", "not valid TOML"),
        ("[gatewey]\n", "unknown table 'gatewey'"),
    ],
)
def test_a_gateways_file_that_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, word: str
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    assert main([str(path), "--check"]) == 2
    told = capsys.readouterr().err
    assert word in told and told.count("\n") == 1 and "hunter2" not in told


def test_no_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        Standalone(tmp_path / "absent.toml")
