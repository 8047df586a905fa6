"""Machines as the host program's functions about booting see them: trees of files, with what a firmware tells."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.contract.host_functions import call

if TYPE_CHECKING:
    from pathlib import Path

A = "/nix/store/00000000000000000000000000000000-a"
B = "/nix/store/11111111111111111111111111111111-b"
GUID = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
MACHINE_ID = "b08dfa6083e7567a1921a715000001fb"
ACPI = "sys/acpi/tables/DSDT"
"""There on every PC."""
U_BOOT = "sys/devicetree/base/chosen/u-boot,version"

Tree = Mapping[str, "str | bytes"]
"""Files, and what they have: the later, the newer."""


def entry(system: str, more: str = "", options: str = "") -> str:
    """A file of loader/entries."""
    command_line = options or f"options init={system}/init loglevel=4"
    return f"title NixOS\n{more}linux /EFI/nixos/k.efi\ninitrd /EFI/nixos/i.efi\n{command_line}\n"


def generation(number: int, system: str, *, key: str = "nixos", machine: str = MACHINE_ID) -> str:
    """The same as NixOS writes it for a generation."""
    return entry(
        system, f"sort-key {key}\nversion Generation {number} NixOS 25.11, built on 2026-11-29\nmachine-id {machine}\n"
    )


def pe_image(**sections: str) -> bytes:
    """A PE image with these sections, named without their dots, such as a unified kernel image."""
    header = 64
    table, data = b"", b""
    place = header + 24 + 240 + 40 * len(sections)
    for name, text in sections.items():
        raw = text.encode()
        table += struct.pack(
            "<8s6I2HI", f".{name}".encode(), len(raw), 0x1000, len(raw) + 3, place + len(data), 0, 0, 0, 0, 0
        )
        data += raw + bytes(3)
    coff = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, len(sections), 0, 0, 0, 240, 0x2022)
    return b"MZ".ljust(60, b"\0") + struct.pack("<I", header) + coff + bytes(240) + table + data


def uki(system: str, number: int = 0, key: str = "lanza") -> bytes:
    """A unified kernel image as lanzaboote writes it for a generation."""
    release = (
        f"ID={key}\nPRETTY_NAME=NixOS\nVERSION_ID=Generation {number}, 2026-11-29\n"
        if number
        else 'ID=nixos\nVERSION_ID="25.11"\n'
    )
    return pe_image(linux="kernel", osrel=release, cmdline=f"init={system}/init loglevel=4\0", initrd="initrd")


def variable(name: str, value: str) -> Tree:
    """The file of an EFI variable of the boot loader interface: four bytes of attributes, and UTF-16 with a NUL."""
    return {f"sys/efi/efivars/{name}-{GUID}": b"\7\0\0\0" + f"{value}\0".encode("utf-16-le")}


def grub_menu(first: str, default: str = "0", *, before: str = "") -> str:
    """A grub.cfg, whose first entry boots this."""
    other = B if first == A else A
    return (
        f'if [ "${{next_entry}}" ] ; then\n  set default="${{next_entry}}"\nelse\n  set default={default}\nfi\n{before}'
        f'menuentry "NixOS" --class nixos {{\n  linux ($d)//kernels/k init={first}/init quiet\n'
        "  initrd ($d)//kernels/i\n}\n"
        f'submenu "All" {{\nmenuentry "1" {{\n  linux ($d)//kernels/k init={other}/init\n}}\n}}\n'
    )


def extlinux(system: str) -> str:
    """An extlinux.conf, whose default label boots this."""
    other = B if system == A else A
    return (
        f"TIMEOUT 50\nDEFAULT nixos-default\nLABEL nixos-default\n  MENU LABEL NixOS\n  LINUX ../nixos/k\n"
        f"  APPEND init={system}/init loglevel=4\nLABEL nixos-1\n  LINUX ../nixos/k\n  APPEND init={other}/init\n"
    )


SYSTEMD_BOOT = variable("LoaderInfo", "systemd-boot 257.9")
CONF, ENTRIES = "boot/loader/loader.conf", "boot/loader/entries/"


@dataclass
class BootMachine:
    """A tree of files below a folder that stands for `/`."""

    folder: Path
    tree: Tree
    mounts: tuple[str, ...] = ("boot",)
    """Folders with a file system of their own."""
    fstab: tuple[str, ...] = ()
    """Folders that fstab has."""
    partitions: dict[str, str] = field(default_factory=dict)
    """The PARTUUID of the file system below a folder."""
    kernel: str = ""
    """The kernel's command line."""
    booted: str = A

    def __post_init__(self) -> None:
        for seconds, (name, text) in enumerate(self.tree.items()):
            self.write(name, text, at=1_700_000_000 + seconds)
        (self.folder / "sys").mkdir(exist_ok=True)
        self.write("cmdline", self.kernel)
        lines = [f"/dev/disk/by-uuid/{place} {self.folder / place} vfat nofail 0 2" for place in self.fstab]
        self.write("fstab", "\n".join(["# /boot is not here", *lines, ""]))

    def write(self, name: str, text: str | bytes, *, at: int | None = None) -> None:
        """Let the file have the text, written at this second."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        if at is not None:
            os.utime(path, (at, at))

    def words(self) -> str:
        """What tells the functions that this is the machine."""
        places = " ".join(str(self.folder / place) for place in ("boot", "boot/efi", "efi", "boot2"))
        mounted = "|".join(str(self.folder / place) for place in self.mounts) or "nowhere"
        partitions = "".join(f"{self.folder / place}*) echo {uuid} ;; " for place, uuid in self.partitions.items())
        at = self.folder
        return (
            f"platform={at}/sys efi={at}/sys/efi/efivars command_line={at}/cmdline fstab={at}/fstab mounts=/dev/null "
            f"booted={self.booted} firmware={at}/boot/firmware grub={at}/boot/grub boot_places='{places}'\n"
            f"is_mount_point() {{ case $1 in {mounted}) ;; *) false ;; esac; }}\n"
            f"boot_mounts={at}/\n"
            f"bootctl() {{ false; }}\nfindmnt() {{ case $4 in {partitions} esac; }}\n"
        )

    def says(self, script: str, shell: str = "sh") -> str:
        """What a script prints that knows the functions."""
        return call(self.folder, self.words() + script, shell=shell)

    def default(self, shell: str = "sh") -> tuple[str, str, str]:
        """The boot loader in use, what it boots, and what is in doubt; without the folder."""
        loader, default, doubt = self.says('read_boot; printf "%s\\n" "$loader" "$default" "$doubt"', shell).split(
            "\n"
        )[:3]
        return loader, default, doubt.replace(f"{self.folder}/", "/")
