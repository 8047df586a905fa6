"""Reboots where the boot loader cannot boot an entry once: refused, or at a risk that somebody has accepted. And the
one that a host takes by itself, as the last resort.

A container's boot loader cannot, and its reboot is its end: somebody has to switch it on again, which `powered` does.
Boots that count once need a virtual machine: tests/reboots.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.containers.driver import WEB, Stage, new_version, real, stands_on, wait_until, web
from tests.containers.files import put, shell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fleet.lab import Lab, LabHost
    from tests.containers.conftest import MakeLab

    StandsOn = Callable[[LabHost, str], bool]

FAILS = 'services.bad = { exec = "/bin/false"; service.Type = "oneshot"; };'
STUBBORN = """
    services.stubborn = { exec = "/usr/bin/sleep inf"; service.ExecStartPre = "/usr/bin/test ! -e /run/spoilt"; };
"""
"""Does not start any more once somebody has spoilt it, until the next boot."""
BY_HAND = 'services.by-hand = { exec = "/usr/bin/sleep inf"; wantedBy = [ ]; };'
"""Ran before, and no boot starts it."""
ATTACHED = "/etc/systemd/system.attached"
WAKER = f"{ATTACHED}/fleet-wake.service"
SLOW_TO_START = """
    services.slow = {
      exec = "/bin/sh -c 'for n in 1 2 3; do /usr/bin/mkdir /run/try$$n && exit 1; done; exec /usr/bin/sleep inf'";
      service = { Restart = "on-failure"; RestartSec = "100ms"; };
    };
    services.holds = {
      exec = "/bin/sh -c 'until test -d /run/try3; do /usr/bin/sleep 0.1; done'";
      service.Type = "oneshot";
    };
"""
"""A service that is restarted three times, and a boot that goes on until it is through with that."""
MIGRATED = """
    services.migrated = { exec = "/usr/bin/sleep inf"; service.ExecStartPre = "/usr/bin/test ! -e /var/migrated"; };
"""
MIGRATES = 'activationScript = ": >/var/migrated";'
"""What it changes is what the old system's service does not bear."""
SPOILS = 'activationScript = ": >/run/spoilt";'
RISK = ("--reboot", "always", "--accept-boot-risk")
WATCHED = r"""#!/bin/sh
case $1 in
    daemon-reload)
        test -d /nix/var/fleet/open && echo recorded >>/var/reloads || echo free >>/var/reloads
        sync /var/reloads ;;
    reboot)
        if [ -e /nix/var/fleet/open/returning ] && mkdir /var/killed 2>/dev/null; then
            exec /usr/bin/systemctl kill -s KILL 'fleet-keep-*'
        fi ;;
esac
exec /usr/bin/systemctl "$@"
"""
"""Kills the keeper once, in the moment in which it would reboot to go back; tells when units were read anew."""
LOOKS = """
    beforeBootLoader = ''
      [ -e /var/seen ] ||
        (cd /nix/var/fleet/open && echo rebooting* /etc/systemd/system.attached/*.service >/var/seen; sync /var/seen)
    '';
"""
"""Tells what is there when its own script is about to make it what boots."""


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("risky")


@contextmanager
def powered(host: LabHost, when_off: Callable[[], object] = lambda: None) -> Iterator[list[str]]:
    """Whenever the host goes off it is switched on again, after `when_off`; gives what it has booted, each time."""
    ended = threading.Event()
    boots: list[str] = []

    def watch() -> None:
        while not ended.wait(0.1):
            if not host.is_on:
                when_off()
                host.power_on()
                boots.append(real(host, "/run/booted-system"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield boots
    finally:
        ended.set()
        thread.join()


def base(stage: Stage, more: str = "") -> str:
    """The system that the host stands on."""
    host = stage.host("risky")
    stage.toml({"risky": {"checks": [{**WEB, "within": "20s"}]}})
    stage.write("risky", web(new_version(), more=more))
    old = str(stage.deploy("risky").hosts["risky"]["closure"])
    assert stands_on(host, old)
    return old


def nothing_left(host: LabHost) -> bool:
    left = "ls -d /nix/var/fleet/open /run/fleet/open /etc/systemd/system.attached 2>/dev/null"
    return host.exec("sh", "-c", left, check=False).stdout == ""


def boots_with_nobody_there(
    stage: Stage, old: str, name: str = "risky", flags: Sequence[str] = RISK, stands_on: StandsOn = stands_on
) -> list[str]:
    """What the host has booted, the new system first: its controller died while it was off. It is on the old one."""
    host = stage.host(name)
    run = stage.start("deploy", name, "--json", "--yes", *flags)
    with powered(host, run.process.kill) as boots:
        wait_until(
            lambda: len(boots) == 2 and stands_on(host, old) and nothing_left(host),
            lambda: f"the old system; it has booted {boots}, and fleet is {run}",
        )
    run.process.wait()
    return boots


def test_a_reboot_without_a_way_back_is_refused_and_nothing_is_touched(stage: Stage) -> None:
    old = base(stage)
    stage.write("risky", web(new_version()))
    run = stage.deploy("risky", "--reboot", "always")
    assert (run.code, run.failure("risky")["kind"]) == (1, "unfit"), run
    assert "--accept-boot-risk" in run.failure("risky")["hint"]
    assert stands_on(stage.host("risky"), old)


def test_a_system_that_boots_is_kept(stage: Stage) -> None:
    base(stage)
    host = stage.host("risky")
    stage.write("risky", web(new_version(), more='kernel = "6.13.0";'))
    with powered(host) as boots:
        run = stage.deploy("risky", *RISK)
    result = run.hosts["risky"]
    assert (run.code, result["outcome"], result["boot_proven"]) == (0, "kept", True), run
    assert boots == [result["closure"]]
    assert "accepted with --accept-boot-risk" in run.told("finding_reported", kind="reboots")[0]["hint"]
    assert stands_on(host, result["closure"])
    assert nothing_left(host)


def test_a_system_with_a_unit_that_fails_boots_the_old_one_again_with_nobody_there(stage: Stage) -> None:
    old = base(stage)
    stage.write("risky", web(new_version(), more=FAILS))
    boots = boots_with_nobody_there(stage, old)
    assert boots[1] == old != boots[0]
    (told,) = stage.document("status", "risky", code=None)["hosts"]
    assert (told["running"], told["boot_default"], told["quarantined"]) == (old, old, [boots[0]])


def test_a_system_that_nobody_confirms_boots_the_old_one_again(stage: Stage) -> None:
    old = base(stage)
    stage.toml({"risky": {"boot_timeout": "5s"}})
    stage.write("risky", web(new_version()))
    boots = boots_with_nobody_there(stage, old)
    (told,) = stage.document("status", "risky", code=None)["hosts"]
    assert boots[0] not in told["quarantined"]  # silence is no fault of its own


def test_a_keeper_that_dies_on_the_way_to_the_old_system_goes_it_again(stage: Stage) -> None:
    old, host = base(stage), stage.host("risky")
    stage.write("risky", web(new_version(), more=FAILS + LOOKS))
    put(host, "/usr/local/bin/systemctl", WATCHED, "755")
    try:
        boots = boots_with_nobody_there(stage, old)
    finally:
        host.exec("rm", "/usr/local/bin/systemctl")
    assert boots[1:] == [old]
    assert shell(host, "rmdir /var/killed; cat /var/seen") == f"rebooting {WAKER}"
    reloads = shell(host, "cat /var/reloads; rm /var/reloads").splitlines()
    assert reloads == ["free", "free"]  # it comes before the record, and goes after it


def test_a_host_that_cannot_be_woken_after_the_boot_is_not_booted(stage: Stage) -> None:
    old, host = base(stage), stage.host("risky")
    host.exec("sh", "-ec", f"mkdir {ATTACHED}; : >{ATTACHED}/sysinit.target.wants")
    stage.write("risky", web(new_version()))
    try:
        run = stage.deploy("risky", *RISK)
    finally:
        host.exec("rm", "-r", ATTACHED)
    assert (run.code, run.outcomes) == (1, {"risky": "rolled_back"}), run
    assert f"does not read {ATTACHED}" in run.failure("risky")["message"]
    assert stands_on(host, old)


def test_a_word_that_comes_last_of_all_is_heard(stage: Stage) -> None:
    """It says so itself, from the script that makes it what boots."""
    old, host = base(stage), stage.host("risky")
    says = '$(cat program) $(cat format) word $(cat run) "abandon found told to" >/var/answer'
    abandons = f"beforeBootLoader = ''(cd /run/fleet/open && {says})'';"
    stage.write("risky", web(new_version(), more=abandons))
    with powered(host) as boots:
        run = stage.deploy("risky", *RISK)
    assert (run.code, run.outcomes, boots) == (1, {"risky": "rolled_back"}, []), run
    assert "accepted=yes" in shell(host, "cat /var/answer")
    assert "told to" in run.failure("risky")["message"]
    assert stands_on(host, old)
    assert nothing_left(host)


def test_what_is_restarted_in_the_course_of_a_boot_is_no_crash_loop(stage: Stage) -> None:
    base(stage)
    stage.write("risky", web(new_version(), more=SLOW_TO_START))
    host = stage.host("risky")
    with powered(host) as boots:
        run = stage.deploy("risky", *RISK)
    assert (run.code, run.outcomes, len(boots)) == (0, {"risky": "kept"}, 1), run
    assert shell(host, "systemctl show --property=NRestarts --value slow") == "3"


@pytest.mark.long
def test_an_old_system_that_does_not_come_up_well_any_more_needs_a_human(stage: Stage) -> None:
    old = base(stage, MIGRATED)
    host = stage.host("risky")
    stage.write("risky", web(new_version(), more=MIGRATES + FAILS))
    with powered(host) as boots:
        run = stage.deploy("risky", *RISK)
    assert (run.code, run.outcomes, boots[1:]) == (4, {"risky": "needs_human"}, [old]), run
    host.exec("sh", "-c", "rm /var/migrated; systemctl start migrated")
    assert stands_on(host, old)


def test_a_host_that_cannot_bring_its_old_system_back_boots_it_where_that_is_allowed(stage: Stage) -> None:
    old = base(stage, STUBBORN + BY_HAND)
    host = stage.host("risky")
    host.exec("systemctl", "start", "by-hand")
    stage.toml({"risky": {"last_resort": "reboot", "checks": [{**WEB, "within": "2s"}]}})
    stage.write("risky", web(new_version(), status=503, more=SPOILS))
    with powered(host) as boots:
        run = stage.deploy("risky")
        wait_until(lambda: stands_on(host, old) and nothing_left(host), "the old system")
    assert (run.code, run.outcomes, boots) == (1, {"risky": "rolled_back"}, [old]), run
    assert host.exec("systemctl", "is-active", "stubborn", "by-hand").stdout == "active\nactive\n"


@pytest.mark.long
def test_without_leave_it_stays_as_it_is_and_needs_a_human(stage: Stage) -> None:
    old = base(stage, STUBBORN)
    host = stage.host("risky")
    stage.toml({"risky": {"checks": [{**WEB, "within": "2s"}]}})
    stage.write("risky", web(new_version(), status=503, more=SPOILS))
    with powered(host) as boots:
        run = stage.deploy("risky")
    assert (run.code, run.outcomes, boots) == (4, {"risky": "needs_human"}, []), run
    host.exec("rm", "/run/spoilt")
    host.exec("sh", "-c", f"NIXOS_NO_CHECK=1 {old}/bin/switch-to-configuration test; systemctl start stubborn")


def secret(stage: Stage, value: str) -> dict[str, object]:
    (stage.folder / "value").write_text(value)
    return {"file": str(stage.folder / "value"), "restart": ["reader"]}


READER = """
    services.reader = {
      exec = "/bin/sh -c '${busybox} cat /run/fleet-secrets/token >/run/read && exec ${busybox} sleep inf'";
    };
"""
"""Fails where it has no secret, as at each boot until somebody fills it."""
PLACES = "for file in /run/fleet-secrets/token /var/lib/fleet-secrets/kept /run/read; do cat $file; echo; done"


def test_secrets_are_filled_before_a_boot_is_judged_and_the_disk_gets_its_old_ones_back(stage: Stage) -> None:
    host = stage.host("risky")

    def declare(value: str, *checks: dict[str, object]) -> None:
        secrets = {"token": secret(stage, value), "kept": {**secret(stage, value), "storage": "disk"}}
        stage.toml({"risky": {"secrets": secrets, "checks": [{**WEB, "within": "20s"}, *checks]}})

    declare("one")
    stage.write("risky", web(new_version(), more=READER))
    assert stage.deploy("risky").outcomes == {"risky": "kept"}
    declare("two")
    stage.write("risky", web(new_version(), more=READER + 'kernel = "6.13.0";'))
    with powered(host):
        run = stage.deploy("risky", *RISK)
    assert run.outcomes == {"risky": "kept"}, run
    assert run.told("secrets_filled")[0]["secrets"] == ["token"]
    assert shell(host, PLACES).split() == ["two", "two", "two"]

    old = real(host, "/run/current-system")
    declare("three", {"name": "bad", "command": f"test $(readlink -f /run/current-system) = {old}", "within": "1s"})
    stage.write("risky", web(new_version(), more=READER + 'kernel = "6.14.0";'))
    with powered(host):
        run = stage.deploy("risky", *RISK)
    assert run.outcomes == {"risky": "rolled_back"}, run
    assert stands_on(host, old)
    assert shell(host, PLACES).split() == ["three", "two", "three"]  # in memory nobody has the old one any more

    with powered(host):
        run = stage.fleet("reboot", "--json", "risky")
    assert run.outcomes == {"risky": "kept"}, run
    assert shell(host, PLACES).split() == ["three", "two", "three"]
