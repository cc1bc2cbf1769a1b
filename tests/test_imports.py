"""The arrows between the rooms, read from the source: who may import whom."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: Room -> rooms it may import, besides itself.
ARROWS: dict[str, frozenset[str]] = {
    "protocol": frozenset(),
    "store": frozenset({"protocol"}),
    "broker": frozenset({"protocol", "store"}),  # store: only the gateway and the paper terminal, see below
    "botproc": frozenset({"protocol", "broker"}),
    "supervisor": frozenset({"protocol", "store"}),
    "console": frozenset({"protocol"}),
    "cluster": frozenset({"protocol", "supervisor"}),
}
PRESENT = [room for room in ARROWS if (ROOT / room).is_dir()]
MAY_STORE = ("broker.gateway", "broker.paper")
IMPURE = frozenset(
    {"asyncio", "zmq", "os", "time", "psutil", "sqlalchemy", "logging", "threading", "socket", "subprocess"}
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported, at the top or inside a function; `from a import b` gives `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: max(0, len(parts) - node.level + is_package)]
                base = ".".join([*parts, base] if base else parts)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def read(path: Path) -> list[tuple[int, str]]:
    tree = ast.parse(path.read_text("utf-8"), filename=str(path))
    return list(imports_of(tree, module_name(path), is_package=path.name == "__init__.py"))


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def refusal(module: str, imported: str) -> str:
    """Why `module` may not import `imported`; empty where it may."""
    room, other = module.split(".")[0], imported.split(".")[0]
    if imported.endswith(".*"):
        return "imports *"
    if other in ("tests", "bench", "docs"):
        return f"imports {other}"
    if other not in ARROWS or other == room:
        return ""
    if other not in ARROWS[room]:
        return f"{room} may not import {other}"
    if room == "broker" and other == "store" and not any(within(module, one) for one in MAY_STORE):
        return "in broker only the gateway and the paper terminal may import store"
    if room == "botproc" and within(imported, "broker.gateway") and module != "botproc.child":
        # A backtest writes its requests as the gateway does, and asks the same guards: there must be no second way.
        if module == "botproc.backtest.desk" and within(imported, "broker.gateway.requests"):
            return ""
        if module == "botproc.backtest.guards" and within(imported, "broker.gateway.guarding"):
            return ""
        return "in botproc only child may import the gateway"
    return ""


def policy_refusal(imported: str) -> str:
    """Why the pure policy may not import it."""
    top = imported.split(".")[0]
    if top in IMPURE:
        return f"policy is pure: {top}"
    if top == "supervisor":
        return "" if within(imported, "supervisor.policy") else "policy imports only policy"
    return "" if top in sys.stdlib_module_names or top == "protocol" else f"policy is pure: {top}"


@pytest.mark.parametrize("room", PRESENT)
def test_the_arrows_hold(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {why} ({imported})"
        for path in files
        for line, imported in read(path)
        if (why := refusal(module_name(path), imported))
    ]
    assert wrong == []


def test_the_policy_is_pure() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {why}"
        for path in sorted((ROOT / "supervisor" / "policy").rglob("*.py"))
        for line, imported in read(path)
        if (why := policy_refusal(imported))
    ]
    assert wrong == []


def test_the_client_stays_light() -> None:
    """`protocol.client` starts with every command typed: pyzmq, msgpack and the standard library, no pydantic."""
    seen: set[str] = set()
    waiting = ["protocol.client"]
    outside: set[str] = set()
    while waiting:
        module = waiting.pop()
        path = ROOT / (module.replace(".", "/") + ".py")
        if module in seen or not path.is_file():
            continue
        seen.add(module)
        for _line, imported in read(path):
            top = imported.split(".")[0]
            if top == "protocol":
                # `from protocol import codec` names a module, `from protocol.codec import pack` one inside.
                waiting += [".".join(imported.split(".")[:2])]
            elif top not in sys.stdlib_module_names:
                outside.add(top)
    assert outside <= {"zmq", "msgpack"}, (outside, seen)


def test_alembic_is_imported_only_by_the_migrations() -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for room in PRESENT
        for path in (ROOT / room).rglob("*.py")
        if any(within(imported, "alembic") for _line, imported in read(path))
    }
    assert {user for user in users if not user.startswith("store/migrations/")} == set()
    tree = ast.parse((ROOT / "store" / "database.py").read_text("utf-8"))
    at_top = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert "store.migrations.upgrade" not in {node.module for node in at_top}


@pytest.mark.parametrize(
    ("module", "source", "refused"),
    [
        ("protocol.ids", "from store.bots import BotRow", True),
        ("store.bots", "import protocol.errors", False),
        ("store.bots", "from supervisor import config", True),
        ("broker.market", "from store import ledger", True),
        ("broker.gateway.main", "from store import ledger", False),
        ("broker.gateway", "from store import ledger", False),
        ("broker.gateways", "from store import ledger", True),
        ("botproc.child", "def f():\n    from broker.gateway import main", False),
        ("botproc.runner", "def f():\n    from broker.gateway import main", True),
        ("botproc.runner", "from broker import client, gateway", True),
        ("botproc.backtest.desk", "from broker.gateway.requests import request_of", False),
        ("botproc.backtest.desk", "from broker.gateway.book import Book", True),
        ("botproc.backtest.engine", "from broker.gateway.requests import request_of", True),
        ("botproc.backtest.guards", "from broker.gateway.guarding import Guarding", False),
        ("botproc.backtest.engine", "from broker.gateway.guarding import Guarding", True),
        ("supervisor.config", "import botproc.loader", True),
        ("supervisor.runtime.daemon", "from ..policy import fleet", False),
        ("console.http.server", "from ...supervisor import config", True),
        ("console.main", "from protocol import client", False),
        ("console.main", "from json import *", True),
        ("console.main", "import tests.support", True),
    ],
)
def test_a_wrong_arrow_is_seen(module: str, source: str, refused: bool) -> None:
    found = [refusal(module, name) for _line, name in imports_of(ast.parse(source), module, is_package=False)]
    assert any(found) is refused


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("time.monotonic", True),
        ("os.path", True),
        ("numpy", True),
        ("supervisor.runtime.clock", True),
        ("supervisor.policy.states", False),
        ("random.Random", False),
    ],
)
def test_impurity_is_seen(name: str, refused: bool) -> None:
    assert bool(policy_refusal(name)) is refused
