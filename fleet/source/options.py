"""Find out whether Nix knows the options that fleet.toml has for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet import nix
from fleet.errors import ConfigError, EvaluationError, HostError
from fleet.inventory.words import nearest, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from fleet.machine import Machine, Output


async def require_known(here: Machine, file: Path, options: Mapping[str, str]) -> None:
    """Raise `ConfigError` if Nix has no such option, or does not take such a value.

    Without it Nix would warn in every command, and go on without the option.
    """
    if not options:
        return
    answer = await _ask(here, options)
    refused = dict(_refused(answer, options))
    try:
        known = nix.read_settings(answer.stdout)
    except ValueError:
        if not refused:
            said = answer.stderr.splitlines()[-5:]
            raise EvaluationError(
                "Nix does not tell its settings, so nix_options cannot be checked", said=said
            ) from None
        known = frozenset(options)  # it is through with the first wrong value
    unknown = {name: f"Nix has no such option{nearest(name, known)}" for name in options if name not in known}
    if problems := {**refused, **unknown}:
        lines = [f"{file}: [fleet.nix_options] {name}: {problem}" for name, problem in problems.items()]
        raise ConfigError("\n".join(lines), hint="nix show-config lists what there is")


def _refused(answer: Output, options: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the options whose values Nix does not take. Those of nix.conf are no matter of fleet.toml."""
    for line in answer.stderr.splitlines():
        if "error:" in line and (name := next((name for name in options if f"'{name}'" in line), None)):
            yield name, f"Nix does not take {shown(options[name])}: {line.split('error: ')[-1]}"


async def _ask(here: Machine, options: Mapping[str, str]) -> Output:
    """Return what Nix says of its settings with these options, in the first way that it understands."""
    first, second = (nix.with_options(command, options) for command in nix.SETTINGS)
    try:
        answer = await here.run(first)
        is_unknown = answer.status != 0 and "not a recognised command" in answer.stderr
        return await here.run(second) if is_unknown else answer
    except HostError as error:
        raise EvaluationError(error.message, said=error.said, hint="is nix on your PATH?") from error
