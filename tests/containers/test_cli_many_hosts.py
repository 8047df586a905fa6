"""Commands about many hosts, on real ones: exec, logs, history, runs show, status and reboot."""

from __future__ import annotations

import json
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from fleet.scripts import one_line, script
from tests.containers.driver import FLEET, WEB, Run, Stage, new_version, running, stands_on, wait_until, web

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.lab import Lab, LabHost
    from tests.containers.conftest import MakeLab

HOSTS = ("left", "right")


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(*HOSTS)


@pytest.fixture(autouse=True)
def described(stage: Stage) -> None:
    """fleet.toml has both hosts."""
    stage.toml({name: {"checks": [WEB]} for name in HOSTS})


def alive(stage: Stage, name: str, mark: str) -> bool:
    """Whether something on the host has the mark among its words."""
    return stage.host(name).exec("pgrep", "-f", mark, check=False).status == 0


def test_exec_runs_as_root_and_shows_equal_hosts_together(stage: Stage) -> None:
    run = stage.fleet("exec", "--all", "--yes", "--", 'id -u; echo "$0" | cat')
    assert (run.code, run.stdout) == (0, "left, right (exit 0)\n  0\n  sh\n\n2 hosts: exit 0\n")
    run = stage.fleet("exec", "--all", "--yes", "--", "hostname")
    assert run.stdout.splitlines()[:4] == ["left (exit 0)", "  left", "", "right (exit 0)"]


def test_exec_tells_failures_last_and_ends_with_1(stage: Stage) -> None:
    stage.host("right").power_off()
    try:
        run = stage.fleet("exec", "--all", "--yes", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
        unknown = stage.fleet("exec", "left", "--json", "--", "no-such-program")
    finally:
        stage.host("right").power_on()
    assert run.code == 1
    assert run.stdout.splitlines()[:4] == ["left (exit 3)", "  out", "  stderr:", "  err"]
    assert run.stdout.splitlines()[-1] == "2 hosts: left (exit 3), right (unreachable)"
    assert "error: right: no connection" in run.stderr
    assert (unknown.code, json.loads(unknown.stdout)["hosts"][0]["status"]) == (1, 127)


def test_exec_leaves_nothing_running_after_its_time(stage: Stage) -> None:
    run = stage.fleet("exec", "left", "--timeout", "1s", "--", "echo begun; sleep 4711 & sleep 4711")
    assert (run.code, run.stdout) == (1, "left (exit 124, out of time)\n  begun\n")
    wait_until(lambda: not alive(stage, "left", "sleep 4711"), "the command is gone")


def test_exec_leaves_nothing_running_after_ctrl_c_and_tells_what_has_ended(stage: Stage) -> None:
    script = 'if [ "$(hostname)" = right ]; then exec sleep 4712; fi; echo done'
    run = stage.start("exec", "--all", "--yes", "--json", "--", script)
    wait_until(lambda: alive(stage, "right", "sleep 4712"), "the command runs")
    # what the other host says is known by then: it had no less time
    stage.fleet("exec", "left", "--", "true")
    run.interrupt()
    assert run.end().code == 130
    left, right = json.loads(run.stdout)["hosts"]
    assert (left["status"], left["stdout"]) == (0, "done\n")
    assert (right["status"], right["error"]["kind"]) == (None, "interrupted")
    wait_until(lambda: not alive(stage, "right", "sleep 4712"), "the command is gone")


def test_logs_show_what_a_unit_wrote_and_follow_it_until_ctrl_c(stage: Stage) -> None:
    for name in HOSTS:
        stage.host(name).exec("systemd-run", "--unit=noise", "--wait", "-q", "sh", "-c", f"echo {name} one")
    run = stage.fleet("logs", "left", "noise", "--since", "10m")
    assert run.code == 0
    assert any(line.endswith("left one") for line in run.stdout.splitlines()), run
    rows = [json.loads(line) for line in stage.fleet("logs", "--all", "noise.service", "--json").stdout.splitlines()]
    assert {row["host"] for row in rows if row["line"].endswith(f"{row['host']} one")} == set(HOSTS)

    following = stage.start("logs", "--all", "noise", "-f", "-n", "0")
    wait_until(lambda: all(alive(stage, name, "unit=noise") for name in HOSTS), "the journals are followed")
    for name in HOSTS:
        stage.host(name).exec("systemd-run", "--unit=noise", "--wait", "-q", "sh", "-c", f"echo {name} two")
    wait_until(lambda: all(f"{name} two" in following.stdout for name in HOSTS), "the lines come")
    assert "one" not in following.stdout
    following.interrupt()
    assert following.end().code == 130
    wait_until(lambda: not any(alive(stage, name, "unit=noise") for name in HOSTS), "nobody follows any more")


def test_logs_of_a_unit_that_nobody_knows_say_so(stage: Stage) -> None:
    run = stage.fleet("logs", "left", "nosuch")
    assert (run.code, run.stdout, "left: no entries of nosuch" in run.stderr) == (0, "", True)


def test_reader_that_leaves_ends_logs_quietly(stage: Stage) -> None:
    script = f"{FLEET} logs left '*' -f -n 50 | head -n 1"
    done = subprocess.run(
        ["sh", "-c", script], cwd=stage.folder, env=stage.environment, capture_output=True, timeout=60, check=True
    )
    said = [line for line in done.stderr.splitlines() if b"waiting for" not in line]
    assert (len(done.stdout.splitlines()), said) == (1, [])


def deployed(stage: Stage, *names: str, more: str = "", status: int = 200, intent: str = "") -> Run:
    """The hosts were deployed to, once more."""
    for name in names:
        stage.write(name, web(new_version(), status=status, more=more))
    return stage.deploy(*names, *(["--intent", intent] if intent else []))


def test_history_tells_who_did_what_why_and_how_it_ended(stage: Stage) -> None:
    assert deployed(stage, "left", intent="first").code == 0
    bad = deployed(stage, "left", status=503, intent="second")
    assert bad.code == 1
    (host,) = stage.document("history", "left")["hosts"]
    newest, before = host["transactions"][:2]
    assert (newest["state"], newest["blame"], newest["intent"]) == ("reverted", "found", "second")
    assert (before["state"], before["intent"], before["new"]) == ("committed", "first", newest["old"])
    assert newest["run"] == bad.events[-1]["run"]
    assert before["began"] <= before["ended"] <= newest["began"] <= newest["ended"]
    text = stage.fleet("history", "left", "-n", "1").stdout
    assert "rolled back" in text
    assert "second; check web: 503" in text


def test_past_run_is_shown_with_its_evidence_and_what_it_was_to_change(stage: Stage) -> None:
    assert deployed(stage, "left", "right", more='packages.hello = "1.0";').code == 0
    stage.write("right", web(new_version(), status=503, more='packages.hello = "1.1";'))
    run = stage.deploy("right").events[-1]["run"]
    whole = stage.fleet("runs", "show", run)
    assert (whole.code, "rolled back" in whole.stdout, "error: right: check web: 503" in whole.stdout) == (
        0,
        True,
        True,
    )
    one = stage.fleet("runs", "show", run, "right").stdout
    for word in ("switch", "prove", "revert", "goes back: check web", "journal.txt", "hello", "1.0 → 1.1"):
        assert word in one, one
    document = stage.document("runs", "show", run, "right")
    (package,) = document["diff"]["packages"]
    assert (package["name"], package["old"], package["new"]) == ("hello", ["1.0"], ["1.1"])
    assert document["hosts"][0]["result"]["outcome"] == "rolled_back"
    assert stage.document("runs")["runs"][0]["run"] == run


def test_status_shows_the_worst_first_and_a_dead_host_as_it_was(stage: Stage) -> None:
    assert deployed(stage, "left", "right").code == 0
    documents_before = stage.document("status")["hosts"]
    right = stage.host("right")
    right.exec("systemd-run", "-q", "--unit=rotten", "--property=Type=oneshot", "false", check=False)
    try:
        watching = stage.start("status", "--watch", "--interval", "1s", "--json")
        wait_until(lambda: len(watching.events) >= 2, "documents come")
        stage.host("left").power_off()
        wait_until(
            lambda: [host["reachable"] for host in watching.events[-1]["hosts"]] == [False, True], "left is gone"
        )
        watching.interrupt()
        assert watching.end().code == 130
        left, right_ = watching.events[-1]["hosts"]
        assert left["last_seen"]["running"] == documents_before[0]["running"]
        assert right_["failed_units"] == ["rotten.service"]
        run = stage.fleet("status")
    finally:
        stage.host("left").power_on()
        right.exec("systemctl", "reset-failed")
    rows = run.stdout.splitlines()[1:]
    assert (run.code, [row.split()[0] for row in rows]) == (1, ["right", "left"])
    assert "1 failed: rotten.service" in rows[0]
    assert "unreachable" in rows[1]
    assert "as it was " in rows[1]


@contextmanager
def powered(*hosts: LabHost) -> Iterator[list[str]]:
    """Whenever one of them goes off it is switched on again, as a machine does by itself; gives who that was."""
    ended, boots = threading.Event(), list[str]()

    def watch() -> None:
        while not ended.wait(0.1):
            for host in hosts:
                if not host.is_on:
                    host.power_on()
                    boots.append(host.name)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield boots
    finally:
        ended.set()
        watching.join()


def test_reboot_proves_that_hosts_come_back_as_they_were(stage: Stage) -> None:
    assert deployed(stage, "left", "right").code == 0
    hosts = [stage.host(name) for name in HOSTS]
    ran = [running(host) for host in hosts]
    with powered(*hosts) as boots:
        run = stage.fleet("reboot", "--all", "--yes", "--json")
    assert run.code == 0, run
    assert sorted(boots) == list(HOSTS)
    assert run.outcomes == dict.fromkeys(HOSTS, "kept")
    assert [stands_on(host, closure) for host, closure in zip(hosts, ran, strict=True)] == [True, True]
    assert {event["passed"] for event in run.told("check_reported", stage="after")} >= {True}
    assert stage.fleet("runs").stdout.splitlines()[1].split()[1] == "reboot"


@pytest.mark.long
def test_host_whose_check_fails_after_a_reboot_needs_a_person(stage: Stage) -> None:
    marked = {"name": "marked", "command": "test -e /run/marked", "within": "2s", "interval": "200ms"}
    stage.toml({"left": {"checks": [marked]}})
    stage.host("left").exec("touch", "/run/marked")
    with powered(stage.host("left")):
        run = stage.fleet("reboot", "left", "--json")
    assert (run.code, run.outcomes) == (4, {"left": "needs_human"})
    assert "check marked" in run.failure("left")["message"]


@pytest.mark.long
def test_host_that_boots_something_else_is_not_rebooted(stage: Stage) -> None:
    stage.write("left", web(new_version()))
    assert stage.deploy("left", "--goal", "test").code == 0
    run = stage.fleet("reboot", "left", "--json")
    assert (run.code, run.failure("left")["kind"]) == (1, "unfit")
    assert "a reboot would lead to" in run.failure("left")["message"]
    assert stage.host("left").is_on
    assert stage.deploy("left").code == 0


def test_host_that_has_changed_since_the_look_does_not_go_down(stage: Stage) -> None:
    host = stage.host("left")
    boot = host.exec("sh", "-c", script("fleet.steps", "boot-state")).stdout.splitlines()[0].removeprefix("boot=")

    def told(*words: str) -> str:
        return host.exec("sh", "-c", one_line("fleet.steps", "reboot"), "sh", *words).stdout.strip()

    assert told("another 1", running(host)) == "changed=it has booted again meanwhile"
    assert told(boot, "/nix/store/other") == f"changed={running(host)} runs now"
    for place in ("/run/fleet/open", "/nix/var/fleet/open"):
        host.exec("mkdir", place)
        try:
            assert told(boot, running(host)) == "changed=a transaction is open"
        finally:
            host.exec("rmdir", place)
