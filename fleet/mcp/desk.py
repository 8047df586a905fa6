"""Where the requests of one principal are answered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.files import state_folder
from fleet.library.fleet import Fleet
from fleet.mcp.requests import Requests
from fleet.policy.principals import CLAIM
from fleet.steps.secret_values import taken_for

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "FLEET_SUDO_PASSWORD"


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A fleet.toml, and who asks. Each request opens the fleet anew: an agent edits its files between two of them."""

    file: Path
    principal: str = ""
    """The agent that asks, by principals.toml. Empty: whoever this process acts as."""
    sudo_password: str | None = field(default=None, repr=False)
    key: Path | None = None
    """What plans are signed with. None: they are not signed."""

    async def fleet(self) -> Fleet:
        """Return the fleet, as the principal has it. Raise `ConfigError` with all that is wrong with its files."""
        return await asyncio.to_thread(self._open)

    def _open(self) -> Fleet:
        return Fleet.open(self.file, sudo_password=self.sudo_password, principal=self.principal)

    def requests(self, fleet: Fleet) -> Requests:
        """Return what was asked for that takes long, by whomever, of this fleet."""
        secret = {PASSWORD: self.sudo_password} if self.sudo_password is not None else {}
        claim = {CLAIM: self.principal} if self.principal else {}
        environment = {**taken_for(fleet.inventory), **secret, **claim}
        return Requests(state_folder(fleet.inventory.name) / "requests", environment)
