"""A healthy supervisor is obeyed while its file is broken or gone; and what may be a slip does nothing, and says so."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.console import COMMAND, stablehand
from tests.daemon import Daemon, bot_text, config_text
from tests.support import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.posix]

Make = Callable[..., Daemon]
THREE = bot_text("one") + bot_text("three", "XAUUSD", extra='group = "pair"') + bot_text("two", "GBPUSD")
GROUP = '\n[groups.pair]\nstrategy = "one_for_all"\n'


def test_a_broken_file_stops_nobody_who_speaks_to_a_running_supervisor(stable: Make) -> None:
    daemon = stable(config_text(bots=THREE + GROUP)).start()
    daemon.wait_all("running")
    good = daemon.config.read_text("utf-8")
    for broken in (good + "x = = 3\n", good.replace("[[bots]]", "[[bots", 1), None):
        if broken is None:
            daemon.config.unlink()
        else:
            daemon.config.write_text(broken, "utf-8")
        shown = stablehand(daemon.config, "status")
        assert shown.code == 0 and "one" in shown.out
        assert shown.err.count("\n") == 1 and "all the same" in shown.err, shown
        halted = stablehand(daemon.config, "halt", "--flatten", "-r", "an \x1b[31memergency")
        assert halted.code == 0, halted
        assert daemon.ask("halts")[0]["reason"] == "an [31memergency", "no codes for a terminal"
        assert stablehand(daemon.config, "resume-trading").code == 0
    # Nor does it stop a halt that has to go by the supervisor; the file is complained of once.
    daemon.kill()
    alone = stablehand(daemon.config, "halt", "-r", "nobody answers")
    assert alone.code == 0 and alone.err.count("all the same") == 1, alone
    # A name that was typed wrongly reaches nobody, though a stable of that data directory is there.
    slip = stablehand(daemon.folder / "supervisr.toml", "stop", "--all").line(2)
    assert "there is no" in slip and "supervisr.toml" in slip
    # Where nothing ever ran there is nobody to speak to.
    (daemon.folder / "elsewhere").mkdir()
    assert "there is no" in stablehand(daemon.folder / "elsewhere" / "supervisor.toml", "status").line(2)
    daemon.config.write_text(good, "utf-8")


def test_what_may_be_a_slip_does_nothing_and_is_no_success(stable: Make) -> None:
    daemon = stable(config_text(bots=THREE + GROUP)).start()
    daemon.wait_all("running")
    daemon.ask("add", bots=[{"name": "extra", "market": "EURUSD", "strategy": "MA_CROSSOVER"}])
    assert "--yes" in stablehand(daemon.config, "remove", "extra", "--positions", "keep").line(1)
    assert daemon.bot("extra")["wanted"] == "running"
    daemon.config.write_text(daemon.config.read_text("utf-8") + bot_text("four"), "utf-8")
    declined = stablehand(daemon.config, "reload")
    assert declined.code == 1 and "--yes" in declined.err
    nobody = stablehand(daemon.config, "stop", "--where", "strategy=MA_CROSOVER")
    assert (nobody.code, nobody.out) == (1, "no bot matches\n")
    assert "is empty" in stablehand(daemon.config, "-c", "", "status").line(2)
    grouped = stablehand(daemon.config, "stop", "--where", "group=pair", "--wait", "20")
    assert grouped.code == 0 and grouped.out == "stopped: three\n"
    # A handover reads the file, and names what is new in it.
    assert "new, from the file: four" in stablehand(daemon.config, "handover").out


def test_who_is_told_to_stop_during_a_rolling_restart_stays_stopped(stable: Make) -> None:
    daemon = stable(config_text(bots=THREE + GROUP)).start()
    before = {row["name"]: row["epoch"] for row in daemon.wait_all("running")}
    command = [*COMMAND, "-c", str(daemon.config), "restart", "--all", "--rolling", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as rolling:
        try:
            eventually(lambda: daemon.bot("one")["epoch"] > before["one"], 30, every=0.005)
            daemon.ask("stop", bots=["two"], wait=20)
            out, _ = rolling.communicate(timeout=60)
        finally:
            rolling.kill()
    assert rolling.returncode == 0, out
    row = daemon.bot("two")
    assert (row["wanted"], row["state"]) == ("stopped", "stopped"), out
    assert daemon.wait_state("three", "running")["epoch"] > before["three"]
