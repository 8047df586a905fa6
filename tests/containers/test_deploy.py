"""The main job: what is deployed runs and stays, and what is not healthy goes back by itself."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.containers.driver import (
    WEB,
    Stage,
    answer,
    boot_default,
    commands,
    is_open,
    logins,
    new_version,
    profile,
    running,
    stands_on,
    tell_commands,
    web,
)

if TYPE_CHECKING:
    from fleet.lab import Lab
    from tests.containers.conftest import MakeLab

HOSTS = ("one", "two", "three")


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(*HOSTS)


@pytest.fixture
def said(stage: Stage) -> dict[str, str]:
    """What each host's service answers: all hosts run a good system, whatever was there before."""
    stage.toml({name: {"checks": [WEB]} for name in HOSTS})
    new = [name for name in HOSTS if not answer(stage.host(name)).startswith("version")]
    for name in new:
        stage.write(name, web(new_version()))
    if new:
        assert stage.deploy(*new).code == 0
    return {name: answer(stage.host(name)) for name in HOSTS}


def test_all_hosts_are_kept(stage: Stage, said: dict[str, str]) -> None:
    after = new_version()
    for name in HOSTS:
        stage.write(name, web(after))
    run = stage.deploy("--all")
    assert (run.code, run.outcomes) == (0, dict.fromkeys(HOSTS, "kept"))
    for name in HOSTS:
        host = stage.host(name)
        assert answer(host) == f"version {after}"
        assert stands_on(host, run.hosts[name]["closure"])
        assert run.hosts[name]["boot_proven"]
        assert host.exec("systemctl", "is-system-running").stdout == "running\n"
    assert [(one["wave"], one["waves"], one["hosts"]) for one in run.told("wave_started")] == [(1, 1, list(HOSTS))]


def test_unhealthy_host_is_rolled_back_and_the_others_kept(stage: Stage, said: dict[str, str]) -> None:
    old = {name: running(stage.host(name)) for name in HOSTS}
    after = new_version()
    for name in HOSTS:
        stage.write(name, web(after, status=503 if name == "two" else 200))
    # On a busy machine one may begin after that one has ended badly.
    stage.toml({name: {"checks": [WEB]} for name in HOSTS}, rollout={"max_failures": 1})
    run = stage.deploy("--all", "--file", "fleet.toml")
    assert (run.code, run.outcomes) == (1, {"one": "kept", "two": "rolled_back", "three": "kept"}), run
    assert stands_on(stage.host("two"), old["two"])
    assert answer(stage.host("two")) == said["two"]
    assert answer(stage.host("one")) == answer(stage.host("three")) == f"version {after}"
    failure = run.failure("two")
    assert failure["kind"] == "unhealthy"
    assert failure["message"] == "check web: 503 Lab, wanted 200 (within 3 s)"
    assert failure["said"] == []
    assert failure["now"] == f"runs {old['two']} again, proven"
    condemned = run.told("host_condemned", host="two")
    assert [event["reason"] for event in condemned] == [failure["message"]]


def test_second_deploy_is_one_connection_and_one_command_for_each_host(stage: Stage, said: dict[str, str]) -> None:
    hosts = [stage.host(name) for name in HOSTS]
    for name in HOSTS:
        stage.write(name, web(said[name].split()[1]))
    stage.deploy("--all")
    for host in hosts:
        tell_commands(host)
    before = [(logins(host), commands(host)) for host in hosts]
    run = stage.deploy("--all")
    assert (run.code, run.outcomes) == (0, dict.fromkeys(HOSTS, "unchanged"))
    after = [(connected + 1, ran + 1) for connected, ran in before]
    assert [(logins(host), commands(host)) for host in hosts] == after
    assert not run.told("phase_started", phase="push")


def test_source_is_evaluated_again_when_it_changed_or_somebody_asks(stage: Stage, said: dict[str, str]) -> None:
    def recalled(*arguments: str) -> int:
        (finished,) = stage.deploy("--goal", "dry-activate", *arguments).told("evaluation_finished")
        return int(finished["recalled"])

    # Whatever ran before may have evaluated the same source.
    cache = stage.home / ".cache/fleet/evaluations"
    shutil.rmtree(cache, ignore_errors=True)
    assert (recalled("one"), recalled("one", "two"), recalled("one", "two")) == (0, 1, 2)
    assert recalled("one", "--no-eval-cache") == 0
    text = stage.fleet("deploy", "one", "--goal", "dry-activate").stderr
    assert "1 of them from the evaluation cache: the source has not changed" in text
    stage.write("one", web(new_version()))
    assert recalled("one", "two") == 0
    for file in cache.iterdir():
        file.write_text("nonsense")
    assert (recalled("one"), recalled("one")) == (0, 1)


def test_goal_test_leaves_profile_and_boot_default(stage: Stage, said: dict[str, str]) -> None:
    host, old = stage.host("one"), running(stage.host("one"))
    after = new_version()
    stage.write("one", web(after))
    run = stage.deploy("one", "--goal", "test")
    assert (run.code, run.outcomes["one"]) == (0, "kept")
    assert not run.hosts["one"]["boot_default"]
    assert (running(host), profile(host), boot_default(host)) == (run.hosts["one"]["closure"], old, old)
    assert (answer(host), is_open(host)) == (f"version {after}", False)

    kept = stage.deploy("one")  # running, but not what boots: proven and committed
    assert (kept.code, kept.told("host_planned")[0]["action"]) == (0, "commit")
    assert stands_on(host, run.hosts["one"]["closure"])


def test_tested_system_is_gone_after_a_power_cut(stage: Stage, said: dict[str, str]) -> None:
    host, old = stage.host("one"), running(stage.host("one"))
    stage.write("one", web(new_version()))
    assert stage.deploy("one", "--goal", "test").code == 0
    host.power_off()
    host.power_on()
    assert stands_on(host, old)
    assert answer(host) == said["one"]


def test_kept_system_is_there_after_a_power_cut(stage: Stage, said: dict[str, str]) -> None:
    host = stage.host("one")
    after = new_version()
    stage.write("one", web(after))
    closure = stage.deploy("one").hosts["one"]["closure"]
    host.power_off()
    host.power_on()
    assert stands_on(host, closure)
    assert stage.deploy("one").outcomes == {"one": "unchanged"}


def test_dry_activate_changes_nothing(stage: Stage, said: dict[str, str]) -> None:
    host, old = stage.host("one"), running(stage.host("one"))
    stage.write("one", web(new_version()))
    run = stage.deploy("one", "--goal", "dry-activate")
    assert (run.code, run.outcomes) == (0, {"one": "staged"})
    assert "would stop the following units: web.service" in [line["text"] for line in run.told("output_line")]
    assert stands_on(host, old)
    assert answer(host) == said["one"]


def test_kernel_that_a_switch_cannot_prove_is_kept_and_said_to_need_a_reboot(
    stage: Stage, said: dict[str, str]
) -> None:
    stage.write("three", web(new_version(), more='kernel = "6.12.9";'))
    run = stage.deploy("three")
    result = run.hosts["three"]
    assert (run.code, result["outcome"]) == (0, "kept")
    assert (result["reboot_pending"], result["boot_proven"]) == (True, False)
    assert run.told("host_planned")[0]["reboot"] == ["kernel", "initrd", "kernel-modules"]
    assert [finding["kind"] for finding in run.told("finding_reported")] == ["needs_reboot"]
    back = stage.fleet("rollback", "three", "--json")
    assert (back.hosts["three"]["reboot_pending"], back.hosts["three"]["boot_proven"]) == (False, True)
    again = stage.fleet("rollback", "three", "--json")
    assert (again.hosts["three"]["reboot_pending"], again.hosts["three"]["boot_proven"]) == (True, False)


def test_a_boot_partition_that_is_not_mounted_is_said_before_and_after(stage: Stage) -> None:
    host = stage.host("one")
    stage.toml({"one": {"checks": [WEB]}})
    host.exec(
        "sh", "-ec", "touch /etc/fstab; cp /etc/fstab /root/fstab; echo '/dev/gone /boot vfat nofail 0 2' >>/etc/fstab"
    )
    try:
        stage.write("one", web(new_version()))
        run = stage.deploy("one")
    finally:
        host.exec("cp", "/root/fstab", "/etc/fstab")
    (found,) = run.told("finding_reported", kind="boot_unmounted")
    assert "/boot is in fstab and not mounted" in found["message"]
    result = run.hosts["one"]
    assert (run.code, result["outcome"], result["boot_default"]) == (0, "kept", None), run
    assert "what boots next could not be read: /boot is in /etc/fstab and not mounted" in result["notes"]
    again = stage.deploy("one").hosts["one"]
    assert (again["outcome"], again["boot_default"]) == ("unchanged", True)


def test_a_commit_that_fails_goes_back_and_shows_what_the_boot_loader_said(stage: Stage, said: dict[str, str]) -> None:
    host, old = stage.host("one"), running(stage.host("one"))
    stage.write("one", web(new_version(), more='bootLoaderScript = "echo no room on the esp; exit 1";'))
    run = stage.deploy("one")
    assert (run.code, run.outcomes) == (1, {"one": "rolled_back"})
    assert run.failure("one")["message"] == "commit: boot loader failed"
    assert run.failure("one")["said"] == ["no room on the esp", "Failed to install bootloader"]
    assert stands_on(host, old)
    assert answer(host) == said["one"]


def test_activation_that_fails_goes_back_and_shows_what_it_said(stage: Stage, said: dict[str, str]) -> None:
    host, old = stage.host("one"), running(stage.host("one"))
    stage.write("one", web(new_version(), more='activationScript = "echo secrets are missing; exit 1";'))
    run = stage.deploy("one")
    assert (run.code, run.outcomes) == (1, {"one": "rolled_back"})
    assert run.failure("one")["message"] == "activation failed with exit status 2"
    assert "secrets are missing" in run.failure("one")["said"]
    assert [event["status"] for event in run.told("host_switched")] == [2]
    assert stands_on(host, old)


def test_closure_found_bad_is_refused_until_somebody_insists(stage: Stage, said: dict[str, str]) -> None:
    bad = web(new_version(), more='activationScript = "exit 1";')
    stage.write("two", bad)
    assert stage.deploy("two").outcomes == {"two": "rolled_back"}
    again = stage.deploy("two")
    assert (again.code, again.outcomes, again.failure("two")["kind"]) == (1, {"two": "failed"}, "quarantined")
    assert not again.told("phase_started", phase="push")
    quarantined = stage.document("status", "two")["hosts"][0]["quarantined"]
    assert len(quarantined) >= 1
    insisted = stage.deploy("two", "--retry-quarantined")
    assert insisted.outcomes == {"two": "rolled_back"}
