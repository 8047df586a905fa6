"""Sign closures before they are pushed, and ask hosts whether they trust the key.

A push needs no signature if root's Nix on the host opens the store itself, as it does unless NIX_REMOTE says otherwise.
Signatures count for other users there, and for whoever fetches from the host.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet import nix
from fleet.errors import ConfigError, PushError, UnfitError
from fleet.model import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fleet.inventory import Host
    from fleet.machine import Machine

SECRET_BYTES, PUBLIC_BYTES = 64, 32
"""Sizes of an Ed25519 key in Nix's format: the secret key ends with the public one."""
MOST_KEYS = 16 << 10
"""Characters of a host's trusted-public-keys that are read."""
MAKE = "nix-store --generate-binary-cache-key NAME SECRET PUBLIC makes a pair of files; this one must be SECRET"


@dataclass(frozen=True)
class SigningKey:
    """A key that signs store paths. Only Nix reads its secret part, from the file."""

    file: Path
    public: str
    """The public key as `NAME:BASE64`, the form of trusted-public-keys."""

    @property
    def name(self) -> str:
        """The name that its signatures begin with."""
        return self.public.partition(":")[0]


def read_key(inventory: Path, file: Path) -> SigningKey:
    """Return the key in the file.

    Raise `ConfigError`, never with any of the file's contents, if it is no secret key.
    """
    place = f"{inventory}: [fleet] signing_key: {file}"
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigError(f"{place}: cannot be read: {error.strerror}", hint=MAKE) from error
    except ValueError:
        raise ConfigError(f"{place}: is no key that signs store paths", hint=MAKE) from None
    name, _, encoded = text.partition(":")
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not re.fullmatch(r"[^\s:]+", name) or len(key) not in (SECRET_BYTES, PUBLIC_BYTES):
        raise ConfigError(f"{place}: is no key that signs store paths", hint=MAKE)
    if len(key) == PUBLIC_BYTES:
        raise ConfigError(f"{place}: is a public key, and signing takes the secret one", hint=MAKE)
    return SigningKey(file, f"{name}:{base64.b64encode(key[-PUBLIC_BYTES:]).decode()}")


async def sign(here: Machine, key: SigningKey, closures: Iterable[str]) -> None:
    """Sign every path of the closures in the local store. Raise `ConfigError` if Nix refuses."""
    signed = await here.run(nix.sign(key.file, closures))
    if signed.status != 0:
        said = signed.stderr.splitlines()[-3:]
        hint = "only root and trusted-users of this machine's nix.conf may add signatures to its store"
        raise ConfigError(f"cannot sign with {key.file}", said=said, hint=hint)


@dataclass(frozen=True, kw_only=True)
class Trust:
    """Which signatures count on a host, by its configuration."""

    keys: tuple[str, ...] = ()
    checks_ours: bool = False
    """Whether the host accepts only signed paths from us: our user's Nix uses a daemon there that does not trust it."""


async def ask_trust(machine: Machine, host: Host) -> Trust:
    """Return what the Nix configuration of the host, as root sees it, says about signatures."""
    answer = await machine.run(nix.configuration())
    if answer.status != 0:
        said = answer.stderr.splitlines()[-3:]
        raise PushError(host.name, "the host's Nix does not tell its configuration", said=said)
    settings = dict(re.findall(r"^([a-z-]+) = (.*)$", answer.stdout, re.MULTILINE))
    store = (re.findall(r"^NIX_REMOTE=(.*)$", answer.stdout, re.MULTILINE) or [""])[0] or settings.get("store", "")
    users = settings.get("trusted-users", "root").split()
    ours = {"*"} if host.gate else {"root", "*", "@root"}  # a gate lets its own user push, whom Nix trusts with nothing
    return Trust(
        keys=tuple(settings.get("trusted-public-keys", "")[:MOST_KEYS].split()),
        checks_ours=(
            store.startswith(("daemon", "unix:"))
            and settings.get("require-sigs", "true") == "true"
            and not ours & set(users)
        ),
    )


def untrusted(key: SigningKey, host: Host, trust: Trust) -> Finding | None:
    """Return a finding with the line that nix.conf lacks if the host does not trust the key, otherwise None.

    Raise `UnfitError` if the host would refuse the push itself.
    """
    if key.public in trust.keys:
        return None
    line = f"trusted-public-keys = {' '.join((*trust.keys, key.public))}"
    hint = f'its nix.conf needs: {line}; in NixOS: nix.settings.trusted-public-keys = [ "{key.public}" ];'
    other = any(known.partition(":")[0] == key.name for known in trust.keys)
    why = f"another key is called {key.name} on this host" if other else f"this host does not trust the key {key.name}"
    if trust.checks_ours:
        raise UnfitError(
            host.name, f"{why}, and its Nix daemon does not trust us: it takes only what is signed", hint=hint
        )
    message = f"{why}: the push does not need it, but whoever checks signatures there does"
    return Finding(severity=Severity.NOTE, kind="signature", message=message, hint=hint)
