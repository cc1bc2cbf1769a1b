"""A supervisor that only acts: real control and event sockets, and a small stable that is told what to do.

`python -m tests.scripted --config FILE` stands in for the daemon itself.
"""

# ruff: noqa: E501 - rows of sample data read best as rows
from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import zmq
from zmq.auth.thread import ThreadAuthenticator

from protocol import keys
from protocol.endpoints import Endpoints
from protocol.errors import UNKNOWN_BOT, UNKNOWN_COMMAND, StablehandError, nearest

T0 = 1_577_923_200.0
ROWS: list[tuple[Any, ...]] = [
    # name, wanted, state, market, tf, strategy, position, profit, signal, cycles, cpu, restarts, reason
    ("eurusd-ma", "running", "running", "EURUSD", "H1", "MA_CROSSOVER", ("buy", 0.1, 1.08524), 41.2, "HOLD", 1204, 0.3, 0, ""),
    ("gbpusd-rsi", "running", "running", "GBPUSD", "H1", "RSI_CROSSOVER", ("sell", 0.25, 1.27011), -18.75, "SELL", 1190, 0.4, 1, ""),
    ("usdjpy-boll", "paused", "paused", "USDJPY", "M15", "BOLLINGER_REVERSION", None, 0.0, "HOLD", 410, 0.1, 0, ""),
    ("xauusd-ma", "running", "backoff", "XAUUSD", "H1", "MA_CROSSOVER", None, -120.0, "BUY", 88, None, 3, "crash: exit code 1; retrying in 4 s (2 of 5)"),
    ("btcusd-rsi", "running", "failed", "BTCUSD", "H4", "mystrats.breakout:Breakout", None, 0.0, None, 0, None, 6, "crash: 6 failures in 60 s, more than 5; given up until an operator acts"),
    ("us500-ma", "stopped", "stopped", "US500", "D1", "MA_CROSSOVER", None, 12_345.6, None, 0, None, 0, ""),
]  # fmt: skip


def bot_row(values: tuple[Any, ...], pid: int) -> dict[str, Any]:
    """One bot as `status` tells it."""
    name, wanted, state, market, tf, strategy, position, profit, signal, cycles, cpu, restarts, reason = values
    alive = state in ("running", "paused")
    side = {"side": position[0], "volume": position[1], "price": position[2]} if position else None
    return {
        "name": name, "wanted": wanted, "state": state, "pid": pid if alive else None, "epoch": restarts + 1,
        "market": market, "timeframe": tf, "strategy": strategy, "account": "main", "priority": 5, "pace": 1.0,
        "restarts": restarts, "uptime_s": 3725.0 if alive else None, "heartbeat_age_s": 0.4 if alive else None,
        "cycles": cycles, "errors": 0, "last_signal": signal, "position": side, "profit": profit,
        "floating": 3.1 if side else 0.0, "cpu_percent": cpu, "rss_bytes": 58_720_256 if alive else None,
        "uss_bytes": 7_340_032 if alive else None, "threads": 3 if alive else None, "reason": reason,
    }  # fmt: skip


class ScriptedSupervisor:
    """Binds in the constructor, serves in a thread, and is closed as a context manager."""

    def __init__(self, data_dir: Path, *, tcp: bool = False) -> None:
        self.data_dir = data_dir
        data_dir.mkdir(parents=True, exist_ok=True)
        self.bots = [bot_row(values, 4000 + n) for n, values in enumerate(ROWS)]
        self.requests: list[dict[str, Any]] = []
        self.answers: dict[str, Any] = {}  # cmd -> result, or a function of args; before the built-in ones
        self.journal: list[dict[str, Any]] = []
        self.mute = False  # take requests and answer nothing
        self.ended = threading.Event()
        self._memory: dict[str, bytes] = {}
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._closing = threading.Lock()
        self._context = zmq.Context()
        self._auth: ThreadAuthenticator | None = None
        pair = self._secure() if tcp else None
        self._control = self._bind(zmq.ROUTER, "control", pair)
        self._events = self._bind(zmq.XPUB, "events", pair)
        Endpoints(
            "tcp" if tcp else "ipc", "unused",
            str(self._control.getsockopt_string(zmq.LAST_ENDPOINT)),
            str(self._events.getsockopt_string(zmq.LAST_ENDPOINT)),
            server_key=pair.public if pair else "", supervisor_pid=os.getpid(),
        ).save(data_dir)  # fmt: skip
        for text in ("supervisor ready", "eurusd-ma: stopped -> starting", "eurusd-ma: starting -> running"):
            self.record(text, bot="eurusd-ma" if ":" in text else None)
        self._thread = threading.Thread(target=self._serve, name="scripted", daemon=True)
        self._thread.start()

    def _secure(self) -> keys.KeyPair:
        operator = keys.load_or_create(self.data_dir, "operator")
        self._auth = ThreadAuthenticator(self._context)
        self._auth.start()
        folder = self.data_dir / "known"
        folder.mkdir()
        (folder / "operator.key").write_text(f'metadata\n\ncurve\n    public-key = "{operator.public}"\n')
        self._auth.configure_curve(domain="stablehand", location=str(folder))
        return keys.new_pair()

    def _bind(self, kind: int, name: str, pair: keys.KeyPair | None) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.linger = 0
        keys.secure_server(socket, pair)
        socket.bind("tcp://127.0.0.1:*" if pair else f"ipc://{self.data_dir}/{name}.sock")
        return socket

    def __enter__(self) -> ScriptedSupervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving; the sockets go away as those of a supervisor that died."""
        self.ended.set()
        with self._closing:
            self._thread.join(5)
            if self._context.closed:
                return
            self._control.close(0)
            self._events.close(0)
            if self._auth is not None:
                self._auth.stop()
            self._context.term()
        for name in ("control", "events"):
            (self.data_dir / f"{name}.sock").unlink(missing_ok=True)

    def record(self, text: str, *, bot: str | None = None, type: str = "state", publish: bool = True) -> int:
        """A row of the journal, published or (as if the frame were lost) not."""
        with self._lock:
            seq = len(self.journal) + 1
            row = {
                "seq": seq, "at": T0 + seq, "type": type, "bot": bot, "text": text, "data": {}, "cause_id": "",
            }  # fmt: skip
            self.journal.append(row)
            if publish:
                self._events.send_multipart([f"event.{bot or '-'}".encode(), msgpack.packb(row)])
        return seq

    def _serve(self) -> None:
        while not self.ended.is_set():
            if not self._control.poll(10):
                continue
            *envelope, frame = self._control.recv_multipart()
            request = msgpack.unpackb(frame)
            self.requests.append(request)
            if self.mute:
                continue
            reply = self._memory.get(request["id"])
            if reply is None:
                try:
                    body: dict[str, Any] = {"ok": True, "result": self._answer(request["cmd"], request["args"])}
                except StablehandError as error:
                    body = {"ok": False, "error": error.as_dict()}
                reply = msgpack.packb({"v": 1, "id": request["id"], **body})
                self._memory[request["id"]] = reply
            self._control.send_multipart([*envelope, reply])

    def _answer(self, cmd: str, args: dict[str, Any]) -> Any:
        if cmd in self.answers:
            answer = self.answers[cmd]
            return answer(args) if callable(answer) else answer
        own: Callable[[dict[str, Any]], Any] | None = getattr(self, f"_do_{cmd}", None)
        if own is None:
            raise StablehandError(f"unknown command {cmd!r}", code=UNKNOWN_COMMAND)
        return own(args)

    def _chosen(self, args: dict[str, Any]) -> list[dict[str, Any]]:
        if args.get("all"):
            return self.bots
        if "where" in args:
            return [bot for bot in self.bots if all(bot.get(k) == v for k, v in args["where"].items())]
        known = {bot["name"]: bot for bot in self.bots}
        for name in args.get("bots", known):
            if name not in known:
                near = nearest(name, list(known))
                hint = f"did you mean {near}?" if near else None
                raise StablehandError(f"there is no bot {name!r}", hint=hint, code=UNKNOWN_BOT)
        return [known[name] for name in args.get("bots", known)]

    def _do_ping(self, args: dict[str, Any]) -> Any:
        return {
            "version": "0.1.0", "wire": 1, "pid": os.getpid(), "boot": "b1", "installation": "0a1b2c3d",
            "uptime_s": time.monotonic() - self._started, "data_dir": str(self.data_dir),
            "config_path": str(self.data_dir.parent / "supervisor.toml"), "not_remembered": False,
        }  # fmt: skip

    def _do_status(self, args: dict[str, Any]) -> Any:
        return self._chosen(args)

    def _do_host(self, args: dict[str, Any]) -> Any:
        states: dict[str, int] = {}
        for bot in self.bots:
            states[bot["state"]] = states.get(bot["state"], 0) + 1
        return {
            "cpu_percent": 12.5, "memory_percent": 41.0, "memory_available": 9_400_000_000, "swap_percent": 0.0,
            "load1": 0.42, "loop_lag_ms": 1.2, "bots": states, "probe": {}, "sampled_at": T0,
        }  # fmt: skip

    def _want(self, args: dict[str, Any], state: str) -> Any:
        done: list[str] = []
        already: list[str] = []
        for bot in self._chosen(args):
            (already if bot["wanted"] == state else done).append(bot["name"])
            bot["wanted"] = bot["state"] = state
        result: dict[str, Any] = {"done": done, "already": already, "failed": {}}
        if "wait" in args:
            result |= {"reached": done, "missed": {}}
        return result

    def _do_start(self, args: dict[str, Any]) -> Any:
        return self._want(args, "running")

    def _do_stop(self, args: dict[str, Any]) -> Any:
        return self._want(args, "stopped")

    def _do_pause(self, args: dict[str, Any]) -> Any:
        return self._want(args, "paused")

    _do_resume = _do_restart = _do_start

    def _do_events(self, args: dict[str, Any]) -> Any:
        with self._lock:
            rows = [row for row in self.journal if args.get("bot") in (None, row["bot"])]
            limit = args.get("limit", 100)
            rows = [row for row in rows if row["seq"] > args["since"]][:limit] if "since" in args else rows[-limit:]
            return {"events": rows, "first": 1, "last": len(self.journal)}

    def _do_accounts(self, args: dict[str, Any]) -> Any:
        return [{
            "name": "main", "kind": "paper", "feed": "synthetic", "state": "running", "balance": 10_041.2,
            "equity": 10_025.55, "currency": "USD", "time": T0, "bots": 6, "ended": False,
        }]  # fmt: skip

    def _do_account(self, args: dict[str, Any]) -> Any:
        return {
            "login": 1, "leverage": 100, "balance": 10_041.2, "equity": 10_025.55, "profit": -15.65,
            "margin": 108.5, "margin_free": 9917.05, "margin_level": 9240.1, "currency": "USD",
            "name": "paper", "server": "paper", "account": "main", "connected": True, "time": T0,
        }  # fmt: skip

    def _do_add(self, args: dict[str, Any]) -> Any:
        return {"added": [bot["name"] for bot in args["bots"]]}

    def _do_update(self, args: dict[str, Any]) -> Any:
        names = [update["name"] for update in args["updates"]] if "updates" in args else [
            bot["name"] for bot in self._chosen(args)
        ]  # fmt: skip
        changes = {key: [1, value] for key, value in args.get("set", {"priority": 7}).items()}
        return {"updated": [{"name": name, "changed": changes, "restarted": True} for name in names]}

    def _do_remove(self, args: dict[str, Any]) -> Any:
        chosen = [bot["name"] for bot in self._chosen(args)]
        self.bots = [bot for bot in self.bots if bot["name"] not in chosen]
        return {"removed": chosen, "positions": dict.fromkeys(chosen, "flat")}

    def _do_down(self, args: dict[str, Any]) -> Any:
        threading.Timer(0.3, self.ended.set).start()
        return {"stopping": len(self.bots)}

    def _do_handover(self, args: dict[str, Any]) -> Any:
        threading.Timer(0.1, self.ended.set).start()
        return {}

    def _do_reload(self, args: dict[str, Any]) -> Any:
        return {
            "added": ["eurusd-new"], "removed": ["us500-ma"],
            "changed": {"eurusd-ma": {"risk_percent": [1.0, 2.0]}},
            "overrides": {"gbpusd-rsi": {"priority": 7}}, "applied": args["apply"], "supervisor": {},
        }  # fmt: skip

    def _do_show(self, args: dict[str, Any]) -> Any:
        bot = self._chosen({"bots": [args["bot"]]})[0]
        return {
            "name": bot["name"], "id": 3, "source": "file", "wanted": bot["wanted"], "state": bot["state"],
            "config": {
                "name": bot["name"], "account": "main", "market": "EURUSD", "timeframe": "H1",
                "strategy": "MA_CROSSOVER", "params": {"fast": 10, "slow": 50}, "risk_percent": 1.0, "priority": 7,
            },
            "override": {"priority": 7, "params": {"fast": 10}},
            "declared": {"market": "EURUSD", "priority": 5, "params": {"fast": 20, "slow": 50}},
            "run": {"epoch": 4, "pid": 4000, "started_at": T0, "code_hash": "9f8e7d6c5b4a"},
            "runs": [
                {"epoch": 3, "started_at": T0 - 90, "ended_at": T0 - 5, "cause": "crash", "reason": "exit code 1", "status": 256},
                {"epoch": 2, "started_at": T0 - 900, "ended_at": T0 - 91, "cause": "operator", "reason": "restart", "status": 0},
            ],
            "counts": {"crash": 1, "operator": 1}, "log_path": str(self.data_dir / "logs" / "eurusd-ma.log"),
            "magic": 900003, "story": ["12.0 starting ReadySeen -> running"],
        }  # fmt: skip

    def _do_analysis(self, args: dict[str, Any]) -> Any:
        bot = self._chosen({"bots": [args["bot"]]})[0]
        return {
            "name": bot["name"], "signal": "BUY", "price": 1.08531, "bar_time": T0, "at": T0 + 3, "live": True,
            "explanation": "SMA(20) 1.0851 crossed above SMA(50) 1.0849", "figures": {"fast": 1.0851, "slow": 1.0849},
        }  # fmt: skip

    def _do_history(self, args: dict[str, Any]) -> Any:
        data = {"volume": 0.1, "price": 1.08524, "sl": 1.083, "tp": 1.0892}
        return [
            {
                "seq": 7,
                "at": T0,
                "action": "OPEN",
                "text": "bought 0.10 EURUSD at 1.08524",
                "data": data,
                "epoch": 4,
            }
        ]

    def _do_positions(self, args: dict[str, Any]) -> Any:
        return [{
            "ticket": 101, "time": int(T0), "time_msc": int(T0 * 1000), "time_update": int(T0), "time_update_msc": 0,
            "type": 0, "magic": 900003, "identifier": 101, "reason": 3, "volume": 0.1, "price_open": 1.08524,
            "sl": 1.083, "tp": 1.0892, "price_current": 1.0856, "swap": 0.0, "profit": 3.6, "symbol": "EURUSD",
            "comment": "sh:3:4:1", "external_id": "", "bot": "eurusd-ma",
        }]  # fmt: skip

    def _do_deals(self, args: dict[str, Any]) -> Any:
        base = {"order": 0, "time": int(T0), "magic": 0, "entry": 0, "volume": 0.0, "price": 0.0, "commission": 0.0,
                "swap": 0.0, "fee": 0.0, "comment": "", "symbol": "", "position_id": 0}  # fmt: skip
        return [
            {**base, "ticket": 1, "type": 2, "profit": 10_000.0, "comment": "deposit", "bot": "unattributed"},
            {**base, "ticket": 2, "type": 0, "profit": 0.0, "volume": 0.1, "price": 1.08, "symbol": "EURUSD", "bot": "eurusd-ma"},
            {**base, "ticket": 3, "type": 1, "entry": 1, "profit": 41.2, "volume": 0.1, "price": 1.0841, "symbol": "EURUSD", "bot": "eurusd-ma"},
        ]  # fmt: skip

    def _do_equity(self, args: dict[str, Any]) -> Any:
        known = [(T0 + 60.0 * number, 10_000.0 + number % 7 * 10) for number in range(120)]
        rows = [{"account": "main", "at": at, "balance": 10_000.0, "equity": equity, "margin": 108.5}
                for at, equity in known if at > args.get("since", 0.0)]  # fmt: skip
        return rows[: args.get("limit", 1_440)]

    def _do_symbols(self, args: dict[str, Any]) -> Any:
        return [{
            "name": "EURUSD", "description": "Euro vs US Dollar", "digits": 5, "bid": 1.08524, "ask": 1.08533,
            "spread": 9, "volume_min": 0.01, "volume_step": 0.01, "volume_max": 100.0,
            "trade_contract_size": 100_000.0, "open": True,
        }]  # fmt: skip

    def _do_strategies(self, args: dict[str, Any]) -> Any:
        params = {"fast": {"type": "integer", "default": 20, "minimum": 2, "maximum": 500, "step": 1, "label": "Fast"}}
        return [
            {"id": "MA_CROSSOVER", "title": "Moving average crossover", "rule": "Buy when fast crosses above slow.",
             "lookback": 60, "params": params},
            {"id": "mine:Broken", "title": "", "rule": "", "lookback": 0, "params": {}, "error": "no module named mine"},
        ]  # fmt: skip

    def _do_logs(self, args: dict[str, Any]) -> Any:
        path = self.data_dir / "logs" / f"{args['bot']}.log"
        lines = path.read_text().splitlines()[-args.get("lines", 50) :] if path.exists() else []
        return {"path": str(path), "raw_path": f"{path}.out", "lines": lines}


def main() -> int:
    """Act as `python -m supervisor --config FILE [--check]`, until `down`, Ctrl-C or SIGTERM."""
    config = Path(sys.argv[sys.argv.index("--config") + 1])
    if os.environ.get("SCRIPTED_FAILURE"):
        sys.stderr.write(f"stablehand: {os.environ['SCRIPTED_FAILURE']}\n")
        return 2
    if "--check" in sys.argv:
        print(f"{config}: 6 bots, nothing wrong")
        return 0
    time.sleep(float(os.environ.get("SCRIPTED_BOOT", "0.2")))
    with ScriptedSupervisor(config.parent / "var", tcp="--tcp" in sys.argv) as supervisor:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: supervisor.ended.set())
        print(f"stablehand 0.1.0 ready: 6 bots, pid {os.getpid()}", flush=True)
        while not supervisor.ended.wait(2):
            supervisor.bots[0]["cycles"] += 1
            supervisor.record(
                f"bought 0.10 EURUSD at 1.08{int(time.time()) % 1000:03}", bot="eurusd-ma", type="history"
            )
        time.sleep(float(os.environ.get("SCRIPTED_END", "0.1")))
    print("stablehand: all stopped", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
