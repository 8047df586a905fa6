"""Remember which hosts have had the sudo password, so that no other machine gets it in the place of one of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import AuthenticationError, StateError
from fleet.files import alone_in, replace_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleet.model import HostName

Keys = dict[str, list[str]]
GIVEN = "sudo-hosts.json"
"""The name of the file, in the folder of a fleet's state."""


@dataclass(frozen=True)
class GivenTo:
    """The fingerprints of the keys that each host had when it got the password. They are in a file.

    Who can change fleet.toml can change an address and the key beside it, and would get the passwords of others.
    """

    file: Path

    def require(self, host: HostName, fingerprint: str) -> None:
        """Remember that this host gets the password.

        Raise `AuthenticationError` if it had another key the last time, or if that is not known.
        """

        def note(keys: Keys) -> None:
            known = keys.setdefault(host, [fingerprint])
            if fingerprint not in known:
                message = f"the sudo password was not sent: it went to {known[-1]} before, and this is {fingerprint}"
                hint = f"is it the same machine? fleet trust {host} shows its key, asks, and lets it have the password"
                raise AuthenticationError(host, message, hint=hint)

        try:
            if fingerprint not in self._read().get(host, ()):
                self._change(note)
        except StateError as error:
            message = f"the sudo password was not sent: {error.message}"
            raise AuthenticationError(host, message, hint=error.hint) from error

    def knows_another(self, host: HostName, fingerprint: str) -> bool:
        """Whether the host got the password with another key, and not with this one."""
        known = self._read().get(host, ())
        return bool(known) and fingerprint not in known

    def allow(self, host: HostName, fingerprint: str) -> None:
        """Let the host have the password, with this key and no other."""
        if self.knows_another(host, fingerprint):
            self._change(lambda keys: keys.update({host: [fingerprint]}))

    def _read(self) -> Keys:
        try:
            keys = json.loads(self.file.read_text(encoding="utf-8"))
            return {str(host): [str(key) for key in known] for host, known in keys.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            hint = (
                "it names the hosts that have had the sudo password; mend it, or delete it if you know why it is broken"
            )
            raise StateError(f"cannot read {self.file}: {error}", hint=hint) from error

    def _change(self, change: Callable[[Keys], None]) -> None:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with alone_in(self.file.parent):
                keys = self._read()
                change(keys)
                replace_file(self.file, json.dumps(keys, indent=1).encode())
        except OSError as error:
            raise StateError(f"cannot write {self.file}: {error.strerror}") from error
