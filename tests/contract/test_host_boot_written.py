"""What a commit has written for the next boot: read back, blamed for what it did, told where nothing can be read."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.contract.boot_machines import (
    CONF,
    ENTRIES,
    SYSTEMD_BOOT,
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

Writes = Mapping[str, "str | bytes | None"]

OLD, NEW = "/nix/store/0-old", "/nix/store/1-new"
ONE: Tree = {ENTRIES + "nixos-generation-1.conf": generation(1, OLD), CONF: "default nixos-generation-1.conf\n"}
TWO: Tree = {ENTRIES + "nixos-generation-2.conf": generation(2, NEW), CONF: "default nixos-generation-2.conf\n"}
GRUB_OLD, GRUB_NEW = {"boot/grub/grub.cfg": grub_menu(OLD)}, {"boot/grub/grub.cfg": grub_menu(NEW)}
BY_GRUB: dict[str, Any] = {"kernel": f"BOOT_IMAGE=(hd0,gpt2)//kernels/k init={OLD}/init", "booted": OLD}
KEPT, UNVERIFIED = ("", NEW, ""), ("", "unverified")


class Commit(NamedTuple):
    """What is there before, what the new system's boot loader script writes (None: removes), and what is found."""

    before: Tree
    writes: Writes
    blame: str
    entry: str
    said: str = ""
    machine: Mapping[str, Any] = MappingProxyType({})


COMMITS = {
    "systemd-boot": Commit({**ONE, **SYSTEMD_BOOT}, TWO, *KEPT),
    "systemd-boot, and a GRUB that was left": Commit({**GRUB_OLD, **ONE, **SYSTEMD_BOOT}, TWO, *KEPT),
    "GRUB, and a systemd-boot that was left": Commit({**GRUB_OLD, **ONE}, GRUB_NEW, *KEPT, BY_GRUB),
    "GRUB, and a systemd-boot that was left, where nothing tells": Commit({**ONE, **GRUB_OLD}, GRUB_NEW, *KEPT),
    "extlinux, and a systemd-boot that was left, where nothing tells": Commit(
        {**ONE, "boot/extlinux/extlinux.conf": extlinux(OLD)}, {"boot/extlinux/extlinux.conf": extlinux(NEW)}, *KEPT
    ),
    "unified images": Commit(
        {"boot/EFI/Linux/nixos-generation-1-a.efi": uki(OLD, 1), CONF: "default nixos-*\n", **SYSTEMD_BOOT},
        {"boot/EFI/Linux/nixos-generation-2-b.efi": uki(NEW, 2)},
        *KEPT,
    ),
    "unified images instead of entries": Commit(
        {**ONE, **SYSTEMD_BOOT},
        {"boot/EFI/Linux/nixos-generation-2-b.efi": uki(NEW, 2), CONF: "default nixos-*\n"},
        *KEPT,
    ),
    "images that cannot be read": Commit(
        {**ONE, **SYSTEMD_BOOT},
        {"boot/EFI/Linux/nixos-2.efi": b"MZ\xff", ENTRIES + "nixos-generation-1.conf": None, CONF: "default nixos-*\n"},
        *UNVERIFIED,
        "names no system",
    ),
    "GRUB that boots what was saved": Commit(
        GRUB_OLD,
        {"boot/grub/grub.cfg": grub_menu(NEW, '"${saved_entry}"')},
        *UNVERIFIED,
        "boots entry '\"${saved_entry}\"'",
    ),
    "a boot loader that fleet does not know": Commit(
        {**ONE, **variable("LoaderInfo", "Limine 9.3")}, {"boot/limine/limine.conf": "x"}, *UNVERIFIED, "'limine 9.3'"
    ),
    # The deployment changes the boot loader: what the firmware starts then is not in these files.
    "GRUB instead of systemd-boot": Commit({**ONE, **SYSTEMD_BOOT}, GRUB_NEW, *UNVERIFIED, "another boot loader"),
    "systemd-boot instead of GRUB": Commit(GRUB_OLD, TWO, *UNVERIFIED, "another boot loader", BY_GRUB),
    "Limine instead of systemd-boot": Commit(
        {**ONE, **SYSTEMD_BOOT},
        {"boot/limine/limine.conf": "x", "boot/EFI/limine/BOOTX64.EFI": "y"},
        *UNVERIFIED,
        "another",
    ),
    "systemd-boot instead of GRUB, where nothing tells": Commit(GRUB_OLD, TWO, *KEPT),
    # What the new system's own script did.
    "nothing was written": Commit({**ONE, **SYSTEMD_BOOT}, {}, "found", "", "the boot default is '/nix/store/0-old'"),
    "nothing was written, by GRUB": Commit(
        GRUB_OLD, {}, "found", "", "the boot default is '/nix/store/0-old'", BY_GRUB
    ),
    "an entry, and not the default": Commit(
        {**ONE, **SYSTEMD_BOOT},
        {ENTRIES + "nixos-generation-2.conf": generation(2, NEW)},
        "found",
        "",
        "the boot default is",
    ),
    "the kernel alone": Commit(
        {**ONE, **SYSTEMD_BOOT}, {"boot/EFI/nixos/k2.efi": "x"}, "found", "", "the boot default is"
    ),
    "every entry is removed": Commit(
        {**ONE, **SYSTEMD_BOOT}, {ENTRIES + "nixos-generation-1.conf": None}, "found", "", "the boot default is ''"
    ),
    "all of it is removed": Commit(
        {**ONE, **SYSTEMD_BOOT},
        {ENTRIES + "nixos-generation-1.conf": None, CONF: None},
        "found",
        "",
        "the boot default is ''",
    ),
    "GRUB's menu is that of another system": Commit(
        GRUB_OLD, {"boot/grub/grub.cfg": grub_menu("/nix/store/2-other")}, "found", "", "'/nix/store/2-other'", BY_GRUB
    ),
    # What a person chose.
    "a person chose another": Commit(
        {**ONE, **SYSTEMD_BOOT, **variable("LoaderEntryDefault", "nixos-generation-1.conf")},
        TWO,
        "silent",
        "",
        "LoaderEntryDefault",
    ),
    "a person prefers another": Commit(
        {**ONE, **SYSTEMD_BOOT, **variable("LoaderEntryPreferred", "nixos-generation-1.conf")},
        TWO,
        "silent",
        "",
        "bootctl set-preferred",
    ),
    "that of another boot loader's time": Commit(
        {**GRUB_OLD, **variable("LoaderEntryDefault", "nixos-generation-1.conf")}, GRUB_NEW, *KEPT, BY_GRUB
    ),
    "the last booted is booted again": Commit(
        {**ONE, **SYSTEMD_BOOT, **variable("LoaderEntryLastBooted", "nixos-generation-1.conf")},
        {**TWO, CONF: "default @saved\n"},
        "silent",
        "",
        "default @saved",
    ),
    # Where the boot partition should be is a folder.
    "not mounted": Commit({**ONE, **SYSTEMD_BOOT}, TWO, *UNVERIFIED, "boot is in ", {"fstab": ("boot",), "mounts": ()}),
}


def committed(machine: BootMachine, writes: Writes, shell: str, *, ends: str = "exit 0", more: str = "") -> str:
    """What the commit leaves in the transaction: blame, entry, reason and doubt, a line each."""
    script = ["#!/bin/sh", "echo $NIXOS_NO_CHECK >checks"]
    for number, (name, text) in enumerate(writes.items()):
        place = machine.folder / name
        if text is None:
            script.append(f"rm {place}")
            continue
        machine.write(f"made/{number}", text)
        script += [f"mkdir -p {place.parent}", f"cp {machine.folder}/made/{number} {place}"]
    machine.write("stc", "\n".join([*script, ends, ""]))  # of the new system, which is in no store
    (machine.folder / "stc").chmod(0o755)
    return machine.says(
        f"mkdir -p t; cd t; old={OLD} new={NEW} state=committing\n"
        f"with_timeout() {{ case $* in *nix-env*) ;; *) env $3 {machine.folder}/stc ;; esac; }}\n"
        "undisturbed() { :; }; put_durably() { :; }; sync_boot() { :; }; sync() { :; }\n"
        "profile_system() { echo $new; }\n"
        f'read_boot; put old_boot "$default"\n{more}\ncommitting\n'
        "for part in blame boot_entry reason boot_doubt; do printf '%s\\n' \"$(get $part)\"; done",
        shell,
    )


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("case", COMMITS)
def test_a_commit_is_judged_by_what_can_be_read_and_by_what_it_wrote(tmp_path: Path, shell: str, case: str) -> None:
    commit = COMMITS[case]
    machine = BootMachine(tmp_path, commit.before, **{"booted": OLD, **commit.machine})
    blame, found, reason, doubt = committed(machine, commit.writes, shell).split("\n")[:4]
    assert (blame, found) == (commit.blame, commit.entry), (reason, doubt)
    assert commit.said in reason + doubt


@pytest.mark.parametrize("shell", SHELLS)
def test_pre_switch_checks_are_not_asked_again_by_a_commit(tmp_path: Path, shell: str) -> None:
    machine = BootMachine(tmp_path, {**ONE, **SYSTEMD_BOOT}, booted=OLD)
    assert committed(machine, TWO, shell).split("\n")[:2] == ["", NEW]
    assert (tmp_path / "t" / "checks").read_text() == "1\n"


AS_NIXPKGS_DOES = "(set -C; echo 'default nixos-generation-2.conf' >{0}.tmp) && mv {0}.tmp {0}.conf"
"""systemd-boot's builder makes loader.tmp anew, and fails where there is one."""


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("lock", ["", "switch_lock_is_free() { false; }"], ids=["free", "held"])
def test_what_a_builder_that_was_killed_has_left_stops_no_later_one(tmp_path: Path, shell: str, lock: str) -> None:
    tree: Tree = {**ONE, **SYSTEMD_BOOT, "boot/loader/loader.tmp": "timeout"}
    machine = BootMachine(tmp_path, tree, booted=OLD)
    writes: Writes = {ENTRIES + "nixos-generation-2.conf": generation(2, NEW)}
    ends = AS_NIXPKGS_DOES.format(tmp_path / "boot/loader/loader")
    blame = committed(machine, writes, shell, ends=ends, more=lock).split("\n")[0]
    assert blame == ("found" if lock else "")  # whoever holds the lock may be writing it
    assert (tmp_path / "boot/loader/loader.tmp").exists() is bool(lock)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("fstab", "blame"), [(("boot",), "silent"), ((), "found")])
def test_a_boot_loader_that_refuses_an_unmounted_folder_is_not_the_new_systems_fault(
    tmp_path: Path, shell: str, fstab: tuple[str, ...], blame: str
) -> None:
    machine = BootMachine(tmp_path, {**ONE, **SYSTEMD_BOOT}, booted=OLD, fstab=fstab, mounts=())
    found, _, reason = committed(machine, {}, shell, ends="exit 1").split("\n")[:3]
    assert (found, "not mounted" in reason) == (blame, blame == "silent"), reason


COPIES = {
    "the system's": (["k"], ["i"], True),
    "with others behind it": (["k"], ["i", "extra"], True),
    "with microcode before it": (["k"], ["extra", "i"], True),
    "secrets behind it": (["k"], ["secrets"], True),
    "another": (["k"], ["extra"], False),
    "several others": (["k"], ["extra", "extra"], False),
    "cut short": (["k"], ["short"], False),
    "not there": (["k"], ["none"], False),
    "another kernel": (["extra"], ["i"], False),
    "none": (["k"], [], True),
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("case", COPIES)
def test_an_entry_has_the_systems_kernel_and_initrd_and_may_have_more(tmp_path: Path, shell: str, case: str) -> None:
    kernels, initrds, is_whole = COPIES[case]
    files = {"k": "kernel", "i": "initrd", "secrets": "initrd and secrets", "short": "ini", "extra": "microcode"}
    tree: Tree = {f"boot/{name}": text for name, text in files.items()}
    machine = BootMachine(tmp_path, {**tree, "new/kernel": "kernel", "new/initrd": "initrd"})
    lines = [f"linux {tmp_path}/boot/{name}" for name in kernels] + [
        f"initrd {tmp_path}/boot/{name}" for name in initrds
    ]
    said = machine.says("new=new; names_files_of_new <<'END' && echo whole\n" + "\n".join([*lines, "END", ":"]), shell)
    assert said == ("whole\n" if is_whole else "")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("then", "now", "profile", "is_as_before"),
    [
        (OLD, OLD, OLD, True),
        (OLD, NEW, OLD, False),
        (OLD, "", OLD, False),
        ("", "", OLD, True),
        ("", OLD, OLD, True),  # a partition that was mounted meanwhile
        ("", "/nix/store/2-other", OLD, True),
        ("", NEW, OLD, False),
        ("", NEW, NEW, True),
    ],
)
def test_what_could_not_be_read_before_need_not_be_the_same_after(
    tmp_path: Path, shell: str, then: str, now: str, profile: str, *, is_as_before: bool
) -> None:
    machine = BootMachine(tmp_path, {"old_boot": f"{then}\n"})
    words = (
        f"new={NEW} old_profile={profile}; profile_system() {{ echo {profile}; }}; boot_default() {{ echo {now}; }}\n"
    )
    assert machine.says(words + "if boots_as_before; then echo yes; fi", shell) == ("yes\n" if is_as_before else "")
