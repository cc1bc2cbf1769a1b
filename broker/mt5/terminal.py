"""A gateway's side of a real MetaTrader 5 terminal: the package's functions, its connection tended, its market polled.

The package holds one terminal for the whole process and is not safe to share: everything here belongs to the one
thread that calls it, except what is said to be for any thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from broker import api
from broker.functions import READS
from broker.mt5.accountlock import AccountLock
from broker.mt5.aliases import Aliases
from broker.mt5.connection import (
    Answered,
    CallFailed,
    Connection,
    Do,
    Due,
    Event,
    Looked,
    LookFailed,
    Opened,
    OpenFailed,
    StoodStill,
    Tell,
    decide,
)
from broker.mt5.names import Names, NotKnownYet
from broker.mt5.polling import LATE, Polled
from broker.mt5.secret import password_of
from broker.mt5.servertime import ServerTime, observe
from broker.mt5.silence import Silence
from broker.mt5.troubles import Account, Kind
from broker.paper.moments import Step
from protocol.botconfig import AccountConfig
from protocol.errors import InvalidInput
from protocol.locks import FileLock

FUNCTIONS: Final = READS | {"order_send", "symbol_select", "market_book_add", "market_book_release"}
_YES_OR_NO: Final = frozenset({"symbol_select", "market_book_add", "market_book_release"})
#: What belongs to the account: read from another's, it would be booked as ours.
_OF_ACCOUNT: Final = frozenset(
    {
        "account_info", "positions_get", "positions_total", "orders_get", "orders_total", "history_deals_get",
        "history_deals_total", "history_orders_get", "history_orders_total", "order_send", "order_check",
    }
)  # fmt: skip
#: The end of a range that is far enough away: 32 bits, which every version of the package takes.
_LATEST: Final = 2**31 - 1
#: Seconds without a step after which the host has slept, whatever it was: a call to the terminal hardly lasts so long.
_STOOD_STILL: Final = 120.0
_OK: Final = (api.RES_S_OK, "Success")

log = logging.getLogger("stablehand.gateway")


class Mt5Terminal:
    """A `HeldTerminal` over the module. The functions of the package are made on demand: each is passed on by name."""

    lockstep: Final = False

    def __init__(
        self,
        module: Any,
        config: AccountConfig,
        *,
        file: Path,
        base_dir: Path,
        tell: Callable[[str, bool], None],
        hold: Callable[[], FileLock] | None = None,
        mono: Callable[[], float] = time.monotonic,
        utc: Callable[[], float] = time.time,
    ) -> None:
        self._module = module
        self._config = config
        self._path = str(base_dir / config.path) if config.path else ""
        self._tell = tell
        self._mono = mono
        self._utc = utc
        self._account = Account(
            config.login, config.server, self._path, config.reconnect_initial_seconds, config.reconnect_max_seconds
        )
        self._connection = Connection()
        self._error: tuple[int, str] = (api.RES_E_INTERNAL_FAIL_CONNECT, "the terminal is being opened")
        self._clock = ServerTime()
        self._aliases = Aliases(file, tell)
        self._names = Names(self._aliases, self._ask)
        self._polled = Polled(self._rates, self._tick, LATE + 2 * config.poll_seconds)
        self._silence = Silence(lambda symbol: self._call("symbol_select", (symbol, True), {}))
        self._doubted = 0.0  # the end of the last break after which what was told is doubted
        self._stepped: tuple[float, float] | None = None  # monotonic, UTC
        self._was_readable = False
        self._lock = AccountLock(self._account, hold)

    # --- for any thread ------------------------------------------------------------------------------

    @property
    def interval(self) -> float:
        """Seconds between two looks at the market."""
        return self._config.poll_seconds

    @property
    def now(self) -> int:
        """The server's clock, in its own seconds; 0 before anything is known of it."""
        return self._clock.now(self._mono())

    def held(self) -> str:
        """Why no bot may begin; empty when one may."""
        return self._connection.holding

    # --- the connection ------------------------------------------------------------------------------

    def tend(self) -> bool:
        """Open it where that is due, look at it; whether what it says can be taken as the account's since now."""
        self._happened(Due())
        readable = self._connection.readable
        fresh, self._was_readable = readable and not self._was_readable, readable
        return fresh

    def barred(self, *, look: bool = False) -> str:
        """Why no order may be sent; empty when one may. `look`: ask the terminal first."""
        if look and self._connection.opened:
            self._look()
        return self._connection.barring

    def close(self) -> None:
        """Let go of the terminal, which goes on by itself."""
        if self._lock.kept:  # else it is another gateway's
            self._shutdown()
        self._connection = Connection()
        self._lock.release()

    def _happened(self, event: Event) -> None:
        """An event, and what follows from it, to its end."""
        self._connection, actions = decide(self._connection, event, self._mono(), self._account)
        self._was_readable = self._was_readable and self._connection.readable  # also where it is back by the next look
        for action in actions:
            if isinstance(action, Tell):
                self._say(action.line, action.bad)
            elif action is Do.OPEN:
                self._open()
            else:
                self._look()

    def _say(self, line: str, bad: bool) -> None:
        (log.error if bad else log.info)("%s", line)
        self._tell(line, bad)

    def _open(self) -> None:
        not_ours = self._lock.keep(self._mono())
        if not_ours:
            self._happened(OpenFailed(api.RES_E_FAIL, not_ours, Kind.TAKEN))
            return
        if self._path and not Path(self._path).exists():
            self._happened(OpenFailed(api.RES_E_NOT_FOUND, "", Kind.MISSING))
            return
        try:
            password = password_of(self._config)
        except InvalidInput as error:
            self._happened(OpenFailed(api.RES_E_AUTH_FAILED, error.line(), Kind.SECRET))
            return
        self._shutdown()  # the package keeps what is left of a broken connection
        arguments: dict[str, Any] = {
            "login": self._config.login, "password": password, "server": self._config.server,
            "timeout": int(self._config.connect_timeout_seconds * 1000), "portable": self._config.portable,
        }  # fmt: skip
        if not self._config.server:
            del arguments["server"]
        try:
            done = self._module.initialize(*([self._path] if self._path else []), **arguments)
            code, text = _OK if done else self._module.last_error()
        except Exception as error:  # its text may hold the arguments: only its kind is shown
            done, code, text = False, api.RES_E_FAIL, f"initialize raised {type(error).__name__}"
        self._happened(Opened() if done else OpenFailed(int(code), str(text)))

    def _shutdown(self) -> None:
        try:
            self._module.shutdown()
        except Exception:
            log.exception("the package could not shut down its connection; it is opened anew all the same")

    def _look(self) -> bool:
        """Whose account it is, and whether it may trade; whether that was answered."""
        account = self._ask("account_info")
        terminal = None if account is None else self._ask("terminal_info")
        if account is None or terminal is None:
            self._happened(LookFailed(int(self._error[0]), str(self._error[1])))
            return False
        self._happened(
            Looked(
                login=int(account.login),
                connected=bool(terminal.connected),
                trade_allowed=bool(terminal.trade_allowed),
                api_disabled=bool(terminal.tradeapi_disabled),
                account_trade_allowed=bool(account.trade_allowed),
                account_trade_expert=bool(account.trade_expert),
            )
        )
        if self._connection.readable:
            self._aliases.serve(str(account.server))
        return True

    # --- the market ----------------------------------------------------------------------------------

    def step(self) -> Step:
        """Look at the market: bars that have closed since the last step. Of another account's market nothing is told.

        Between two looks somebody may log the terminal in to another account, whose server has another clock and other
        bars: the account is asked before and after, and what was read counts only when it was ours both times.

        While the terminal has no connection to the broker its last bar stands still, and the clock goes on: by that it
        would end with what came before the break. So whether it is connected is asked after it as well.
        """
        if self._stood_still():
            self._happened(StoodStill())
        if not self._is_ours():
            return Step(self.now, ())
        polled, clock, lines = self._polled.draft(), self._clock, list[str]()
        quiet, broken = self._holds_back(), self._connection.complete_at
        if broken != self._doubted:
            polled.doubt()
        quotes = polled.quotes()
        utc, mono = self._utc(), self._mono()
        for quote in quotes.values():
            stamp = quote.tick.time_msc / 1000 if quote.tick.time_msc else float(quote.tick.time)
            clock, line = observe(clock, stamp, utc, mono, fresh=quote.fresh)
            lines += [line] if line else []
        now = clock.now(mono)
        bars = () if quiet else polled.step(quotes, clock.surely(mono), mono)
        if not self._is_ours() or (bars and (not self._look() or self._holds_back())):
            return Step(self.now, ())
        self._polled, self._clock, self._doubted = polled, clock, broken
        for line in lines:
            self._say(line, False)
        if not quiet:
            for line, bad in self._silence.look({one: one in quotes for one in polled.symbols}, mono):
                self._say(line, bad)
        return Step(now, bars, missed=polled.missed)

    def _stood_still(self) -> bool:
        """Whether more time has passed since the last step than steps take, by either clock: one stands in a sleep."""
        before, self._stepped = self._stepped, (self._mono(), self._utc())
        if before is None:
            return False
        mono, utc = (now - then for now, then in zip(self._stepped, before, strict=True))
        return mono > _STOOD_STILL or utc - mono > LATE

    def follow(self, symbol: str, timeframe: str) -> None:
        """A bot wants these bars; where the terminal has another account now it has to ask again."""
        if not self._is_ours() or self._holds_back():
            return
        polled, clock, mono = self._polled.draft(), self._clock, self._mono()
        tick = self._tick(symbol)
        if tick is not None:
            clock, _ = observe(clock, float(tick.time), self._utc(), mono, fresh=False)
        polled.watch(symbol, timeframe, clock.surely(mono))
        if self._is_ours():
            self._polled, self._clock = polled, clock

    def _is_ours(self) -> bool:
        """Whether the terminal is logged in to our account at this moment: it is asked."""
        return self._connection.readable and self._still_ours("account_info", self._ask("account_info"))

    def _holds_back(self) -> bool:
        """Whether no bar may be told now; where there is trouble it is asked whether that is over."""
        if self._connection.holding:
            self._look()
        return bool(self._connection.holds_back(self._mono()))

    def knows(self, symbol: str) -> bool:
        """Whether the broker has this symbol, as was found out before: what is not found now may come back."""
        return self._aliases.known(symbol) is not None

    def last_closed(self, symbol: str, timeframe: str) -> int | None:
        """Opening time of the last bar that `step` told."""
        return self._polled.closed(symbol, timeframe)

    def _rates(self, *args: Any) -> Any:
        return self._call("copy_rates_from_pos", args, {})

    def _tick(self, symbol: str) -> Any:
        return self._call("symbol_info_tick", (symbol,), {})

    # --- the functions -------------------------------------------------------------------------------

    def last_error(self) -> tuple[int, str]:
        """Of the last call: what the terminal said, or why it was not asked."""
        return self._error

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in FUNCTIONS:
            raise AttributeError(name)
        return lambda *args, **kwargs: self._call(name, args, kwargs)

    def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        failed = False if name in _YES_OR_NO else None
        if not self._connection.opened:
            return self._away(failed)
        if name in _OF_ACCOUNT and not self._connection.readable:
            return self._away(failed)
        if name.startswith("history_"):
            args = tuple(min(one, _LATEST) if isinstance(one, int) else one for one in args)
        group = kwargs.get("group")
        try:
            args, kwargs = self._names.translated(name, args, kwargs)
        except LookupError as error:
            self._error = (api.RES_E_NOT_FOUND, str(error.args[0]))
            return failed
        except NotKnownYet as error:
            code, text = error.why or self._error  # else that of the question for the symbols
            # "Not found" was said of something else, and would be taken for a symbol that there never is.
            self._error = (api.RES_E_FAIL if code == api.RES_E_NOT_FOUND else code, text)
            return failed
        value = self._ask(name, *args, **kwargs)
        if name in _OF_ACCOUNT and name != "order_send" and value is not None and not self._still_ours(name, value):
            return self._away(failed)
        if name == "order_send" and value is not None:
            self._happened(Answered(int(value.retcode)))
        return self._names.renamed(name, value, group)

    def _ask(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """The package itself; a failure is an event of the connection, whatever it was."""
        try:
            value = getattr(self._module, name)(*args, **kwargs)
            self._error = _OK if value is not None and value is not False else self._module.last_error()
        except Exception as error:
            log.exception("the package raised in %s", name)
            value, self._error = None, (api.RES_E_FAIL, f"{type(error).__name__}: {error}")
        if value is None or value is False:
            error_now = self._error
            self._happened(CallFailed(int(error_now[0]), str(error_now[1])))
            self._error = error_now
            return False if name in _YES_OR_NO else None
        return value

    def _still_ours(self, name: str, value: Any) -> bool:
        """Whether the terminal was logged in to our account when it answered."""
        info = value if name == "account_info" else self._ask("account_info")
        if info is not None and int(info.login) == self._config.login:
            return True
        if self._connection.opened:  # else the failed question was the end of it
            self._look()
        return False

    def _away(self, failed: Any) -> Any:
        """Nothing was asked: an error like that of a terminal that cannot be reached."""
        line = self._connection.barring or "no connection to the terminal"
        self._error = (api.RES_E_INTERNAL_FAIL_CONNECT, line)
        return failed
