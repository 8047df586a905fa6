"""Which system boots next, read from the files of each boot loader."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.containers.hostprogram import Subject

A = "/nix/store/00000000000000000000000000000000-a"
B = "/nix/store/11111111111111111111111111111111-b"


def entry(system: str) -> str:
    return f"title NixOS\nlinux /EFI/nixos/kernel.efi\noptions init={system}/init loglevel=4\n"


def efi(variable: str, value: str) -> dict[str, str]:
    """An EFI variable's file: its attributes in four bytes, here 7, then UTF-16 with a NUL at the end. For printf."""
    data = b"\7\0\0\0" + f"{value}\0".encode("utf-16-le")
    path = f"/sys/firmware/efi/efivars/{variable}-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
    return {path: "".join(f"\\0{byte:03o}" for byte in data)}


BOOTED = efi("LoaderInfo", "systemd-boot 257.9")
CONF, ENTRIES = "loader/loader.conf", "loader/entries/"
TWO = {ENTRIES + "nixos-1.conf": entry(A), ENTRIES + "nixos-2.conf": entry(B)}
EXTLINUX = (
    "TIMEOUT 50\nDEFAULT {}\nLABEL nixos-default\n  MENU LABEL NixOS\n  LINUX ../k\n"
    f"  APPEND init={A}/init loglevel=4\nLABEL nixos-1\n  APPEND init={B}/init\n"
)
GRUB = (
    'if [ "${{next_entry}}" ] ; then\n  set default="${{next_entry}}"\nelse\n  set default={}\nfi\n'
    f'menuentry "NixOS" {{{{\n  linux ($d)//kernels/k init={A}/init quiet\n}}}}\n'
    f'submenu "All" {{{{\n  linux ($d)//kernels/k init={B}/init\n}}}}\n'
)
TRIAL = (
    'menuentry fleet-trial --unrestricted {{\nload_env\nif [ -z "${{next_entry}}" ]; then\n'
    f"  linux ($d)//kernels/k init={B}/init panic=5\nelse\n  linux ($d)//kernels/k init={A}/init quiet\nfi\n}}}}\n"
)
U_BOOT = {"/sys/firmware/devicetree/base/chosen/u-boot,version": "2026.01"}
PI = {
    "firmware/config.txt": "[all]\nkernel=kernel.img\nos_prefix=nixos/default/\n",
    "firmware/nixos/default/cmdline.txt": f"console=tty1 init={A}/init\n",
    "firmware/nixos/2-default/cmdline.txt": f"console=tty1 init={B}/init\n",
}

CASES = {
    "named with .conf": (TWO | {CONF: "timeout 5\ndefault nixos-2.conf\n"}, B),
    "named without .conf": (TWO | {CONF: "default nixos-1\n"}, A),
    "tabs between": (TWO | {CONF: "default\tnixos-2.conf\n"}, B),
    "pattern with one match": (TWO | {CONF: "default *-2.conf\n"}, B),
    "pattern with several": (TWO | {CONF: "default nixos-*\n"}, ""),
    "pattern with one match, counted": ({CONF: "default nixos-*\n", ENTRIES + "nixos-3+2.conf": entry(B)}, B),
    "entry that is not there": (TWO | {CONF: "default nixos-3.conf\n"}, ""),
    "no default": (TWO | {CONF: "timeout 5\n"}, ""),
    "EFI variable": (TWO | BOOTED | {CONF: "default nixos-2.conf\n"} | efi("LoaderEntryDefault", "nixos-1.conf"), A),
    "EFI variable, in capitals": (
        TWO | BOOTED | {CONF: "default nixos-2.conf\n"} | efi("LoaderEntryDefault", "NIXOS-1.CONF"),
        A,
    ),
    "EFI variable of no entry": (
        TWO | BOOTED | {CONF: "default nixos-2.conf\n"} | efi("LoaderEntryDefault", "gone.conf"),
        B,
    ),
    "EFI variable of several": (
        TWO | BOOTED | {CONF: "default nixos-2.conf\n"} | efi("LoaderEntryDefault", "nixos-*"),
        "",
    ),
    "EFI variable, last booted": (
        TWO
        | BOOTED
        | {CONF: "default nixos-2.conf\n"}
        | efi("LoaderEntryDefault", "@saved")
        | efi("LoaderEntryLastBooted", "nixos-1.conf"),
        A,
    ),
    "EFI variable of another time": (
        TWO | BOOTED | {CONF: "default nixos-2.conf\n"} | efi("LoaderEntryOneShot", "nixos-1.conf"),
        B,
    ),
    "EFI variables of another boot loader": (
        TWO | {CONF: "default nixos-2.conf\n"} | efi("LoaderInfo", "Limine 9"),
        "",
    ),
    "preferred": (TWO | {CONF: "default nixos-*\npreferred nixos-2.conf\n"}, B),
    "boot counter": ({CONF: "default nixos-3.conf\n", ENTRIES + "nixos-3+3-1.conf": entry(A)}, A),
    "out of tries": ({CONF: "preferred nixos-3.conf\n", ENTRIES + "nixos-3+0-3.conf": entry(A)}, ""),
    "entry without init": ({CONF: "default x.conf\n", ENTRIES + "x.conf": "title x\nefi /x.efi\n"}, ""),
    "on the ESP": ({"efi/" + CONF: "default nixos-1.conf\n", "efi/" + ENTRIES + "nixos-1.conf": entry(A)}, A),
    "entries apart from loader.conf": ({"efi/" + CONF: "default nixos-1\n", ENTRIES + "nixos-1.conf": entry(A)}, A),
    "extlinux": ({"extlinux/extlinux.conf": EXTLINUX.format("nixos-default")}, A),
    "extlinux, another label": ({"extlinux/extlinux.conf": EXTLINUX.format("nixos-1")}, B),
    "extlinux, no such label": ({"extlinux/extlinux.conf": EXTLINUX.format("nixos-7")}, ""),
    "grub": ({"grub/grub.cfg": GRUB.format("0")}, A),
    "grub, quoted": ({"grub/grub.cfg": GRUB.format('"0"')}, A),
    "grub, saved": ({"grub/grub.cfg": GRUB.format('"${saved_entry}"')}, ""),
    "grub, another entry": ({"grub/grub.cfg": GRUB.format("1")}, ""),
    "grub, with a trial": (
        {"grub/grub.cfg": (GRUB + TRIAL).format("0"), "grub/grubenv": "next_entry=fleet-trial\n"},
        A,
    ),
    "Raspberry Pi": (PI, A),
    "Raspberry Pi, another folder": (PI | {"firmware/config.txt": "os_prefix=nixos/2-default/\n"}, B),
    "Raspberry Pi, with a trial": (PI | {"firmware/tryboot.txt": "os_prefix=nixos/2-default/\n"}, A),
    "Raspberry Pi, two folders": (
        PI | {"firmware/config.txt": "os_prefix=nixos/default/\nos_prefix=nixos/2-default/\n"},
        "",
    ),
    "Raspberry Pi, without folders": (
        {"firmware/config.txt": "kernel=kernel.img\n", "firmware/cmdline.txt": f"init={B}/init quiet\n"},
        B,
    ),
    "Raspberry Pi, U-Boot": (PI | {"extlinux/extlinux.conf": EXTLINUX.format("nixos-1")} | U_BOOT, B),
    "nothing": ({}, ""),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shell", ["/bin/bash --posix", "/bin/sh"])
def test_boot_default(host_program: Subject, shell: str, case: str) -> None:
    files, expected = CASES[case]
    host_program.use(shell)
    lines = ["mount -t tmpfs none /boot", "mount -t tmpfs none /sys/firmware"]
    for path, text in files.items():
        place, form = (path, "%b") if path.startswith("/") else (f"/boot/{path}", "%s")
        lines += [f"mkdir -p {place.rpartition('/')[0]}", f"printf {form} {shlex.quote(text)} >{place}"]
    done = host_program.host.exec("unshare", "-m", "sh", "-ec", "\n".join([*lines, f"{host_program.asks} facts"]))
    (found,) = [line for line in done.stdout.splitlines() if line.startswith("boot_default=")]
    assert found == f"boot_default={expected}"
