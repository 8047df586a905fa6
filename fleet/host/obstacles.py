"""What systems say about going from one to the other without a reboot. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def nvidia_version(modules: Iterable[str]) -> str:
    """The driver's version, from the store paths of its modules: `…-nvidia-x11-570.153.02-6.12.30/…`, say."""
    found = [version for module in modules for version in re.findall(r"(?<=-)\d{3}\.\d[\d.]*(?=[-/])", module)]
    return str(found[0]) if found else ""


def differing_inhibitors(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """What makes switch-to-configuration refuse a live switch: keys that both have with another value (nixpkgs)."""
    return [f"inhibitor {key}: {old[key]} -> {value}" for key, value in new.items() if old.get(key, value) != value]


def inhibitors(text: str) -> dict[str, str]:
    """A `switch-inhibitors` file; empty where there is none or it is not what we know."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}
