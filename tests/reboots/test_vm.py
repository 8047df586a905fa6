"""A VM of the lab is what containers are not: it boots, it panics, and a power cut costs it what was not written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from fleet.cli.lab import lab as command
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.lab import Lab, VmHost

pytestmark = pytest.mark.long  # what the short form needs of a VM, test_reboots.py tries too

BOOT = "/boot/loader/entries"
GENERATION_1 = "/nix/var/nix/profiles/system-1-link"


@pytest.fixture(scope="module")
def vm_lab(make_vm_lab: Callable[[], Lab]) -> Lab:
    """A lab whose VM nothing was deployed to."""
    return make_vm_lab()


def real(vm: VmHost, path: str) -> str:
    return vm.exec("readlink", "-f", path).stdout.strip()


def entry(vm: VmHost) -> str:
    """What the boot loader says it has booted."""
    shown = vm.exec("bootctl", "status").stdout
    return next(line.split()[-1] for line in shown.splitlines() if "Current Entry:" in line)


def test_a_vm_boots_generation_1_with_a_kernel_of_its_own(vm_lab: Lab, vm: VmHost) -> None:
    closure = real(vm, GENERATION_1)
    assert [real(vm, f"/run/{which}-system") for which in ("booted", "current")] == [closure] * 2
    assert entry(vm) == "nixos-generation-1.conf"
    assert f"init={closure}/init" in vm.exec("cat", "/proc/cmdline").stdout.split()
    assert vm.exec("systemctl", "is-system-running").stdout == "running\n"
    assert vm.exec("cmp", f"{closure}/kernel", "/boot" + linux(vm)).status == 0
    shown = CliRunner().invoke(command, ["status", "--json", "--dir", str(vm_lab.folder.path)]).stdout
    assert json.loads(shown) == {"hosts": [{"name": "vm", "process": vm.process, "port": vm.port}]}


def linux(vm: VmHost) -> str:
    text = vm.exec("cat", f"{BOOT}/nixos-generation-1.conf").stdout
    return dict(line.split(maxsplit=1) for line in text.splitlines())["linux"]


def test_a_command_tells_its_output_and_its_end(vm: VmHost) -> None:
    done = vm.exec("sh", "-c", "echo said; echo complained >&2; exit 3", check=False)
    assert (done.status, done.stdout, done.stderr) == (3, "said\n", "complained\n")
    assert vm.exec("sh", "-c", "kill -9 $$", check=False).status == 137


def test_a_power_cut_costs_what_was_not_written(vm: VmHost) -> None:
    vm.exec("sh", "-c", "echo kept >/var/kept && sync && echo lost >/var/lost")
    vm.power_off()
    assert vm.process is None
    vm.power_on()
    assert vm.exec("cat", "/var/kept").stdout == "kept\n"
    assert vm.exec("cat", "/var/lost", check=False).stdout == ""


def test_an_entry_for_one_boot_that_panics_is_followed_by_the_default(vm: VmHost) -> None:
    before = vm.exec("cat", "/proc/sys/kernel/random/boot_id").stdout
    panics = vm.console().count("Kernel panic")
    broken = f"sed 's,init=[^ ]*,init=/nowhere panic=1,' {BOOT}/nixos-generation-1.conf >{BOOT}/broken.conf"
    vm.exec("sh", "-c", f"{broken} && bootctl set-oneshot broken.conf && sync && systemctl reboot")
    until(lambda: vm.console().count("Kernel panic") > panics, within=600, what="panic")
    vm.wait()
    assert vm.exec("cat", "/proc/sys/kernel/random/boot_id").stdout != before
    assert entry(vm) == "nixos-generation-1.conf"
    vm.exec("rm", f"{BOOT}/broken.conf")


def test_a_name_is_either_a_container_or_a_vm(vm_lab: Lab) -> None:
    done = CliRunner().invoke(command, ["cut", "--dir", str(vm_lab.folder.path), "nobody"])
    assert "its hosts: vm" in str(getattr(done.exception, "hint", ""))
