"""The report as a page: one file with everything in it, for a browser or a printer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any, Final

from botproc.backtest import figures
from botproc.backtest.svg import Chart, Mark, ticks

#: More triangles than this hide the price.
_MOST_MARKS: Final = 400
#: Into about so many stretches profits are counted.
_STRETCHES: Final = 40
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def render(found: Mapping[str, Any]) -> str:
    """The page of a report as `report.make` gives it. Nothing in it is fetched or run."""
    title = " + ".join(f"{bot['strategy']} on {bot['market']} {bot['timeframe']}" for bot in found["bots"][:3])
    if len(found["bots"]) > 3:
        title += f" and {len(found['bots']) - 3} more"
    style = files(__package__).joinpath("style.css").read_text("utf-8")
    period = found["period"]
    span = f"{figures.day(period['start'])} to {figures.day(period['end'])}" if period["start"] else "no bar"
    parts = [
        _cards(found),
        _equity(found),
        _drawdown(found),
        _price(found),
        _months(found["months"]),
        _results(found),
        _distribution(found),
        _bots(found),
        _trades(found),
        _guards(found),
        _notes(found),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head><body><main>'
        f'<h1>{escape(title)}</h1><p class="under">{span}, {period["bars"]:,} bars, played in {period["seconds"]:.1f} s'
        f" with {figures.money(found['account']['balance'])} {escape(found['account']['currency'])}</p>"
        + "".join(part for part in parts if part)
        + "<footer>Made by Stablehand. Times are those of the broker's server. Past results say nothing about future "
        "ones.</footer></main></body></html>\n"
    )


def _cards(found: Mapping[str, Any]) -> str:
    result = found["result"]
    cards = [
        (figures.signed(result["net_profit"]), f"net profit, {found['account']['currency']}", result["net_profit"]),
        (figures.percent(result["return_percent"]), "return", result["return_percent"]),
        (figures.percent(-result["max_drawdown_percent"]), "deepest drawdown", None),
        (figures.plain(result["sharpe"]), "Sharpe ratio, a year", None),
        (figures.plain(result["profit_factor"]), "profit factor", None),
        (figures.percent(result["win_rate"]), f"won, of {result['trades']} trades", None),
    ]
    return (
        '<div class="cards">'
        + "".join(
            f'<div class="card"><b class="{figures.colour(mood)}">{value}</b><span>{escape(text)}</span></div>'
            for value, text, mood in cards
        )
        + "</div>"
    )


def _section(title: str, inside: str, legend: str = "") -> str:
    below = f'<p class="legend">{legend}</p>' if legend else ""
    return f"<section><h2>{escape(title)}</h2>{inside}{below}</section>"


# --- charts ------------------------------------------------------------------------------------------


def _equity(found: Mapping[str, Any]) -> str:
    curve = found["equity"]
    if len(curve) < 2:
        return ""
    start = found["account"]["balance"]
    values = [value for point in curve for value in (point[1], point[2])] + [start]
    chart = Chart((curve[0][0], curve[-1][0]), (min(values), max(values)), height=300)
    chart.grid(figures.short)
    equity = [(point[0], point[1]) for point in curve]
    chart.area(equity, min(values), "under-blue")
    chart.level(start, "dash")
    chart.line([(point[0], point[2]) for point in curve], "grey")
    chart.line(equity, "blue")
    legend = "Blue: equity at the close of each bar. Grey: balance. Dashed: the deposit."
    return _section("Equity", chart.render("Equity over time"), legend)


def _drawdown(found: Mapping[str, Any]) -> str:
    curve, peak = found["equity"], found["account"]["balance"]
    if len(curve) < 2:
        return ""
    falls: list[tuple[float, float]] = []
    for point in curve:
        peak = max(peak, point[1])
        falls.append((point[0], 100.0 * (point[1] / peak - 1.0)))
    chart = Chart((curve[0][0], curve[-1][0]), (min(*(fall for _, fall in falls), -0.1), 0.0), height=150)
    chart.grid(lambda value: f"{value:g} %")
    chart.area(falls, 0.0, "red")
    result = found["result"]
    legend = f"Below the highest equity so far. At most {figures.money(result['max_drawdown'])}"
    return _section("Drawdown", chart.render("Drawdown in percent"), f"{legend} {found['account']['currency']}.")


def _price(found: Mapping[str, Any]) -> str:
    curve, market = found["equity"], found["bots"][0]["market"]
    prices = [(point[0], point[3]) for point in curve if point[3] > 0]
    if len(prices) < 2:
        return ""
    trades = [trade for trade in found["trades"] if trade["symbol"] == market]
    values = [value for _, value in prices] + [
        trade[key] for trade in trades[:_MOST_MARKS] for key in ("price_open", "price_close")
    ]
    chart = Chart((curve[0][0], curve[-1][0]), (min(values), max(values)), height=260)
    chart.grid()
    chart.line(prices, "grey")
    if len(trades) > _MOST_MARKS:
        return _section(market, chart.render(f"Price of {market}"), f"{len(trades)} trades: too many to mark.")
    marks = []
    for trade in trades:
        buy = trade["side"] == "buy"
        text = f"{trade['side']} {trade['volume']:g} at {trade['price_open']:g}, {figures.day(trade['opened'])}"
        text += f": {figures.signed(trade['profit'])} ({trade['reason']})"
        marks.append(Mark(trade["opened"], trade["price_open"], buy, "buy" if buy else "sell", text))
    chart.marks(marks)
    return _section(market, chart.render(f"Price of {market}"), "Green: bought. Red: sold. Point at one to see it.")


def _distribution(found: Mapping[str, Any]) -> str:
    profits = [trade["profit"] for trade in found["trades"]]
    if len(profits) < 5:
        return ""
    low, high = min(profits), max(profits)
    if high <= low:
        return ""
    marks = ticks(low, high, _STRETCHES)
    step = round(marks[1] - marks[0], 10) if len(marks) > 1 else high - low
    heights: dict[int, int] = {}
    for profit in profits:  # round stretches, so that none holds gains and losses alike
        heights[math.floor(profit / step)] = heights.get(math.floor(profit / step), 0) + 1
    first, last = min(heights) * step, (max(heights) + 1) * step
    chart = Chart((first, last), (0.0, float(max(heights.values()))), height=180)
    chart.plain_axis(lambda value: f"{value:g}", [(value, figures.short(value)) for value in ticks(first, last, 9)])
    chart.bars(
        [
            (n * step, (n + 0.9) * step, height, "win" if n >= 0 else "loss",
             f"{height} trades of {n * step:,.2f} to {(n + 1) * step:,.2f}")
            for n, height in heights.items()
        ]
    )  # fmt: skip
    return _section("Profit of a trade", chart.render("How many trades brought how much"))


# --- tables ------------------------------------------------------------------------------------------


def _months(months: Mapping[str, float]) -> str:
    if not months:
        return ""
    rows = []
    for year in sorted({month[:4] for month in months}):
        of_year = [months.get(f"{year}-{number:02}") for number in range(1, 13)]
        whole = 1.0
        for value in of_year:
            whole *= 1.0 + (value or 0.0) / 100.0
        cells = "".join(f"<td>{_tinted(value)}</td>" for value in of_year)
        rows.append(f"<tr><td>{year}</td>{cells}<td><b>{_tinted(100.0 * (whole - 1.0))}</b></td></tr>")
    head = "".join(f"<th>{name}</th>" for name in ("", *_MONTHS, "Year"))
    return _section("Return by month, in percent", f'<table class="months"><tr>{head}</tr>{"".join(rows)}</table>')


def _tinted(value: float | None) -> str:
    return "" if value is None else f'<span class="{figures.colour(value)}">{value:+.1f}</span>'


def _results(found: Mapping[str, Any]) -> str:
    result = found["result"]
    left = [
        ("Trades", f"{result['trades']}"),
        ("Won, lost", f"{result['wins']}, {result['losses']}"),
        ("Gross profit", figures.money(result["gross_profit"])),
        ("Gross loss", figures.money(result["gross_loss"])),
        ("Expectancy a trade", figures.money(result["expectancy"])),
        ("Average win, loss", f"{figures.money(result['average_win'])}, {figures.money(result['average_loss'])}"),
        ("Largest win, loss", f"{figures.money(result['largest_win'])}, {figures.money(result['largest_loss'])}"),
        ("Longest losing streak", f"{result['longest_losing_streak']}"),
        ("Average length", "-" if result["average_hours"] is None else f"{result['average_hours']:g} h"),
    ]
    right = [
        ("Balance at the end", figures.money(result["balance"])),
        ("Equity at the end", figures.money(result["equity"])),
        ("Deepest drawdown", figures.money(result["max_drawdown"])),
        ("Its time", f"{figures.day(result['max_drawdown_from'])} to {figures.day(result['max_drawdown_to'])}"),
        ("Exposure", f"{figures.percent(result['exposure_percent'])} of the bars"),
        ("Commission", figures.money(result["commission"])),
        ("Swap", figures.money(result["swap"])),
        ("Fees", figures.money(result["fee"])),
        ("Paid by the spread", figures.money(result["spread_cost"])),
    ]
    return _section("Figures", f'<div class="two">{_facts(left)}{_facts(right)}</div>')


def _facts(rows: Sequence[tuple[str, str]]) -> str:
    return "<table>" + "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows) + "</table>"


def _bots(found: Mapping[str, Any]) -> str:
    rows = []
    for bot in found["bots"]:
        one = found["per_bot"][bot["name"]]
        params = ", ".join(f"{key} {value}" for key, value in bot["params"].items())
        rows.append(
            f'<tr><td>{escape(bot["name"])}</td><td class="text">{escape(bot["strategy"])}</td>'
            f'<td class="text">{escape(bot["market"])} {bot["timeframe"]}</td><td>{bot["risk_percent"]:g} %</td>'
            f"<td>{one['trades']}</td><td>{figures.percent(one['win_rate'])}</td>"
            f'<td class="{figures.colour(one["net_profit"])}">{figures.signed(one["net_profit"])}</td></tr>'
            f'<tr><td class="text under" colspan="7" style="white-space:normal">{escape(params)}</td></tr>'
        )
    heads = ("Bot", "Strategy", "Market", "Risk", "Trades", "Won", "Profit")
    head = "".join(f'<th class="text">{name}</th>' if name in heads[:3] else f"<th>{name}</th>" for name in heads)
    return _section("Bots", f"<table><tr>{head}</tr>{''.join(rows)}</table>")


def _trades(found: Mapping[str, Any]) -> str:
    if not found["trades"]:
        return _section("Trades", "<p>There was none.</p>")
    several = len(found["bots"]) > 1
    heads = ["Opened", *(["Bot"] if several else []), "Side", "Lots", "Entry", "Closed", "Exit", "By", "Profit"]
    rows = []
    for trade in found["trades"]:
        cells = [
            figures.minute(trade["opened"]), *([escape(trade["bot"])] if several else []),
            f"{trade['side']} {escape(trade['symbol'])}", f"{trade['volume']:g}", f"{trade['price_open']:g}",
            figures.minute(trade["closed"]), f"{trade['price_close']:g}", trade["reason"],
        ]  # fmt: skip
        inside = "".join(f"<td>{cell}</td>" for cell in cells)
        profit = f'<td class="{figures.colour(trade["profit"])}">{figures.signed(trade["profit"])}</td>'
        rows.append(f"<tr>{inside}{profit}</tr>")
    head = "".join(f"<th>{name}</th>" for name in heads)
    summary = f"<summary>All {len(rows)} trades</summary>" if len(rows) > 1 else "<summary>One trade</summary>"
    return _section("Trades", f"<details>{summary}<table><tr>{head}</tr>{''.join(rows)}</table></details>")


def _guards(found: Mapping[str, Any]) -> str:
    if not found["guards"]:
        return ""
    rows = "".join(
        f'<tr><td>{escape(one["guard"])}</td><td class="text">{escape(one["bot"])}</td><td>{one["entries"]}</td>'
        f"<td>{figures.minute(one['first'])}</td><td>{figures.minute(one['last'])}</td></tr>"
        for one in found["guards"]
    )
    head = '<tr><th>Guard</th><th class="text">Bot</th><th>Entries</th><th>First</th><th>Last</th></tr>'
    return _section("Entries that a guard refused", f"<table>{head}{rows}</table>")


def _notes(found: Mapping[str, Any]) -> str:
    if not found["notes"]:
        return ""
    rows = "".join(
        f'<tr><td>{figures.minute(note["at"])}</td><td class="text">{escape(note["bot"])}</td>'
        f'<td class="text" style="white-space:normal">{escape(note["text"])}</td></tr>'
        for note in found["notes"]
    )
    count = len(found["notes"])
    summary = f"<summary>{count} {'warning' if count == 1 else 'warnings'}</summary>"
    return _section("Warnings", f"<details>{summary}<table>{rows}</table></details>")
