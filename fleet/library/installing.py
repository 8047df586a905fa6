"""Install a host for the first time, by nixos-anywhere with what fleet.toml knows of it.

What nixos-anywhere takes is written down from its version 1.13 (docs/reference.md and src/nixos-anywhere.sh there).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import CommandFailedError, ConfigError, FleetError
from fleet.files import read_file, replace_file
from fleet.inventory import BuildOn, values
from fleet.inventory.drivers import default_attribute
from fleet.inventory.edit import set_host_keys
from fleet.inventory.local import bare_key, remote_addresses
from fleet.inventory.origins import is_expression
from fleet.machine import Command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.inventory import Host, Inventory
    from fleet.library.reader import FleetReader
    from fleet.machine import Machine

PROGRAM = "nixos-anywhere"
KEY = Path("etc/ssh/ssh_host_ed25519_key")
"""Where the host has its key, below its root."""
PAUSE = 2.0
"""Seconds between two attempts to reach a host that boots."""
LARGEST_KEY = 64 << 10
"""The most bytes of a file with a private key."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """How the machine is reached on which the host is to be installed, and what it is given."""

    address: str
    user: str = "root"
    port: int | None = None
    """None for the port that the SSH configuration has, or 22."""
    key_file: Path | None = None
    """The private key that the host shall have; None for a new one."""
    extra_files: Path | None = None
    """A folder whose files the host gets below its root."""
    disk_keys: tuple[tuple[str, Path], ...] = ()
    """Pairs of a path in the installer, and the file here whose contents belong there: keys of encrypted disks."""
    more: tuple[str, ...] = ()
    """Further arguments for nixos-anywhere."""


def require_installable(fleet: Inventory, host: Host, site: Site) -> None:
    """Raise `ConfigError` if the host cannot be installed with this, or seems to be installed already."""
    flake = _flake(fleet, host)
    if is_expression(flake):
        raise ConfigError(f"{host.name}: {PROGRAM} takes the configuration of a flake, and this one is in a file")
    if host.attr != default_attribute(host.attr[1]) or '"' in host.attr[1] or "#" in host.attr[1]:
        message = f"{host.name}: {PROGRAM} takes a configuration below nixosConfigurations, not {'.'.join(host.attr)}"
        raise ConfigError(message)
    if host.host_key is not None and site.key_file is None:
        raise ConfigError(
            f"{host.name} has a host_key in fleet.toml already: it seems to be installed",
            hint="to install it anew remove host_key there, or give the private half of it by --host-key FILE",
        )
    if shutil.which(PROGRAM) is None:
        raise ConfigError(f"there is no {PROGRAM} on PATH", hint=f"nix shell nixpkgs#{PROGRAM}")


def site_of(host: Host, address: str | None) -> str:
    """Return the address at which the machine is that shall become the host. Raise `ConfigError` if there is none."""
    found = address or next(iter(remote_addresses(host)), None)
    if found is None:
        raise ConfigError(f"{host.name} has no address for other machines", hint="say where it is by --at ADDRESS")
    return found


def argv(fleet: Inventory, host: Host, site: Site, files: Path) -> tuple[str, ...]:
    """Return the command that installs the host. `files` has what it gets below its root."""
    words = [PROGRAM, "--flake", f"{_flake(fleet, host)}#{host.attr[1]}", "--extra-files", str(files)]
    if site.port is not None:
        words += ["-p", str(site.port)]
    if host.identity_file is not None:
        words += ["-i", str(host.identity_file)]
    if host.jump is not None:
        words += ["--ssh-option", f"ProxyJump={_jump(fleet, host.jump)}"]
    if host.build_on is BuildOn.TARGET:
        words += ["--build-on", "remote"]
    for name, value in fleet.nix_options.items():
        words += ["--option", name, value]
    for there, file in site.disk_keys:
        words += ["--disk-encryption-keys", there, str(file)]
    return (*words, *site.more, "--target-host", f"{site.user}@{site.address}")


def _flake(fleet: Inventory, host: Host) -> str:
    return next(iter(fleet.by_reference([host])))


def _jump(fleet: Inventory, jump: str) -> str:
    """Return the jump host as OpenSSH takes it. One of the fleet has an address and a user of its own."""
    known = next((host for host in fleet.hosts.values() if host.name == jump), None)
    if known is None:
        return jump
    address = next(iter(remote_addresses(known)), known.name)
    user = f"{known.user}@" if known.user else ""
    port = f":{known.port}" if known.port else ""
    return f"{user}[{address}]{port}" if ":" in address else f"{user}{address}{port}"


@contextmanager
def handed_files(site: Site) -> Iterator[Path]:
    """Make the folder that the host gets below its root, while inside.

    No other user of this machine can read it, and it is in memory if there is a place for that.
    """
    with tempfile.TemporaryDirectory(prefix="fleet-install-", dir=os.environ.get("XDG_RUNTIME_DIR")) as made:
        root = Path(made) / "root"  # the host's own root may get the mode of this folder: others have to enter it
        if site.extra_files is not None:
            shutil.copytree(site.extra_files, root, symlinks=True)
        root.mkdir(exist_ok=True)
        root.chmod(0o755)
        yield root


async def hand_key(here: Machine, site: Site, host: Host, root: Path) -> str:
    """Put the key that the host shall have into the folder, a new one if none was given. Return its public half.

    Raise `ConfigError` if the given key is none, or is not that of fleet.toml; `CommandFailedError` if there is no new
    one.
    """
    key = root / KEY
    for folder in (key.parent.parent, key.parent):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
    if site.key_file is None:
        made = await here.run(_keygen("-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", str(key)))
        if made.status != 0:
            raise CommandFailedError(host.name, "ssh-keygen could not make a key", said=tuple(made.stderr.splitlines()))
    else:
        replace_file(key, read_file(site.key_file, most=LARGEST_KEY), mode=0o600)
    told = await here.run(_keygen("-y", "-P", "", "-f", str(key)))
    try:
        public = bare_key(values.host_key(told.stdout.strip()))
    except ValueError:
        raise ConfigError(f"{site.key_file} is no private key of a host without a passphrase") from None
    if host.host_key is not None and bare_key(host.host_key) != public:
        raise ConfigError(f"{site.key_file} is not the key that fleet.toml has for {host.name}")
    (root / f"{KEY}.pub").write_text(f"{public} {host.name}\n", encoding="utf-8")
    return public


def _keygen(*words: str) -> Command:
    return Command(argv=("ssh-keygen", *words), root=False)


def remember_key(fleet: Inventory, host: Host, public: str) -> None:
    """Write the key to fleet.toml, if it is not there. Raise `ConfigError` if that cannot be done."""
    if host.host_key is None:
        set_host_keys(fleet.path, {host.name: public})


async def wait_for_host(fleet: FleetReader, host: Host, *, patience: float) -> None:
    """Wait until the host lets us in with its key, and answers. Raise why it does not after `patience` seconds.

    Until then the machine may be off, boot, or be an installer that has another key.
    """
    deadline = time.monotonic() + patience
    while isinstance(answer := (await fleet.status(host.name))[host.name], FleetError):
        if time.monotonic() > deadline:
            raise answer
        await asyncio.sleep(PAUSE)
