"""Read policy.toml: three kinds of rules about hosts, and what satisfies a rule that asks."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

from pydantic import BeforeValidator, StrictBool

from fleet.errors import ConfigError
from fleet.inventory import values
from fleet.inventory.matching import Named, matching, named_parts
from fleet.inventory.problems import Problems, unknown_key
from fleet.inventory.tables import Count, Table
from fleet.inventory.windows import windows
from fleet.inventory.words import expected
from fleet.policy.principals import PrincipalKind
from fleet.policy.reading import document, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from fleet.inventory import Inventory
    from fleet.policy.principals import Principals

FILE = "policy.toml"


class Verb(enum.StrEnum):
    """What somebody does to hosts."""

    DEPLOY = "deploy"
    PUSH = "push"
    ROLLBACK = "rollback"
    REBOOT = "reboot"
    EXEC = "exec"
    GC = "gc"


class Must(enum.StrEnum):
    """What a rule demands."""

    ASK = "ask"
    DENY = "deny"


class Reason(enum.StrEnum):
    """What a rule about reboots is about."""

    REBOOT = "reboot"
    KERNEL = "kernel"
    DRIVER = "driver"


def _list(kind: type[enum.StrEnum]) -> Callable[[object], tuple[str, ...]]:
    def read(value: object) -> tuple[str, ...]:
        words = [each.value for each in kind]
        if not isinstance(value, list) or not value or any(each not in words for each in value):
            raise expected(value, f"a list of {', '.join(words)}")
        return tuple(kind(each) for each in value)

    return read


def _name(value: object) -> str:
    return values.line(value)


def _remote(value: object) -> str:
    word = values.text(value, "the address of a git repository")
    if not word or word.startswith("-") or not word.isprintable() or "::" in word:
        raise expected(value, "the address of a git repository, such as git@forge.example.org:ann/fleet.git")
    return word


def _branches(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise expected(value, 'a list of branches, such as ["main"]')
    for each in value:
        # The names that git itself accepts, but for those that no shell likes.
        if not isinstance(each, str) or re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+/-]*", each) is None or ".." in each:
            raise expected(each, 'the name of a branch, such as "main"')
    return tuple(value)


_names = values.list_of(values.name, "principals")


class Rule(Table):
    """What every rule has."""

    kind: ClassVar[str]
    """The name of its tables."""
    name: Annotated[str, BeforeValidator(_name)] = ""
    hosts: str
    """A selector: by tag or kind, so that it holds for hosts to come."""
    must: Must = Must.ASK
    verbs: Annotated[tuple[Verb, ...], BeforeValidator(_list(Verb))]


class AgentRule(Rule):
    """The table [[agents]]: what agents must ask for."""

    kind = "agents"
    verbs: Annotated[tuple[Verb, ...], BeforeValidator(_list(Verb))] = tuple(Verb)
    intent: StrictBool = False
    """Whether an agent must say why as well."""


class RebootRule(Rule):
    """The table [[reboots]]: what reboots, and changes of the kernel or a driver, must ask for."""

    kind = "reboots"
    verbs: Annotated[tuple[Verb, ...], BeforeValidator(_list(Verb))] = (Verb.DEPLOY, Verb.REBOOT)
    of: Annotated[tuple[Reason, ...], BeforeValidator(_list(Reason))] = tuple(Reason)


class WindowRule(Rule):
    """The table [[windows]]: when hosts may begin."""

    kind = "windows"
    must: Must = Must.DENY
    verbs: Annotated[tuple[Verb, ...], BeforeValidator(_list(Verb))] = (Verb.DEPLOY, Verb.REBOOT)
    window: Annotated[tuple[str, ...], BeforeValidator(windows)]


class Protected(Table):
    """The table [protected]: the branches that only reviewed changes get to, and where they are asked for."""

    remote: Annotated[str, BeforeValidator(_remote)]
    branches: Annotated[tuple[str, ...], BeforeValidator(_branches)]


class ApprovalTable(Table):
    """The table [approval]."""

    required: Count = 1
    """How many different people approve. The author's own approval counts."""
    touch: StrictBool = False
    """Whether only approvals count that a FIDO device has made while somebody touched it."""
    break_glass: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
    """The people who may go ahead against every rule."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A whole policy.toml, valid."""

    path: Path
    agents: tuple[AgentRule, ...] = ()
    reboots: tuple[RebootRule, ...] = ()
    windows: tuple[WindowRule, ...] = ()
    protected: Protected | None = None
    approval: ApprovalTable

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules, in the order of the file within each kind."""
        return (*self.agents, *self.reboots, *self.windows)

    def name_of(self, rule: Rule) -> str:
        """Return the name of the rule, or its place in the file: `[[agents]] 2`."""
        mine: tuple[Rule, ...] = getattr(self, rule.kind)
        return rule.name or f"[[{rule.kind}]] {[id(each) for each in mine].index(id(rule)) + 1}"


RULES: tuple[type[Rule], ...] = (AgentRule, RebootRule, WindowRule)
_TABLES = (*(each.kind for each in RULES), "protected", "approval")
Found = TypeVar("Found", bound=Rule)


def load(fleet: Inventory, principals: Principals | None) -> Policy | None:
    """Return the policy in the folder of fleet.toml; None if there is none.

    Raise one `ConfigError` with everything that is wrong with it: a policy that is only half understood allows nothing.
    """
    path = fleet.path.parent / FILE
    raw = document(path)
    if raw is None:
        return None
    problems = Problems(path)
    for key in raw:
        if key not in _TABLES:
            problems.add("", key, unknown_key(key, _TABLES).replace("key", "table", 1))
    named = named_parts(fleet.hosts.values())
    protected = table(problems, Protected, raw["protected"], "[protected]") if "protected" in raw else None
    approval = table(problems, ApprovalTable, raw.get("approval", {}), "[approval]")
    found = Policy(
        path=path,
        agents=tuple(_rules(problems, AgentRule, raw, named)),
        reboots=tuple(_rules(problems, RebootRule, raw, named)),
        windows=tuple(_rules(problems, WindowRule, raw, named)),
        protected=protected,
        approval=approval or ApprovalTable(),
    )
    _check_names(problems, found)
    _check_people(problems, found.approval, principals)
    problems.raise_if_any()
    return found


def _rules(problems: Problems, kind: type[Found], raw: dict[str, Any], named: list[Named]) -> Iterator[Found]:
    """Yield the valid rules of one kind, and note the problems of the others."""
    tables = raw.get(kind.kind, [])
    if not isinstance(tables, list):
        problems.add(f"[{kind.kind}]", "", f"expected a list of tables, each [[{kind.kind}]]")
        return
    for number, own in enumerate(tables, 1):
        place = f"[[{kind.kind}]] {number}"
        rule = table(problems, kind, own, place)
        if rule is None:
            continue
        try:
            matching(named, [rule.hosts])
        except ConfigError as error:  # a rule that no host has is a rule that somebody believes in
            problems.add(place, "hosts", error.message)
        yield rule


def _check_names(problems: Problems, policy: Policy) -> None:
    seen: set[str] = set()
    for rule in policy.rules:
        if rule.name and rule.name in seen:
            problems.add(f"[[{rule.kind}]]", "name", f"two rules are called {rule.name!r}; give them different names")
        seen.add(rule.name)


def _check_people(problems: Problems, approval: ApprovalTable, principals: Principals | None) -> None:
    """Note who cannot do what the policy trusts them with, and demands that nobody can satisfy."""
    if principals is None:
        return
    people: Iterable[str] = [name for name, one in principals.tables.items() if one.kind is PrincipalKind.PERSON]
    for name in approval.break_glass:
        if name not in people:
            problems.add("[approval]", "break_glass", f"{name} is no person in {principals.path}")
    able = {name for name, key, may in principals.signers() if may and (key.is_security_key or not approval.touch)}
    if len(able) < approval.required and approval != ApprovalTable():
        what = "a FIDO key that can be touched" if approval.touch else "a key"
        wanted, there = approval.required, len(able)
        problems.add(
            "[approval]", "required", f"is {wanted}, and {there} of the people in {principals.path} have {what}"
        )
