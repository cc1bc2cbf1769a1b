"""positions, deals, account, accounts, symbols, equity: what the gateways tell."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

import typer

from console import curve, settings, values
from console.commands.shared import Account, AsJson, OfBot, colour, show_table, write, write_json
from console.figures import moment, money, plain, price
from console.grid import Cell, Column, Row, facts

PANEL: Final = "Account and market"
_DEAL_TYPES: Final = {
    0: "buy", 1: "sell", 2: "balance", 3: "credit", 4: "charge", 5: "correction", 6: "bonus", 7: "commission",
}  # fmt: skip
_ENTRIES: Final = {0: "in", 1: "out", 2: "in/out", 3: "out by"}
_PAGE: Final = 5_000  # samples in one answer
_READABLE: Final = 50  # lines of a table


def register(app: typer.Typer) -> None:
    """Add these verbs."""
    for verb, command in (
        ("positions", _positions), ("deals", _deals), ("account", _account), ("accounts", _accounts),
        ("symbols", _symbols), ("equity", _equity),
    ):  # fmt: skip
        app.command(verb, rich_help_panel=PANEL)(command)


def _ask(cmd: str, **args: Any) -> Any:
    given = {key: value for key, value in args.items() if value is not None}
    with settings.connect(timeout=15.0) as client:
        return client.request(cmd, given)


def gain(amount: float) -> Cell:
    """An amount, green or red."""
    return Cell(money(amount), "green" if amount > 0 else "red" if amount < 0 else "")


def _positions(account: Account = None, bot: OfBot = None, as_json: AsJson = False) -> int:
    """Open positions, with MetaTrader's field names in --json."""
    held = _ask("positions", account=account, bot=bot)
    if as_json:
        write_json(held)
        return 0
    columns = (
        Column("TICKET", right=True), Column("BOT", shrink_to=12), Column("SYMBOL"), Column("SIDE"),
        Column("VOLUME", right=True), Column("OPEN", right=True), Column("NOW", right=True),
        Column("SL", right=True, leave_out=2), Column("TP", right=True, leave_out=1), Column("PROFIT", right=True),
        Column("SWAP", right=True, leave_out=4), Column("SINCE (SERVER)", leave_out=3),
    )  # fmt: skip
    rows = [
        Row([
            Cell(str(one["ticket"])), Cell(one["bot"], "bold"), Cell(one["symbol"]),
            Cell("sell", "red") if one["type"] == 1 else Cell("buy", "green"), Cell(f"{one['volume']:.2f}"),
            Cell(price(one["price_open"])), Cell(price(one["price_current"])), Cell(price(one["sl"] or None)),
            Cell(price(one["tp"] or None)), gain(one["profit"]), Cell(money(one["swap"])),
            Cell(moment(one["time"])),
        ])
        for one in held
    ]  # fmt: skip
    show_table(columns, rows, empty="no open positions")
    return 0


def _deals(account: Account = None, bot: OfBot = None, as_json: AsJson = False) -> int:
    """All deals of the account, oldest first, with MetaTrader's field names in --json."""
    deals = _ask("deals", account=account, bot=bot)
    if as_json:
        write_json(deals)
        return 0
    columns = (
        Column("TICKET", right=True), Column("TIME (SERVER)", leave_out=3), Column("BOT", shrink_to=12),
        Column("SYMBOL"), Column("TYPE"), Column("ENTRY"), Column("VOLUME", right=True),
        Column("PRICE", right=True), Column("PROFIT", right=True), Column("COMMISSION", right=True, leave_out=2),
        Column("SWAP", right=True, leave_out=1), Column("COMMENT", shrink_to=8, leave_out=4),
    )  # fmt: skip
    rows = []
    for deal in deals:
        trade = deal["type"] in (0, 1)
        rows.append(Row([
            Cell(str(deal["ticket"])), Cell(moment(deal["time"])), Cell(deal["bot"], "bold" if trade else "dim"),
            Cell(plain(deal["symbol"])), Cell(_DEAL_TYPES.get(deal["type"], str(deal["type"]))),
            Cell(_ENTRIES.get(deal["entry"], "") if trade else ""), Cell(f"{deal['volume']:.2f}" if trade else ""),
            Cell(price(deal["price"]) if trade else ""), gain(deal["profit"]), Cell(money(deal["commission"])),
            Cell(money(deal["swap"])), Cell(deal.get("comment") or "", "dim"),
        ]))  # fmt: skip
    show_table(columns, rows, empty="no deals")
    if deals:
        total = sum(deal["profit"] + deal["commission"] + deal["swap"] + deal["fee"] for deal in deals)
        write(["", f"{len(deals)} deals, sum {money(total)} (profit + commission + swap + fee)"])
    return 0


def _account(account: Account = None, as_json: AsJson = False) -> int:
    """Balance, equity and margin of an account."""
    info = _ask("account", account=account)
    if as_json:
        write_json(info)
        return 0
    unit = info["currency"]
    connected = Cell("connected", "green") if info["connected"] else Cell("not connected", "red")
    write(facts([
        ("account", Cell(f"{info['account']}  (login {info['login']}, 1:{info['leverage']})", "bold")),
        ("terminal", connected),
        ("server time", Cell(moment(info["time"]))),
        ("balance", Cell(f"{money(info['balance'])} {unit}")),
        ("equity", Cell(f"{money(info['equity'])} {unit}")),
        ("floating", gain(info["profit"])),
        ("margin", Cell(f"{money(info['margin'])} used, {money(info['margin_free'])} free")),
    ], colour=colour()))  # fmt: skip
    return 0


def _accounts(as_json: AsJson = False) -> int:
    """The accounts, and their gateways."""
    accounts = _ask("accounts")
    if as_json:
        write_json(accounts)
        return 0
    columns = (
        Column("ACCOUNT"), Column("KIND"), Column("FEED"), Column("STATE"), Column("BALANCE", right=True),
        Column("EQUITY", right=True), Column("UNIT"), Column("BOTS", right=True), Column("FEED TIME"),
    )  # fmt: skip
    rows = [
        Row([
            Cell(one["name"], "bold"), Cell(one["kind"]), Cell(one["feed"]),
            Cell(one["state"], "green" if one["state"] == "running" else "yellow"), Cell(money(one["balance"])),
            Cell(money(one["equity"])), Cell(one["currency"]), Cell(plain(one["bots"])), Cell(feed_time(one)),
        ], note="; ".join(text for text in (one.get("trouble"), halted(one)) if text))
        for one in accounts
    ]  # fmt: skip
    show_table(columns, rows, empty="no accounts")
    return 0


def halted(account: dict[str, Any]) -> str:
    """What is halted of an account, and how far a flatten has come."""
    return "; ".join(
        one["text"] + (f" [{one['progress']}]" if one.get("progress") else "") for one in account.get("halts") or ()
    )


def feed_time(account: dict[str, Any]) -> str:
    """The clock of an account's feed."""
    return moment(account.get("time")) + (" (ended)" if account.get("ended") else "")


def _symbols(account: Account = None, as_json: AsJson = False) -> int:
    """Symbols of an account, with their quotes."""
    symbols = _ask("symbols", account=account)
    if as_json:
        write_json(symbols)
        return 0
    columns = (
        Column("SYMBOL"), Column("DESCRIPTION", shrink_to=10, leave_out=1), Column("BID", right=True),
        Column("ASK", right=True), Column("SPREAD", right=True), Column("LOTS"), Column("CONTRACT", right=True),
        Column("MARKET"),
    )  # fmt: skip
    rows = [
        Row([
            Cell(one["name"], "bold"), Cell(one["description"]), Cell(price(one["bid"], one["digits"])),
            Cell(price(one["ask"], one["digits"])), Cell(plain(one["spread"])),
            Cell(f"{price(one['volume_min'])} to {price(one['volume_max'])} by {price(one['volume_step'])}"),
            Cell(price(one["trade_contract_size"])),
            Cell("open", "green") if one["open"] else Cell("closed", "dim"),
        ])
        for one in symbols
    ]  # fmt: skip
    show_table(columns, rows, empty="no symbols")
    return 0


def _equity(
    account: Annotated[str | None, typer.Argument(metavar="[ACCOUNT]", help="Not needed where there is one.")] = None,
    since: Annotated[
        str, typer.Option("--since", metavar="WHEN", help="24h, 7d, 2026-01-31 or '2026-01-31 14:00' (UTC).")
    ] = "24h",
    as_json: AsJson = False,
) -> int:
    """What an account was worth in the last 24 hours, or since WHEN: a sample a minute at most, where it changed.

    DRAWDOWN is how far the equity lies below its highest since then. Of more than 50 samples the table shows the lowest
    and the highest of each stretch; --json has all.
    """
    begin = values.since(since, time.time())
    rows = _samples(account, begin)
    if as_json:
        write_json(rows)
        return 0
    worth = [row["equity"] for row in rows]
    falls = curve.falls(worth)
    shown = curve.thin(worth, _READABLE)
    columns = (
        Column("TIME (UTC)"), Column("BALANCE", right=True), Column("EQUITY", right=True),
        Column("DRAWDOWN", right=True),
    )  # fmt: skip
    table = [
        Row([Cell(moment(rows[n]["at"])), Cell(money(rows[n]["balance"])), Cell(money(worth[n])), _fall(falls[n])])
        for n in shown
    ]
    show_table(columns, table, empty=f"no samples since {moment(begin)} (UTC)")
    if rows:
        deepest = max(range(len(rows)), key=lambda n: falls[n] or 0.0)
        few = f", {len(shown)} shown (of each stretch the lowest and the highest; --json: all)"
        write(["", f"{len(rows):,} {'sample' if len(rows) == 1 else 'samples'}{few if len(shown) < len(rows) else ''}"])
        write(f"equity {money(min(worth))} to {money(max(worth))}; {_deepest(falls[deepest], rows[deepest]['at'])}")
    return 0


def _samples(account: str | None, since: float) -> list[dict[str, Any]]:
    """All samples after that moment, asked for page by page."""
    rows: list[dict[str, Any]] = []
    while True:
        page = _ask("equity", account=account, since=rows[-1]["at"] if rows else since, limit=_PAGE)
        rows += page
        if len(page) < _PAGE:
            return rows


def _fall(percent: float | None) -> Cell:
    return Cell(plain(None) if percent is None else f"{percent:.2f} %", "red" if percent else "dim")


def _deepest(percent: float | None, at: float) -> str:
    return f"deepest drawdown {percent:.2f} % at {moment(at)}" if percent else "no drawdown"
