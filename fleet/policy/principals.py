"""Read principals.toml: everybody who changes the fleet, whether they are people, and the keys that they sign with."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, StrictBool, model_validator

from fleet.errors import ConfigError
from fleet.inventory import values
from fleet.inventory.problems import Problems, unknown_key
from fleet.inventory.tables import Table
from fleet.inventory.words import expected, shown
from fleet.policy.reading import document, place_of, table
from fleet.signing import PublicKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FILE = "principals.toml"
CLAIM = "FLEET_PRINCIPAL"
"""The variable by which a process says that it is an agent."""


class PrincipalKind(enum.StrEnum):
    """What sort of principal somebody is."""

    PERSON = "person"
    AGENT = "agent"
    CI = "ci"


@dataclass(frozen=True)
class Actor:
    """Somebody who changes the fleet. Without a kind they are nobody that principals.toml knows."""

    name: str
    kind: PrincipalKind | None = PrincipalKind.PERSON


def _keys(value: object) -> tuple[PublicKey, ...]:
    if not isinstance(value, list):
        raise expected(value, "a list of SSH public keys")
    return tuple(PublicKey.parse(values.text(each, "an SSH public key")) for each in value)


def _tokens(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise expected(value, "a list of digests of tokens")
    for each in value:
        if not isinstance(each, str) or re.fullmatch(r"sha256:[0-9a-f]{64}", each) is None:
            raise ValueError(
                "a token is named by its digest, sha256: and 64 digits in base 16; never write the token itself"
            )
    return tuple(value)


_users = values.list_of(values.user, "user names of this machine")


class PrincipalTable(Table):
    """The table [principals.NAME]."""

    kind: PrincipalKind
    keys: Annotated[tuple[PublicKey, ...], BeforeValidator(_keys)] = ()
    tokens: Annotated[tuple[str, ...], BeforeValidator(_tokens)] = ()
    may_request: StrictBool = False
    """For an agent: whether it may plan and ask for changes through `fleet serve`. Otherwise it only looks there."""
    users: Annotated[tuple[str, ...], BeforeValidator(_users)] | None = None
    """The users of this machine that are this principal. None: the one of the same name."""

    @model_validator(mode="after")
    def _requests_as_an_agent(self) -> PrincipalTable:
        if self.may_request and self.kind is not PrincipalKind.AGENT:
            raise ValueError("may_request is for agents: nobody else is asked for by a server")
        return self

    def users_of(self, name: str) -> tuple[str, ...]:
        """Return the users of this machine that are this principal, whose name is this."""
        return (name,) if self.users is None else self.users


@dataclass(frozen=True)
class Principals:
    """A whole principals.toml, valid."""

    path: Path
    tables: Mapping[str, PrincipalTable]

    def kind_of(self, name: str) -> PrincipalKind | None:
        """Return the kind of the principal; None if there is none of that name."""
        found = self.tables.get(name)
        return found.kind if found is not None else None

    def owner_of(self, key: PublicKey) -> str | None:
        """Return the name of the one principal who has the key."""
        return next((name for name, owned, _ in self.signers() if owned == key), None)

    def signers(self) -> Iterator[tuple[str, PublicKey, bool]]:
        """Yield each principal with each of its keys, and whether it may approve: only people may."""
        for name, one in self.tables.items():
            for key in one.keys:
                yield name, key, one.kind is PrincipalKind.PERSON

    def user(self, name: str) -> Actor:
        """Return who a user of this machine is."""
        for principal, one in self.tables.items():
            if name in one.users_of(principal):
                return Actor(principal, one.kind)
        return Actor(name, None)


def load(folder: Path) -> Principals | None:
    """Return who there is by the file in this folder, which is that of fleet.toml; None if there is no such file.

    Raise one `ConfigError` with everything that is wrong with it.
    """
    path = folder / FILE
    raw = document(path)
    if raw is None:
        return None
    problems = Problems(path)
    for key in raw:
        if key != "principals":
            problems.add("", key, unknown_key(key, ["principals"]).replace("key", "table", 1))
    found = raw.get("principals", {})
    if not isinstance(found, dict) or not found:
        problems.add("[principals]", "", "there are no principals; one is a table such as [principals.ann]")
        found = {}
    tables = dict(_tables(problems, found))
    _check_shared(problems, tables)
    problems.raise_if_any()
    return Principals(path, tables)


def _tables(problems: Problems, raw: Mapping[str, Any]) -> Iterator[tuple[str, PrincipalTable]]:
    for name, own in raw.items():
        place = place_of("principals", name)
        try:
            values.name(name)
        except ValueError as error:
            problems.add(place, "", f"a principal's name: {error}")
            continue
        if (read := table(problems, PrincipalTable, own, place)) is not None:
            yield name, read


def _check_shared(problems: Problems, tables: Mapping[str, PrincipalTable]) -> None:
    """Note keys, tokens and users that two principals share: nobody could tell who of them has acted."""
    seen: dict[object, str] = {}
    for name, one in tables.items():
        owned: list[tuple[str, object, str]] = [
            *(("keys", key.identity, f"the key {key.fingerprint}") for key in one.keys),
            *(("tokens", token, f"the token {token[:15]}…") for token in one.tokens),
            *(("users", ("user", user), f"the user {user}") for user in one.users_of(name)),
        ]
        for key, value, what in owned:
            other = seen.setdefault(value, name)
            if other != name:
                problems.add(
                    place_of("principals", name), key, f"{what} is already that of {other}: no two may share it"
                )


def acting(principals: Principals | None, user: str, claimed: str | None) -> Actor:
    """Return who a process acts as, which runs as this user of this machine and may have claimed to be somebody.

    Without principals everybody is the local user. A process may say that it is less than its user, an agent, and never
    that it is more. Raise `ConfigError` if it does.
    """
    own = Actor(user) if principals is None else principals.user(user)
    if not claimed or claimed == own.name:
        return own
    if principals is None:
        return Actor(_claimed_name(claimed), PrincipalKind.AGENT)
    kind = principals.kind_of(claimed)
    if kind is None:
        raise ConfigError(
            f"{CLAIM}: {shown(claimed)} is nobody in {principals.path}", hint=f"add [principals.{claimed}]"
        )
    if kind is not PrincipalKind.AGENT:
        raise ConfigError(
            f"{CLAIM}: {claimed} is of kind {kind}, and a process can only say that it is an agent",
            hint=f"unset it; {user} is {own.name}" if own.kind else f"users of [principals.{claimed}] says who that is",
        )
    if own.kind is PrincipalKind.AGENT:
        raise ConfigError(f"{CLAIM}: {own.name} cannot say that it is {claimed}: both are agents", hint="unset it")
    return Actor(claimed, kind)


def _claimed_name(claimed: str) -> str:
    try:
        return values.name(claimed)
    except ValueError as error:
        raise ConfigError(f"{CLAIM}: {error}") from None
