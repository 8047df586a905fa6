"""A whole plan: which hosts, in which waves, within which limits, made by whom and from what."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from fleet.events import FindingReported
from fleet.ledger import Head
from fleet.model import Goal, HostName, Outcome, Severity, Verb
from fleet.plans import codecs
from fleet.plans.codecs import Codec, Field, attributes_of, json_of, lines_of, one_of, optional, pair
from fleet.plans.part import TITLE as PART_TITLE
from fleet.plans.part import Part
from fleet.plans.text import NONE, Lines, TextError, digest, unescaped, words, written

if TYPE_CHECKING:
    from collections.abc import Mapping

TITLE = "fleet-plan v1"
END = "digest"
"""The key of the last line of a plan's text. That line is not signed."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What the closures were evaluated from."""

    reference: str = ""
    """A flake reference. Empty if the closure was given, or ran before."""
    revision: str = ""
    """The commit. Empty if it is not known."""
    is_clean: bool = False
    """Whether the files are those of the commit."""

    def __str__(self) -> str:
        state = "clean" if self.is_clean else "dirty"
        return f"{words(self.reference)} rev {self.revision or NONE} {state}"

    @classmethod
    def parse(cls, text: str) -> Source:
        """Return the source that `str` wrote as this text. Raise `ValueError` for other text."""
        reference, _, rest = text.rpartition(" rev ")
        revision, _, state = rest.partition(" ")
        return cls(
            reference=unescaped(reference), revision="" if revision == NONE else revision, is_clean=state == "clean"
        )


@dataclass(frozen=True, kw_only=True)
class OtherSource:
    """A further source of a plan, and the hosts whose closures come from it."""

    hosts: tuple[HostName, ...]
    source: Source

    def __str__(self) -> str:
        return f"{','.join(self.hosts)} {self.source}"

    @classmethod
    def parse(cls, text: str) -> OtherSource:
        """Return the value that `str` wrote as this text. Raise `ValueError` for other text."""
        hosts, _, source = text.partition(" ")
        return cls(hosts=_names(hosts), source=Source.parse(source))


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A host that was selected and that nothing happens to: it stands on the closure, or cannot take part."""

    host: HostName
    outcome: Outcome
    kind: str = ""
    """The kind of its failure, if it has one."""
    message: str = ""
    closure: str = ""
    """What it would get. Empty if that is not known, or if nothing keeps it from that."""
    derivation: str = ""


class SoakOf(NamedTuple):
    """Waves whose hosts are watched after the last of them, before the next one begins. Waves count from 1."""

    first: int
    last: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.first} {self.last} {codecs.SECONDS.write(self.seconds)}"

    @classmethod
    def parse(cls, text: str) -> SoakOf:
        """Return the soak that `str` wrote as this text. Raise `ValueError` for other text."""
        first, last, seconds = text.split(" ")
        return cls(codecs.COUNT.read(first), codecs.COUNT.read(last), codecs.SECONDS.read(seconds))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will happen to which host. Nothing else happens."""

    fleet: str
    """The name of the fleet."""
    fleet_id: str = ""
    by: str
    verb: Verb = Verb.DEPLOY
    goal: Goal = Goal.SWITCH
    made: int
    expires: int
    """Seconds since 1970, like `made`."""
    source: Source = Source()
    """What the hosts were evaluated from that `other_sources` does not name."""
    other_sources: tuple[OtherSource, ...] = ()
    nix_options: tuple[tuple[str, str], ...] = ()
    """The options that the Nix of the controller evaluated and built with, each with its value."""
    intent: str = ""
    amends: str = ""
    """The digest of a plan whose systems this one brings to hosts that had changed by the time. Empty for most."""
    ledger: str = ""
    """The head of the ledger of the machine that made it, at that time. Empty if there was none."""
    at_once: int = 16
    push_at_once: int = 0
    """0 if pushes are limited by `at_once`."""
    max_failures: int = 0
    all_or_nothing: bool = False
    waves: tuple[tuple[HostName, ...], ...] = ()
    """The hosts of all parts, in order."""
    soaks: tuple[SoakOf, ...] = ()
    after: tuple[tuple[HostName, tuple[HostName, ...]], ...] = ()
    """Hosts that begin only after others of the plan have ended well, with those others."""
    undo_on_failure: bool = False
    """Whether hosts that the run has changed go back to where they were when it fails."""
    left_out: tuple[LeftOut, ...] = ()
    findings: tuple[FindingReported, ...] = ()
    """What people should know before they agree to the plan."""
    parts: Mapping[HostName, Part]

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 of the head, in base 16. The head has the digest of each part."""
        return digest(self.head)

    @property
    def hosts(self) -> tuple[HostName, ...]:
        """The hosts that something will happen to, in the order of their waves."""
        return tuple(host for wave in self.waves for host in wave)

    def source_of(self, host: HostName) -> Source:
        """Return what the closure of the host was evaluated from."""
        return next((other.source for other in self.other_sources if host in other.hosts), self.source)

    @property
    def push_bytes(self) -> int:
        """The NAR size of what would be pushed to all hosts together, as of when the plan was made."""
        return sum(part.forecast.push_bytes for part in self.parts.values())

    @functools.cached_property
    def head(self) -> str:
        """The text that is signed: everything but the parts, with the digest of each part."""
        hosts = (("host", HOST.write((name, self.parts[name].digest))) for name in sorted(self.parts))
        return written(TITLE, (*lines_of(self, FIELDS), *hosts))

    @property
    def text(self) -> str:
        """The whole plan: its head, its parts in the order of their hosts, and its digest."""
        parts = (self.parts[name].text for name in sorted(self.parts))
        return "".join((self.head, *parts, f"{END} {self.digest}\n"))

    @classmethod
    def parse(cls, text: str) -> Plan:
        """Return the plan that has this text. Raise `TextError`, which names the line, if it was edited or cut."""
        body, end, named_digest = text.rpartition(f"\n{END} ")
        head, *rest = (f"{body}\n" if end else text).split(f"\n{PART_TITLE}\n")
        texts = [f"{PART_TITLE}\n{part}\n" for part in rest[:-1]] + [f"{PART_TITLE}\n{part}" for part in rest[-1:]]
        lines = Lines(TITLE, f"{head}\n" if rest else head)
        attributes = attributes_of(lines, FIELDS)
        digests = dict(lines.each("host", HOST.read))
        lines.end()
        parts = dict(_parse_part(part, number) for number, part in enumerate(texts, 1))
        plan = cls(**attributes, parts=parts)
        for name in digests | parts:
            if name not in parts or digests.get(name) != parts[name].digest:
                raise TextError(f"host {name}: its part is not the one that the plan was made with")
        if named_digest != f"{plan.digest}\n":
            raise TextError("was edited or cut: its last line does not name its digest")
        if plan.text != text or sorted(plan.hosts) != sorted(parts):
            raise TextError("is not written as fleet writes it")
        return plan


def _parse_part(text: str, number: int) -> tuple[HostName, Part]:
    try:
        part = Part.parse(text)
    except TextError as error:
        raise TextError(f"part {number}: {error}") from None
    return part.host, part


def _waves(value: str) -> tuple[tuple[str, ...], ...]:
    return tuple(map(_names, value.split(" ")))


def _left_out(data: dict[str, Any]) -> LeftOut:
    return LeftOut(**{**data, "outcome": Outcome(data["outcome"])})


def _plain_left_out(left: LeftOut) -> dict[str, Any]:
    """Return what people and older plans know of, and what waits for the host only where something does."""
    return {key: value for key, value in vars(left).items() if value or key not in ("closure", "derivation")}


def _finding(data: dict[str, Any]) -> FindingReported:
    return FindingReported(**{**data, "severity": Severity(data["severity"])})


def _names(value: str) -> tuple[HostName, ...]:
    return tuple(HostName(codecs.NAME.read(name)) for name in value.split(","))


HOST = pair(codecs.NAME, codecs.SHA256)
NAMES = Codec(",".join, _names)
AFTER = pair(codecs.NAME, NAMES)
WAVES = Codec(lambda waves: " ".join(",".join(wave) for wave in waves) or NONE, _waves)
FIELDS = (
    Field(
        "fleet", "fleet fleet_id", pair(codecs.NAME, optional(codecs.matching(r"[0-9a-f]{8,64}", "an id in base 16")))
    ),
    Field("by", "by", codecs.TEXT),
    Field("verb", "verb", one_of(Verb)),
    Field("goal", "goal", one_of(Goal)),
    Field("made", "made", codecs.COUNT),
    Field("expires", "expires", codecs.COUNT),
    Field("source", "source", Codec(str, Source.parse)),
    Field("other_source", "other_sources", Codec(str, OtherSource.parse), is_list=True),
    Field("nix_option", "nix_options", pair(codecs.NIX_OPTION, codecs.TEXT), is_list=True),
    Field("intent", "intent", codecs.TEXT),
    Field("amends", "amends", codecs.SHA256, unless=""),
    Field("ledger", "ledger", optional(Codec(str, lambda text: str(Head.parse(text))))),
    Field("at_once", "at_once", codecs.COUNT),
    Field("push_at_once", "push_at_once", codecs.COUNT),
    Field("max_failures", "max_failures", codecs.COUNT),
    Field("all_or_nothing", "all_or_nothing", codecs.YES),
    Field("waves", "waves", optional(WAVES, none=())),
    Field("soak", "soaks", Codec(str, SoakOf.parse), is_list=True),
    Field("after", "after", AFTER, is_list=True),
    Field("undo", "undo_on_failure", codecs.YES, unless=False),
    Field("left_out", "left_out", json_of(_left_out, _plain_left_out), is_list=True),
    Field("finding", "findings", json_of(_finding, vars), is_list=True),
)
"""The lines of a plan's head between its title and its hosts, in their order."""
