"""What is examined, and what was found."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fleet.errors import ConfigError
    from fleet.inventory import Inventory
    from fleet.machine import Machine
    from fleet.state import State as FleetState


class State(enum.StrEnum):
    """Whether something is as it should be."""

    OK = "ok"
    NOTE = "note"
    """It will do, or is needed for some things only."""
    ERROR = "error"
    """Something cannot be deployed like that."""


class Diagnosis(NamedTuple):
    """What was found of one thing."""

    what: str
    state: State
    said: str
    """One line for people."""
    remedy: str = ""
    """What to do about it; empty if it is as it should be."""


@dataclass(frozen=True, kw_only=True)
class Patient:
    """This machine, and the fleet that is to be deployed from it."""

    here: Machine
    environment: Mapping[str, str]
    home: Path
    """The home folder of the user."""
    file: Path
    """The fleet.toml, which may not be there."""
    inventory: Inventory | None = None
    """What it says; None if it is not there or wrong."""
    problem: ConfigError | None = None
    """What is wrong with it."""
    state: FleetState | None = None
    """What this machine remembers of the fleet; None if there is no fleet."""
