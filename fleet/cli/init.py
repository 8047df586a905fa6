"""`fleet init`: write a first fleet.toml for the hosts that a flake configures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import click

from fleet.cli import session

Discover = Callable[[Path], Mapping[str, str | None]]
"""Returns the names of a flake's hosts, each with its system if that is known."""

_SYSTEMS = """builtins.mapAttrs (_: c:
  let it = builtins.tryEval (c.pkgs.stdenv.hostPlatform.system or c.config.system.build.toplevel.system or null);
  in if it.success then it.value else null)"""
_NAMES = "builtins.mapAttrs (_: c: null)"


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default=Path(),
    help="The folder of the flake. Default: this one.",
)
@click.option("--name", help="The name of the fleet. Default: the folder's name.")
def init(folder: Path, name: str | None) -> None:
    """Write a fleet.toml next to a flake.nix, with all hosts of its nixosConfigurations.

    \b
    cd my-flake && fleet init
    """
    with session.display() as output:
        output.wait_for("Nix evaluates nixosConfigurations")
        path, left_out = write_first(folder, name=name, discover=ask_nix)
    for host in left_out:
        click.echo(f"left out: {host!r} cannot be the name of a host", err=True)
    click.echo("no check is declared yet: hosts count as healthy where no unit fails and people can log in", err=True)
    click.echo(f"wrote {path}; read it, then: git add {path.name} && fleet check", err=True)


def write_first(folder: Path, *, name: str | None, discover: Discover) -> tuple[Path, tuple[str, ...]]:
    """Write a fleet.toml that `load` accepts to the folder. Return its path, and the names that no host can have."""
    from fleet.errors import ConfigError
    from fleet.inventory import parse
    from fleet.inventory.edit import template

    path = folder / "fleet.toml"
    if path.exists() or path.is_symlink():
        raise ConfigError(f"{path}: is there already", hint="edit it; fleet check tells what is wrong with it")
    if not (folder / "flake.nix").is_file():
        raise ConfigError(f"{folder.resolve()}: has no flake.nix", hint="fleet init --dir FOLDER, or fleet lab up")
    found = discover(folder)
    hosts = [(host, _usable_system(system)) for host, system in found.items() if _is_host_name(host)]
    if not hosts:
        raise ConfigError(f"{folder / 'flake.nix'}: configures no hosts: its nixosConfigurations are empty")
    text = template(hosts, name=name or _fleet_name(folder))
    parse(path, text)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    return path, tuple(host for host in found if not _is_host_name(host))


def ask_nix(folder: Path) -> Mapping[str, str | None]:
    """Return what Nix says about the flake; only names if one of its hosts does not evaluate."""
    import subprocess

    from fleet.errors import EvaluationError
    from fleet.text import how_it_ended

    nix = ("nix", "--extra-experimental-features", "nix-command flakes", "eval", "--json", "--no-write-lock-file")
    error_output = ""
    for apply in (_SYSTEMS, _NAMES):
        argv = [*nix, f"{folder.resolve()}#nixosConfigurations", "--apply", apply]
        try:
            done = subprocess.run(argv, capture_output=True, encoding="utf-8", errors="replace", check=False)
        except OSError as error:
            raise EvaluationError(f"cannot run nix: {error.strerror}", hint="is Nix installed?") from error
        if done.returncode < 0:
            raise EvaluationError(f"nix {how_it_ended(done.returncode)}", said=_tail(done.stderr))
        if done.returncode == 0:
            return _systems_in(done.stdout)
        error_output = error_output or done.stderr
    import asyncio

    from fleet.machine.local import LocalMachine
    from fleet.source.remedies import explained

    refused = EvaluationError("cannot evaluate nixosConfigurations of the flake", said=_tail(error_output))
    raise asyncio.run(explained(LocalMachine(), str(folder.resolve()), refused))


def _systems_in(stdout: str) -> dict[str, str | None]:
    """Return the system of each configuration, None if it is not known, as Nix has printed it."""
    from fleet.errors import EvaluationError
    from fleet.text import parsed_json

    try:
        found = parsed_json(stdout)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(system, str | None) for system in found.values()):
        raise EvaluationError("Nix printed something else than the systems of nixosConfigurations")
    return found


def _tail(text: str) -> list[str]:
    from fleet.events import plain_text

    return plain_text(text).splitlines()[-12:]


def _is_host_name(host: str) -> bool:
    from fleet.inventory import values

    try:
        values.name(host)
    except ValueError:
        return False
    return True


def _usable_system(system: str | None) -> str | None:
    from fleet.inventory import values

    try:
        return values.system(system)
    except ValueError:
        return None


def _fleet_name(folder: Path) -> str:
    """Return the folder's name, with the characters that a fleet's name may have."""
    import re

    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._")[:60] or "fleet"
