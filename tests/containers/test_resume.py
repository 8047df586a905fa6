"""Runs whose controller is lost, runs that watch, and what is left to read after a failure."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.containers.driver import (
    BUSY,
    SLOW,
    Run,
    Stage,
    answer,
    is_open,
    new_version,
    running,
    stands_on,
    wait_until,
    web,
)
from tests.unit.ledgers import head_of, replace_lines, rewritten

if TYPE_CHECKING:
    from fleet.lab import Lab, LabHost
    from tests.containers.conftest import MakeLab


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("lost")


@pytest.fixture
def lost(stage: Stage) -> LabHost:
    """A host that runs some healthy version."""
    return stage.settle("lost")


def killed_while(stage: Stage, host: LabHost, phase: str, *, confirm: float = 30, more: str = "") -> Run:
    """A deployment whose controller died in this phase."""
    run = stage.begin("lost", confirm=confirm, more=more)
    run.wait_for("phase_started", phase=phase)
    if phase == "switch":
        wait_until(lambda: is_open(host), "the switch has begun")
    run.process.send_signal(signal.SIGKILL)
    run.process.wait()
    return run


def test_run_that_was_lost_while_proving_is_taken_up_and_kept(stage: Stage, lost: LabHost) -> None:
    run = killed_while(stage, lost, "prove")
    (told,) = [one for one in stage.document("runs")["runs"] if one["run"] == run.events[0]["run"]]
    assert (told["open"], told["exit_code"]) == (True, None)
    (unfinished,) = stage.document("ledger", "verify", code=1)["unfinished"]
    assert (unfinished["run"], unfinished["hosts"]) == (told["run"], ["lost"])
    lost.exec("rm", BUSY)
    resumed = stage.fleet("resume", "--json")
    assert (resumed.code, resumed.outcomes) == (0, {"lost": "kept"})
    assert resumed.events[-1]["run"] == run.events[0]["run"]
    assert stands_on(lost, resumed.hosts["lost"]["closure"])
    assert [one["open"] for one in stage.document("runs")["runs"] if one["run"] == told["run"]] == [False]
    entries = [one["kind"] for one in stage.document("ledger", "show")["entries"] if one.get("run") == told["run"]]
    assert entries == ["begin", "commit", "end"]
    verified = stage.document("ledger", "verify", "--hosts", "lost")  # which has heads of other homes' ledgers too
    assert (verified["good"], verified["agreeing"]["lost"] >= 1) == (True, True)


def test_ledger_that_was_written_anew_with_right_hashes_is_seen_by_its_host(stage: Stage, lost: LabHost) -> None:
    stage.write("lost", web(new_version()))
    assert stage.deploy("lost").code == 0
    verified = stage.document("ledger", "verify", "--hosts", "lost")
    assert verified["good"]
    begin = [one for one in stage.document("ledger", "show")["entries"] if one["kind"] == "begin"][-1]
    kept = lost.exec("tail", "-n", "1", "/nix/var/fleet/history").stdout.rstrip("\n").split("\t")
    assert kept[1:2] + kept[15:] == [begin["run"], f"{verified['ledger']} {begin['entry']} {begin['hash']}"]
    lines = rewritten(stage.fleet("ledger", "export").stdout.splitlines(), begin["entry"], by="somebody else")
    replace_lines(stage.home / "state/fleet/test", lines, head_of(lines, ledger=verified["ledger"]))
    assert stage.document("ledger", "verify")["good"]
    wrong = stage.document("ledger", "verify", "--hosts", "lost", code=1)["wrong"]
    assert (wrong["how"], wrong["entry"] <= begin["entry"]) == ("rewritten", True)


def test_run_whose_record_was_lost_is_taken_up_from_what_the_hosts_say(stage: Stage, lost: LabHost) -> None:
    """As after a loss of power here: the files are there, and empty."""
    run = killed_while(stage, lost, "prove")
    lost.exec("rm", BUSY)
    lost_run = run.events[0]["run"]
    state = stage.home / "state/fleet/test"
    for record in (state / "runs" / lost_run / "events.jsonl", *state.glob("state.db*")):
        record.write_bytes(b"")
    resumed = stage.fleet("resume", lost_run, "--json")
    assert (resumed.code, resumed.outcomes) == (0, {"lost": "kept"})
    assert stands_on(lost, resumed.hosts["lost"]["closure"])


def test_run_that_was_lost_while_switching_is_followed(stage: Stage, lost: LabHost) -> None:
    killed_while(stage, lost, "switch", more=SLOW)
    resumed = stage.start("resume", "--json")
    resumed.wait_for("run_started", verb="resume")
    lost.exec("rm", BUSY)
    resumed.end()
    assert (resumed.code, resumed.outcomes) == (0, {"lost": "kept"})
    stage.write("lost", web(new_version()))  # else whoever goes back is as slow
    assert stage.deploy("lost").code == 0


def test_host_that_went_back_before_the_run_was_taken_up_says_so(stage: Stage, lost: LabHost) -> None:
    old = running(lost)
    killed_while(stage, lost, "prove", confirm=5)
    wait_until(lambda: not is_open(lost), "it has gone back")
    resumed = stage.fleet("resume", "--json")
    assert (resumed.code, resumed.outcomes) == (1, {"lost": "rolled_back"})
    assert resumed.failure("lost")["kind"] == "silent"
    assert stands_on(lost, old)


def test_host_that_cannot_be_reached_stays_in_doubt_and_the_run_open(stage: Stage, lost: LabHost) -> None:
    run = killed_while(stage, lost, "prove")
    lost.exec("rm", BUSY)
    path = stage.folder / "fleet.toml"
    text = path.read_text()
    path.write_text(text.replace(f"port = {lost.port}", "port = 1"))
    resumed = stage.fleet("resume", "--json")
    assert (resumed.code, resumed.failure("lost")["kind"]) == (4, "in_doubt")
    path.write_text(text)
    again = stage.fleet("resume", run.events[0]["run"], "--json")
    assert (again.code, again.outcomes) == (0, {"lost": "kept"})


def test_run_that_is_under_way_is_not_taken_up(stage: Stage, lost: LabHost) -> None:
    run = stage.begin("lost", confirm=30)
    run.wait_for("phase_started", phase="prove")
    refused = stage.fleet("resume")
    assert refused.code == 2
    assert "still under way" in refused.stderr
    lost.exec("rm", BUSY)
    assert run.end().outcomes == {"lost": "kept"}


def test_nothing_to_take_up_is_said(stage: Stage, lost: LabHost) -> None:
    refused = stage.fleet("resume")
    assert (refused.code, "no run is open" in refused.stderr) == (2, True)
    refused = stage.fleet("resume", "20200101T000000-000000")
    assert (refused.code, "there is no run" in refused.stderr) == (2, True)


def test_crash_loop_that_starts_while_it_is_watched_goes_back(stage: Stage, lost: LabHost) -> None:
    old = running(lost)
    loop = """services.late = {
      exec = "/bin/sh -c 'test ! -e /run/busy || exit 1; exec sleep inf'";
      service = { Restart = "always"; RestartSec = "3s"; };
    };"""
    stage.write("lost", web(new_version(), more=loop))
    run = stage.start("deploy", "--json", "lost", "--watch", "60s")
    run.wait_for("check_reported", check="web", stage="after", passed=True)
    lost.exec("touch", BUSY)
    lost.exec("systemctl", "kill", "late.service")
    run.end()
    assert (run.code, run.outcomes) == (1, {"lost": "rolled_back"})
    assert "late.service was restarted" in run.failure("lost")["message"]
    assert stands_on(lost, old)


def test_watched_host_that_stays_well_is_kept(stage: Stage, lost: LabHost) -> None:
    stage.write("lost", web(new_version()))
    run = stage.deploy("lost", "--watch", "2s")
    assert (run.code, run.outcomes) == (0, {"lost": "kept"})
    assert run.told("host_proven")[0]["seconds"] >= 2


def test_failure_leaves_a_folder_with_its_story(stage: Stage, lost: LabHost) -> None:
    said = answer(lost)
    stage.write("lost", web(new_version(), status=503, more='files."etc/story" = "new";'))
    run = stage.deploy("lost")
    assert run.outcomes == {"lost": "rolled_back"}
    folder = Path(run.failure("lost")["hint"].rpartition("all that was gathered: ")[2])
    assert folder.parts[-3:] == (run.events[0]["run"], "hosts", "lost")
    assert (
        "restarting the following units" in (folder / "said.txt").read_text()
        or "web.service" in (folder / "said.txt").read_text()
    )
    assert json.loads((folder / "checks.json").read_text())[0]["said"].startswith("503 ")
    assert "/nix" in (folder / "df.txt").read_text() or "overlay" in (folder / "df.txt").read_text()
    assert "fleet-keep" not in (folder / "diff.txt").read_text()
    assert "etc/story" in (folder / "diff.txt").read_text() or "story" in (folder / "diff.txt").read_text()
    assert "switching" in (folder / "switch.txt").read_text()
    assert answer(lost) == said
