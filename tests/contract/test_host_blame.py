"""Surroundings that speak against a new system, and are not its fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.boot_machines import CONF, SYSTEMD_BOOT, A, BootMachine, extlinux, grub_menu, uki
from tests.contract.host_functions import SHELLS, call, put

if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.boot_machines import Tree

pytestmark = pytest.mark.parametrize("shell", SHELLS)
MENUS: dict[str, Tree] = {
    "the firmware of a Pi": {
        "boot/firmware/config.txt": "[all]\nos_prefix=nixos/default/\n",
        "boot/firmware/nixos/default/cmdline.txt": f"init={A}/init\n",
        "sys/devicetree/base/model": "Raspberry Pi",
    },
    "GRUB": {"boot/grub/grub.cfg": grub_menu(A)},
    "extlinux": {"boot/extlinux/extlinux.conf": extlinux(A)},
    "unified images": {"boot/EFI/Linux/nixos-1.efi": uki(A, 1), CONF: "default nixos-*\n", **SYSTEMD_BOOT},
}
SAID = "said_by() { get said; }; with_timeout() { :; }; run=r1"


@pytest.mark.parametrize("loader", MENUS)
@pytest.mark.parametrize(("free", "blame"), [(1000, "silent"), (1 << 30, "found")])
def test_boot_loader_that_fails_where_it_has_no_room(
    tmp_path: Path, loader: str, free: int, blame: str, shell: str
) -> None:
    for part in ("kernel", "initrd"):
        put(tmp_path / "new", **{part: part * 1000})
    script = f"new=$PWD/new; df() {{ printf 'Avail\\n%s\\n' {free}; }}; blame_boot_loader; cat blame reason"
    said = BootMachine(tmp_path, MENUS[loader]).says(script, shell).splitlines()
    assert said[0] == blame, said
    assert ("MiB free" in said[1]) == (blame == "silent"), said


@pytest.mark.parametrize(
    ("options", "excused"),
    [("ro,nosuid", True), ("rw,relatime,errors=remount-ro,emergency_ro", True), ("rw,errors=remount-ro", False)],
)
def test_disk_that_the_kernel_writes_to_no_more(tmp_path: Path, options: str, shell: str, *, excused: bool) -> None:
    put(tmp_path, reason="commit: boot loader failed", blame="found", old_boot_status="0")
    script = f"find_boot_folders() {{ folders=/; }}\nfindmnt() {{ echo {options}; }}\nexcuse"
    assert ("is read-only" in call(tmp_path, script, shell=shell)) is excused


@pytest.mark.parametrize(
    ("statuses", "excused"), [("137", True), ("137 143", True), ("137 1", False), ("1", False), ("", False)]
)
def test_snippets_that_were_killed(tmp_path: Path, statuses: str, shell: str, *, excused: bool) -> None:
    said = "".join(f"Activation script snippet 'x' failed ({status})\n" for status in statuses.split())
    put(tmp_path, said=said, reason="activation failed with exit status 2", status="2", old_status="0")
    assert (call(tmp_path, f"{SAID}; excuse || :", shell=shell) == "what it ran was killed\n") is excused


@pytest.mark.parametrize(
    ("said", "blame", "reason"),
    [
        (
            "Pre-switch check 'backup' failed\nPre-switch checks failed",
            "silent",
            "a pre-switch check refuses: backup (exit status 1)",
        ),
        ("Pre-switch checks failed", "silent", "a pre-switch check refuses (exit status 1)"),
        ("Pre-switch check 'a' failed, said a unit", "found", "activation failed with exit status 1"),
        ("", "found", "activation failed with exit status 1"),
    ],
)
def test_switch_that_a_check_refuses(tmp_path: Path, said: str, blame: str, reason: str, shell: str) -> None:
    """It looks at what is around it now, and nothing was switched."""
    put(tmp_path, said=said)
    script = f"site=; {SAID}; blame_refusal; cat blame reason"
    assert call(tmp_path, script, shell=shell).splitlines() == [blame, reason]
