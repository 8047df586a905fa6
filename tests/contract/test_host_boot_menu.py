"""Which entry of its menu systemd-boot takes: by names, patterns, counters and keys; of files and of unified images."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.contract.boot_machines import (
    CONF,
    ENTRIES,
    SYSTEMD_BOOT,
    A,
    B,
    BootMachine,
    Tree,
    entry,
    generation,
    pe_image,
    uki,
    variable,
)
from tests.contract.host_functions import SHELLS

if TYPE_CHECKING:
    from pathlib import Path

TWO = {ENTRIES + "nixos-generation-1.conf": generation(1, A), ENTRIES + "nixos-generation-2.conf": generation(2, B)}
NIXOS = {**TWO, CONF: "timeout 5\ndefault nixos-generation-2.conf\n"}


def conf(*lines: str) -> Tree:
    return {CONF: "".join(f"{line}\n" for line in lines)}


def entries(**named: str) -> Tree:
    return {f"{ENTRIES}{name.replace('__', '+')}.conf": text for name, text in named.items()}


COUNTED: Tree = {
    ENTRIES + "nixos-generation-5+3-1.conf": generation(5, B),
    ENTRIES + "nixos-generation-4.conf": generation(4, A),
}
LANZA: Tree = {
    "boot/EFI/Linux/nixos-generation-9-abc.efi": uki(A, 9),
    "boot/EFI/Linux/nixos-generation-10-def.efi": uki(B, 10),
    "boot/EFI/Linux/nixos-generation-10-specialisation-x-def.efi": uki(A, 10),
}
STALE = {ENTRIES + "nixos-generation-2.conf": generation(2, A)}

MENUS: dict[str, tuple[Tree, str]] = {
    "name": (NIXOS, B),
    "name without .conf": ({**TWO, **conf("default nixos-generation-1")}, A),
    "tabs, and no newline at the end": ({**TWO, CONF: "timeout 0\ndefault\tnixos-generation-1.conf"}, A),
    "counted": ({**COUNTED, **conf("default nixos-generation-5.conf")}, B),
    "counted, by a pattern": ({**COUNTED, **conf("default nixos-*")}, B),
    "preferred, counted": ({**COUNTED, **conf("preferred nixos-generation-5.conf", "default nixos-*")}, B),
    "out of tries": (
        {ENTRIES + "nixos-generation-5+0-3.conf": generation(5, B), **STALE, **conf("default nixos-*")},
        A,
    ),
    "out of tries, by its name": (
        {ENTRIES + "nixos-generation-5+0-3.conf": generation(5, B), **STALE, **conf("default nixos-generation-5.conf")},
        "",
    ),
    "pattern: the newest generation, as a number": (
        {
            **entries(**{"nixos-generation-9": generation(9, A), "nixos-generation-10": generation(10, B)}),
            **conf("default nixos-*"),
        },
        B,
    ),
    "pattern: entries named by what they have": (
        {**entries(**{"nixos-fff": generation(9, A), "nixos-000": generation(10, B)}), **conf("default nixos-*")},
        B,
    ),
    "pattern: a specialisation comes after its system": (
        {
            **entries(
                **{"nixos-generation-3-specialisation-x": generation(3, A), "nixos-generation-3": generation(3, B)}
            ),
            **conf("default nixos-*"),
        },
        B,
    ),
    "pattern: by the ids, where there are no keys": (
        {**entries(**{"nixos-generation-9": entry(A), "nixos-generation-10": entry(B)}), **conf("default nixos-*")},
        B,
    ),
    "pattern: one without a key comes last": (
        {
            **entries(**{"nixos-generation-99": entry(A), "nixos-generation-3": generation(3, B)}),
            **conf("default nixos-*"),
        },
        B,
    ),
    "pattern: another key": (
        {
            **entries(**{"nixos-generation-9": generation(9, A, key="zz"), "nixos-generation-3": generation(3, B)}),
            **conf("default nixos-*"),
        },
        B,
    ),
    "pattern: another machine's": (
        {
            **entries(
                **{"nixos-generation-9": generation(9, A, machine="0" * 32), "nixos-generation-3": generation(3, B)}
            ),
            **conf("default nixos-*"),
        },
        "",
    ),
    "pattern: versions that do not count": (
        {
            **entries(
                **{
                    "nixos-a": entry(A, "sort-key nixos\nversion 25.05\n"),
                    "nixos-b": entry(B, "sort-key nixos\nversion 9\n"),
                }
            ),
            **conf("default nixos-*"),
        },
        "",
    ),
    "pattern: twice the same generation": (
        {**entries(**{"nixos-a": generation(3, A), "nixos-b": generation(3, B)}), **conf("default nixos-*")},
        "",
    ),
    "pattern in capitals": ({**TWO, **conf("default NIXOS-*-1.CONF")}, A),
    "name of no entry: the first of the menu": ({**TWO, **conf("default nixos-generation-7.conf")}, B),
    "nothing named: the first of the menu": ({**TWO, **conf("timeout 5")}, B),
    "@saved": (
        {**TWO, **conf("default @saved"), **variable("LoaderEntryLastBooted", "nixos-generation-1.conf")},
        A,
    ),
    "@saved, and nothing saved": ({**TWO, **conf("default @saved")}, B),
    "chosen by a person": ({**NIXOS, **variable("LoaderEntryDefault", "NIXOS-GENERATION-1.conf")}, A),
    "chosen by a person, the last booted": (
        {
            **NIXOS,
            **variable("LoaderEntryDefault", "@saved"),
            **variable("LoaderEntryLastBooted", "nixos-generation-1.conf"),
        },
        A,
    ),
    "preferred by a person": ({**NIXOS, **variable("LoaderEntryPreferred", "nixos-generation-1.conf")}, A),
    "preferred by a person, and another chosen": (
        {
            **NIXOS,
            **variable("LoaderEntryPreferred", "nixos-generation-1.conf"),
            **variable("LoaderEntryDefault", "nixos-generation-2.conf"),
        },
        A,
    ),
    "chosen by a person, and another preferred by NixOS": (
        {
            **TWO,
            **conf("preferred nixos-generation-2.conf", "default nixos-*"),
            **variable("LoaderEntryDefault", "nixos-generation-1.conf"),
        },
        "",
    ),
    "chosen by a person, and gone": ({**NIXOS, **variable("LoaderEntryDefault", "gone.conf")}, B),
    "for one boot": ({**NIXOS, **variable("LoaderEntryOneShot", "nixos-generation-1.conf")}, B),
    "unified, by the name": ({**LANZA, **conf("default nixos-generation-9-abc.efi")}, A),
    "unified, by a pattern": ({**LANZA, **conf("default nixos-*")}, B),
    "unified, and an entry that was left": ({**LANZA, **STALE, **conf("default nixos-*")}, B),
    "unified, counted": (
        {"boot/EFI/Linux/nixos-generation-9+3.efi": uki(B, 9), **conf("default nixos-generation-9.efi")},
        B,
    ),
    "unified, nothing named": ({**LANZA, **conf("timeout 1")}, B),
    "unified, of versions that do not count": (
        {"boot/EFI/Linux/nixos-a.efi": uki(A), "boot/EFI/Linux/nixos-b.efi": uki(B), **conf("default nixos-*")},
        "",
    ),
    "unified, and broken": ({"boot/EFI/Linux/nixos-1.efi": b"MZ" + b"\xff" * 400, **conf("default nixos-*")}, ""),
    "unified, and empty": ({"boot/EFI/Linux/nixos-1.efi": "", **conf("default nixos-*")}, ""),
    "unified, without a command line": (
        {"boot/EFI/Linux/nixos-1.efi": pe_image(linux="kernel", cmdline="x")[:-2], **conf("default nixos-*")},
        "",
    ),
    "an entry of a unified image": (
        {
            **entries(nixos=entry(A, options="uki /EFI/nixos/u.efi")),
            "boot/EFI/nixos/u.efi": uki(B),
            **conf("default nixos.conf"),
        },
        B,
    ),
    "an entry of a unified image, by the key for any": (
        {
            **entries(nixos=entry(A, options="efi EFI/nixos/u.efi")),
            "boot/EFI/nixos/u.efi": uki(B),
            **conf("default nixos.conf"),
        },
        B,
    ),
    "an entry of a unified image with options of its own": (
        {
            **entries(nixos=f"uki /EFI/nixos/u.efi\noptions init={B}/init\n"),
            "boot/EFI/nixos/u.efi": uki(A),
            **conf("default nixos.conf"),
        },
        B,
    ),
    "an entry of an image elsewhere": ({**entries(nixos="uki-url http://x/u.efi\n"), **conf("default nixos.conf")}, ""),
    "two inits: the kernel takes the last": (
        {**entries(nixos=entry(A, options=f"options init={A}/init debug init={B}/init")), **conf("default nixos.conf")},
        B,
    ),
    "init of a shell": (
        {**entries(nixos=entry(A, options=f"options init={A}/init init=/bin/sh")), **conf("default nixos.conf")},
        "",
    ),
    "init through a link": (
        {
            **entries(nixos=entry(A, options="options init=/nix/store/3-nixos-init/bin/init")),
            **conf("default nixos.conf"),
        },
        "",
    ),
    "no entries": (conf("default nixos-*"), ""),
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("case", MENUS)
def test_systemd_boot_takes_the_entry_that_its_files_and_variables_name(tmp_path: Path, shell: str, case: str) -> None:
    tree, default = MENUS[case]
    found = BootMachine(tmp_path, {**tree, **SYSTEMD_BOOT}).default(shell)
    assert found[:2] == ("systemd_boot", default)
    assert bool(found[2]) is not bool(default), found


@pytest.mark.skipif(shutil.which("objcopy") is None, reason="no objcopy here")
def test_the_command_line_of_an_image_that_objcopy_made_is_read(tmp_path: Path) -> None:
    for name, text in {"kernel": "kernel", "cmdline": f"init={B}/init quiet", "osrel": "ID=nixos\n"}.items():
        (tmp_path / name).write_text(text)
    subprocess.run(
        ["objcopy", "-I", "binary", "-O", "elf64-x86-64", "-B", "i386:x86-64", "kernel", "kernel.o"],
        cwd=tmp_path,
        check=True,
    )
    sections = [f"--add-section=.{name}={name}" for name in ("osrel", "cmdline")]
    places = ["--change-section-vma=.osrel=0x20000", "--change-section-vma=.cmdline=0x30000"]
    argv = ["objcopy", "-I", "elf64-x86-64", "-O", "pei-x86-64", *sections, *places, "kernel.o", "image.efi"]
    subprocess.run(argv, cwd=tmp_path, check=True)
    tree: Tree = {
        "boot/EFI/Linux/nixos.efi": (tmp_path / "image.efi").read_bytes(),
        **conf("default nixos.efi"),
        **SYSTEMD_BOOT,
    }
    assert BootMachine(tmp_path, tree).default() == ("systemd_boot", B, "")
