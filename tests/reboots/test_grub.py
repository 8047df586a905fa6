"""The same promises on a host that boots by GRUB, which tries an entry once because grubenv says so, and forgets it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.reboots.test_reboots import FAILS
from tests.reboots.test_vm import real
from tests.reboots.trial import PATIENCE, Trial, trial_on
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fleet.lab import Lab, VmHost

pytestmark = pytest.mark.long

CFG, ENV = "/boot/grub/grub.cfg", "/boot/grub/grubenv"
LISTED = f"/usr/local/bin/grub-editenv {ENV} list"
LEFT = f"grep -l fleet-trial {CFG} {ENV}; ls -d /nix/var/fleet/open /etc/systemd/system.attached 2>/dev/null"


@pytest.fixture(scope="module")
def grub_lab(make_vm_lab: Callable[[], Lab]) -> Lab:
    """A lab whose VM has booted by GRUB."""
    lab = make_vm_lab()
    lab.vm("vm").exec("lab-grub")
    restarted(lab.vm("vm"))
    return lab


def restarted(vm: VmHost) -> None:
    """It has been shut down in order, and has booted again."""
    vm.exec("systemctl", "poweroff", "--no-block")
    until(lambda: not vm.is_on, within=PATIENCE, what="it goes off")
    vm.power_on()


@pytest.fixture
def trial(grub_lab: Lab, tmp_path: Path) -> Iterator[Trial]:
    """The VM has power and no transaction is open. Afterwards nothing of ours is left on it."""
    with trial_on(grub_lab, tmp_path, LEFT) as trial:
        yield trial


def base(trial: Trial) -> str:
    """What the VM stands on: running, in the profile, booted, and the first entry of GRUB's menu."""
    running, profile, booted = trial.stands
    assert running == profile == booted == first_entry(trial.vm)
    return running


def first_entry(vm: VmHost) -> str:
    script = f"sed -n 's/^  linux .* init=\\([^ ]*\\)\\/init .*/\\1/p' {CFG} | head -n 1"
    return vm.exec("sh", "-c", script).stdout.strip()


def command_line(trial: Trial) -> list[str]:
    """Of the kernel that runs: GRUB's has BOOT_IMAGE."""
    return trial.ask("cat /proc/cmdline").split()


def test_a_kernel_that_boots_is_proven_by_it_and_kept(trial: Trial) -> None:
    base(trial)
    run = trial.start()
    trial.reaches("switched")
    assert "panic=5" in command_line(trial)
    assert any(word.startswith("BOOT_IMAGE=") for word in command_line(trial))
    assert "next_entry=" in trial.ask(LISTED).splitlines()  # GRUB itself has forgotten
    run = trial.ended(run)
    result = run.hosts["vm"]
    assert (run.code, result["outcome"], result["boot_proven"]) == (0, "kept", True), run
    trial.comes_back_to(result["closure"])
    trial.is_told_to_stand_on(result["closure"])
    assert base(trial) == result["closure"]


def test_a_kernel_that_panics_is_followed_by_the_old_one(trial: Trial) -> None:
    trial.is_led_back_from_a_panic(base(trial))


def test_a_unit_that_fails_at_boot_is_enough_to_go_back_though_nobody_is_there(trial: Trial) -> None:
    trial.is_led_back_with_nobody_there(base(trial), FAILS)


@pytest.mark.parametrize("state", ["arming", "armed", "rebooting", "switched"])
def test_a_power_cut_leads_to_the_old_system(trial: Trial, state: str) -> None:
    old = base(trial)
    run = trial.start()
    if state == "armed":
        trial.until(lambda: trial.ask(f"grep -l fleet-trial {CFG} {ENV}"), state)
    else:
        trial.reaches(state)
    trial.cut_power(run)
    trial.bury()
    trial.comes_back_to(old)
    trial.is_told_to_stand_on(old)


def test_a_grub_that_cannot_write_boots_the_old_system_though_it_does_not_forget(trial: Trial) -> None:
    """Where the files show nothing of it: GRUB looks again before it boots NEW."""
    run = trial.deploy("", "--reboot", "never")
    new = run.hosts["vm"]["closure"]
    old = real(trial.vm, "/nix/var/nix/profiles/system-1-link")
    words(trial.vm, f"old={old} new={new}", "grub_add_trial", "grub_choose_trial")
    trial.vm.exec("sed", "-i", "s/^ *save_env next_entry$/echo/", CFG)
    restarted(trial.vm)
    assert trial.stands[2] == old
    assert "panic=5" not in command_line(trial)
    assert "next_entry=fleet-trial" in trial.ask(LISTED).splitlines()
    words(trial.vm, "grub_remove_trial")
    trial.vm.exec("sh", "-c", f"NIXOS_NO_CHECK=1 {new}/bin/switch-to-configuration boot")
    restarted(trial.vm)
    assert base(trial) == new


def words(vm: VmHost, *lines: str) -> None:
    """These functions of the host program have been called."""
    program = "sed '/^main /d' $(cat /nix/var/fleet/last/program) >/run/words"
    vm.exec("sh", "-ec", f"{program}; printf '%s\\n' \"$@\" >>/run/words; sh /run/words", "sh", *lines)
