"""Match hosts with selectors: names, globs, `@tag`, `kind:gpu`; `!` excludes, commas add."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from fleet.errors import ConfigError
from fleet.inventory.schema import Kind
from fleet.inventory.words import nearest, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fleet.inventory.schema import Host


class Named(NamedTuple):
    """The parts of a host that selectors look at."""

    name: str
    kind: str
    tags: tuple[str, ...]


def named_parts(hosts: Iterable[Host]) -> list[Named]:
    """Return the parts of these hosts that selectors look at."""
    return [Named(host.name, host.kind.value, host.tags) for host in hosts]


def matching(hosts: Sequence[Named], selectors: Iterable[str]) -> frozenset[str]:
    """Return the names of the hosts that the selectors select together.

    Raise `ConfigError` if a term selects nothing, or if nothing is left.
    """
    whole = ",".join(selectors)
    terms = [term.strip() for term in whole.split(",")]
    if not all(term.removeprefix("!").strip() for term in terms):
        what = f"an empty part in the selector {shown(whole)}" if whole.strip() else "no selector"
        raise ConfigError(f"{what}; expected host names, globs, @tag, kind:KIND or !… to exclude")
    wanted: set[str] = set()
    if all(term.startswith("!") for term in terms):
        wanted.update(host.name for host in hosts)
    for term in terms:
        if not term.startswith("!"):
            wanted |= _meant(hosts, term)
    for term in terms:
        if term.startswith("!"):
            wanted -= _meant(hosts, term[1:].strip())
    if not wanted:
        raise ConfigError(f"the selector {shown(whole)} excludes every host that it names")
    return frozenset(wanted)


def _meant(hosts: Sequence[Named], term: str) -> set[str]:
    if term.startswith("@"):
        return _by_tag(hosts, term[1:])
    if term.startswith("kind:"):
        return _by_kind(hosts, term[5:])
    names = [host.name for host in hosts]
    found = {name for name in names if fnmatchcase(name, term)} | ({term} & set(names))
    if not found:
        raise ConfigError(f"{_unknown('host', term)}{nearest(term, names)}")
    return found


def _by_tag(hosts: Sequence[Named], glob: str) -> set[str]:
    found = {host.name for host in hosts if any(fnmatchcase(tag, glob) for tag in host.tags)}
    if not found:
        tags = {tag for host in hosts for tag in host.tags}
        near = nearest(glob, tags)
        raise ConfigError(_unknown("tag", glob) + (near.replace("mean ", "mean @") if near else ""))
    return found


def _by_kind(hosts: Sequence[Named], kind: str) -> set[str]:
    kinds = [each.value for each in Kind]
    if kind not in kinds:
        near = nearest(kind, kinds) or f"; expected one of {', '.join(kinds)}"
        raise ConfigError(f"unknown kind {shown(kind)}{near}")
    found = {host.name for host in hosts if host.kind == kind}
    if not found:
        raise ConfigError(f"no host has the kind {kind}")
    return found


def _unknown(what: str, term: str) -> str:
    if any(sign in term for sign in "*?["):
        return f"no {what} matches {shown(term)}"
    return f"unknown {what} {shown(term)}"
