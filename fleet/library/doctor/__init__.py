"""Look at this machine, and say what keeps it from deploying, each thing with a remedy. No host is contacted.

Each look is an async function that gets a `Patient` and yields a `Diagnosis` for each thing that it looks at: `nix.py`
and `ssh.py` have those of their subjects, `machine.py` the rest.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleet.errors import FleetError
from fleet.library.doctor import machine, nix, ssh
from fleet.library.doctor.diagnosis import Diagnosis, Patient, State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["Diagnosis", "Patient", "State", "examine"]

LOOKS: tuple[tuple[str, Callable[[Patient], AsyncIterator[Diagnosis]]], ...] = (
    ("versions", machine.versions),
    ("fleet.toml", machine.inventory),
    ("nix", nix.nix),
    ("builds", nix.builds),
    ("git", nix.git),
    ("ssh", ssh.program),
    ("ssh agent", ssh.agent),
    ("keys", ssh.keys),
    ("host keys", ssh.host_keys),
    ("clock", machine.clock),
    ("disk", machine.disk),
    ("state", machine.state),
    ("slow links", machine.slow_links),
    ("being told", machine.being_told),
    ("lab", machine.lab),
)
"""What is looked at, in this order."""


async def examine(patient: Patient) -> list[Diagnosis]:
    """Return what was found, in the order of `LOOKS`. What cannot be looked at is an error with the reason."""
    found = await asyncio.gather(*(_look(what, look, patient) for what, look in LOOKS))
    return [diagnosis for those in found for diagnosis in those]


async def _look(what: str, look: Callable[[Patient], AsyncIterator[Diagnosis]], patient: Patient) -> list[Diagnosis]:
    try:
        return [diagnosis async for diagnosis in look(patient)]
    except FleetError as error:
        return [Diagnosis(what, State.ERROR, error.message, error.hint)]
    except OSError as error:
        return [Diagnosis(what, State.ERROR, str(error), "see that it can be read")]
