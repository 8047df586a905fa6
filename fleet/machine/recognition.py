"""Recognise this machine as a host of the fleet, by the public host keys of its own SSH server."""

from __future__ import annotations

import base64
import binascii
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import UnfitError
from fleet.files import read_file
from fleet.inventory.local import LOCAL, bare_key, may_be_here
from fleet.text import listed

if TYPE_CHECKING:
    from fleet.inventory import Host

HOST_KEYS = Path("/etc/ssh")
PATTERN = "ssh_host_*_key.pub"
LONGEST = 16 << 10
"""The most bytes of a file with a public key."""


def is_here(host: Host, folder: Path = HOST_KEYS) -> bool:
    """Whether `local` is among the host's addresses and this machine has its host key."""
    return may_be_here(host) and host.host_key is not None and bare_key(host.host_key) in _keys(folder)


def not_here(host: Host, folder: Path = HOST_KEYS) -> UnfitError:
    """Return the error that says why this machine is not the host."""
    found = listed([fingerprint(key) for key in _keys(folder)])
    has = f"the keys there are {found}" if found else f"there is no {PATTERN} that can be read"
    message = f"its only address is {LOCAL}, and this machine is another: {folder} does not have its host_key ({has})"
    hint = (
        f"run fleet on {host.name} itself, or give it an address for other machines too; a new key goes into host_key"
    )
    return UnfitError(host.name, message, hint=hint)


def fingerprint(key: str) -> str:
    """Return the fingerprint of a public key as `ssh-keygen -l` prints it."""
    try:
        blob = base64.b64decode(key.split()[1])
    except (IndexError, binascii.Error):
        return "no key"
    return f"SHA256:{base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip('=')}"


def _keys(folder: Path) -> list[str]:
    """Return the public host keys of this machine, without their comments. A file that cannot be read has none."""
    keys = []
    for file in sorted(folder.glob(PATTERN)):
        try:
            keys.append(bare_key(read_file(file, most=LONGEST).decode(errors="replace")))
        except OSError:
            continue
    return [key for key in keys if key]
