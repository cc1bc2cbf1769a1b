"""A gateway that runs by itself, beside its terminal: its file, its keys, its lock.

[gateway]
account = "live"                    # as the stable's file calls it
address = "tcp://0.0.0.0:5600"      # this port and the next three
installation = "..."                # these three lines: stablehand keys remote live, on the stable's host
stable_key = "..."
operator_key = "..."

[account]                           # the keys of kind = "mt5"
kind = "mt5"
...
"""

from __future__ import annotations

import logging
import logging.handlers
import re
import secrets
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protocol.botconfig import AccountConfig, Name
from protocol.endpoints import data_folder
from protocol.errors import InvalidInput, StablehandError, nearest
from protocol.keys import KeyPair, load_or_create
from protocol.locks import FileLock, LockHeld
from protocol.mt5config import keys_of, misfit, what_is_wrong
from protocol.remotegateway import places
from protocol.spec import EXIT_CONFIG, RunSpec

_KEY: Final = r"^$|^[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}$"
_LOG_BYTES: Final = 10_000_000


class GatewayKeys(BaseModel):
    """The table `[gateway]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    account: Name
    address: str = Field(pattern=r"^tcp://(\*|[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):[1-9][0-9]{0,4}$")
    data_dir: str = "var"
    installation: str = Field("", max_length=200)
    stable_key: str = Field("", pattern=_KEY)
    operator_key: str = Field("", pattern=_KEY)


class Standalone:
    """The file, checked. Raises InvalidInput with one line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        raw = _read(path)
        for key in raw:
            if key not in ("gateway", "account"):
                raise InvalidInput(f"{path}: unknown table {key!r}", hint="known: gateway, account")
        self.keys = _model(path, "gateway", GatewayKeys, raw.get("gateway", {}))
        table = raw.get("account", {})
        if isinstance(table, dict) and "password" in table:
            raise InvalidInput(
                f"{path}: account: a password does not belong into the file",
                hint='say where it lies: password_env = "NAME", password_keyring = "SERVICE" or '
                'password_credential = "NAME"; and change this one, which others may have read',
            )
        self.account = _model(path, "account", AccountConfig, table)
        self._check_account()
        self.data_dir = data_folder(path.parent, self.keys.data_dir).resolve()

    def _check_account(self) -> None:
        account = self.account
        if account.kind == "mt5-remote":
            raise InvalidInput(f'{self.path}: account: a gateway holds a terminal itself: kind = "mt5"')
        key = misfit(account.kind, [key for key in AccountConfig.model_fields if key in account.model_fields_set])
        if key is not None:
            has = ", ".join(keys_of(account.kind))
            raise InvalidInput(f"{self.path}: account: {key} is no key of kind {account.kind!r}",
                               hint=f"it has {has}, and the guards" if has else None)  # fmt: skip
        wrong = what_is_wrong(account.kind, account.login, account.passwords, account.address, account.gateway_key)
        if wrong:
            raise InvalidInput(f"{self.path}: account: {wrong}")
        try:
            places(self.keys.address)
        except ValueError as error:
            raise InvalidInput(f"{self.path}: gateway: address: {error}") from None

    def pair(self) -> KeyPair:
        """The gateway's own keys, made at the first call."""
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return load_or_create(self.data_dir, f"gateway-{self.keys.account}")

    def spec(self) -> RunSpec:
        """What the gateway is told. Raises InvalidInput where the stable's lines are missing."""
        for key in ("installation", "stable_key", "operator_key"):
            if not getattr(self.keys, key):
                raise InvalidInput(
                    f"{self.path}: gateway: {key} is missing",
                    hint=f"stablehand keys remote {self.keys.account}, on the stable's host, prints the line",
                )
        pair, name = self.pair(), self.keys.account
        return RunSpec(
            kind="gateway",
            token=secrets.token_hex(16),
            bot_id=0,
            epoch=0,
            name=f"gateway-{name}",
            installation=self.keys.installation,
            data_dir=str(self.data_dir),
            lock_path=str(self.data_dir / "locks" / f"account-{name}"),
            log_path=str(self.data_dir / "logs" / f"gateway-{name}.log"),
            bus="",
            gateway_bind={
                what: where.replace("//*:", "//0.0.0.0:") for what, where in places(self.keys.address).items()
            },
            server_key=self.keys.stable_key,
            gateway_key=pair.public,
            gateway_secret=pair.secret,
            operator_key=self.keys.operator_key,
            account=self.account,
            account_name=name,
            config_dir=str(self.path.parent.resolve()),
        )


def serve(path: Path) -> int:
    """Run the gateway of this file until it is stopped; the exit code. Raises StablehandError with one line."""
    spec = Standalone(path).spec()
    log_path = Path(spec.log_path)
    log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [
        logging.handlers.RotatingFileHandler(log_path, maxBytes=_LOG_BYTES, backupCount=3, encoding="utf-8"),
        logging.StreamHandler(sys.stderr),
    ]
    logging.getLogger("stablehand").setLevel(logging.INFO)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", handlers=handlers)
    try:
        with FileLock(Path(spec.lock_path)):
            from broker.gateway.process import run_gateway  # takes a moment: not for one that is refused

            logging.getLogger("stablehand.gateway").info(
                "gateway of account %s at %s, public key %s",
                spec.account_name,
                spec.gateway_bind["link"],
                spec.gateway_key,
            )
            code = run_gateway(spec)
    except LockHeld as error:
        raise InvalidInput(
            f"account {spec.account_name} has a gateway here already: {error.message}",
            hint="stop that one first (the host's service may have started it)",
        ) from None
    return 2 if code == EXIT_CONFIG else code


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise InvalidInput(f"{path}: no such file", hint="stablehand gateway FILE") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{path}: {error}", hint="the file is not valid TOML") from None


def _model(path: Path, table: str, model: type[Any], values: Any) -> Any:
    if not isinstance(values, dict):
        raise InvalidInput(f"{path}: {table} is a table", hint=f"write [{table}]")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        one = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in one["loc"])
        near = nearest(key, list(model.model_fields)) if one["type"] == "extra_forbidden" else None
        what = "unknown key" if one["type"] == "extra_forbidden" else re.sub(r"^Value error, ", "", one["msg"])
        hint = f"did you mean {near}?" if near else None
        raise InvalidInput(f"{path}: {table}: {key}: {what}", hint=hint) from None


def main(arguments: list[str]) -> int:
    """`[FILE] [--show-key | --check]`."""
    import argparse

    parser = argparse.ArgumentParser(prog="stablehand gateway", description="A gateway beside its terminal.")
    parser.add_argument("file", metavar="FILE", nargs="?", default=Path("gateway.toml"), type=Path)
    parser.add_argument("--show-key", action="store_true", help="print the gateway's public key")
    parser.add_argument("--check", action="store_true", help="check the file and start nothing")
    told = parser.parse_args(arguments)
    try:
        if told.show_key:
            sys.stdout.write(f"{Standalone(told.file).pair().public}\n")
            return 0
        if told.check:
            Standalone(told.file).spec()
            sys.stdout.write(f"{told.file}: all right\n")
            return 0
        return serve(told.file)
    except StablehandError as error:
        sys.stderr.write(f"stablehand: {error.line()}\n")
        return 2
