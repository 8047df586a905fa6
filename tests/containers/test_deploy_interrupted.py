"""Whatever happens in the middle: every host ends on the proven new system or on the one it ran before."""

from __future__ import annotations

import re
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from tests.containers.driver import (
    BUSY,
    GATE,
    SLOW,
    WEB,
    Stage,
    answer,
    is_open,
    new_version,
    running,
    stands_on,
    wait_until,
    web,
)
from tests.containers.files import put

if TYPE_CHECKING:
    from fleet.lab import Lab, LabHost
    from tests.containers.conftest import MakeLab

CONFIRM = 4.0
"""Seconds without contact after which a host goes back."""


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("cut", "other")


@pytest.fixture
def cut(stage: Stage) -> LabHost:
    """A host that runs some healthy version."""
    return stage.settle("cut")


def test_interrupted_once_the_host_is_proven_and_the_others_are_skipped(stage: Stage, cut: LabHost) -> None:
    run = stage.begin("cut", confirm=CONFIRM)
    run.process.kill()
    run.process.wait()
    stage.toml({"cut": {"checks": [WEB, GATE]}, "other": {}}, rollout={"at_once": 1})
    stage.write("other", web(new_version()))
    run = stage.start("deploy", "--json", "--yes", "--all")
    run.wait_for("phase_started", host="cut", phase="prove")
    run.interrupt()
    run.wait_for("run_interrupted")
    cut.exec("rm", BUSY)
    run.end()
    assert (run.code, run.outcomes) == (130, {"cut": "kept", "other": "skipped"})
    assert run.failure("other")["message"] == "interrupted before it began"
    assert stands_on(cut, run.hosts["cut"]["closure"])


def test_interrupted_twice_the_host_is_in_doubt_and_settles_itself(stage: Stage, cut: LabHost) -> None:
    old = running(cut)
    run = stage.begin("cut", confirm=15)
    run.wait_for("phase_started", phase="prove")
    run.interrupt()
    run.wait_for("run_interrupted")
    run.interrupt()
    run.end()
    assert (run.code, run.outcomes) == (4, {"cut": "needs_human"})
    assert old in run.failure("cut")["now"]
    assert run.failure("cut")["hint"].startswith("fleet resume sees it through; fleet status cut ")

    open_now = stage.document("status", "cut")["hosts"][0]["transaction"]
    assert (open_now["run"], open_now["state"]) == (run.events[-1]["run"], "switched")
    refused = stage.deploy("cut")
    assert (refused.code, refused.outcomes) == (5, {"cut": "failed"})
    wait_until(lambda: not is_open(cut), "it closes by itself")
    assert stands_on(cut, old)
    settled = stage.document("status", "cut")["hosts"][0]
    assert (settled["running"], settled["transaction"], settled["quarantined"]) == (old, None, [])


def test_controller_killed_while_proving_the_host_goes_back_by_itself(stage: Stage, cut: LabHost) -> None:
    old, said = running(cut), answer(cut)
    run = stage.begin("cut", confirm=CONFIRM)
    run.wait_for("phase_started", phase="prove")
    wait_until(lambda: run.told("check_reported", check="gate", stage="after"), "the checks are asked")
    run.process.send_signal(signal.SIGKILL)
    wait_until(lambda: running(cut) == old, "it is back", CONFIRM + 5)
    wait_until(lambda: not is_open(cut), "it has closed the transaction")
    assert stands_on(cut, old)
    assert answer(cut) == said
    assert stage.document("status", "cut")["hosts"][0]["quarantined"] == []  # it was silent, not bad


def test_two_controllers_at_once_one_keeps_and_the_other_finds_it_locked(stage: Stage, cut: LabHost) -> None:
    first = stage.begin("cut", confirm=CONFIRM)
    first.wait_for("phase_started", phase="prove")
    second = stage.deploy("cut")
    assert (second.code, second.outcomes, second.failure("cut")["kind"]) == (5, {"cut": "failed"}, "locked")
    assert first.events[0]["run"] in second.failure("cut")["message"]
    assert "closes by itself" in second.failure("cut")["hint"]
    cut.exec("rm", BUSY)
    first.end()
    assert (first.code, first.outcomes) == (0, {"cut": "kept"})


def test_two_controllers_that_begin_in_the_same_moment(stage: Stage, cut: LabHost) -> None:
    stage.toml({"cut": {"checks": [WEB]}})
    stage.write("cut", web(new_version()))
    runs = [stage.start("deploy", "--json", "cut") for _ in range(3)]
    for run in runs:
        run.end()
    (kept,) = [run for run in runs if run.outcomes["cut"] == "kept"]
    for run in runs:
        if run.outcomes["cut"] == "failed":  # begun meanwhile, or begun and ended
            assert (run.failure("cut")["kind"], run.code) in (("locked", 5), ("stale", 1))
        else:  # planned before, or after
            assert (run.outcomes["cut"], run.code) in (("kept", 0), ("unchanged", 0))
    assert stands_on(cut, kept.hosts["cut"]["closure"])


@pytest.mark.parametrize("moment", [pytest.param("switch", marks=pytest.mark.long), "prove"])
def test_connection_that_is_cut_and_comes_back_ends_kept(stage: Stage, cut: LabHost, moment: str) -> None:
    more = SLOW if moment == "switch" else ""
    run = stage.begin("cut", confirm=CONFIRM, more=more)
    run.wait_for("phase_started", phase=moment)
    if moment == "switch":
        wait_until(lambda: is_open(cut), "the switch has begun")
    for _ in range(3):  # sshd's children: every connection there is
        cut.exec("pkill", "-KILL", "-f", "sshd-session", check=False)
    cut.exec("rm", BUSY)
    run.end()
    assert (run.code, run.outcomes) == (0, {"cut": "kept"})
    assert stands_on(cut, run.hosts["cut"]["closure"])


def test_network_that_is_away_longer_than_the_deadline_ends_rolled_back(stage: Stage, cut: LabHost) -> None:
    old = running(cut)
    run = stage.begin("cut", confirm=CONFIRM)
    run.wait_for("phase_started", phase="prove")
    cut.exec("systemctl", "stop", "ssh.service", "ssh.socket", check=False)
    cut.exec("pkill", "-KILL", "-f", "sshd-session", check=False)
    wait_until(lambda: running(cut) == old and not is_open(cut), "it is back", CONFIRM + 10)
    cut.exec("systemctl", "start", "ssh.service")
    run.end()
    assert (run.code, run.outcomes) == (1, {"cut": "rolled_back"})
    assert run.failure("cut")["kind"] == "silent"
    assert stands_on(cut, old)


@pytest.mark.parametrize(
    "option",
    [pytest.param("Nonsense=yes", marks=pytest.mark.long), "AllowUsers=nobody"],
    ids=["does not start", "lets nobody in"],
)
def test_system_that_breaks_sshd_is_rolled_back_and_reachable_again(stage: Stage, cut: LabHost, option: str) -> None:
    """Its sshd belongs to the closure, as on NixOS; every session ends with it."""
    version = new_version()
    door = 'services.door.exec = "/usr/sbin/sshd -D -p 2222 -o PidFile=none{}";'
    inside = cut.exec("hostname", "-i").stdout.split()[0]
    stage.toml({"cut": {"checks": [WEB]}})
    stage.write("cut", web(version, more=door.format("")))
    old = stage.deploy("cut").hosts["cut"]["closure"]

    by_that_door = {"address": inside, "port": 2222, "checks": [WEB]}
    stage.toml({"cut": by_that_door}, confirm_timeout=f"{CONFIRM:g}s")
    assert stage.deploy("cut").outcomes == {"cut": "unchanged"}
    stage.write("cut", web(new_version(), more=door.format(f" -o {option}")))
    run = stage.deploy("cut")
    assert (run.code, run.outcomes) == (1, {"cut": "rolled_back"})
    assert re.match(r"no (new (connection|login)|connection meanwhile): ", run.failure("cut")["message"])
    assert stands_on(cut, old)
    assert stage.document("status", "cut")["hosts"][0]["running"] == old


@pytest.mark.parametrize("moment", [pytest.param("switch", marks=pytest.mark.long), "prove"])
def test_power_cut_in_the_middle_boots_the_old_system_and_status_says_so(
    stage: Stage, cut: LabHost, moment: str
) -> None:
    old, said = running(cut), answer(cut)
    run = stage.begin("cut", confirm=CONFIRM, more=SLOW if moment == "switch" else "")
    run.wait_for("phase_started", phase=moment)
    written = ("test", "-e", "/nix/var/fleet/open/run")  # before that, nothing has been done that could be undone
    wait_until(lambda: cut.exec(*written, check=False).status == 0, "the switch has begun")
    if moment == "prove":
        assert running(cut) != old
    cut.power_off()
    cut.power_on()
    run.end()
    assert (run.code, run.outcomes) == (1, {"cut": "rolled_back"})
    assert run.failure("cut")["message"] == "the host rebooted during the switch"
    assert stands_on(cut, old)
    assert answer(cut) == said
    told = stage.fleet("status", "cut")
    assert "last run reverted: the host rebooted during the switch" in told.stdout


def test_interrupted_before_anything_is_decided_touches_nothing(stage: Stage, cut: LabHost) -> None:
    old = running(cut)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        stage.toml({"cut": {"port": mute.getsockname()[1]}})
        run = stage.start("deploy", "--json", "cut")
        run.wait_for("phase_started", phase="preflight")
        run.interrupt()
        run.end()
    assert (run.code, run.outcomes) == (130, {"cut": "skipped"})
    assert len(run.told("run_finished")) == 1
    assert stands_on(cut, old)


def test_interrupted_when_all_is_over_changes_nothing(stage: Stage, cut: LabHost) -> None:
    """The last event has been told: a second one would confuse scripts."""
    stage.toml({"cut": {}})
    stage.write("cut", web(new_version()))
    run = stage.start("deploy", "--json", "cut", "--goal", "dry-activate")
    run.wait_for("run_finished")
    run.interrupt()
    run.end()
    assert (run.code, len(run.told("run_finished"))) == (0, 1)


def test_host_that_is_slow_to_begin_and_lost_twice_does_not_begin_when_nobody_waits(stage: Stage, cut: LabHost) -> None:
    """The connection is lost while the host writes down what it runs, and again while it is asked once more."""
    old = running(cut)

    def wait_for(*argv: str) -> None:
        wait_until(lambda: cut.exec(*argv, check=False).status == 0, " ".join(argv))

    slow = f"while [ -e /run/fleet/.next/since ] && [ -e {BUSY} ]; do sleep 0.05; done"
    put(cut, "/usr/local/bin/systemctl", f'#!/bin/sh\n{slow}\nexec /usr/bin/systemctl "$@"\n', mode="755")
    cut.exec("touch", BUSY)
    try:
        stage.toml({"cut": {"checks": [WEB]}})
        stage.write("cut", web(new_version()))
        run = stage.start("deploy", "--json", "--yes", "cut")
        wait_for("test", "-e", "/run/fleet/.next/since")
        cut.exec("pkill", "-KILL", "-f", "sshd-session")
        wait_for("pgrep", "-x", "flock")  # asked again, it waits for itself
        cut.exec("pkill", "-KILL", "-f", "sshd-session")
        wait_for("grep", "-qx", run.events[0]["run"], "/run/fleet/.given-up")
    finally:
        cut.exec("rm", BUSY, "/usr/local/bin/systemctl")
    run.end()
    assert (run.code, run.outcomes, run.failure("cut")["kind"]) == (1, {"cut": "failed"}, "unreachable")
    assert stands_on(cut, old)


def test_somebody_who_switches_meanwhile_is_left_alone(stage: Stage, cut: LabHost) -> None:
    run = stage.begin("cut", confirm=CONFIRM)
    run.wait_for("phase_started", phase="prove")
    theirs = cut.exec("readlink", "-f", "/nix/var/nix/profiles/system-1-link").stdout.strip()
    cut.exec("env", "NIXOS_NO_CHECK=1", f"{theirs}/bin/switch-to-configuration", "test")
    cut.exec("rm", BUSY)
    run.end()
    assert (run.code, run.outcomes, run.failure("cut")["kind"]) == (1, {"cut": "failed"}, "superseded")
    assert run.failure("cut")["now"] == f"runs {theirs}; fleet has taken its hands off"
    assert (running(cut), is_open(cut)) == (theirs, False)
