"""Build the disk of every VM of a lab: the containers' root with a kernel and a boot loader.

It is cached under the hash of its recipe.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import ConfigError
from fleet.files import cache_folder
from fleet.lab import image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "sfdisk": "fdisk",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "mke2fs": "e2fsprogs",
}
"""Programs that make and run a VM, with Debian's packages for them."""
FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
"""Both are in Debian's package ovmf."""
_MIB = 1 << 20
_START, _ESP, _SIZE = 1 * _MIB, 128 * _MIB, 3072 * _MIB
"""Bytes before the boot partition, of the boot partition, and of the whole disk, which is sparse."""


@dataclass(frozen=True)
class VmImage:
    """The folder with a disk image, and with the kernel that its closures share."""

    path: Path

    @property
    def disk(self) -> Path:
        """The disk. Nobody writes to it: each VM has an overlay over it."""
        return self.path / "disk.raw"

    @property
    def linux(self) -> Path:
        """The kernel and the stage 1, as the lab's closures need them in the store."""
        return self.path / "lab-linux"

    @property
    def linux_nix(self) -> str:
        """The value of `linux` in system.nix."""
        return (self.path / "linux.nix").read_text(encoding="utf-8").strip()

    @property
    def busybox(self) -> bytes:
        """The builder of the closures."""
        return (self.path / "busybox").read_bytes()


def cache() -> Path:
    """Return the folder for the images and the disks of VMs."""
    return cache_folder("lab")


def ensure(say: Callable[[str], None]) -> VmImage:
    """Build the image of this recipe if it does not exist, and return it.

    Raise `ConfigError` with what is missing on this machine.
    """
    _require_tools()
    with image.recipe_folder(vm=True) as recipe:
        made = VmImage(cache() / f"image-{image.digest(recipe)}")
        with image.alone("vms"):
            if not made.path.exists():
                say(f"building {made.path}, once: about a minute")
                _build(recipe, made.path)
    return made


def _require_tools() -> None:
    missing = [package for tool, package in _TOOLS.items() if not shutil.which(tool)]
    if not FIRMWARE.exists() or not VARIABLES.exists():
        missing.append("ovmf")
    if missing:
        raise ConfigError(
            f"VMs of a lab need what is not installed here: {', '.join(missing)} (Debian's names)",
            hint="install them; or leave out --vm: containers need none of them",
        )
    if os.uname().machine != "x86_64":
        raise ConfigError("VMs of a lab are x86_64-linux, and so has this machine to be", hint="leave out --vm")
    if os.getuid() != 0:
        raise ConfigError(
            "only root can make the disk of a VM: its files belong to many users", hint="sudo, or no --vm"
        )


def _build(recipe: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".draft-", dir=place.parent) as temporary:
        root, draft = Path(temporary) / "root", Path(temporary) / "image"
        draft.mkdir(mode=0o755)
        image.debootstrap(recipe, root)
        shutil.move(root / "lab-linux", draft / "lab-linux")
        shutil.move(root / "lab-linux.nix", draft / "linux.nix")
        shutil.copy(root / "usr" / "bin" / "busybox", draft / "busybox")
        _make_disk(root, draft / "disk.raw")
        draft.rename(place)


def _make_disk(root: Path, disk: Path) -> None:
    """Make a GPT disk: a boot partition with the files of /boot, and a root file system with all others."""
    with disk.open("wb") as file:
        file.truncate(_SIZE)
    sectors = f"start={_START // 512}, size={_ESP // 512}, type=uefi\nstart={(_START + _ESP) // 512}, type=linux\n"
    _tool(["sfdisk", "--quiet", str(disk)], text=f"label: gpt\n{sectors}")
    esp = ["mkfs.vfat", "-F", "32", "-s", "2", "-n", "ESP", "--offset", str(_START // 512)]
    _tool([*esp, str(disk), str(_ESP // 1024)])
    boot = root / "boot"
    _tool(["mcopy", "-s", "-Q", "-i", f"{disk}@@{_START}", *map(str, boot.iterdir()), "::/"])
    shutil.rmtree(boot)
    boot.mkdir()
    size = _SIZE - _START - _ESP - _MIB  # a MiB for the second partition table
    options = f"offset={_START + _ESP},lazy_itable_init=1,nodiscard"
    _tool(["mke2fs", "-q", "-t", "ext4", "-m", "0", "-E", options, "-d", str(root), str(disk), f"{size // 1024}k"])


def _tool(argv: Sequence[str], text: str = "") -> None:
    done = subprocess.run(argv, input=text, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        raise ConfigError(f"{argv[0]} could not make the disk of the VMs", said=done.stderr.splitlines()[-5:])
