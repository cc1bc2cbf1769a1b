"""Backups of a running installation, damaged stores, and what is put back."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from protocol.client import ControlClient
from protocol.errors import StablehandError
from supervisor.kept import GAP
from tests.console import stablehand
from tests.daemon import Daemon, bot_text, config_text
from tests.ports import two_free_ports
from tests.support import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.posix]

Make = Callable[..., Daemon]
TWO = bot_text("one") + bot_text("two", "GBPUSD")


def balance_of(folder: Path) -> tuple[int, float]:
    """(deals in the ledger, sum of the account's deals) of databases that nobody writes to."""
    with sqlite3.connect(folder / "ledger-main.db") as ledger, sqlite3.connect(folder / "paper-main.db") as paper:
        (deals,) = ledger.execute("SELECT count(*) FROM ledger_deals").fetchone()
        (total,) = paper.execute("SELECT sum(profit + commission + swap + fee) FROM paper_deals").fetchone()
        (balance,) = paper.execute("SELECT balance FROM paper_account").fetchone()
    assert total == pytest.approx(balance)
    return deals, balance


def test_a_backup_of_a_busy_installation_can_be_put_back(stable: Make, tmp_path: Path) -> None:
    text = config_text(account='feed = "synthetic"\nbars_per_second = 40', bots=TWO)
    daemon = stable(text).start()
    daemon.wait_all("running")
    eventually(lambda: len(daemon.ask("deals")) > 4, 60, what="some trades")
    copy = tmp_path / "copy"
    answer = stablehand(daemon.config, "backup", str(copy), "--json").json()
    assert answer["files"] == ["supervisor.db", "ledger-main.db", "paper-main.db"]
    ledger_deals, balance = balance_of(copy)
    with sqlite3.connect(copy / "paper-main.db") as paper:
        assert ledger_deals <= paper.execute("SELECT count(*) FROM paper_deals").fetchone()[0]
    assert "not empty" in stablehand(daemon.config, "backup", str(copy)).line(1)
    # Life goes on after it.
    daemon.ask("restart", bots=["one"], wait=20)
    daemon.ask("stop", bots=["two"], wait=20)
    daemon.ask("add", bots=[{"name": "late", "market": "XAUUSD", "strategy": "RSI_CROSSOVER"}])
    epoch = daemon.wait_state("one", "running")["epoch"]
    assert "in use by supervisor" in stablehand(daemon.config, "restore", str(copy)).line(2)
    assert daemon.down() == 0
    shown = stablehand(daemon.config, "restore", str(copy), "--json").json()
    assert not shown["applied"]
    lines = "\n".join(shown["lines"])
    assert "- late: only here, wanted running" in lines and "~ two: wanted stopped → running" in lines, lines
    assert f"balance {balance:.2f}" in lines
    done = stablehand(daemon.config, "restore", str(copy), "--yes")
    assert done.code == 0 and "restored" in done.out, done
    assert balance_of(daemon.data_dir) == (ledger_deals, balance)
    daemon.start()
    rows = {row["name"]: row for row in daemon.wait_all("running")}
    assert rows.keys() == {"one", "two"} and rows["one"]["epoch"] > epoch + GAP // 2
    assert [row["restarts"] for row in rows.values()] == [0, 0], "what ran in the backup is no crash of today"
    assert not [one for one in daemon.ask("events", limit=1000)["events"] if "nobody saw how" in one["text"]]
    before = len(daemon.ask("deals"))
    eventually(lambda: len(daemon.ask("deals")) > before, 60, what="trades after the restore")
    assert list(daemon.data_dir.glob("before-restore-*/supervisor.db"))


def test_a_damaged_store_is_kept_aside_and_nothing_starts_without_a_word(stable: Make, tmp_path: Path) -> None:
    daemon = stable(config_text(bots=TWO)).start()
    daemon.wait_all("running")
    copy = tmp_path / "copy"
    assert stablehand(daemon.config, "backup", str(copy)).code == 0
    daemon.ask("stop", bots=["two"], wait=20)
    daemon.down()
    path = daemon.data_dir / "supervisor.db"
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + b"\xa5" * (len(whole) - 8192))

    def start() -> str:
        process = daemon.start(ready=False).process
        assert process is not None and process.wait(60) == 2 and process.stderr is not None
        (line,) = process.stderr.read().splitlines()
        return str(line)

    said = start()
    assert "is damaged" in said and ".corrupt-" in said and f"stablehand restore {copy}" in said, said
    aside = next(daemon.data_dir.glob("supervisor.db.corrupt-*[0-9]"))
    assert aside.read_bytes()[:8192] == whole[:8192]
    assert "was damaged" in start()  # and again: a service that is started anew must not forget who stands still
    assert stablehand(daemon.config, "restore", str(copy), "--yes").code == 0
    daemon.start()
    daemon.wait_all("running")  # as at the time of the backup
    daemon.down()
    path.write_bytes(b"no database at all" * 1000)
    assert "is damaged" in start()
    done = stablehand(daemon.config, "restore", "--nothing", "--yes")
    assert done.code == 0 and "the memory is empty" in done.out
    daemon.start()
    daemon.wait_all("running")
    daemon.down()
    assert "is whole" in stablehand(daemon.config, "restore", "--nothing", "--yes").line(2)


def test_what_cannot_be_restored_is_said_in_one_line(stable: Make, tmp_path: Path) -> None:
    daemon = stable(config_text(bots=TWO)).start()
    daemon.wait_all("running")
    copy = tmp_path / "copy"
    stablehand(daemon.config, "backup", str(copy))
    daemon.kill()  # the bots live on
    assert "still runs" in stablehand(daemon.config, "restore", str(copy), "--yes").line(2)
    daemon.start()
    daemon.down()
    assert "is no backup" in stablehand(daemon.config, "restore", str(tmp_path), "--yes").line(2)
    with (copy / "ledger-main.db").open("r+b") as file:
        file.seek(100)
        file.write(b"xx")
    assert "is not what was backed up" in stablehand(daemon.config, "restore", str(copy), "--yes").line(2)
    (daemon.data_dir / "restore.unfinished").write_text('{"1": 700}', "utf-8")
    process = daemon.start(ready=False).process
    assert process is not None and process.wait(60) == 2 and process.stderr is not None
    assert "was interrupted" in process.stderr.read()


@pytest.mark.parametrize("readable", [True, False], ids=["whole", "damaged"])
def test_a_restore_takes_back_no_halt_no_revocation_and_no_number(stable: Make, tmp_path: Path, readable: bool) -> None:
    port = two_free_ports()
    text = config_text(supervisor=f'control_bind = "tcp://127.0.0.1:{port}"\n', bots=TWO)
    daemon = stable(text).start()
    daemon.wait_all("running")
    phone = Path(stablehand(daemon.config, "keys", "new", "phone", "--role", "operator", "--json").json()["file"])
    theirs = shutil.copy(phone, tmp_path / "phone.client")
    copy = tmp_path / "copy"
    assert stablehand(daemon.config, "backup", str(copy)).code == 0
    assert stablehand(daemon.config, "halt", "--reason", "broker misbehaves", "--flatten").code in (0, 1)
    assert stablehand(daemon.config, "halt", "--reason", "of one that is gone", "--bot", "two").code == 0
    assert stablehand(daemon.config, "keys", "revoke", "phone").code == 0
    daemon.ask("add", bots=[{"name": "late", "market": "XAUUSD", "strategy": "RSI_CROSSOVER"}])
    daemon.wait_state("late", "running")
    assert daemon.down() == 0
    with closing(sqlite3.connect(daemon.data_dir / "supervisor.db")) as store:
        (late,) = store.execute("SELECT id FROM bots WHERE name = 'late'").fetchone()
        (journal,) = store.execute("SELECT max(seq) FROM journal").fetchone()
    if not readable:
        (daemon.data_dir / "supervisor.db").write_bytes(b"nothing" * 1000)
    done = stablehand(daemon.config, "restore", str(copy), "--yes")
    assert done.code == 0, done
    assert "stays halted (everything): broker misbehaves" in done.out, "the ledger knows it, too"
    assert ("client 'phone' stays revoked" in done.out) == readable
    daemon.start()
    held = {one["scope"]: one for one in daemon.ask("accounts")[0]["halts"]}
    assert held["all"]["reason"] == "broker misbehaves" and held["all"]["flatten"] and "bot:two" in held
    with ControlClient.from_file(theirs) as client:
        if readable:
            with pytest.raises(StablehandError):
                client.ping()
        else:
            assert client.ping()  # nobody knows any more that it was revoked
    daemon.ask("add", bots=[{"name": "other", "market": "XAUUSD", "strategy": "RSI_CROSSOVER"}])
    with closing(sqlite3.connect(daemon.data_dir / "supervisor.db")) as store:
        (other,) = store.execute("SELECT id FROM bots WHERE name = 'other'").fetchone()
    assert other > late, "its magic would be the other's, whose positions may be open"
    assert daemon.ask("events", limit=1)["last"] > journal


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root restores for another user")
def test_what_root_restores_belongs_to_whose_the_folder_is(stable: Make, tmp_path: Path) -> None:
    daemon = stable(config_text(bots=TWO)).start()
    daemon.wait_all("running")
    copy = tmp_path / "copy"
    assert stablehand(daemon.config, "backup", str(copy)).code == 0
    assert daemon.down() == 0
    nobody = 65534
    for path in (daemon.data_dir, *daemon.data_dir.rglob("*")):
        os.chown(path, nobody, nobody)
    for words in ((str(copy),), ("--nothing",)):
        if "--nothing" in words:
            (daemon.data_dir / "supervisor.db").write_bytes(b"nothing" * 1000)
        done = stablehand(daemon.config, "restore", *words, "--yes")
        assert done.code == 0, done
        others = [path for path in daemon.data_dir.rglob("*.db*") if path.stat().st_uid != nobody]
        assert not others, others
