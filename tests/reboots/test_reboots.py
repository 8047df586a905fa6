"""No reboot strands a host: what does not boot, or is not well when it has, is followed by the old system."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from fleet.lab import faults
from tests.containers.driver import boot_default
from tests.faults.activation import MOUNT
from tests.reboots.trial import LEFT, TOML, Trial, trial_on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet.lab import Lab

NO_NETWORK = 'kernelParams = [ "console=ttyS0" "module_blacklist=virtio_net" ];'
FAILS = 'services.bad = { exec = "/bin/false"; service.Type = "oneshot"; };'
HANGS = 'initrdScript = "echo lab: hangs; sleep 36000";'
STUBBORN = """
    services.stubborn = { exec = "/usr/bin/sleep inf"; service.ExecStartPre = "/usr/bin/test ! -e /run/spoilt"; };
"""
"""Does not start any more once somebody has spoilt it, until the next boot."""


@pytest.fixture
def trial(vm_lab: Lab, tmp_path: Path) -> Iterator[Trial]:
    """The VM has power and no transaction is open. Afterwards nothing of ours is left on it."""
    with trial_on(vm_lab, tmp_path, LEFT) as trial:
        yield trial


def base(trial: Trial) -> str:
    """What the VM stands on: running, in the profile, booted."""
    running, profile, booted = trial.stands
    assert running == profile == booted
    assert boot_default(trial.vm) == running
    return running


@pytest.mark.long
def test_a_kernel_that_boots_is_proven_by_it_and_kept(trial: Trial) -> None:
    base(trial)
    run = trial.deploy()
    (result,) = run.hosts.values()
    assert (run.code, result["outcome"]) == (0, "kept"), run
    assert (result["boot_proven"], result["reboot_pending"]) == (True, False)
    assert run.told("phase_started", phase="reboot")
    trial.comes_back_to(result["closure"])
    trial.is_told_to_stand_on(result["closure"])


@pytest.mark.long
def test_a_kernel_that_panics_is_followed_by_the_old_one(trial: Trial) -> None:
    trial.is_led_back_from_a_panic(base(trial))


def test_what_a_person_told_the_firmware_to_boot_is_seen(trial: Trial) -> None:
    """A file that stands for its variable may be read in ways that the kernel allows for no variable."""
    old, elsewhere = base(trial), "/nix/store/chosen-by-hand"
    trial.stage.toml({"vm": TOML})
    entry = "/boot/loader/entries/by-hand.conf"
    trial.vm.exec("sh", "-c", f"printf 'options init={elsewhere}/init\\n' >{entry} && bootctl set-default by-hand.conf")
    try:
        (host,) = trial.stage.document("status", "vm", code=None)["hosts"]
        assert (host["boot_default"], host["running"]) == (elsewhere, old)
    finally:
        trial.vm.exec("sh", "-c", f"bootctl set-default '' && rm {entry}")
    trial.is_told_to_stand_on(old)


@pytest.mark.long
def test_a_system_without_network_goes_back_though_nobody_is_there(trial: Trial) -> None:
    old = base(trial)
    run = trial.start(NO_NETWORK, boot_timeout="60s")
    run.wait_for("phase_started", phase="push")
    trial.reaches("rebooting")
    trial.lose(run)
    trial.until(lambda: trial.stands[2] not in ("", old), "the new system without network")
    trial.comes_back_to(old)
    trial.is_told_to_stand_on(old)


@pytest.mark.long
def test_a_unit_that_fails_at_boot_is_enough_to_go_back_though_nobody_is_there(trial: Trial) -> None:
    trial.is_led_back_with_nobody_there(base(trial), FAILS)
    (host,) = trial.stage.document("status", "vm", code=None)["hosts"]
    assert len(host["quarantined"]) == 1


@pytest.mark.long
def test_a_boot_that_ends_in_emergency_mode_goes_back_though_nobody_is_there(trial: Trial) -> None:
    trial.is_led_back_with_nobody_there(base(trial), MOUNT)


@pytest.mark.long
def test_a_check_that_fails_after_the_boot_sends_the_host_back(trial: Trial) -> None:
    old = base(trial)
    run = trial.deploy(status=503)
    assert (run.code, run.outcomes) == (1, {"vm": "rolled_back"}), run
    assert "503" in run.failure("vm")["message"]
    trial.comes_back_to(old)
    trial.is_told_to_stand_on(old)


@pytest.mark.long
@pytest.mark.parametrize("state", ["arming", "rebooting", "switched", "reverting"])
def test_a_power_cut_leads_to_the_old_system(trial: Trial, state: str) -> None:
    old = base(trial)
    run = trial.start(FAILS if state == "reverting" else "")
    trial.reaches(state)
    trial.cut_power(run)
    trial.bury()
    trial.comes_back_to(old)
    trial.is_told_to_stand_on(old)


@pytest.mark.long
def test_what_a_power_cut_has_taken_from_a_push_is_sent_again(trial: Trial) -> None:
    """Nix calls it valid, and what it calls valid is empty."""
    base(trial)
    run = trial.start()
    run.wait_for("push_finished")
    trial.cut_power(run)
    run = trial.ended(trial.stage.start("deploy", "vm", "--json", "--yes", "--reboot", "if-needed"))
    assert run.outcomes == {"vm": "kept"}, run
    new = run.hosts["vm"]["closure"]
    trial.comes_back_to(new)
    assert trial.ask(f"nix-store --verify-path $(nix-store -qR {new} /nix/store/*-fleet-host) || echo damaged") == ""


@pytest.mark.long
def test_a_power_cut_in_the_commit_leads_to_either_system_and_never_between(trial: Trial) -> None:
    old = base(trial)
    run = trial.start()
    trial.reaches("committing")
    trial.cut_power(run)
    trial.until(lambda: trial.stands[0] != "" and not trial.ask("ls -d /nix/var/fleet/open"), "settled")
    running, profile, booted = trial.stands
    assert running == profile == booted
    assert running == old or running.endswith("-" + run.told("host_planned")[0]["closure"].rpartition("-")[2])
    trial.is_told_to_stand_on(running)


@pytest.mark.long
def test_a_boot_that_hangs_costs_one_push_of_the_power_button(trial: Trial) -> None:
    old = base(trial)
    run = trial.start(HANGS)
    trial.reaches("rebooting")
    trial.until(lambda: trial.ask("true; echo up") == "", "the VM is down")
    trial.until(lambda: "lab: hangs" in trial.vm.console()[-2000:], "the boot hangs")
    trial.vm.power_off()
    trial.vm.power_on()
    run = trial.ended(run)
    assert run.outcomes == {"vm": "rolled_back"}, run
    trial.comes_back_to(old)
    trial.is_told_to_stand_on(old)


@pytest.mark.long
@pytest.mark.parametrize("days", [1, -1])
def test_a_clock_that_jumps_changes_nothing(trial: Trial, days: int) -> None:
    base(trial)
    run = trial.start()
    trial.reaches("arming")
    trial.vm.exec("date", "-s", f"{days:+d} day")
    trial.reaches("switched")
    trial.vm.exec("date", "-s", f"{-days:+d} day")
    run = trial.ended(run)
    assert run.outcomes == {"vm": "kept"}, run
    trial.comes_back_to(run.hosts["vm"]["closure"])


@pytest.mark.long
def test_without_a_boot_that_counts_once_the_risk_has_to_be_accepted(trial: Trial) -> None:
    old = base(trial)
    trial.vm.exec("umount", "/sys/firmware/efi/efivars")
    run = trial.deploy()
    assert run.outcomes == {"vm": "failed"}, run
    assert "--accept-boot-risk" in run.failure("vm")["hint"]
    run = trial.deploy("", "--reboot", "always", "--accept-boot-risk")
    assert run.outcomes == {"vm": "kept"}, run
    new = run.hosts["vm"]["closure"]
    trial.comes_back_to(new)
    trial.vm.exec("umount", "/sys/firmware/efi/efivars")
    run = trial.deploy(FAILS, "--reboot", "always", "--accept-boot-risk")
    assert run.outcomes == {"vm": "rolled_back"}, run
    trial.comes_back_to(new)
    assert new != old


@pytest.mark.long
def test_a_boot_partition_without_room_is_found_before_anything_changes(trial: Trial) -> None:
    old = base(trial)
    try:
        faults.fill(trial.vm, "/boot")
        run = trial.deploy()
    finally:
        faults.restore(trial.vm)
    assert run.code == 1, run
    assert "MiB" in run.failure("vm")["message"]
    assert not run.told("phase_started", phase="reboot")
    trial.comes_back_to(old)


@pytest.mark.long
def test_people_and_locks_are_not_interrupted_unless_that_is_forced(trial: Trial) -> None:
    base(trial)
    lock = "systemd-run -q --unit=holder systemd-inhibit --what=shutdown --why=training --mode=block /usr/bin/sleep inf"
    trial.vm.exec("sh", "-c", f"systemctl unmask -q systemd-logind; {lock}")
    run = trial.deploy()
    assert run.outcomes == {"vm": "failed"}, run
    assert "training" in run.failure("vm")["message"]
    run = trial.deploy("", "--reboot", "always", "--force")
    assert run.outcomes == {"vm": "kept"}, run
    assert run.told("finding_reported", kind="forced")


@pytest.mark.long
def test_a_host_that_cannot_bring_its_old_system_back_boots_it_where_that_is_allowed(trial: Trial) -> None:
    live = ("--reboot", "never")
    old = trial.deploy(STUBBORN, *live).hosts["vm"]["closure"]
    run = trial.start('activationScript = ": >/run/spoilt";', *live, status=503, last_resort="reboot")
    trial.until(lambda: trial.ask("ls /nix/var/fleet/open/resort"), "the last resort")
    trial.lose(run)
    trial.comes_back_to(old)
    trial.is_told_to_stand_on(old)
    assert trial.ask("cat /nix/var/fleet/last/state; systemctl is-active stubborn") == "reverted\nactive"


CUTS = int(os.environ.get("FLEET_CUTS", "30"))


@pytest.mark.long
@pytest.mark.parametrize("number", range(CUTS))
def test_a_power_cut_at_any_moment_leaves_a_record_that_is_read_right(trial: Trial, number: int) -> None:
    chance = random.Random(number)
    before = trial.stands
    status = chance.choice([200, 503])  # commits, or reverts
    trial.stage.write("vm", trial.system(status=status))
    trial.stage.toml({"vm": TOML})
    run = trial.stage.start("deploy", "vm", "--json", "--yes")
    trial.reaches(chance.choice(["switching", "switched", "committing" if status == 200 else "reverting"]))
    trial.pass_some(chance.uniform(0, 10))
    trial.cut_power(run)
    new = run.told("host_planned")[0]["closure"]
    (host,) = trial.stage.document("status", "vm", code=None)["hosts"]
    trial.bury()
    trial.until(lambda: trial.ask(LEFT) == "", "settled")
    (host,) = trial.stage.document("status", "vm", code=None)["hosts"]
    running, profile, booted = trial.stands
    assert (host["running"], host["profile"], host["boot_default"], host["booted"]) == (
        running,
        profile,
        boot_default(trial.vm),
        booted,
    )
    assert running == profile == booted == boot_default(trial.vm)
    assert running in (before[1], new)
    assert running != new or status == 200
