"""Which boot loader is in use, and what boots next: by what a machine tells, and by the files of many shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.boot_machines import (
    ACPI,
    CONF,
    ENTRIES,
    SYSTEMD_BOOT,
    U_BOOT,
    A,
    B,
    BootMachine,
    extlinux,
    generation,
    grub_menu,
    uki,
    variable,
)  # fmt: skip
from tests.contract.host_functions import SHELLS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.boot_machines import Tree

EFI_GRUB = "BOOT_IMAGE=(hd0,gpt2)//kernels/k-linux-bzImage init={}/init quiet"
DEFAULT_2 = {CONF: "timeout 5\ndefault nixos-generation-2.conf\n"}
TWO = {ENTRIES + "nixos-generation-1.conf": generation(1, A), ENTRIES + "nixos-generation-2.conf": generation(2, B)}
NIXOS = {**TWO, **DEFAULT_2}
GRUB, LEFT_GRUB = {"boot/grub/grub.cfg": grub_menu(A)}, {"boot/grub/grub.cfg": grub_menu(B)}
PI: Tree = {
    "boot/firmware/config.txt": "[all]\nos_prefix=nixos/default/\n",
    "boot/firmware/nixos/default/cmdline.txt": f"console=tty1 init={A}/init\n",
}
BIOS: Tree = {ACPI: ""}
OTHER_EFI = {"sys/efi/efivars/BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c": b"\7\0\0\0\0\0"}

Machine = dict[str, Any]

IN_USE: dict[str, tuple[Tree, Machine, str, str]] = {
    # By what the firmware and the kernel tell, whatever files are there and however new they are.
    "systemd-boot": ({**NIXOS, **SYSTEMD_BOOT}, {}, "systemd_boot", B),
    "gummiboot": ({**NIXOS, **variable("LoaderInfo", "gummiboot 48")}, {}, "systemd_boot", B),
    "systemd-boot, and a GRUB that was left": ({**NIXOS, **LEFT_GRUB, **SYSTEMD_BOOT}, {}, "systemd_boot", B),
    "systemd-boot, and an extlinux that was left": (
        {**NIXOS, "boot/extlinux/extlinux.conf": extlinux(A), **SYSTEMD_BOOT},
        {},
        "systemd_boot",
        B,
    ),
    "GRUB of EFI, and a systemd-boot that was left": (
        {**GRUB, **NIXOS, **OTHER_EFI},
        {"kernel": EFI_GRUB.format(A)},
        "grub",
        A,
    ),
    "GRUB that says so": ({**GRUB, **NIXOS, **variable("LoaderInfo", "GRUB 2.12")}, {}, "grub", A),
    "GRUB started by systemd-boot": ({**GRUB, **NIXOS, **SYSTEMD_BOOT}, {"kernel": EFI_GRUB.format(A)}, "grub", A),
    "GRUB of EFI before it said so, without its words": ({**GRUB, **NIXOS, **OTHER_EFI}, {}, "grub", A),
    "GRUB of a BIOS": ({**GRUB, **NIXOS, **BIOS}, {}, "grub", A),
    "GRUB of a BIOS, with its words": ({**GRUB, **NIXOS, **BIOS}, {"kernel": EFI_GRUB.format(A)}, "grub", A),
    "Limine, and files that were left": (
        {**NIXOS, **GRUB, **variable("LoaderInfo", "Limine 9.3")},
        {},
        "limine 9.3",
        "",
    ),
    "rEFInd": ({**NIXOS, **variable("LoaderInfo", "rEFInd 0.14.2")}, {}, "refind 0.14.2", ""),
    "EFI without any, and a systemd-boot that was left": ({**NIXOS, **OTHER_EFI}, {}, "", ""),
    "BIOS, and a systemd-boot that was left": ({**NIXOS, **BIOS}, {}, "", ""),
    "U-Boot, and a firmware's cmdline.txt that is newer": (
        {"boot/extlinux/extlinux.conf": extlinux(B), **PI, U_BOOT: "2026.01"},
        {},
        "extlinux",
        B,
    ),
    "U-Boot without EFI, and a systemd-boot that was left": (
        {"boot/extlinux/extlinux.conf": extlinux(B), **NIXOS, U_BOOT: "2026.01"},
        {},
        "extlinux",
        B,
    ),
    "the firmware of a Pi": ({**PI, "sys/devicetree/base/model": "Raspberry Pi"}, {}, "raspberry_pi", A),
    # A container shows its host's command line, and no firmware.
    "somebody else's command line": (NIXOS, {"kernel": EFI_GRUB.format("/nix/store/2-host")}, "systemd_boot", B),
    # Where nothing tells: what was written last.
    "nothing tells, GRUB was left": ({**LEFT_GRUB, **NIXOS}, {}, "systemd_boot", B),
    "nothing tells, systemd-boot was left": ({**NIXOS, **GRUB}, {}, "grub", A),
    "nothing tells, extlinux was left": ({"boot/extlinux/extlinux.conf": extlinux(B), **GRUB}, {}, "grub", A),
    "nothing tells, GRUB was left for extlinux": (
        {**GRUB, "boot/extlinux/extlinux.conf": extlinux(B)},
        {},
        "extlinux",
        B,
    ),
    "nothing tells, a Pi": (PI, {}, "raspberry_pi", A),
    "EFI whose variables cannot be seen": ({**NIXOS, "sys/efi/fw_platform_size": "64"}, {}, "systemd_boot", B),
    "nothing at all": ({}, {}, "", ""),
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("case", IN_USE)
def test_the_boot_loader_in_use_is_the_one_that_has_booted_the_machine(tmp_path: Path, shell: str, case: str) -> None:
    tree, machine, loader, default = IN_USE[case]
    found = BootMachine(tmp_path, tree, **machine).default(shell)
    assert found[:2] == (loader, default)
    assert bool(found[2]) is not bool(default), found


ESP: Tree = {"efi/loader/loader.conf": "default nixos-generation-1.conf\n"}
PLACES: dict[str, tuple[Tree, Machine, str]] = {
    "entries on another partition": ({**TWO, **ESP}, {"mounts": ("boot", "efi")}, A),
    "unified images on another partition": (
        {"boot/EFI/Linux/nixos-1.efi": uki(A), "efi/loader/loader.conf": "default nixos-1.efi\n"},
        {"mounts": ("boot", "efi")},
        A,
    ),
    "entries that were left where no partition is": (
        {**TWO, **ESP, "efi/loader/entries/nixos-generation-1.conf": generation(1, B)},
        {"mounts": ("efi",)},
        B,
    ),
    "a loader.conf that was left, older": (
        {**NIXOS, **ESP, "efi/loader/entries/nixos-generation-1.conf": generation(1, A)},
        {"mounts": ("boot", "efi")},
        A,
    ),
    "below /boot": (
        {
            **NIXOS,
            "boot/efi/loader/loader.conf": "default nixos-generation-1.conf\n",
            "boot/efi/loader/entries/nixos-generation-1.conf": generation(1, A),
        },
        {"mounts": ("boot/efi",)},
        A,
    ),
    "the partition that it was booted from, though another is newer": (
        {
            **NIXOS,
            **ESP,
            "efi/loader/entries/nixos-generation-1.conf": generation(1, A),
            **variable("LoaderDevicePartUUID", "AAAA-1"),
        },
        {"mounts": ("boot", "efi"), "partitions": {"boot": "aaaa-1", "efi": "bbbb-2"}},
        B,
    ),
    "booted from a partition that is not mounted": (
        {**NIXOS, **variable("LoaderDevicePartUUID", "AAAA-1")},
        {"partitions": {"boot": "cccc-3"}},
        "",
    ),
    "booted from a partition that nothing tells of": (
        {**NIXOS, **variable("LoaderDevicePartUUID", "AAAA-1")},
        {},
        B,
    ),
    "in fstab and mounted": (NIXOS, {"fstab": ("boot",)}, B),
    "in fstab and not mounted": (NIXOS, {"fstab": ("boot",), "mounts": ()}, ""),
    "in fstab and not there": ({}, {"fstab": ("boot",), "mounts": ()}, ""),
    "ESP below it not mounted": ({**NIXOS, **ESP}, {"fstab": ("efi", "boot"), "mounts": ("boot",)}, B),
    "ESP not mounted, and a file below its folder": (
        {**ESP, "efi/loader/entries/nixos-generation-1.conf": generation(1, A)},
        {"fstab": ("efi",), "mounts": ()},
        "",
    ),
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("case", PLACES)
def test_the_files_are_those_of_the_partition_that_boots(tmp_path: Path, shell: str, case: str) -> None:
    tree, machine, default = PLACES[case]
    found = BootMachine(tmp_path, {**tree, **SYSTEMD_BOOT}, **machine).default(shell)
    assert found[:2] == ("systemd_boot", default)
    assert bool(found[2]) is not bool(default), found


@pytest.mark.parametrize("tree", [NIXOS, GRUB, {"boot/extlinux/extlinux.conf": extlinux(A)}, PI])
@pytest.mark.parametrize("shell", SHELLS)
def test_what_lies_where_a_partition_should_be_mounted_does_not_boot(tmp_path: Path, shell: str, tree: Tree) -> None:
    machine = BootMachine(tmp_path, tree, mounts=(), fstab=("boot",))
    assert machine.default(shell)[1:] == ("", "/boot is in /fstab and not mounted")
    assert machine.says("find_unmounted; echo $unmounted", shell) == f"{tmp_path}/boot\n"


OTHERS: dict[str, tuple[Tree, str, str]] = {
    "GRUB: quoted": ({"boot/grub/grub.cfg": grub_menu(A, '"0"')}, "grub", A),
    "GRUB: the saved entry": ({"boot/grub/grub.cfg": grub_menu(A, '"${saved_entry}"')}, "grub", ""),
    "GRUB: another entry": ({"boot/grub/grub.cfg": grub_menu(A, "1")}, "grub", ""),
    "GRUB: changed by the person's lines": ({"boot/grub/grub.cfg": grub_menu(A, before="set default=2\n")}, "grub", ""),
    "GRUB: another system before NixOS": (
        {"boot/grub/grub.cfg": grub_menu(A, before='menuentry "Windows" {\n  chainloader /w.efi\n}\n')},
        "grub",
        "",
    ),
    "GRUB: a submenu before NixOS": ({"boot/grub/grub.cfg": grub_menu(A, before='submenu "Tools" {\n}\n')}, "grub", ""),
    "GRUB: braces before the first entry": (
        {"boot/grub/grub.cfg": grub_menu(A, before="function f {\n  true\n}\n")},
        "grub",
        A,
    ),
    "GRUB: Xen": (
        {"boot/grub/grub.cfg": grub_menu(A).replace("  linux ", "  multiboot /xen.gz\n  module ")},
        "grub",
        A,
    ),
    "GRUB: mirrored": (
        {"boot/grub/grub.cfg": grub_menu(B), "boot2/grub/grub.cfg": grub_menu(B)},
        "grub",
        B,
    ),
    "GRUB: at another place, and one that was left": (
        {"boot/grub/grub.cfg": grub_menu(A), "boot2/grub/grub.cfg": grub_menu(B)},
        "grub",
        B,
    ),
    "GRUB: empty": ({"boot/grub/grub.cfg": ""}, "grub", ""),
    "extlinux": ({"boot/extlinux/extlinux.conf": extlinux(B)}, "extlinux", B),
    "extlinux: mirrored, and one that was left": (
        {"boot/extlinux/extlinux.conf": extlinux(A), "boot2/extlinux/extlinux.conf": extlinux(B)},
        "extlinux",
        B,
    ),
    "extlinux: another label": (
        {"boot/extlinux/extlinux.conf": extlinux(B).replace("DEFAULT nixos-default", "DEFAULT nixos-1")},
        "extlinux",
        A,
    ),
    "extlinux: no such label": (
        {"boot/extlinux/extlinux.conf": extlinux(B).replace("DEFAULT nixos-default", "DEFAULT nixos-7")},
        "extlinux",
        "",
    ),
    "extlinux: empty": ({"boot/extlinux/extlinux.conf": ""}, "extlinux", ""),
    "a Pi: two folders": (
        {
            **PI,
            "boot/firmware/cmdline.txt": f"init={B}/init\n",
            "boot/firmware/config.txt": "os_prefix=a/\nos_prefix=b/\n",
        },
        "",
        "",
    ),
}


@pytest.mark.parametrize("places", [("boot2",), ("boot", "boot2")])
def test_a_grub_that_may_read_other_files_is_not_asked_to_boot_an_entry_once(
    tmp_path: Path, places: tuple[str, ...]
) -> None:
    machine = BootMachine(tmp_path, {f"{place}/grub/grub.cfg": grub_menu(A) for place in places})
    assert "which one it reads is not certain" in machine.says('boots_once || echo "$why"')


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("case", OTHERS)
def test_other_boot_loaders_take_what_their_files_name(tmp_path: Path, shell: str, case: str) -> None:
    tree, loader, default = OTHERS[case]
    found = BootMachine(tmp_path, tree).default(shell)
    assert found[:2] == (loader, default)
    assert bool(found[2]) is not bool(default), found


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "tree",
    [
        {**DEFAULT_2, **variable("LoaderEntryDefault", "auto-windows")},
        {CONF: "default auto-windows\n"},
        {CONF: "default @saved\n", **variable("LoaderEntryLastBooted", "auto-windows")},
    ],
    ids=["chosen in the firmware", "configured", "saved"],
)
def test_another_operating_system_that_boots_next_is_not_taken_for_the_newest_entry(
    tmp_path: Path, shell: str, tree: dict[str, str]
) -> None:
    """systemd-boot makes its entry by itself, and no file has it."""
    _, default, doubt, *_ = BootMachine(tmp_path, {**TWO, **tree, **SYSTEMD_BOOT}).default(shell)
    assert default == ""
    assert "auto-windows" in doubt
