"""What a server holds on to, and everything that it starts: what is in a repository gives Nix no code to run here.

`fleet serve` and its requests have the variable `SERVED`. Another one names the socket of the service that evaluates.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import ConfigError
from fleet.library.tools import LocalNix
from fleet.machine.local import LocalMachine

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleet.inventory import Inventory
    from fleet.machine import Machine

SERVED, EVALUATOR = "FLEET_SERVED", "FLEET_EVALUATOR"
STRICT = {"accept-flake-config": "false", "allow-unsafe-native-code-during-evaluation": "false"}
"""Options of Nix for what others wrote. They win over those of fleet.toml."""
NATIVE = (
    "accept-flake-config",
    "allow-unsafe-native-code-during-evaluation",
    "build-hook",
    "builders",
    "diff-hook",
    "netrc-file",
    "plugin-files",
    "post-build-hook",
    "pre-build-hook",
    "run-diff-hook",
    "sandbox",
    "sandbox-fallback",
    "sandbox-paths",
    "secret-key-files",
    "ssl-cert-file",
    "user-agent-suffix",
)
"""Options of Nix that run code outside of a build, build elsewhere, or read files of whoever asks."""


def local_nix(inventory: Inventory) -> LocalNix:
    """Return this machine, whose Nix is told what fleet.toml says, and what a server holds on to.

    Raise `ConfigError` if this is a server, and fleet.toml has options that a server does not take from there.
    """
    return LocalNix(nix_options(inventory), evaluates(LocalMachine()))


def is_native(option: str) -> bool:
    """Whether Nix would run code by the option, or read files of whoever asks."""
    return option.removeprefix("extra-") in NATIVE


def nix_options(inventory: Inventory, environment: Mapping[str, str] = os.environ) -> Mapping[str, str]:
    """Return the options for Nix on this machine.

    Raise `ConfigError` if this is a server, and fleet.toml has options that a server does not take from there.
    """
    if not environment.get(SERVED):
        return inventory.nix_options
    require_harmless(inventory.nix_options, str(inventory.path))
    return {**inventory.nix_options, **STRICT}


def require_harmless(options: Iterable[str], place: str) -> None:
    """Raise `ConfigError` if one of the options of Nix `is_native`."""
    if native := sorted(option for option in options if is_native(option)):
        raise ConfigError(
            f"{place}: [fleet.nix_options] {', '.join(native)}: a server takes no such option from a repository",
            hint="write it to nix.conf of that machine, if it is meant",
        )


def evaluates(here: Machine, environment: Mapping[str, str] = os.environ) -> Machine:
    """Return this machine, with another service for evaluations if there is one."""
    if not environment.get(EVALUATOR):
        return here
    from fleet.machine.elsewhere import EvaluatesElsewhere  # few have one

    return EvaluatesElsewhere(Path(environment[EVALUATOR]), here)
