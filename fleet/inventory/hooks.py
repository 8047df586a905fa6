"""Hooks: commands that people declare, to be run around what fleet does to a host."""

from __future__ import annotations

import enum
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StrictBool, model_validator

from fleet.inventory import values
from fleet.inventory.tables import PositiveSeconds, Table


class When(enum.StrEnum):
    """When a hook runs."""

    BEFORE_CONTACT = "before_contact"
    """Before the host is contacted for the first time. It wakes a host that sleeps."""
    BEFORE_PUSH = "before_push"
    BEFORE_SWITCH = "before_switch"
    """After the push, and before the host is asked to begin."""
    AFTER_COMMIT = "after_commit"
    """The host keeps the new system."""
    AFTER_ROLLBACK = "after_rollback"
    """The host does not keep the new system: it went back, or has not begun though `before_switch` has run."""


class Hook(Table):
    """A command, and when and where it runs."""

    when: When
    command: Annotated[str, BeforeValidator(values.script)]
    """Run by `sh -c`: on the host as root, on the controller as whoever runs fleet, in the folder of fleet.toml."""
    on: Literal["host", "controller"] = "host"
    timeout: PositiveSeconds = 60.0
    may_fail: StrictBool = False
    """Whether its failure is only told."""
    name: Annotated[str, BeforeValidator(values.line)] = Field(default_factory=lambda data: _name(data.get("command")))

    @model_validator(mode="after")
    def _can_run_there(self) -> Hook:
        if self.when is When.BEFORE_CONTACT and self.on != "controller":
            raise ValueError('a hook before_contact runs where the host is not reached yet: on = "controller"')
        return self


def _name(command: str | None) -> str:
    words = " ".join((command or "hook").split())
    return "".join(char if char.isprintable() else "?" for char in words)[:60]
