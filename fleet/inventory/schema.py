"""Define fleet.toml as types: every key, its default, and the values it may have."""

from __future__ import annotations

import enum
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    Field,
    StrictBool,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from fleet.inventory import amounts, values
from fleet.inventory.hooks import Hook  # noqa: TC001 - pydantic reads it while running
from fleet.inventory.rollouts import RolloutTable  # noqa: TC001 - pydantic reads it while running
from fleet.inventory.tables import Count, PositiveSeconds, Rate, Seconds, Table
from fleet.inventory.windows import windows
from fleet.inventory.words import expected, shown
from fleet.model import HostName  # noqa: TC001 - pydantic reads it while running

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Kind(enum.StrEnum):
    """What sort of computer a host is. It only chooses presets."""

    SERVER = "server"
    LAPTOP = "laptop"
    GPU = "gpu"
    PI = "pi"


class Sudo(enum.Enum):
    """How the login user becomes root."""

    NONE = False
    PASSWORDLESS = True
    PASSWORD = "password"


class BuildOn(enum.StrEnum):
    """Where a closure is built."""

    CONTROLLER = "controller"
    TARGET = "target"


class Offline(enum.StrEnum):
    """What it means if a host cannot be reached before the switch."""

    FAIL = "fail"
    DEFER = "defer"


class LinkSpeed(enum.StrEnum):
    """How fast the link to a host is."""

    FAST = "fast"
    SLOW = "slow"


PRESETS: Mapping[str, Mapping[str, str]] = {
    Kind.LAPTOP: {"offline": "defer"},
    Kind.PI: {"link": "slow"},
}


def _sudo(value: object) -> Sudo:
    for sudo in Sudo:
        if value is sudo or (type(value) is type(sudo.value) and value == sudo.value):
            return sudo
    raise expected(value, 'false, true or "password"')


def _true(value: object) -> bool:
    if value is not True:
        raise expected(value, "true; leave the check out where there is no GPU")
    return True


def _list_of(read: Callable[[object], str], what: str) -> Callable[[object], tuple[str, ...]]:
    def read_list(value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise expected(value, f"a list of {what}")
        return tuple(read(item) for item in value)

    return read_list


_tags = _list_of(values.name, "tags")
_hosts = _list_of(values.name, "host names")
_globs = _list_of(values.unit_glob, "unit names")
_snippets = _list_of(values.snippet, "names of activation scripts")


def _file(value: object, info: ValidationInfo) -> Path:
    return values.file_path(value, (info.context or {}).get("folder", Path.cwd()))


def _flake(value: object, info: ValidationInfo) -> str:
    return values.flake(value, (info.context or {}).get("folder", Path.cwd()))


CheckKind = Literal["http", "tcp", "unit", "command", "gpu"]
CHECK_KINDS: tuple[CheckKind, ...] = get_args(CheckKind)


def shape_problems(keys: set[str]) -> list[tuple[str, str]]:
    """Return what is wrong with a check that has these keys: pairs of key and problem.

    The key is empty for a problem of the check as a whole.
    """
    kinds = [kind for kind in CHECK_KINDS if kind in keys]
    if len(kinds) != 1:
        has = " and ".join(kinds) or "none of them"
        return [("", f"has {has}; exactly one of {', '.join(CHECK_KINDS)} is needed")]
    fitting = _EXTRA_KEYS.get(kinds[0], frozenset())
    return [
        (key, f"does not fit a {kinds[0]} check; only {owners} checks have it")
        for key, owners in _OWNERS.items()
        if key in keys and key not in fitting
    ]


_HTTP_KEYS = frozenset({"method", "status", "body", "headers", "verify_tls"})
_GPU_KEYS = frozenset({"count", "min_driver"})
_EXTRA_KEYS = {"http": _HTTP_KEYS | {"from"}, "tcp": frozenset({"from"}), "gpu": _GPU_KEYS}
_OWNERS = {"from": "http and tcp"} | dict.fromkeys(sorted(_HTTP_KEYS), "http") | dict.fromkeys(sorted(_GPU_KEYS), "gpu")


def _default_check_name(data: dict[str, Any]) -> str:
    for kind in CHECK_KINDS:
        if target := data.get(kind):
            printable = (char if char.isprintable() else "?" for char in " ".join(str(target).split()))
            words = "".join(printable)
            return {"http": words, "gpu": kind}.get(kind, f"{kind} {words}")
    return "check"


class Check(Table):
    """Something that must be true of a healthy host."""

    http: Annotated[str, BeforeValidator(values.url)] | None = None
    tcp: Annotated[str, BeforeValidator(values.tcp_target)] | None = None
    unit: Annotated[str, BeforeValidator(values.unit)] | None = None
    command: Annotated[str, BeforeValidator(values.script)] | None = None
    gpu: Annotated[bool, BeforeValidator(_true)] | None = None
    name: Annotated[str, BeforeValidator(values.line)] = Field(default_factory=_default_check_name)
    within: PositiveSeconds = 60.0
    interval: PositiveSeconds = 1.0
    timeout: PositiveSeconds = 5.0
    tolerate_existing: StrictBool = False
    from_: Literal["host", "controller"] = Field(default="host", alias="from")
    method: Literal["GET", "HEAD", "POST", "PUT", "OPTIONS"] = "GET"
    status: Annotated[tuple[int, ...], BeforeValidator(values.statuses)] = (200,)
    body: Annotated[str, BeforeValidator(values.regex)] | None = None
    headers: Annotated[dict[str, str], BeforeValidator(values.headers)] = Field(default_factory=dict)
    verify_tls: StrictBool = True
    count: Count | None = None
    min_driver: Annotated[str, BeforeValidator(amounts.version)] | None = None

    @property
    def kind(self) -> CheckKind:
        """Which of the five kinds it is."""
        return next(kind for kind in CHECK_KINDS if getattr(self, kind) is not None)

    @model_validator(mode="after")
    def _fits(self) -> Check:
        keys = {type(self).model_fields[name].alias or name for name in self.model_fields_set}
        for key, problem in shape_problems(keys):
            raise PydanticCustomError(SHAPE, "{problem}", {"problem": f"{key} {problem}".strip()})
        return self


SHAPE = "check_shape"
"""The type of the error about something that `shape_problems` has reported in full."""


class Host(Table):
    """A computer of the fleet, with defaults and presets applied."""

    name: Annotated[HostName, BeforeValidator(values.name)]
    kind: Kind = Kind.SERVER
    address: Annotated[tuple[str, ...], BeforeValidator(values.addresses)] = Field(
        default_factory=lambda data: (data.get("name", ""),)
    )
    port: Annotated[int, BeforeValidator(values.port)] | None = None
    user: Annotated[str, BeforeValidator(values.user)] | None = None
    jump: Annotated[str | None, BeforeValidator(values.jump)] = None
    sudo: Annotated[Sudo, BeforeValidator(_sudo)] = Sudo.NONE
    system: Annotated[str, BeforeValidator(values.system)] = "x86_64-linux"
    attr: Annotated[tuple[str, ...], BeforeValidator(values.attribute)] = Field(
        default_factory=lambda data: default_attribute(data.get("name", ""))
    )
    tags: Annotated[tuple[str, ...], BeforeValidator(_tags)] = ()
    after: Annotated[tuple[HostName, ...], BeforeValidator(_hosts)] = ()
    """The hosts that end before this one begins, where they take part in the same run."""
    window: Annotated[tuple[str, ...], BeforeValidator(windows)] = ()
    """When a switch may begin. `windows.Window.parse` reads each. Empty: at any time."""
    host_key: Annotated[str, BeforeValidator(values.host_key)] | None = None
    identity_file: Annotated[Path, BeforeValidator(_file)] | None = None
    build_on: BuildOn = BuildOn.CONTROLLER
    substitute: StrictBool = True
    offline: Offline = Offline.FAIL
    link: LinkSpeed = LinkSpeed.FAST
    bandwidth: Rate | None = None
    """The most bytes per second that are sent to the host; None for as many as the link takes."""
    connect_timeout: PositiveSeconds | None = None
    """Seconds within which a TCP connection to the host comes about; None leaves that to the SSH configuration, and to
    fleet."""
    settle: Seconds = 5.0
    confirm_timeout: PositiveSeconds = 60.0
    activation_timeout: PositiveSeconds = 600.0
    boot_timeout: PositiveSeconds = 600.0
    """Seconds in which a host that was rebooted is back and can be asked."""
    last_resort: Literal["reboot"] | None = None
    """What a host may do by itself if it cannot bring its old system back in any other way."""
    ignore_units: Annotated[tuple[str, ...], BeforeValidator(_globs)] = ()
    ignore_snippets: Annotated[tuple[str, ...], BeforeValidator(_snippets)] = ()
    """The activation scripts that may fail."""
    checks: tuple[Check, ...] = ()
    hooks: tuple[Hook, ...] = ()

    @property
    def has_fast_aes(self) -> bool:
        """Whether its processor has instructions for AES. A Pi before the fifth has none."""
        return self.kind is not Kind.PI

    @model_validator(mode="after")
    def _check_names_differ(self) -> Host:
        for name, count in Counter(check.name for check in self.checks).items():
            if count > 1:
                raise ValueError(f"two checks are called {shown(name)}; give them different names")
        return self


def default_attribute(host: str) -> tuple[str, ...]:
    """Return the attribute of a flake that has the closure of the host."""
    return ("nixosConfigurations", host, "config", "system", "build", "toplevel")


class FleetTable(Table):
    """The table [fleet]."""

    name: Annotated[str, BeforeValidator(values.name)]
    flake: Annotated[str, BeforeValidator(_flake)] = Field(default=".", validate_default=True)
    signing_key: Annotated[Path, BeforeValidator(_file)] | None = None


class Inventory(Table):
    """A whole fleet.toml, valid."""

    path: Path
    name: str
    flake: str
    signing_key: Path | None = None
    hosts: dict[HostName, Host]
    rollout: RolloutTable
