"""The table [workers], and the site of a host."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, ValidationError

from fleet.inventory import values
from fleet.inventory.tables import Table
from fleet.inventory.words import expected

if TYPE_CHECKING:
    from fleet.inventory.problems import Problems

_WHAT = (
    'a Nix store that all workers reach, such as "s3://closures?region=eu-central-1" or "ssh-ng://cache.example.org"'
)


def site(value: object) -> str:
    """Read the name of a site; empty for none."""
    return values.name(value) if value != "" else ""


def _cache(value: object) -> str:
    """Read the URL of a Nix store. The error does not repeat it: it may have a password in it."""
    word = values.text(value, _WHAT)
    if re.fullmatch(r"(s3|https?|ssh-ng|ssh|file)://[!-~]+", word) is None:
        raise expected(value, _WHAT)
    if re.search(r"://[^/@]*:[^/@]*@", word):
        raise ValueError("has a password in it, and everybody may read fleet.toml; netrc-file of nix.conf is for that")
    return word


class WorkersTable(Table):
    """The table [workers]."""

    cache: Annotated[str, BeforeValidator(_cache)] | None = None
    """The Nix store that all workers get closures from; None if they share one store, or their caches have all."""


def read_workers(problems: Problems, raw: dict[str, Any]) -> WorkersTable:
    """Return the table, and note what is wrong with it."""
    try:
        return WorkersTable.model_validate(raw)
    except ValidationError as error:
        problems.add_invalid(error, "[workers]", WorkersTable.toml_keys(), raw)
        return WorkersTable()
