"""Write a first fleet.toml for the hosts that a flake, or a file, configures already."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import ConfigError
from fleet.inventory import origins, parse
from fleet.inventory.first import FirstFleet, written
from fleet.library.tools import new_fleet_id
from fleet.source import remedies, tree
from fleet.source.adopt import MAKE_HIVE, first_fleet
from fleet.source.discover import discover

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fleet.machine import Machine

DOCS = "docs/adopting.md"


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """A fleet.toml that was written."""

    path: Path
    hosts: tuple[str, ...]
    left_out: Mapping[str, str]
    """What is no host of the file, with the reason."""
    ignored: tuple[str, ...]
    """Configurations that make images or virtual machines."""
    is_in_git: bool
    """Whether Nix sees the file only after `git add`."""
    unseen: str = ""
    """What to do about files that git does not know, where hosts do not evaluate; empty if there are none."""


async def adopt(here: Machine, folder: Path, *, name: str | None, expression: str | None = None) -> Adopted:
    """Write a fleet.toml that `load` accepts to the folder.

    The hosts are those of the flake in the folder, or of the file `expression`, which is relative to the folder. Raise
    `ConfigError` if there is a fleet.toml or nothing to write one from, and `EvaluationError` if Nix cannot tell what
    is configured.
    """
    path = folder / "fleet.toml"
    if path.exists() or path.is_symlink():
        raise ConfigError(f"{path}: is there already", hint="edit it; fleet check tells what is wrong with it")
    origin = _origin(folder, expression)
    ((key, place),) = origin.items()
    is_file = key == "expression"
    reference = (origins.expression if is_file else origins.flake)(place, path.absolute().parent)
    found = await discover(here, reference)
    if found.is_raw_hive:
        raise _raw_hive(folder / place)
    fleet = first_fleet(found, is_file=is_file)
    unseen = await _unseen(here, reference) if found.broken else ""
    if not fleet.hosts:
        raise _no_hosts(folder / place, fleet, unseen)
    head = {"name": name or _fleet_name(folder), "id": new_fleet_id(), **origin}
    text = written(fleet, head=head)
    parse(path, text)
    _create(path, text)
    hosts = tuple(host.name for host in fleet.hosts)
    in_git = any((place / ".git").exists() for place in path.absolute().parents)
    return Adopted(
        path=path, hosts=hosts, left_out=fleet.left_out, ignored=fleet.ignore, is_in_git=in_git, unseen=unseen
    )


def _create(path: Path, text: str) -> None:
    """Write a new file, or leave none: half of one would be in the way of the next attempt."""
    try:
        file = path.open("x", encoding="utf-8")
        try:
            with file:
                file.write(text)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


async def _unseen(here: Machine, reference: str) -> str:
    """Return what to do about files that Nix does not see since git does not know them; empty if there are none."""
    found = await tree.look(here, reference)
    return remedies.untracked(tree.unseen(found)) if found is not None else ""


def _origin(folder: Path, expression: str | None) -> dict[str, str]:
    """Return the key of [fleet] that says where the systems are. Raise `ConfigError` if they are nowhere."""
    if expression is not None:
        if not (folder / expression).exists():
            raise ConfigError(f"{folder / expression}: there is no such file", hint="--expression names a .nix file")
        return {"expression": expression}
    if (folder / "flake.nix").is_file():
        return {"flake": "."}
    if (folder / "default.nix").is_file():
        return {"expression": "default.nix"}
    if (folder / "hive.nix").is_file():
        raise _raw_hive(folder / "hive.nix")
    raise ConfigError(
        f"{folder.resolve()}: has no flake.nix and no default.nix",
        hint="fleet init --dir FOLDER, or --expression FILE; fleet lab up has hosts to try",
    )


def _raw_hive(file: Path) -> ConfigError:
    hint = f"write a default.nix of two lines, as {DOCS} shows for hive.nix, and run fleet init again"
    return ConfigError(f"{file}: only colmena can evaluate a hive as it is", hint=hint)


def _no_hosts(place: Path, fleet: FirstFleet, unseen: str) -> ConfigError:
    if any(MAKE_HIVE in reason for reason in fleet.left_out.values()):
        hint = f"with colmena among the inputs, add to the outputs of flake.nix: {MAKE_HIVE} ({DOCS})"
        return ConfigError(f"{place}: has the output colmena, which only colmena can evaluate", hint=hint)
    if fleet.left_out:
        reasons = [f"{name}: {reason}" for name, reason in fleet.left_out.items()]
        return ConfigError("\n".join([f"{place}: no host of it can be written", *reasons]), hint=unseen)
    hint = f"{DOCS} says what fleet looks for" if not fleet.ignore else "what is there makes images, and no hosts"
    return ConfigError(f"{place}: configures no hosts", hint=hint)


def _fleet_name(folder: Path) -> str:
    """Return the folder's name, with the characters that a fleet's name may have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._")[:60] or "fleet"
