"""The file in which libpq looks for passwords. It must be for nobody else to read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import StateError

if TYPE_CHECKING:
    from fleet.model import DatabaseAddress


def password_file(address: DatabaseAddress) -> Path:
    """Return the file in which libpq looks for a password. It may not exist."""
    return Path(address.options.get("passfile") or os.environ.get("PGPASSFILE") or Path.home() / ".pgpass")


def require_private(address: DatabaseAddress) -> None:
    """Raise `StateError` if the password file can be read by others, or is named and cannot be found."""
    file = password_file(address)
    try:
        found = file.stat()
    except FileNotFoundError:
        if "passfile" in address.options:
            raise StateError(f"{file}: there is no such password file", hint="[fleet] state names it") from None
        return
    except OSError as error:
        raise StateError(f"{file}: cannot be read: {error.strerror}") from error
    if found.st_mode & 0o077 or found.st_uid not in (0, os.geteuid()):
        raise StateError(f"{file}: others can read the passwords in it", hint=f"chmod 600 {file}, and own it")
