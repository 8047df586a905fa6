"""Find out what a package is that somebody wants as an image, and which of its programs a container runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import ConfigError, EvaluationError
from fleet.inventory.origins import FILE, is_expression
from fleet.machine import Command
from fleet.nix import NIX, PATIENTLY
from fleet.scripts import expression
from fleet.text import listed, parsed_json, store_path

if TYPE_CHECKING:
    from fleet.machine import Machine

_HASH = len(f"/nix/store/{'0' * 32}-")


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package as the flake of a fleet has it."""

    derivation: str
    top: str
    """The store path with its programs."""
    name: str
    program: str
    """Its main program, as it says itself; empty if it does not."""
    system: str


def evaluate(reference: str, attribute: str) -> Command:
    """Evaluate one package of a flake or a file, and print as JSON what `scripts/package.nix` names."""
    always = ("--json", "--apply", expression("fleet.images", "package"), "--option", "eval-cache", "false")
    which: tuple[str, ...] = (f"{reference}#{attribute}", "--no-update-lock-file")
    if is_expression(reference):
        which = ("--file", reference.removeprefix(FILE), attribute)
    return Command(argv=(*NIX, "eval", *which, *always), timeout=PATIENTLY, root=False)


async def find(here: Machine, reference: str, attribute: str) -> Package:
    """Return the package. Raise `EvaluationError` if Nix cannot evaluate it, or if it is none."""
    answer = await here.run(evaluate(reference, attribute))
    if answer.status != 0:
        raise EvaluationError(
            f"{attribute}: is no host of fleet.toml, and Nix cannot evaluate it as a package of {reference}",
            said=tuple(answer.stderr.splitlines()[-20:]),
        )
    try:
        found = parsed_json(answer.stdout)
        words = {key: str(found[key]) for key in ("drv", "out", "name", "program", "system")}
    except (ValueError, LookupError, TypeError) as error:
        raise EvaluationError(f"{attribute}: what Nix printed cannot be read: {error}") from error
    if store_path(words["drv"]) is None or store_path(words["out"]) is None:
        raise EvaluationError(f"{attribute}: its path is not known before it is built")
    return Package(
        derivation=words["drv"],
        top=words["out"],
        name=words["name"],
        program=words["program"],
        system=words["system"],
    )


def program_in(top: str, wanted: str, name: str) -> str:
    """Return the path of the program that a container of the image runs.

    That is the wanted one if there is any, the only one in bin, or the one with the package's name. Raise
    `ConfigError` if none of these is there.
    """
    programs = _programs(top)
    if wanted:
        path = os.path.normpath(f"{top}/{wanted}" if "/" in wanted else f"{top}/bin/{wanted}")
        if not path.startswith(f"{top}/") or not Path(path).exists():
            raise ConfigError(f"{top} has no program {wanted}", hint=f"its programs: {listed(programs)}")
        return path
    if len(programs) == 1:
        return f"{top}/bin/{programs[0]}"
    if name in programs:
        return f"{top}/bin/{name}"
    hint = f"its programs: {listed(programs)}" if programs else "--program names one, such as libexec/server"
    raise ConfigError(f"{top} does not say which of its programs is to run", hint=hint)


def _programs(top: str) -> list[str]:
    folder = Path(top) / "bin"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def name_of(top: str) -> str:
    """Return the name of a store path without its version."""
    words = top[_HASH:].split("-")
    begins = next((index for index, word in enumerate(words) if index and word[:1].isdigit()), len(words))
    return "-".join(words[:begins])
