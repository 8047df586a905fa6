"""Find what keeps a host from going from one system to another without a reboot. Pure functions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleet.text import parsed_json, plain_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


PARTS = ("kernel", "initrd", "kernel-modules", "kernel-params", "systemd")
"""The parts of a system that only a reboot makes live."""


def between(
    inhibitors: tuple[Mapping[str, str], Mapping[str, str]], init_interface: tuple[str, str], nvidia: tuple[str, str]
) -> tuple[str, ...]:
    """Return what makes a live switch from the first of each pair to the second fail, or leave half of it working.

    The libraries of an NVIDIA driver refuse to work with a module of another version, and the loaded one cannot be
    exchanged. What one side does not tell is no obstacle.
    """
    old, new = inhibitors  # switch-to-configuration refuses to go on where both have a key with another value (nixpkgs)
    found = [f"inhibitor {key}: {old[key]} -> {value}" for key, value in new.items() if old.get(key, value) != value]
    versions = {"init interface": init_interface, "NVIDIA driver": nvidia}
    changed = {name: both for name, both in versions.items() if all(both) and len(set(both)) == 2}
    return (*found, *(f"{name}: {one} -> {other}" for name, (one, other) in changed.items()))


def nvidia_version(modules: Iterable[str]) -> str:
    """Return the driver's version from the store paths of its modules; an empty string if none has it.

    Such a path is `…-nvidia-x11-570.153.02-6.12.30/…`.
    """
    found = [version for module in modules for version in re.findall(r"(?<=-)\d{3}\.\d[\d.]*(?=[-/])", module)]
    return str(found[0]) if found else ""


def inhibitors(text: str) -> dict[str, str]:
    """Return the values of a `switch-inhibitors` file by key. Empty if there is none or it is not what we know."""
    try:
        found = parsed_json(text)
        if not isinstance(found, dict):
            return {}
        return {plain_text(key): plain_text(str(value)) for key, value in found.items()}
    except (ValueError, RecursionError):
        return {}
