"""What a host's files must show before it boots an entry once: and what is written for that, and taken back.

Files of the boot loaders as NixOS and their own tools write them; no lab host boots by them here. Real boots by a real
GRUB are in tests/reboots.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from fleet.host import answers
from fleet.host.facts import host_facts
from tests.containers.hostprogram import NEW
from tests.containers.test_transaction_boot_default import CONF, ENTRIES, EXTLINUX, PI, A, B, efi, entry

if TYPE_CHECKING:
    from tests.containers.hostprogram import Subject

SHELLS = ("/bin/bash --posix", "/bin/sh")
HEAD = """\
        if [ -s $prefix/grubenv ]; then
          load_env
        fi

        if [ "${next_entry}" ]; then
          set default="${next_entry}"
          set next_entry=
          save_env next_entry
          set timeout=1
          set boot_once=true
        else
          set default=0
          set timeout=5
        fi
"""
ENTRY = """\
menuentry "NixOS - %s" --class nixos {
search --set=drive1 --fs-uuid 8D3B-53FF
  linux ($drive1)//kernels/k-linux-bzImage init=%s/init loglevel=4
  initrd ($drive1)//kernels/i-initrd ($drive1)//kernels/i-initrd-secrets
}

"""
MENU = HEAD + ENTRY % ("Default", A) + 'submenu "NixOS - All configurations" {\n'
MENU += ENTRY % ("Configuration 2", B) + ENTRY % ("Configuration 1", A) + "}\n"


def environment(*lines: str) -> str:
    """What grub-editenv makes of these."""
    return "".join(f"{line}\n" for line in ("# GRUB Environment Block", *lines)).ljust(1024, "#")


GRUB = {"grub/grub.cfg": MENU, "grub/grubenv": environment("saved_entry=x y")}
DISKS = {
    "8:1": "/mnt/sys/pci0/block/sda/sda1/partition",
    "259:1": "/mnt/sys/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/nvme0n1p1/partition",
    "8:16": "/mnt/sys/pci0/block/sdb/size",
    "254:0": "/mnt/sys/virtual/block/dm-0/size",
    "9:1": "/mnt/sys/virtual/block/md1/md1p1/partition",
}
PLAIN = "8:1 vfat /dev/sda1"
TRYBOOT = {"/sys/firmware/devicetree/base/chosen/bootloader/tryboot": "0"}


def without(line: str) -> dict[str, str]:
    return {**GRUB, "grub/grub.cfg": MENU.replace(f"          {line}\n", "")}


CASES = {
    "vfat": (GRUB, PLAIN, ""),
    "ext4": (GRUB, "8:1 ext4 /dev/sda1", ""),
    "ext2": (GRUB, "8:1 ext2 /dev/sda1", ""),
    "NVMe with several paths": (GRUB, "259:1 ext4 /dev/nvme0n1p1", ""),
    "somebody else's choice": ({**GRUB, "grub/grubenv": environment("next_entry=2")}, PLAIN, ""),
    "btrfs": (GRUB, "8:1 btrfs /dev/sda1[/root]", "/boot/grub is on btrfs of /dev/sda1[/root]"),
    "btrfs, by its own number": (GRUB, "0:33 btrfs /dev/sda1[/root]", "btrfs"),
    "zfs": (GRUB, "0:40 zfs rpool/root", "zfs of rpool/root"),
    "xfs": (GRUB, "8:1 xfs /dev/sda1", "xfs"),
    "LVM or LUKS": (GRUB, "254:0 ext4 /dev/mapper/root", "ext4 of /dev/mapper/root"),
    "RAID": (GRUB, "9:1 ext4 /dev/md1p1", "ext4 of /dev/md1p1"),
    "a whole disk": (GRUB, "8:16 ext4 /dev/sdb", "ext4 of /dev/sdb"),
    "no answer": (GRUB, "", "plain partition"),
    "no grubenv": ({"grub/grub.cfg": MENU}, PLAIN, "grub-editenv /boot/grub/grubenv create"),
    "a grubenv cut short": ({**GRUB, "grub/grubenv": environment()[:-1]}, PLAIN, "grub-editenv"),
    "a full grubenv": ({**GRUB, "grub/grubenv": environment("a=" + "x" * 970)}, PLAIN, "with room in it"),
    "another file": ({**GRUB, "grub/grubenv": "#" * 1024}, PLAIN, "grub-editenv"),
    "grubenv is not read": (without("load_env"), PLAIN, "no line: load_env"),
    "next_entry does not count": (without('set default="${next_entry}"'), PLAIN, "no line: set default="),
    "next_entry is not cleared": (without("save_env next_entry"), PLAIN, "no line: save_env next_entry"),
    "the default is saved": (
        {**GRUB, "grub/grub.cfg": MENU.replace("=0", '="${saved_entry}"')},
        PLAIN,
        "and not its first",
    ),
    "extlinux": ({"extlinux/extlinux.conf": EXTLINUX.format("nixos-1")}, "", "only systemd-boot, GRUB"),
    "Raspberry Pi": (PI | TRYBOOT, "", ""),
    "Raspberry Pi with a trial": (PI | TRYBOOT | {"firmware/tryboot.txt": "cmdline=fleet-trial.txt\n"}, "", ""),
    "Raspberry Pi with an old firmware": (PI, "", "the firmware is too old"),
    "Raspberry Pi without folders": (
        TRYBOOT | {"firmware/config.txt": "kernel=kernel.img\n", "firmware/cmdline.txt": f"init={B}/init quiet\n"},
        "",
        "no os_prefix",
    ),
    "Raspberry Pi with A and B": (PI | TRYBOOT | {"firmware/autoboot.txt": "tryboot_a_b=1\n"}, "", "somebody else's"),
    "Raspberry Pi with a tryboot.txt": (PI | TRYBOOT | {"firmware/tryboot.txt": "a\n"}, "", "somebody else's"),
    "systemd-boot": (
        {CONF: "default nixos-1.conf\n", ENTRIES + "nixos-1.conf": entry(A)} | efi("LoaderInfo", "systemd-boot 257"),
        "",
        "",
    ),
    "systemd-boot that has not booted": (
        {CONF: "default nixos-1.conf\n", ENTRIES + "nixos-1.conf": entry(A)},
        "",
        "no EFI variables",
    ),
}


def on(subject: Subject, files: dict[str, str], mount: str, *script: str) -> str:
    """What the script writes on a host with these files, where findmnt says this of /boot/grub."""
    lines = [
        "for place in /boot /sys/firmware /sys/dev /mnt; do mount -t tmpfs none $place; done",
        "mkdir /sys/dev/block",
    ]
    for number, path in DISKS.items():
        folder = path.rpartition("/")[0]
        lines += [f"mkdir -p {folder}; : >{path}; ln -s {folder} /sys/dev/block/{number}"]
    stub = f"#!/bin/sh\necho '{mount}'\n"
    lines += [f"mkdir /mnt/bin; printf %s {shlex.quote(stub)} >/mnt/bin/findmnt; chmod 755 /mnt/bin/findmnt"]
    for path, text in files.items():
        place, form = (path, "%b") if path.startswith("/") else (f"/boot/{path}", "%s")
        lines += [f"mkdir -p {place.rpartition('/')[0]}", f"printf {form} {shlex.quote(text)} >{place}"]
    lines += ["PATH=/mnt/bin:$PATH", *script]
    return subject.host.exec("unshare", "-m", "sh", "-ec", "\n".join(lines)).stdout


def test_a_refused_trial_leaves_nothing(subject: Subject) -> None:
    answer = subject.tell(subject.order(subject.closure(NEW), goal="boot", boot=30))
    assert answer["refused"] == ["unfit"]
    assert "cannot boot an entry once: systemd-boot has left no EFI variables" in answer["message"][0]
    assert not subject.succeeds("test -e /etc/systemd/system.attached")


def calls(subject: Subject, shell: str, *words: str) -> str:
    """A script that calls functions of the program, with A as OLD and B as NEW."""
    subject.use(shell)
    body = f"sed '/^main /d' {subject.program} >/mnt/words; cat >>/mnt/words <<'END'"
    return "\n".join([body, f"old={A} new=$B", *words, "END", f"B={B} {shell} /mnt/words"])


ASKED = 'if boots_once; then echo; else printf "%s\\n" "$why"; fi'


@pytest.mark.parametrize("case", CASES)
def test_the_files_of_a_host_show_whether_it_boots_an_entry_once(host_program: Subject, case: str) -> None:
    files, mount, why = CASES[case]
    asked = on(host_program, files, mount, *(calls(host_program, shell, ASKED) for shell in SHELLS))
    one, other = asked.splitlines()
    assert one == other
    assert why in one
    assert bool(one) is bool(why), one


@pytest.mark.parametrize("case", ["vfat", "btrfs"])
def test_the_facts_of_a_host_say_so(host_program: Subject, case: str) -> None:
    files, mount, why = CASES[case]
    told = host_facts(answers.parse(on(host_program, files, mount, f"{host_program.asks} facts")))
    assert told.boots_once is (not why)
    assert why in told.boots_not_once
    assert bool(told.boots_not_once) is bool(why)


DISARM = "cd /mnt; : >armed; remove_trial"
ARMED = f"""\
menuentry fleet-trial --unrestricted {{
load_env
if [ -z "${{next_entry}}" ]; then
search --set=drive1 --fs-uuid 8D3B-53FF
  linux ($drive1)//kernels/k-linux-bzImage init={B}/init loglevel=4 panic=5 boot.panic_on_fail systemd.crash_reboot=1
  initrd ($drive1)//kernels/i-initrd ($drive1)//kernels/i-initrd-secrets
else
search --set=drive1 --fs-uuid 8D3B-53FF
  linux ($drive1)//kernels/k-linux-bzImage init={A}/init loglevel=4
  initrd ($drive1)//kernels/i-initrd ($drive1)//kernels/i-initrd-secrets
fi
}}
"""


@pytest.mark.parametrize("shell", SHELLS)
def test_grub_is_told_to_try_an_entry_of_its_own_which_goes_back_by_itself(host_program: Subject, shell: str) -> None:
    words = calls(host_program, shell, "grub_add_trial", "grub_choose_trial", "grub_add_trial", "grub_choose_trial")
    told = on(host_program, GRUB, PLAIN, words, "cat /boot/grub/grub.cfg /boot/grub/grubenv")
    assert told == MENU + ARMED + environment("saved_entry=x y", "next_entry=fleet-trial")


@pytest.mark.parametrize("shell", SHELLS)
def test_grub_forgets_what_it_was_told(host_program: Subject, shell: str) -> None:
    before = {**GRUB, "grub/grub.cfg": MENU + ARMED, "grub/grubenv": environment("next_entry=fleet-trial", "a=b")}
    words = calls(host_program, shell, DISARM, DISARM)
    same = "number=$(stat -c %i /boot/grub/grubenv)", words, "[ $number = $(stat -c %i /boot/grub/grubenv) ]"
    told = on(host_program, before, PLAIN, *same, "cat /boot/grub/grub.cfg /boot/grub/grubenv")
    assert told == MENU + environment("a=b", "next_entry=")


@pytest.mark.parametrize("shell", SHELLS)
def test_what_somebody_else_told_grub_is_left_alone(host_program: Subject, shell: str) -> None:
    before = {**GRUB, "grub/grubenv": environment("next_entry=2")}
    told = on(host_program, before, PLAIN, calls(host_program, shell, DISARM), "cat /boot/grub/grub*")
    assert told == MENU + environment("next_entry=2")


def test_what_grub_is_told_is_read_again(host_program: Subject) -> None:
    words = calls(host_program, "/bin/sh", "dd() { cat >/dev/null; }", "grub_choose_trial || echo refused")
    assert on(host_program, GRUB, PLAIN, words) == "refused\n"


ENTRY_1 = f"title NixOS\nlinux /EFI/nixos/old.efi\ninitrd /EFI/nixos/old-i.efi\noptions init={A}/init loglevel=4\n"
ENTRY_2 = "title NixOS\nlinux /EFI/nixos/k.efi\ninitrd\t/EFI/nixos/i.efi\noptions init=/mnt/new/init loglevel=4\n"


@pytest.mark.parametrize("initrd", ["initrd and secrets", "inited"])
@pytest.mark.parametrize("shell", SHELLS)
def test_systemd_boot_tries_an_entry_with_the_very_kernel_and_initrd(
    host_program: Subject, shell: str, initrd: str
) -> None:
    files = {CONF: "default nixos-1.conf\n", ENTRIES + "nixos-1.conf": ENTRY_1, ENTRIES + "nixos-2.conf": ENTRY_2}
    files |= {"EFI/nixos/k.efi": "kernel", "EFI/nixos/i.efi": initrd}
    words = calls(host_program, shell, "B=/mnt/new new=/mnt/new", REAL, *["systemd_boot_add_trial || echo refused"] * 2)
    told = on(host_program, files, "", words, f"cat /boot/{ENTRIES}fleet-*.conf || :")
    resets = " panic=5 boot.panic_on_fail systemd.crash_reboot=1\n"
    assert told == (ENTRY_2.rstrip("\n") + resets if initrd.startswith("initrd") else "refused\nrefused\n")


COPIES = {
    "the same": ("kernel", "initrd", "initrd", True),
    "secrets behind the initrd": ("kernel", "initrd", "initrd and secrets", True),
    "another initrd": ("kernel", "initrd", "inited", False),
    "an initrd cut short": ("kernel", "initrd", "init", False),
    "another kernel": ("kernal", "initrd", "initrd", False),
}
REAL = "mkdir -p $B; printf kernel >$B/kernel; printf initrd >$B/initrd"


@pytest.mark.parametrize("case", COPIES)
def test_grub_tries_the_very_kernel_and_initrd_of_the_new_system(host_program: Subject, case: str) -> None:
    kernel, _, initrd, whole = COPIES[case]
    files = {**GRUB, "kernels/k-linux-bzImage": kernel, "kernels/i-initrd": initrd}
    words = calls(host_program, "/bin/sh", "B=/mnt/new new=/mnt/new", REAL, "grub_add_trial && echo whole || echo not")
    files["grub/grub.cfg"] = MENU.replace(B, "/mnt/new")
    assert on(host_program, files, PLAIN, words) == ("whole\n" if whole else "not\n")


@pytest.mark.parametrize("gone", [A, B])
def test_grub_tries_nothing_where_one_of_the_two_has_no_entry(host_program: Subject, gone: str) -> None:
    files = {**GRUB, "grub/grub.cfg": MENU.replace(gone, "/nix/store/another")}
    words = calls(host_program, "/bin/sh", "grub_add_trial || echo refused")
    assert on(host_program, files, PLAIN, words, "cat /boot/grub/grub.cfg") == "refused\n" + files["grub/grub.cfg"]


TRIED = """\
[all]
kernel=kernel.img
os_prefix=nixos/2-default/

[all]
cmdline=fleet-trial.txt
"""
KERNEL = {"firmware/nixos/2-default/kernel.img": "kernel", "firmware/nixos/2-default/initrd": "initrd and secrets"}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_raspberry_pi_tries_the_folder_of_the_new_system(host_program: Subject, shell: str) -> None:
    tries = ("raspberry_pi_add_trial", "raspberry_pi_choose_trial && echo chosen")
    words = calls(
        host_program,
        shell,
        'with_timeout() { echo $1 $2 $3 "$4"; }; wait_for() { :; }; sync() { :; }',
        *tries,
        "reboot_host a",
    )
    shown = "cd /boot/firmware; cat tryboot.txt nixos/2-default/fleet-trial.txt; cmp config.txt - <<'X'"
    told = on(host_program, PI | TRYBOOT | KERNEL, "", words, f"{shown}\n{PI['firmware/config.txt']}X")
    resets = "panic=5 boot.panic_on_fail systemd.crash_reboot=1"
    assert told.endswith(f"{TRIED}console=tty1 init={B}/init {resets}\n")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_raspberry_pi_is_rebooted_with_the_word_for_that(host_program: Subject, shell: str) -> None:
    fakes = 'with_timeout() { shift; echo "${3-}/${4-}"; }; wait_for() { :; }; sync() { :; }; blame() { :; }'
    words = calls(
        host_program,
        shell,
        fakes,
        "told_to_stop() { false; }",
        "raspberry_pi_add_trial",
        "rebooting",
        DISARM,
        "rebooting",
    )
    told = on(host_program, PI | TRYBOOT | KERNEL, "", words, "find /boot/firmware -name '*try*' -o -name '*trial*'")
    assert told.split("\n") == [
        "--reboot-argument=0 tryboot/",
        "--force/--reboot-argument=0 tryboot",
        "/",
        "--force/",
        "",
    ]


@pytest.mark.parametrize("part", ["kernel.img", "initrd"])
def test_a_raspberry_pi_tries_the_very_kernel_and_initrd_of_the_new_system(host_program: Subject, part: str) -> None:
    files = PI | TRYBOOT | KERNEL | {f"firmware/nixos/2-default/{part}": "another"}
    files["firmware/nixos/2-default/cmdline.txt"] = "init=/mnt/new/init\n"
    words = calls(host_program, "/bin/sh", "B=/mnt/new new=/mnt/new", REAL, "raspberry_pi_add_trial || echo refused")
    assert on(host_program, files, "", words, "ls /boot/firmware") == "refused\nconfig.txt\nnixos\n"


def test_what_somebody_else_wants_a_raspberry_pi_to_try_is_left_alone(host_program: Subject) -> None:
    files = PI | TRYBOOT | {"firmware/tryboot.txt": "a\n", "firmware/nixos/2-default/fleet-trial.txt": "half\n"}
    words = calls(host_program, "/bin/sh", DISARM)
    shown = "cat /boot/firmware/tryboot.txt; find /boot/firmware -name '*trial*'"
    assert on(host_program, files, "", words, shown) == "a\n"
