"""backtest: bots, or a strategy on a file, on old prices; the work is done by a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from console import settings, up, values
from console.commands.shared import AsJson, colour, complete_bot, show_table, write, write_json
from console.commands.trading import gain
from console.figures import moment, money, plain, span
from console.grid import Cell, Column, Row, facts
from protocol.errors import InvalidInput, StablehandError, Unreachable, nearest

PANEL: Final = "Backtest"
_BARS: Final = "▁▂▃▄▅▆▇█"
_WIDTH: Final = 60

Played = Annotated[
    list[str] | None,
    typer.Argument(metavar="[BOT]...", help="Bots of one account, with its replay files.", autocompletion=complete_bot),
]
Params = Annotated[
    list[str] | None,
    typer.Option("--params", "-p", metavar="KEY=VALUE", help="A parameter of the strategy; may be given often."),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Another setting: risk_percent=0.5, or account.commission_per_lot=3.5."
    ),
]


def register(app: typer.Typer) -> None:
    """Add this verb."""
    app.command("backtest", rich_help_panel=PANEL)(_backtest)


def _backtest(
    bots: Played = None,
    strategy: Annotated[
        str | None, typer.Option("--strategy", "-s", metavar="ID", help="A strategy by itself; needs --data.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", "-d", metavar="FILE", help="A file of bars, as EURUSD_H1.csv.")
    ] = None,
    market: Annotated[
        str | None, typer.Option("--market", metavar="SYMBOL", help="What the file holds, where its name says it not.")
    ] = None,
    timeframe: Annotated[
        str | None, typer.Option("--timeframe", metavar="TF", help="What the bot decides on, if not the file's bars.")
    ] = None,
    params: Params = None,
    start: Annotated[str | None, typer.Option("--from", metavar="DAY", help="First day, as 2020-01-31.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="DAY", help="The day before which it ends.")] = None,
    balance: Annotated[float | None, typer.Option("--balance", metavar="MONEY", help="First deposit.")] = None,
    sets: Sets = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a report with charts, in one file.")
    ] = None,
    as_json: AsJson = False,
) -> int:  # fmt: skip
    """Play bots, or a strategy, on old prices: the same trader, the same terminal, as fast as the data allows.

    BOT.. plays bots of the configuration file (of the running stable, where one answers) on their account's replay
    files, or on --data FILE. Nothing of the stable is touched.
    """
    if bool(bots) == bool(strategy):
        raise InvalidInput("name bots, or a strategy with --strategy", hint="stablehand strategies lists them")
    changes = values.pairs(sets or ())
    account = changes.pop("account", {})
    if not isinstance(account, dict):
        raise InvalidInput("account is no setting to change", hint="--set account.commission_per_lot=3.5")
    changes |= {key: value for key, value in (("market", market), ("timeframe", timeframe)) if value is not None}
    changed_params = values.pairs(params or ())
    if strategy is not None:
        job = _of_strategy(strategy, data)
    else:
        job = _of_bots(list(dict.fromkeys(bots or ())))
    for bot in job["bots"]:
        bot.update(changes)
        bot["params"] = {**(bot.get("params") or {}), **changed_params}
    job["account"] = {**job.get("account", {}), **account}
    job |= {"data": data, "start": start, "end": end, "balance": balance}
    found = _play(job, html)
    if as_json:
        write_json(found)
        return 0
    _show(found)
    if html is not None:
        write(f"report: {html}")
    return 0


# --- what is played ----------------------------------------------------------------------------------


def _of_strategy(strategy: str, data: str | None) -> dict[str, Any]:
    if data is None:
        raise InvalidInput("--strategy needs --data FILE", hint="a file of bars, as EURUSD_H1.csv")
    name = "".join(char if char.isalnum() else "-" for char in strategy.rpartition(":")[2]).strip("-") or "strategy"
    return {"name": "backtest", "bots": [{"name": name[:64], "strategy": strategy}], "paths": _own_paths()}


def _own_paths() -> list[str]:
    """Folders of the user's strategies, where there is an installation here that names some."""
    try:
        return list(_file()["strategy_path"])
    except InvalidInput:
        return []


def _of_bots(names: Sequence[str]) -> dict[str, Any]:
    file = _file()
    bots = _running(names)
    if bots is None:
        declared = {bot["name"]: bot | {"id": number} for number, bot in enumerate(file["bots"], 1)}
        for name in names:
            if name not in declared:
                near = nearest(name, list(declared))
                hint = f"did you mean {near}?" if near else "stablehand list shows them"
                raise InvalidInput(f"no bot is called {name!r} in the configuration file", hint=hint)
        bots = [declared[name] for name in names]
    programs = [bot["name"] for bot in bots if "strategy" not in bot]
    if programs:
        raise InvalidInput(f"{', '.join(programs)}: a program has no strategy to play", hint="name bots")
    accounts = sorted({bot["account"] for bot in bots})
    if len(accounts) > 1:
        raise InvalidInput(f"the bots trade on several accounts: {', '.join(accounts)}", hint="play one at a time")
    account = file["accounts"].get(accounts[0])
    if account is None:
        raise InvalidInput(f"the file has no account {accounts[0]!r} any more")
    # An account's window need not hold for a file that is given instead of its own.
    return {
        "name": accounts[0], "account": account, "bots": bots, "folder": file["folder"],
        "paths": file["strategy_path"],
    }  # fmt: skip


def _running(names: Sequence[str]) -> list[dict[str, Any]] | None:
    """The bots as the running stable has them, with what `update` set; None where no supervisor answers."""
    try:
        with settings.connect(timeout=5.0) as client:
            shown = [client.request("show", {"bot": name}) for name in names]
    except Unreachable:
        return None
    return [one["config"] | {"id": one["id"]} for one in shown]


def _file() -> dict[str, Any]:
    """The configuration file, read by who knows it. Raises InvalidInput."""
    done = subprocess.run(
        up.command(settings.site(), "--dump"), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise InvalidInput(_last_line(done.stderr))
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# --- playing and showing -----------------------------------------------------------------------------


def _play(job: dict[str, Any], html: Path | None) -> dict[str, Any]:
    command = [sys.executable, "-P", "-m", "botproc.backtest"]
    if html is not None:
        command += ["--html", str(html.absolute())]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=False)
    if done.returncode == 2:
        raise InvalidInput(_last_line(done.stderr))
    if done.returncode:
        raise StablehandError(f"the backtest failed: {_last_line(done.stderr)}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _last_line(text: str) -> str:
    return (text.strip().rpartition("\n")[2] or "it ended without a word").removeprefix("stablehand: ")


def _show(found: dict[str, Any]) -> None:
    period, result, currency = found["period"], found["result"], found["account"]["currency"]
    bots = ", ".join(f"{one['name']} ({one['strategy']}, {one['market']} {one['timeframe']})" for one in found["bots"])
    costs = ", ".join(f"{key} {money(result[key])}" for key in ("commission", "swap", "fee") if result[key])
    lines = [
        ("bots", Cell(bots, "bold")),
        ("played", Cell(f"{moment(period['start'])} to {moment(period['end'])} server time, {period['bars']} bars"
                        f" in {span(period['seconds'])}")),
        ("equity", Cell(spark([point[1] for point in found["equity"]]))),
        ("net profit", gain(result["net_profit"])),
        ("return", Cell(f"{plain(result['return_percent'])} %, to {money(result['equity'])} {currency}")),
        ("drawdown", Cell(f"{money(result['max_drawdown'])} at most, {plain(result['max_drawdown_percent'])} %")),
        ("trades", Cell(f"{result['trades']}, {result['wins']} won, {result['losses']} lost"
                        f" ({plain(result['win_rate'])} % won)")),
        ("profit factor", Cell(plain(result["profit_factor"]))),
        ("expectancy", Cell(f"{money(result['expectancy'])} a trade")),
        ("Sharpe", Cell(f"{plain(result['sharpe'])} a year, from daily returns")),
        ("exposure", Cell(f"{plain(result['exposure_percent'])} % of the bars")),
        ("costs", Cell(f"{costs or 'none'}; the spread took {money(result['spread_cost'])}")),
    ]  # fmt: skip
    write(facts(lines, colour=colour()))
    if len(found["per_bot"]) > 1:
        columns = (
            Column("BOT", shrink_to=12), Column("TRADES", right=True), Column("WON %", right=True),
            Column("PROFIT", right=True), Column("FACTOR", right=True), Column("EXPECTANCY", right=True),
        )  # fmt: skip
        rows = [
            Row([
                Cell(name, "bold"), Cell(str(one["trades"])), Cell(plain(one["win_rate"])), gain(one["net_profit"]),
                Cell(plain(one["profit_factor"])), Cell(money(one["expectancy"])),
            ])
            for name, one in found["per_bot"].items()
        ]  # fmt: skip
        show_table(columns, rows, empty="no bots")
    for position in found["open"]:
        side = "sell" if position["type"] == 1 else "buy"
        write(f"still open: {side} {position['volume']:g} {position['symbol']}, {money(position['profit'])}")
    for guard in found["guards"]:
        times = "1 entry" if guard["entries"] == 1 else f"{guard['entries']} entries"
        write(f"{guard['bot']}: {times} refused by the guard of {guard['guard']}, first {moment(guard['first'])}")
    for note in found["notes"][:5]:
        write(f"{moment(note['at'])} {note['bot']}: {note['text']}")
    if len(found["notes"]) > 5:
        write(f"and {len(found['notes']) - 5} more warnings (--json has them)")


def spark(points: Sequence[float], width: int = _WIDTH) -> str:
    """A line of bars, one a stretch of the curve; a dash for none."""
    if not points:
        return "-"
    count = min(width, len(points))
    picked = [points[(n + 1) * len(points) // count - 1] for n in range(count)]
    low, high = min(picked), max(picked)
    if high <= low:
        return _BARS[0] * count
    return "".join(_BARS[round((value - low) / (high - low) * (len(_BARS) - 1))] for value in picked)
