"""One host's share of a plan: everything that decides what happens to the host. The host's `begin` reads its text."""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.inventory import BuildOn, Check, Hook, Offline, SecretPlace
from fleet.model import Closure, Derivation, Goal, HostName, Serial
from fleet.plans import codecs
from fleet.plans.codecs import Field, attributes_of, either, json_of, lines_of, matching, one_of, optional, pair
from fleet.plans.text import Lines, TextError, digest, written

if TYPE_CHECKING:
    from fleet.inventory import Host

TITLE = "fleet-part v1"
NO_SERIAL = Serial("0-none")
"""The serial of a host that has had no transaction."""


class Action(enum.StrEnum):
    """What has to be done so that a host runs a closure and boots it next."""

    UNCHANGED = "unchanged"
    COMMIT = "commit"
    """The closure runs already, but the profile or the boot loader names another: it is proven and committed."""
    SWITCH = "switch"
    SECRETS = "secrets"
    """The closure runs and is what boots next. If a secret differs the host writes it, and is proven like any other."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What the host lacked when the plan was made, and what bringing it takes. Decides nothing. Sizes are in bytes."""

    missing_paths: int = 0
    missing_bytes: int = 0
    """The NAR size of the missing paths, before any substitution."""
    substitute_paths: int = 0
    """How many of the missing paths the host fetches from its own caches."""
    substitute_bytes: int = 0
    """The NAR size of those."""
    download_bytes: int = 0
    """The size of that download."""
    wire_bytes: int = 0
    """What pushing the rest sends over the link."""
    push_seconds: float | None = None
    """How long the push takes at the speed of the last one to the host; None if none was measured."""
    room_needed: int = 0
    """The space needed on the disk that /nix is on."""
    room_free: int = 0

    @property
    def push_paths(self) -> int:
        """How many store paths are pushed."""
        return self.missing_paths - self.substitute_paths

    @property
    def push_bytes(self) -> int:
        """The NAR size of the paths that are pushed."""
        return self.missing_bytes - self.substitute_bytes


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one host is asked to do, in full. Times are in seconds."""

    host: HostName
    host_key: str = ""
    """The fingerprint of its SSH host key, `SHA256:…`. Empty if it was not known."""
    closure: Closure
    derivation: Derivation | None = None
    """What the closure is built from; None if the closure was given, or ran before."""
    build_on: BuildOn = BuildOn.CONTROLLER
    manifest: str = ""
    """The `manifest` of the closure. Empty if its contents were not here: the host builds it, or has it."""
    expected: Closure
    """What the host runs when this begins. A host that runs something else refuses."""
    link: str = ""
    """What the system profile links to, and since when. It changes when somebody switches by hand."""
    serial: Serial = NO_SERIAL
    """The host's newest transaction that the plan knows of. A host that has a newer one refuses."""
    action: Action = Action.SWITCH
    goal: Goal = Goal.SWITCH
    activation_timeout: int = 600
    confirm_timeout: int = 60
    boot_timeout: int = 600
    """After each of the three timeouts the host goes back by itself."""
    settle: float = 5.0
    """How long the new system has to be healthy without a break."""
    watch: float = 0.0
    """The least time for which it is watched."""
    checks: tuple[Check, ...] = ()
    hooks: tuple[Hook, ...] = ()
    secrets: tuple[SecretPlace, ...] = ()
    """Where its secrets go. Their values are read when the host's turn comes, and are nowhere in a plan."""
    checks_decide: bool = True
    """Whether a failing check takes the host back. If not, it is only reported."""
    ignore_units: tuple[str, ...] = ()
    ignore_snippets: tuple[str, ...] = ()
    accept_boot_risk: bool = False
    force: bool = False
    """Whether to reboot although somebody is logged in, a computing job runs, or an inhibitor lock is held."""
    retry_quarantined: bool = False
    last_resort: str = ""
    windows: tuple[str, ...] = ()
    """When it may begin, as fleet.toml says it. Empty: at any time."""
    offline: Offline = Offline.FAIL
    substitute: bool = True
    copy_with: str = "serve"
    reboot: tuple[str, ...] = ()
    """The parts of the closure that only a reboot makes live, and what forbids a live switch to it."""
    gate: str = ""
    """What becomes of the host's gate: `on`, `change` or `off`. Empty if it stays, or if there is none."""
    forecast: Forecast = field(default_factory=Forecast)
    expires: int = 0
    """Seconds since 1970."""

    @functools.cached_property
    def text(self) -> str:
        """The part as it is stored, signed and sent to the host."""
        return written(TITLE, lines_of(self, FIELDS))

    @property
    def digest(self) -> str:
        """The SHA-256 of the text, in base 16."""
        return digest(self.text)

    @property
    def by_reboot(self) -> bool:
        """Whether the host goes to the closure by way of a reboot."""
        return self.goal is Goal.BOOT

    def apply_policy(self, host: Host) -> Host:
        """Return the host with the checks, timeouts and rules of this part in place of its own."""
        return host.model_copy(
            update={
                "build_on": self.build_on,
                "activation_timeout": float(self.activation_timeout),
                "confirm_timeout": float(self.confirm_timeout),
                "boot_timeout": float(self.boot_timeout),
                "settle": self.settle,
                "checks": self.checks,
                "hooks": self.hooks,
                "ignore_units": self.ignore_units,
                "ignore_snippets": self.ignore_snippets,
                "last_resort": self.last_resort or None,
                "offline": self.offline,
                "substitute": self.substitute,
            }
        )

    @classmethod
    def parse(cls, text: str) -> Part:
        """Return the part that has this text. Raise `TextError`, which names the line, for any other text."""
        lines = Lines(TITLE, text)
        part = cls(**attributes_of(lines, FIELDS))
        lines.end()
        if part.text != text:
            raise TextError("is not written as fleet writes it")
        return part


FIELDS = (
    Field("host", "host host_key", pair(codecs.NAME, optional(codecs.FINGERPRINT))),
    Field("new", "closure", codecs.STORE_PATH),
    Field("drv", "derivation", optional(codecs.STORE_PATH, none=None)),
    Field("build", "build_on", one_of(BuildOn)),
    Field("manifest", "manifest", optional(codecs.SHA256)),
    Field("expected", "expected", codecs.STORE_PATH),
    Field("link", "link", optional(codecs.LINK)),
    Field("serial", "serial", codecs.SERIAL),
    Field("action", "action", one_of(Action)),
    Field("goal", "goal", one_of(Goal)),
    Field("activation", "activation_timeout", codecs.COUNT),
    Field("confirm", "confirm_timeout", codecs.COUNT),
    Field("boot", "boot_timeout", codecs.COUNT),
    Field("settle", "settle", codecs.SECONDS),
    Field("watch", "watch", codecs.SECONDS),
    Field("check", "checks", codecs.CHECK, is_list=True),
    Field("checks", "checks_decide", either("tell", "decide")),
    Field("hook", "hooks", codecs.HOOK, is_list=True),
    Field("secret", "secrets", codecs.SECRET, is_list=True),
    Field("ignore", "ignore_units", codecs.UNIT_GLOB, is_list=True),
    Field("snippet", "ignore_snippets", codecs.SNIPPET, is_list=True),
    Field("risk", "accept_boot_risk", codecs.YES),
    Field("force", "force", codecs.YES),
    Field("retry", "retry_quarantined", codecs.YES),
    Field("last_resort", "last_resort", optional(matching("reboot", "reboot"))),
    Field("window", "windows", codecs.WINDOW, is_list=True),
    Field("offline", "offline", one_of(Offline)),
    Field("substitute", "substitute", codecs.YES),
    Field("copy_with", "copy_with", matching("serve|nix", "serve or nix")),
    Field("reboot", "reboot", codecs.WORDS),
    Field("gate", "gate", matching("on|change|off", "on, change or off"), unless=""),
    Field("forecast", "forecast", json_of(lambda data: Forecast(**data), vars)),
    Field("expires", "expires", codecs.COUNT),
)
"""The lines of a part after its title, in their order. The host program knows all of these keys."""
