"""git and ssh-keygen, as tests call them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

AS = {"user.name": "t", "user.email": "t@t", "commit.gpgsign": "false", "init.defaultBranch": "main"}
"""Settings of git, whatever the person at this machine has."""


def git(folder: Path, *words: str) -> str:
    """What git printed in this folder; it succeeded."""
    flags = [word for key, value in AS.items() for word in ("-c", f"{key}={value}")]
    argv = ["git", "-C", str(folder), *flags, *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def new_key(file: Path, *more: str, kind: str = "ed25519", passphrase: str = "") -> Path:
    """The file, with a new private key in it; the public half is beside it, with the file's name as comment."""
    argv = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", file.name, "-f", str(file), *more]
    subprocess.run(argv, check=True, timeout=60)
    return file


def public_half(file: Path) -> str:
    """The line of the public key beside the file."""
    return file.with_name(f"{file.name}.pub").read_text().strip()
