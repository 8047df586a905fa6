"""Read a TOML file beside fleet.toml into tables, with every problem named by its place."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from fleet.errors import ConfigError
from fleet.files import read_file
from fleet.inventory.problems import dotted

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.inventory.problems import Problems
    from fleet.inventory.tables import Table

LARGEST = 4 << 20
"""The most bytes of such a file that are read."""
Model = TypeVar("Model", bound="Table")


def document(path: Path) -> dict[str, Any] | None:
    """Return the tables of the file; None if there is none. Raise `ConfigError` if it cannot be read or is no TOML."""
    try:
        return tomllib.loads(read_file(path, most=LARGEST).decode())
    except FileNotFoundError:
        if path.is_symlink():
            raise ConfigError(
                f"{path}: is a link that leads nowhere", hint="nothing is changed until it is mended"
            ) from None
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # wrong UTF-8 is one too
        raise ConfigError(f"{path}: is not TOML: {error}") from None


def table(problems: Problems, model: type[Model], raw: Any, place: str) -> Model | None:
    """Return the table as a value; None, with its problems noted under the name `place`, if it is none."""
    if not isinstance(raw, dict):
        problems.add(place, "", "expected a table")
        return None
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        problems.add_invalid(error, place, model.toml_keys(), raw)
    return None


def place_of(*parts: str) -> str:
    """Return the name of a table, such as `[principals.ann]`."""
    return f"[{dotted(*parts)}]"
