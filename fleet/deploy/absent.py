"""Hosts with a gate that a plan is made for while they are away, by what was seen of them last.

People sign parts, so a part cannot be made when the host is back. It names the system and the serial that the host had
when it last answered: if anything has happened there since, the host refuses it as stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import UnreachableError
from fleet.events import FindingReported
from fleet.model import Severity
from fleet.text import local_time

if TYPE_CHECKING:
    from fleet.host.facts import HostFacts
    from fleet.inventory import Host
    from fleet.model import HostName


@dataclass(frozen=True, kw_only=True)
class Absent:
    """What a host was when it last answered: all that a plan needs to know of it."""

    at: float
    """When it answered: seconds since 1970, by this machine's clock."""
    host_key: str
    facts: HostFacts

    def finding(self, host: Host, error: UnreachableError) -> FindingReported:
        """Return what people should know of a host that is planned for like this, since it does not answer now."""
        message = (
            f"does not answer ({error.message}), and is planned for as it was seen at {local_time(self.at)},"
            f" with the serial {self.facts.serial}"
        )
        hint = "it gets its part when it is back; if anything has happened there since, it refuses that as stale"
        return FindingReported(host=host.name, severity=Severity.NOTE, kind="away", message=message, hint=hint)


Absentees = Mapping["HostName", Absent | None]
"""Hosts that are planned for even while they are away, with what was seen of them last; None if nothing was."""


def never_seen(host: Host, error: UnreachableError) -> UnreachableError:
    """Return the error for a host of which this machine does not know how it was when it last answered."""
    message = f"{error.message}; and it was not seen from here since it last changed, so nobody can sign a part for it"
    hint = f"once it is back: fleet status {host.name}, and from then on it is planned for while it is away, too"
    return UnreachableError(host.name, message, hint=hint)
