"""A real gateway process with kind = "mt5": the paper terminal is its module, and every failure code happens."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from broker import api
from broker.client import AttachDenied, Follower, GatewayClient, GatewayDown
from broker.market import from_bytes
from protocol.messages import Attached, Bar, Figures, History, HistoryRow, OrderResult
from tests.clockstep import WallClock
from tests.gateway_rig import Rig
from tests.scale import TAKEOVER
from tests.support import eventually

LOGIN = random.randrange(10**6, 10**9)  # a host has one gateway of an account: others may run these tests too
ACCOUNT: dict[str, Any] = {
    "kind": "mt5", "path": "terminal", "login": LOGIN, "server": "Paper-Demo", "password_env": "MT5_PASSWORD",
    "poll_seconds": 0.02, "reconnect_initial_seconds": 0.15, "reconnect_max_seconds": 0.15,
    "terminal_timeout_seconds": 0.4,
}  # fmt: skip
#: Every test leaves positions behind: the account bears them all.
MARKET = 'timeframe = "H1"\nbars_per_second = 3\nticks_per_bar = 3\nbalance = 1e6\nsymbols = ["EURUSD", "XAUUSD"]\n'


class Mt5Rig(Rig):
    """One account whose module does what the test orders."""

    def __init__(self, folder: Path, account: dict[str, Any], market: str = MARKET) -> None:
        (folder / "terminal").mkdir()
        (folder / "terminal" / "paper.toml").write_text(market)
        super().__init__(folder, account)
        self.order()

    def order(self, **faults: Any) -> None:
        """Have this go wrong from now on."""
        target = self.folder / "faults.json"
        partial = self.folder / "faults.new"
        partial.write_text(json.dumps({"names": {"GOLD": "XAUUSD"}, **faults}))
        partial.replace(target)

    def rows(self, action: str) -> list[HistoryRow]:
        """What the gateway has told people."""
        told = {row.seq: row for history in self.supervisor.all(History) for row in history.rows}
        return [row for row in told.values() if row.action == action]

    @property
    def trouble(self) -> str:
        """What the figures say last."""
        told = self.supervisor.all(Figures)
        return told[-1].trouble if told else ""


@contextmanager
def environment(folder: Path) -> Iterator[None]:
    """What the gateway's process finds: the module, its faults, the password."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STABLEHAND_MT5_MODULE", "tests.mt5module")
        patch.setenv("STABLEHAND_MT5_FAULTS", str(folder / "faults.json"))
        patch.setenv("STABLEHAND_MT5_TAKEOVER", str(TAKEOVER))
        patch.setenv("MT5_PASSWORD", "s3cret")
        yield


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Mt5Rig]:
    """A gateway of the test's own; the test starts it."""
    # The one that the other tests share is still there, and a host has one gateway of an account.
    with environment(tmp_path), Mt5Rig(tmp_path, ACCOUNT | {"login": LOGIN + 1}) as made:
        yield made


class Bot:
    """A run of a bot, attached and fenced."""

    def __init__(self, rig: Mt5Rig, symbol: str = "EURUSD", bot_id: int = 1) -> None:
        self.rig = rig
        self._before = {"ALERT": 0, "INFO": 0, "deals": 0}
        rig.supervisor.fence(bot_id, 1)
        rig.supervisor.roster((bot_id, symbol))
        self.symbol = symbol
        self.feed = rig.feed(bot_id, 1, symbol)
        self.client: GatewayClient = rig.client(bot_id, 1)
        self.attached = attach(self.client, symbol)

    def begin(self) -> None:
        """Count rows and deals from here."""
        self.attached = attach(self.client, self.symbol)
        self.feed.read()
        self._before = dict.fromkeys(self._before, 0)
        self._before = {"ALERT": len(self.rows("ALERT")), "INFO": len(self.rows("INFO")), "deals": self.deals()}

    def rows(self, action: str) -> list[HistoryRow]:
        """What the gateway has told people since."""
        return self.rig.rows(action)[self._before[action] :]

    def deals(self) -> int:
        """Entries that the terminal has had since."""
        found = self.rig.supervisor.query("deals")
        return sum(1 for one in found if one["symbol"] == self.symbol and one["entry"] == 0) - self._before["deals"]

    def bar(self) -> Bar:
        """The newest of the bars that come next."""
        return eventually(lambda: self.feed.read(), what="a bar")[-1]

    def enter(self) -> OrderResult:
        """An entry on the next bar; asked after until its fate is known."""
        for _ in range(60):
            result = self._enter()
            if not result.reason.startswith("decided on the bar"):  # the market went on meanwhile
                return result
        raise AssertionError(f"never in time: {result}")

    def done(self) -> OrderResult:
        """An entry that succeeds; what is said where it does not.

        How far the market has come when a test begins depends on the machine: gold's daily break, and a weekend,
        refuse what was decided on the last bar before them, and the next bar decides anew.
        """
        for _ in range(5):
            result = self.enter()
            if result.retcode != api.TRADE_RETCODE_MARKET_CLOSED:
                break
        assert result.status == "done", result
        return result

    def _enter(self) -> OrderResult:
        opened = int(from_bytes(self.bar().row)["time"][0])
        order = self.client.new_order(
            "open", symbol=self.symbol, decision=f"{self.symbol}|H1|{opened}", bar_time=opened, side="buy",
            volume=0.1, sl=0.0, tp=0.0,
        )  # fmt: skip
        result = self.client.send(order)
        if result.status != "unknown":
            return result
        return eventually(
            lambda: found if (found := self.client.resolve(order.id)).status != "unknown" else None,
            what="the order's fate",
        )


def attach(client: GatewayClient, symbol: str = "EURUSD") -> Attached:
    def once() -> Attached | None:
        try:
            return client.attach(symbol, "H1", 20, timeout=3.0)
        except GatewayDown:
            return None

    return eventually(once, what="an attach")


def refused(client: GatewayClient) -> str:
    """Why an attach is held."""
    with pytest.raises(GatewayDown) as error:
        client.attach("EURUSD", "H1", 20, timeout=3.0)
    return str(error.value)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bot]:
    """One gateway and one bot for the tests that leave them as they were: a process takes long to start."""
    folder = tmp_path_factory.mktemp("mt5")
    with environment(folder), Mt5Rig(folder, ACCOUNT) as made:
        made.start()
        made.ready()
        yield Bot(made)


@pytest.fixture
def bot(started: Bot) -> Iterator[Bot]:
    """The bot, attached, all well; rows and deals count from here."""
    started.begin()
    yield started
    started.rig.order()
    eventually(lambda: not started.rig.trouble, what="all is well again")


def test_bars_follow_each_other_and_orders_are_done(bot: Bot) -> None:
    last = int(from_bytes(bot.attached.bars)["time"][-1])
    assert len(from_bytes(bot.attached.bars)) == 20
    bars: list[Bar] = []
    while len(bars) < 4:
        bars += eventually(bot.feed.read, what="bars")
    opened = [int(from_bytes(bar.row)["time"][0]) for bar in bars]
    assert opened == [last + 3600 * (number + 1) for number in range(len(bars))]
    assert [bar.seq for bar in bars] == list(range(bot.attached.bar_seq + 1, bot.attached.bar_seq + 1 + len(bars)))
    bot.done()
    assert bot.deals() == 1
    assert bot.rows("ALERT") == []
    written = [path.read_bytes() for path in bot.rig.folder.rglob("*") if path.is_file()]
    assert written and not any(b"s3cret" in one for one in written)


BLIND, IPC = "does not say whose account it has ({code}: ", "no connection to the terminal ({code}: "
#: Code, its text, what the one line says.
CODES = [
    (-1, "Terminal: Call failed", BLIND), (-2, "Terminal: Invalid params", BLIND), (-3, "Terminal: No memory", BLIND),
    (-4, "Terminal: Not found", BLIND), (-5, "Terminal: Invalid version", "MetaTrader5 do not fit ({code}: "),
    (-6, "Terminal: Authorization failed", f"login {LOGIN} at Paper-Demo was refused"),
    (-7, "Terminal: Unsupported", BLIND), (-8, "Auto-Trading using Python API disabled", "shuts Python out"),
    (-10000, "IPC call failed", IPC), (-10001, "IPC send failed", IPC), (-10002, "IPC recv failed", IPC),
    (-10003, "IPC initialize failed", IPC), (-10004, "No IPC connection", IPC), (-10005, "IPC timeout", IPC),
]  # fmt: skip
#: What is ordered -> what the one line says.
TROUBLES: dict[str, tuple[dict[str, Any], str]] = {
    **{f"code {code}": ({"fail": {"*": [code, text]}}, line.format(code=code)) for code, text, line in CODES},
    "api_flag": ({"terminal": {"tradeapi_disabled": True}}, "shuts Python out"),
    "switched": ({"account": {"login": 42}}, f"logged in to 42, not to {LOGIN}"),
    "offline": ({"terminal": {"connected": False}}, "no connection to the broker"),
    "button": ({"terminal": {"trade_allowed": False}}, "press Algo Trading"),
    "button_answer": ({"retcode": 10027}, "press Algo Trading"),
    "investor": ({"account": {"trade_allowed": False}}, "may only read"),
    "experts": ({"account": {"trade_expert": False}}, "takes no orders of programs"),
}


@pytest.mark.parametrize("name", list(TROUBLES))
def test_trouble_is_told_once_and_heals(bot: Bot, name: str) -> None:
    faults, line = TROUBLES[name]
    bot.done()
    bot.rig.order(**faults)
    if name == "button_answer":  # nothing shows it but the answer to an order
        assert bot.enter().retcode == 10027
    eventually(lambda: line in bot.rig.trouble, what="the figures tell it")
    assert bot.client.send(stale(bot)).status == "refused"
    if name not in ("button", "button_answer", "investor", "experts"):
        assert line in refused(bot.client)
    bot.rig.order()
    eventually(lambda: not bot.rig.trouble, what="it is over")
    bot.attached = attach(bot.client)
    bot.done()
    assert bot.deals() == 2
    alerts, infos = bot.rows("ALERT"), bot.rows("INFO")
    assert len(alerts) == 1 and line in alerts[0].text, alerts
    assert len(infos) == 1 and infos[0].text.startswith("over after"), infos


def test_after_a_break_who_follows_attaches_again(bot: Bot) -> None:
    follower = Follower(bot.attached)
    bot.rig.order(terminal={"connected": False})
    eventually(lambda: bot.rig.trouble, what="it is seen")
    before = bot.feed.read()
    assert [follower.judge(bar) for bar in before if bar.seq > bot.attached.bar_seq] == ["next"] * len(before)
    bot.rig.order()
    eventually(lambda: not bot.rig.trouble, what="it is over")
    first = eventually(bot.feed.read, what="a bar")[0]
    assert follower.judge(first) == "gap"
    bot.attached = attach(bot.client)
    again = Follower(bot.attached)
    verdicts = [again.judge(bar) for bar in eventually(bot.feed.read, what="another bar")]
    assert verdicts[-1] == "next" and "gap" not in verdicts
    history = from_bytes(bot.attached.bars)["time"]
    assert int(from_bytes(first.row)["time"][0]) in history


def stale(bot: Bot) -> Any:
    """An entry that would be refused for its bar as well: only that nothing comes through matters."""
    return bot.client.new_order(
        "open", symbol="EURUSD", decision="EURUSD|H1|0", bar_time=0, side="buy", volume=0.1, sl=0.0, tp=0.0
    )


def test_every_failure_code_of_the_package_is_provoked() -> None:
    codes = {value for name, value in vars(api).items() if name.startswith("RES_E_")}
    assert len(codes) == 14
    assert codes == {code for code, _, _ in CODES}


#: One function that fails by itself: (function, code).
CALLS = [(fn, code) for fn in ("positions_get", "copy_rates_from_pos", "symbol_info") for code in (-1, -4)]


@pytest.mark.parametrize(("fn", "code"), [*CALLS, ("positions_get", -2), ("positions_get", -3), ("positions_get", -7)])
def test_a_call_that_fails_holds_the_bot_and_passes(bot: Bot, fn: str, code: int) -> None:
    bot.rig.order(fail={fn: [code, "Terminal: it failed"]})
    assert "Terminal: it failed" in eventually(lambda: failing(bot.client), what="the failure is seen")
    bot.rig.order()
    attach(bot.client)
    bot.done()
    assert bot.rows("ALERT") == []


def failing(client: GatewayClient) -> str:
    try:
        client.attach("EURUSD", "H1", 20, timeout=3.0)
    except GatewayDown as error:
        return str(error)
    return ""


@pytest.mark.parametrize("code", [-2, -3, -5, -10000])
def test_an_order_that_fails_at_the_package_is_looked_for_and_no_other_is_sent(bot: Bot, code: int) -> None:
    bot.rig.order(fail={"order_send": [code, "it failed"]})
    result = bot.enter()
    assert (result.status, result.reason) == ("refused", "not executed: the terminal shows no trace of it"), result
    bot.rig.order()
    attach(bot.client)
    bot.done()
    assert bot.deals() == 1


def test_an_order_without_an_answer_is_found_not_sent_again(bot: Bot) -> None:
    bot.rig.order(lose_answers=True)
    opened = int(from_bytes(bot.bar().row)["time"][0])
    order = bot.client.new_order(
        "open", symbol="EURUSD", decision=f"EURUSD|H1|{opened}", bar_time=opened, side="buy", volume=0.1, sl=0.0, tp=0.0
    )
    assert bot.client.send(order, 1.0).status == "unknown"
    bot.rig.order()
    found = eventually(lambda: one if (one := bot.client.resolve(order.id)).status == "done" else None, what="found")
    assert found.reason == "found at the terminal"
    assert bot.deals() == 1


def test_a_lost_order_is_not_looked_for_in_another_account(bot: Bot) -> None:
    bot.rig.order(lose_answers=True)
    opened = int(from_bytes(bot.bar().row)["time"][0])
    order = bot.client.new_order(
        "open", symbol="EURUSD", decision=f"EURUSD|H1|{opened}", bar_time=opened, side="buy", volume=0.1, sl=0.0, tp=0.0
    )
    sent = bot.client.send(order, 0.2)
    bot.rig.order(account={"login": 42})
    assert sent.status == "unknown"
    eventually(lambda: "logged in to 42" in bot.rig.trouble, what="the switch is seen")
    first = len(bot.rig.supervisor.all(Figures))
    bot.rig.order(account={"login": 43})
    eventually(lambda: len(bot.rig.supervisor.all(Figures)) > first or bot.client.resolve(order.id), what="a while")
    bot.rig.order()
    found = eventually(lambda: one if (one := bot.client.resolve(order.id)).status != "unknown" else None, what="fate")
    assert found.status == "done"
    assert bot.deals() == 1


def test_market_closed_is_a_refusal_and_no_trouble(bot: Bot) -> None:
    bot.rig.order(retcode=10018)
    assert bot.enter().retcode == 10018
    bot.rig.order()
    bot.done()
    assert bot.rows("ALERT") == [] and bot.deals() == 1


def test_gold_is_traded_under_the_brokers_name(bot: Bot) -> None:
    gold = Bot(bot.rig, "XAUUSD", bot_id=2)
    result = gold.done()
    assert result.position is not None and result.position["symbol"] == "XAUUSD", result
    told = eventually(lambda: bot.rows("INFO"), what="the name is told")
    assert told[0].text == "XAUUSD is GOLD at Paper-Demo"
    assert [one["symbol"] for one in bot.rig.supervisor.query("positions", magic=20)] == ["XAUUSD"]
    silver = bot.rig.client(2, 1)
    with pytest.raises(AttachDenied, match="the broker has no symbol XAGUSD"):
        attach(silver, "XAGUSD")


def test_the_servers_clock_is_found_out_and_a_wall_clock_that_is_set_ends_no_bar(tmp_path: Path, rig: Mt5Rig) -> None:
    (tmp_path / "terminal" / "paper.toml").write_text(
        # Hardly quicker than a real one: its clock must look like a zone's for as long as this takes.
        'timeframe = "M1"\nbars_per_second = 0.03\nticks_per_bar = 60\nprice_model = "ohlc"\n'
    )
    rig.order(ahead=3 * 3600)
    clock = WallClock(tmp_path)
    with pytest.MonkeyPatch.context() as there:
        for name, value in clock.environment.items():
            there.setenv(name, value)
        rig.start()
    rig.ready()
    bot = Bot(rig)
    told = eventually(lambda: rig.rows("INFO"), what="the offset is told")
    assert told[0].text == "the server's time is UTC+3"
    clock.step(3600)
    rows = eventually(lambda: rows if len(rows := rig.rows("INFO")) > 1 else None, 15.0, what="it is noticed")
    assert rows[1].text == "this host's clock was set by +3600 s; the server's goes on, and is UTC+2 by it now"
    assert bot.feed.read() == [], "the hour has just begun"


@contextmanager
def two(folder: Path, login: int, takeover: float) -> Iterator[tuple[Mt5Rig, Mt5Rig, Any]]:
    """Two installations with one account: the first holds it, the second waits for it; and the first one's process."""
    folders = [folder / name for name in ("first", "second")]
    for one in folders:
        one.mkdir()
    account = ACCOUNT | {"login": login}
    with (
        environment(folders[0]), Mt5Rig(folders[0], account) as first,
        environment(folders[1]), Mt5Rig(folders[1], account) as second,
        pytest.MonkeyPatch.context() as patch,
    ):  # fmt: skip
        patch.setenv("STABLEHAND_MT5_TAKEOVER", str(takeover))
        holder = first.start()
        first.ready()
        attach(Bot(first).client)
        second.start()
        second.ready()
        where = f"(process {holder.pid}, data in {folders[0]})"
        line = f"login {login} at Paper-Demo has a gateway on this host already {where}"
        eventually(lambda: second.trouble.startswith(line), what="it is shown who holds it")
        yield first, second, holder


def test_an_account_that_another_installation_holds_is_waited_for(tmp_path: Path) -> None:
    with two(tmp_path, LOGIN + 2, TAKEOVER) as (_, second, holder):
        line = f"has a gateway on this host already (process {holder.pid}, "
        second.supervisor.fence(1, 1)
        second.supervisor.roster((1, "EURUSD"))
        assert line in refused(second.client(1, 1))
        holder.kill()
        eventually(lambda: not second.trouble, TAKEOVER + 15.0, what="it has taken over")
        bot = Bot(second)
        bot.done()
        assert len(second.supervisor.hellos) == 1, "it is the same process"
        told = [row.text for row in second.rows("ALERT")], [row.text for row in second.rows("INFO")]
        assert len(told[0]) == len(told[1]) == 1 and line in told[0][0] and told[1][0].startswith("over after"), told


def test_a_gateway_that_restarts_has_its_account_before_one_that_waits(tmp_path: Path) -> None:
    with two(tmp_path, LOGIN + 3, 60.0) as (first, second, holder):
        holder.kill()
        holder.wait(10)
        eventually(lambda: "which may come back; this one waits" in second.trouble, 10.0, what="it sees that it went")
        greeted = len(first.supervisor.hellos)
        successor = first.start()
        eventually(lambda: len(first.supervisor.hellos) > greeted, 20.0, what="the next gateway")
        first.supervisor.fence_again()
        Bot(first).done()
        eventually(lambda: f"already (process {successor.pid}, " in second.trouble, 10.0, what="who holds it now")
        assert len(second.rows("ALERT")) == 1 and second.rows("INFO") == []


def test_a_run_hears_by_the_next_bar_that_there_is_another_gateway(rig: Mt5Rig) -> None:
    """Its terminal is polled: without being told whose bars to look at, the new one would publish none."""
    first = rig.start()
    rig.ready()
    bot = Bot(rig)
    assert bot.bar().gateway_boot == bot.attached.gateway_boot
    first.kill()
    first.wait(10)
    bot.feed.read()
    greeted = len(rig.supervisor.hellos)
    rig.start()
    eventually(lambda: len(rig.supervisor.hellos) > greeted, 20.0, what="the next gateway")
    rig.supervisor.fence_again()
    rig.supervisor.roster((1, "EURUSD"))
    heard = eventually(lambda: [bar for bar in bot.feed.read() if bar.gateway_boot != bot.attached.gateway_boot], 10.0)
    assert heard[0].symbol == "EURUSD"
    bot.attached = attach(bot.client)
    bot.done()
