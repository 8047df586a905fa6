"""Read the values of secrets on this machine: from a command, a file, the environment, or what age or sops decrypts.

A value is in nothing but a `Value`, whose repr does not show it, until it is written to the stdin of a host's program.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import CommandFailedError, SecretError
from fleet.files import read_file
from fleet.machine import Command
from fleet.scripts import one_line
from fleet.text import how_it_ended

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fleet.inventory import Host, Inventory, Secret, SecretPlace
    from fleet.machine import Machine

LONGEST = 256 << 10
"""Bytes of a value, at most."""
TIMEOUT = 120.0
"""Seconds for one command: a person may have to touch a key."""
NOT_THERE = 127
"""Exit status of a shell that does not find a command."""
AT_ONCE = 4
"""Commands at once: most ask the same agent."""
USUAL_IDENTITIES = ("~/.config/sops/age/keys.txt", "~/.config/age/keys.txt", "~/.ssh/id_ed25519", "~/.ssh/id_rsa")
_taken: dict[str, bytes] = {}
"""What was in the environment for secrets."""


class Value:
    """The value of a secret. It is never part of an argv, an event, a text or a repr."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def reveal(self) -> bytes:
        return self._data

    def __repr__(self) -> str:
        return "***"


def revealed(values: Mapping[str, Value]) -> dict[str, bytes]:
    """Return the values themselves, for the host and for nobody else."""
    return {name: value.reveal() for name, value in values.items()}


def take_environment(inventory: Inventory) -> None:
    """Take the variables that are secrets out of the environment: Nix, git, ssh and hooks must not inherit them."""
    for host in inventory.hosts.values():
        for secret in host.secrets.values():
            if secret.env is not None and secret.env in os.environ:
                _taken[secret.env] = os.environb[secret.env.encode()]
                del os.environ[secret.env]


def taken_for(inventory: Inventory) -> dict[str, str]:
    """Return the variables that were taken out of the environment for secrets of this inventory, with their values.

    They are for the environment of another `fleet`, which takes them in turn, and for no argv.
    """
    names = {secret.env for host in inventory.hosts.values() for secret in host.secrets.values()}
    return {name: os.fsdecode(value) for name, value in _taken.items() if name in names}


class SecretReader:
    """Reads the values of secrets for one run."""

    def __init__(self, here: Machine, *, folder: Path, identities: Sequence[Path] = ()) -> None:
        """`folder` is that of fleet.toml. `identities` are the files with keys for age."""
        self._here = here
        self._folder = folder
        self._identities = identities
        self._places = asyncio.Semaphore(AT_ONCE)

    async def read(self, host: Host, places: Iterable[SecretPlace]) -> Mapping[str, Value]:
        """Return the value of each of these secrets of the host, by its name.

        Raise `SecretError` if one cannot be had.
        """
        names = [place.name for place in places]
        if gone := next((name for name in names if name not in host.secrets), None):
            hint = "fleet plan makes a new plan"
            raise SecretError(host.name, f"secret {gone}: fleet.toml does not have it any more", hint=hint)
        values = [await self._value(host, host.secrets[name]) for name in names]
        return dict(zip(names, values, strict=True))

    async def _value(self, host: Host, secret: Secret) -> Value:
        data = await self._data(host, secret)
        if not data:
            raise SecretError(host.name, f"secret {secret.name}: {_source(secret)} gives an empty value")
        if len(data) > LONGEST:
            message = f"secret {secret.name}: {_source(secret)} gives more than {LONGEST >> 10} KiB"
            raise SecretError(host.name, message)
        return Value(data)

    async def _data(self, host: Host, secret: Secret) -> bytes:
        if secret.env is not None:
            found = _taken.get(secret.env, os.environb.get(secret.env.encode()))
            if found is None:
                raise SecretError(host.name, f"secret {secret.name}: the variable {secret.env} is not set")
            return found
        if secret.file is not None:
            return await asyncio.to_thread(_read, host, secret, secret.file)
        if secret.command is not None:
            return await self._written(host, secret, secret.command)
        return await self._written(host, secret, self._decrypts(host, secret))

    def _decrypts(self, host: Host, secret: Secret) -> tuple[str, ...]:
        """Return the command that decrypts the file of the secret. Only names of files are in it."""
        if secret.sops is not None:
            part = "".join(f'["{step}"]' for step in secret.key.split("/")) if secret.key else ""
            return ("sops", "--decrypt", *(("--extract", part) if part else ()), str(secret.sops))
        usual = [path for name in USUAL_IDENTITIES if (path := Path(name).expanduser()).is_file()]
        identities = self._identities or usual
        if not identities:
            hint = "age_identities in [fleet] names the files"
            raise SecretError(host.name, f"secret {secret.name}: there is no key for age on this machine", hint=hint)
        program = "rage" if shutil.which("age") is None and shutil.which("rage") else "age"
        return (program, "--decrypt", *(word for path in identities for word in ("-i", str(path))), str(secret.age))

    async def _written(self, host: Host, secret: Secret, argv: Sequence[str]) -> bytes:
        """Return what the command writes to stdout. Nothing of its stderr is told: that may have the value too."""
        known = (f"FLEET_HOST={host.name}", f"FLEET_SECRET={secret.name}")
        script = ("sh", "-c", one_line("fleet.steps", "secret-command"), "sh", *argv)
        command = Command(
            argv=("env", "-C", str(self._folder), *known, *script),
            timeout=TIMEOUT,
            root=False,
            most=2 * LONGEST,
            name=argv[0],
        )
        try:
            async with self._places:
                ran = await self._here.run(command)
        except CommandFailedError as error:
            raise SecretError(host.name, f"secret {secret.name}: {error.message}") from None
        if ran.status != 0:
            hint = (
                "it is not installed here" if ran.status == NOT_THERE else "what it wrote is not shown: run it to see"
            )
            raise SecretError(host.name, f"secret {secret.name}: {argv[0]} {how_it_ended(ran.status)}", hint=hint)
        try:
            return base64.b64decode(ran.stdout)
        except binascii.Error:
            raise SecretError(host.name, f"secret {secret.name}: what {argv[0]} wrote was cut short") from None


def _read(host: Host, secret: Secret, path: Path) -> bytes:
    try:
        return read_file(path, most=LONGEST)
    except OSError as error:
        message = f"secret {secret.name}: {path} cannot be read: {error.strerror}"
        raise SecretError(host.name, message) from None


def _source(secret: Secret) -> str:
    """Name where the value comes from, for people."""
    if secret.command is not None:
        return secret.command[0]
    return str(secret.file or secret.age or secret.sops or f"the variable {secret.env}")
