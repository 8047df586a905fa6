"""Secrets: where the value of each comes from, and where it goes on the host."""

from __future__ import annotations

import re
from pathlib import Path  # noqa: TC003 - pydantic reads it while running
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from fleet.inventory import origins, values
from fleet.inventory.tables import File, Table, file
from fleet.inventory.words import expected, shown

IN_MEMORY, ON_DISK = "/run/fleet-secrets", "/var/lib/fleet-secrets"
"""The folders where secrets are that have no `path`. The host program has the first of them, too."""
SOURCES = ("command", "file", "env", "age", "sops")
LONGEST_NAME = 64
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}")
_PATH = re.compile(r"(?:/[A-Za-z0-9@%+=:,._-]{1,200})+")
_FORBIDDEN = ("/nix", "/proc", "/sys", "/dev", "/tmp", "/run/fleet", "/run/user")
_VOLATILE = "/run/"
_BESIDE = (".fleet-old", ".fleet-new", ".fleet-none")
_SUFFIXES = ("service", "socket", "target", "timer", "path", "mount", "slice", "scope")
Storage = Literal["tmpfs", "disk"]


def _name(value: object) -> str:
    word = values.text(value, "a name")
    if _NAME.fullmatch(word) is None:
        raise expected(
            value, f"up to {LONGEST_NAME} letters, digits, '.', '_' and '-', beginning with a letter or digit"
        )
    return word


def _path(value: object) -> str:
    """Read the place of a secret on a host: no way around the folders that it must not be in."""
    word = values.text(value, "an absolute path on the host")
    if not word.startswith("/"):
        raise expected(value, "an absolute path on the host")
    if _PATH.fullmatch(word) is None or {".", ".."} & set(word.split("/")) or len(word) > 1000:
        raise expected(value, "a plain path: no '..', no '//', and in names only letters, digits and any of @%+=:,._-")
    if bad := next((place for place in _FORBIDDEN if word == place or word.startswith(f"{place}/")), None):
        raise ValueError(f"{shown(word)} is in {bad}, where no secret can be")
    if word.startswith(f"{IN_MEMORY}/."):
        raise ValueError(f"{shown(word)}: names with a dot before are fleet's own there")
    if word.endswith(_BESIDE):
        raise ValueError(f"{shown(word)}: names that end so are fleet's own, beside the secret that is being exchanged")
    return word


def _mode(value: object) -> str:
    """Read a mode, and return it in three digits. Nobody but the owner and the group can have any right."""
    word = values.text(value, 'a mode such as "0400"')
    if re.fullmatch(r"0?[4-7][0-7]0", word) is None:
        raise expected(value, 'a mode such as "0400" or "0440": the owner can read it, and others have no right at all')
    return word[-3:]


def _units(value: object) -> tuple[str, ...]:
    """Read names of units. One without a type is a service, as for systemctl."""
    if not isinstance(value, list | tuple):
        raise expected(value, "a list of units")
    names = [values.unit(each) for each in value]
    return tuple(name if name.rpartition(".")[2] in _SUFFIXES else f"{name}.service" for name in names)


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise expected(value, 'a program and its arguments, such as ["pass", "show", "token"]')
    words = tuple(values.text(each, "a word of a command") for each in value)
    if not words[0].strip():
        raise expected(value, "a program, and its arguments after it")
    return words


def _variable(value: object) -> str:
    word = values.text(value, "the name of an environment variable")
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", word) is None:
        raise expected(value, "the name of an environment variable")
    return word


def _plain_file(value: object, info: ValidationInfo) -> Path:
    path = file(value, info)
    if path.is_relative_to("/nix/store"):
        raise ValueError(f"{shown(str(path))} is in the Nix store, where everybody can read it")
    return path


class SecretPlace(Table):
    """Where a secret goes on the host, and what reads it there. It says nothing of the value."""

    name: Annotated[str, BeforeValidator(_name)]
    storage: Storage = "tmpfs"
    """`tmpfs` goes with each reboot, and never reaches a disk; `disk` is for hosts that boot alone."""
    path: Annotated[str, BeforeValidator(_path)] = Field(default_factory=lambda data: _usual_path(data))
    owner: Annotated[str, BeforeValidator(values.user)] = "root"
    group: Annotated[str, BeforeValidator(values.user)] = "root"
    mode: Annotated[str, BeforeValidator(_mode)] = Field(
        default_factory=lambda data: "600" if data.get("storage") == "disk" else "400"
    )
    when: Literal["before", "after"] = "before"
    """Whether it is written before the new system is activated, or after that."""
    restart: Annotated[tuple[str, ...], BeforeValidator(_units)] = ()
    """The units that are started anew when the secret has changed."""

    @property
    def is_volatile(self) -> bool:
        """Whether it is gone after a reboot."""
        return self.storage == "tmpfs"

    @model_validator(mode="after")
    def _fits_its_storage(self) -> Self:
        if self.is_volatile != self.path.startswith(_VOLATILE):
            remedy = f'leave path out for {IN_MEMORY}/{self.name}, or set storage = "disk"'
            if not self.is_volatile:
                remedy = f"leave path out for {ON_DISK}/{self.name}, or leave storage out"
            raise ValueError(f'storage = "{self.storage}" does not fit the path {shown(self.path)}: {remedy}')
        if not self.is_volatile and not self.mode.endswith("00"):
            raise ValueError(
                f'storage = "disk" is for its owner alone: found mode "0{self.mode}", expected "0600" or less'
            )
        return self

    def __str__(self) -> str:
        """Return the secret as a part of a plan has it, and as the host program reads it."""
        units = " ".join(self.restart) or "-"
        return f"{self.name} {self.path} {self.owner} {self.group} {self.mode} {self.storage} {self.when} {units}"

    @classmethod
    def parse(cls, text: str) -> SecretPlace:
        """Return the place that `str` wrote as this text. Raise `ValueError` for other text."""
        name, path, owner, group, mode, storage, when, *units = text.split(" ")
        place = cls.model_validate(
            {
                "name": name, "path": path, "owner": owner, "group": group, "mode": mode, "storage": storage,
                "when": when, "restart": [] if units == ["-"] else units,
            }
        )  # fmt: skip
        if str(place) != text:
            raise ValueError("is not written as fleet writes it")
        return place


def _usual_path(data: dict[str, Any]) -> str:
    return f"{ON_DISK if data.get('storage') == 'disk' else IN_MEMORY}/{data.get('name', '')}"


class Secret(SecretPlace):
    """A secret of a host: where its value comes from on this machine, and where it goes."""

    command: Annotated[tuple[str, ...], BeforeValidator(_words)] | None = None
    """A program and its arguments. What it writes to stdout is the value, to the byte."""
    file: Annotated[Path, BeforeValidator(_plain_file)] | None = None
    env: Annotated[str, BeforeValidator(_variable)] | None = None
    age: File | None = None
    """A file that age has encrypted."""
    sops: File | None = None
    """A file that sops has encrypted."""
    key: Annotated[str, BeforeValidator(values.line)] | None = None
    """What of a file of sops is the value, such as `db/password`; None for all of it."""

    @model_validator(mode="after")
    def _has_one_source(self) -> Secret:
        found = [source for source in SOURCES if getattr(self, source) is not None]
        if len(found) != 1:
            has = " and ".join(found) or "none of them"
            raise ValueError(f"has {has}; exactly one of {', '.join(SOURCES)} is needed")
        if self.key is not None and self.sops is None:
            raise ValueError("key is for a file of sops")
        return self

    @property
    def place(self) -> SecretPlace:
        """Where it goes, without where it comes from."""
        return SecretPlace.model_construct(**{key: getattr(self, key) for key in SecretPlace.model_fields})


def tables(value: object, host: str) -> object:
    """Return the tables of the secrets of a host, each with its name, and with the host's in place of `{name}`."""
    if not isinstance(value, dict):
        raise expected(value, "tables such as [hosts.web.secrets.token]")
    found = {}
    for name, table in value.items():
        if not isinstance(table, dict):
            raise ValueError(f"{name}: {expected(table, 'a table')}")  # noqa: TRY004 - as all readers
        if "name" in table:
            raise ValueError(f"{name}: name: unknown key; the name of a secret is the name of its table")
        named = {key: origins.named(each, host) if key in SOURCES else each for key, each in table.items()}
        found[name] = {**named, "name": name}
    return found


def require_apart(secrets: dict[str, Secret]) -> None:
    """Raise `ValueError` if two secrets would be at one place, or one in a folder that is another."""
    for name, secret in secrets.items():
        for other, its in secrets.items():
            if name != other and f"{secret.path}/".startswith(f"{its.path}/"):
                raise ValueError(f"{name} and {other} cannot both be there: {secret.path} and {its.path}")


def merged(defaults: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return what a host has of `secrets`: those of [defaults] too, unless it has one of that name.

    A profile beside a host's own system gets none of [defaults]: its host has them.
    """
    if own.get("profile"):
        return {"secrets": own.get("secrets", {})}
    ours, theirs = own.get("secrets"), defaults.get("secrets")
    return {"secrets": {**theirs, **ours}} if isinstance(ours, dict) and isinstance(theirs, dict) else {}
