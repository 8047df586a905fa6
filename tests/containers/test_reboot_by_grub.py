"""Reboots of hosts that boot by GRUB: on trial, where its files show that it boots an entry once and forgets that.

The boot stage of a container does GRUB's part; a real GRUB is in tests/reboots. Its reboot is its end: `powered`
switches it on again, or the test does.
"""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.containers.driver import WEB, Stage, is_open, new_version, profile, real, running, wait_until, web
from tests.containers.files import put
from tests.containers.test_reboot_at_risk import FAILS, boots_with_nobody_there, nothing_left, powered

if TYPE_CHECKING:
    from fleet.lab import Lab, LabHost
    from tests.containers.conftest import MakeLab

ALWAYS = ("--reboot", "always")
PLAIN = """
printf '#!/bin/sh\necho 8:1 vfat /dev/sda1\n' >/usr/local/bin/findmnt
chmod 755 /usr/local/bin/findmnt
mount -t tmpfs none /sys/dev
mkdir -p /sys/dev/block/8:1
: >/sys/dev/block/8:1/partition
"""
"""A container has no boot partition. From now on, until its next boot, this one seems to."""
CFG, ENV = "/boot/grub/grub.cfg", "/boot/grub/grubenv"


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    lab = make_lab("grub")
    lab.host("grub").exec("lab-grub")
    return lab


def base(stage: Stage, more: str = "") -> str:
    """The system that the host stands on, ready to be tried another from."""
    host = stage.host("grub")
    stage.toml({"grub": {"checks": [{**WEB, "within": "20s"}]}})
    stage.write("grub", web(new_version(), more=more))
    old = str(stage.deploy("grub").hosts["grub"]["closure"])
    assert stands_on(host, old)
    host.exec("sh", "-ec", PLAIN)
    return old


def default(menu: str) -> str:
    """The system of the first entry."""
    words = next(line for line in menu.splitlines() if line.startswith("  linux ")).split()
    return next(word.removeprefix("init=").removesuffix("/init") for word in words if word.startswith("init="))


def stands_on(host: LabHost, closure: str) -> bool:
    """Whether it runs, keeps and boots this, no transaction is open, and nothing of a trial is left in GRUB's files."""
    found = {
        "places": (running(host), profile(host), default(host.exec("cat", CFG).stdout)),
        "open": is_open(host) or not nothing_left(host),
        "left": host.exec("grep", "-l", "fleet-trial", CFG, ENV, check=False).stdout,
    }
    print(f"wanted on {closure}: {found}")  # shown where the test fails
    return found == {"places": (closure,) * 3, "open": False, "left": ""}


def read(host: LabHost, path: str) -> str:
    """A file of the host, which is off."""
    chunks, _ = host.container.get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        (member,) = archive.getmembers()
        file = archive.extractfile(member)
        assert file is not None
        return file.read().decode()


def test_without_files_that_show_it_the_reboot_is_refused_with_the_reason(stage: Stage) -> None:
    old = base(stage)
    host = stage.host("grub")
    host.exec("umount", "/sys/dev")
    stage.write("grub", web(new_version()))
    run = stage.deploy("grub", *ALWAYS)
    assert (run.code, run.failure("grub")["kind"]) == (1, "unfit"), run
    assert "GRUB writes to vfat and ext4 on a plain partition" in run.failure("grub")["message"]
    assert "--accept-boot-risk" in run.failure("grub")["hint"]
    assert stands_on(host, old)


LEFT = """
mkdir -p /boot/loader/entries
printf 'default left.conf\n' >/boot/loader/loader.conf
printf 'options init=/nix/store/0-left/init\n' >/boot/loader/entries/left.conf
touch -d yesterday /boot/loader/loader.conf /boot/loader/entries/left.conf
"""
"""Where systemd-boot was before GRUB."""


def test_the_files_of_the_boot_loader_before_it_change_nothing(stage: Stage) -> None:
    base(stage)
    host = stage.host("grub")
    host.exec("sh", "-ec", LEFT)
    try:
        stage.write("grub", web(new_version()))
        run = stage.deploy("grub")
        assert (run.code, run.hosts["grub"]["outcome"], run.hosts["grub"]["boot_default"]) == (0, "kept", True), run
        stage.write("grub", web(new_version(), more='kernel = "6.13.5";'))
        with powered(host):
            run = stage.deploy("grub", *ALWAYS)
        assert (run.code, run.hosts["grub"]["outcome"], run.hosts["grub"]["boot_proven"]) == (0, "kept", True), run
    finally:
        host.exec("rm", "-r", "/boot/loader")
    assert stands_on(host, run.hosts["grub"]["closure"])


def test_a_system_that_boots_is_kept(stage: Stage) -> None:
    base(stage)
    host = stage.host("grub")
    stage.write("grub", web(new_version(), more='kernel = "6.13.0";'))
    with powered(host) as boots:
        run = stage.deploy("grub", *ALWAYS)
    result = run.hosts["grub"]
    assert (run.code, result["outcome"], result["boot_proven"]) == (0, "kept", True), run
    assert boots == [result["closure"]]
    assert "lab: boots 'fleet-trial'" in host.console()
    assert "boots it once" in run.told("finding_reported", kind="reboots")[0]["message"]
    assert stands_on(host, result["closure"])


def test_while_it_is_tried_the_old_system_is_the_default(stage: Stage) -> None:
    old = base(stage)
    host = stage.host("grub")
    stage.write("grub", web(new_version(), more='kernel = "6.13.1"; initrd = "2";'))
    run = stage.start("deploy", "grub", "--json", "--yes", *ALWAYS)
    wait_until(lambda: not host.is_on, "it goes down")
    menu, environment = read(host, CFG), read(host, ENV)
    new = run.told("host_planned")[0]["closure"]
    assert "next_entry=fleet-trial" in environment.splitlines()
    assert len(environment) == 1024
    assert default(menu) == old
    trial = menu.partition("menuentry fleet-trial ")[2].splitlines()
    first, last = (line for line in trial if line.startswith("  linux "))
    assert f"init={new}/init" in first.split()
    assert first.endswith(" panic=5 boot.panic_on_fail systemd.crash_reboot=1")
    assert f"init={old}/init" in last.split()
    run.process.kill()
    host.power_on()
    assert real(host, "/run/booted-system") == new
    host.power_off()  # before it is proven
    host.power_on()
    wait_until(lambda: stands_on(host, old), "the old system")
    (told,) = stage.document("status", "grub", code=None)["hosts"]
    assert new not in told["quarantined"]


def test_a_system_with_a_unit_that_fails_boots_the_old_one_again_with_nobody_there(stage: Stage) -> None:
    old = base(stage)
    stage.write("grub", web(new_version(), more=FAILS))
    boots = boots_with_nobody_there(stage, old, "grub", ALWAYS, stands_on)
    assert boots[1] == old != boots[0]


def test_a_system_that_does_not_see_its_boot_partition_boots_the_old_one_again(stage: Stage) -> None:
    """What NEW cannot read cannot tell it that the default is OLD's: it was read before."""
    old = base(stage)
    host = stage.host("grub")
    hides = '{ exec = "/bin/sh -c \'mount -t tmpfs none /boot; exit 1\'"; service.Type = "oneshot"; }'
    stage.write("grub", web(new_version(), more=f"services.hides = {hides};"))
    with powered(host) as boots:
        run = stage.deploy("grub", *ALWAYS)
        wait_until(lambda: len(boots) == 2 and stands_on(host, old), "the old system")
    assert (run.outcomes, boots[1]) == ({"grub": "rolled_back"}, old), run
    assert "hides.service has failed" in run.failure("grub")["message"]


def test_a_boot_loader_that_changes_its_mind_takes_no_risk_that_nobody_accepted(stage: Stage) -> None:
    old = base(stage)
    host = stage.host("grub")
    put(host, "/usr/local/bin/nix-env", f'#!/bin/sh\nmv {ENV} {ENV}.away\nexec /usr/bin/nix-env "$@"\n', "755")
    stage.write("grub", web(new_version()))
    try:
        run = stage.deploy("grub", *ALWAYS)
    finally:
        host.exec("sh", "-c", f"rm /usr/local/bin/nix-env; mv {ENV}.away {ENV}")
    assert run.outcomes == {"grub": "rolled_back"}, run
    assert "is no environment block" in run.failure("grub")["message"]
    assert stands_on(host, old)


def test_a_grubenv_that_takes_nothing_is_found_before_the_reboot(stage: Stage) -> None:
    old = base(stage)
    host = stage.host("grub")
    host.exec("sh", "-ec", f"mount --bind {ENV} {ENV} && mount -o remount,bind,ro {ENV}")
    stage.write("grub", web(new_version()))
    run = stage.deploy("grub", *ALWAYS)
    host.exec("umount", ENV)
    assert run.outcomes == {"grub": "rolled_back"}, run
    assert "does not take an entry for one boot" in run.failure("grub")["message"]
    assert stands_on(host, old)


def test_an_installer_that_leaves_the_new_system_out_is_found_before_the_reboot(stage: Stage) -> None:
    script = f"sed -i s,init=[^[:space:]]*,init=$1/init, {CFG}"
    old = base(stage, f'bootLoaderScript = "{script}";')
    host = stage.host("grub")
    stage.write("grub", web(new_version()))
    run = stage.deploy("grub", *ALWAYS)
    assert run.outcomes == {"grub": "rolled_back"}, run
    assert "wrote no entry for the new system" in run.failure("grub")["message"]
    assert stands_on(host, old)
