"""Define fleet.toml as types: every key, its default, and the values it may have."""

from __future__ import annotations

import enum
from collections import Counter
from pathlib import Path  # noqa: TC003 - pydantic reads it while running
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, StrictBool, ValidationInfo, model_validator

from fleet.inventory import amounts, databases, origins, secrets, values, working
from fleet.inventory.check import Check  # noqa: TC001 - pydantic reads it while running
from fleet.inventory.drivers import Driver, default_attribute, recognised
from fleet.inventory.hooks import Hook  # noqa: TC001 - pydantic reads it while running
from fleet.inventory.rollouts import RolloutTable  # noqa: TC001 - pydantic reads it while running
from fleet.inventory.secrets import Secret  # noqa: TC001 - pydantic reads it while running
from fleet.inventory.tables import Count, File, PositiveSeconds, Rate, Seconds, Table, file, folder_of
from fleet.inventory.telling import MetricsTable, Notify
from fleet.inventory.windows import windows
from fleet.inventory.words import expected, shown
from fleet.inventory.working import WorkersTable
from fleet.model import DatabaseAddress, HostName  # noqa: TC001 - pydantic reads them while running

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


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


PRESETS: Mapping[str, Mapping[str, str | bool]] = {
    Kind.LAPTOP: {
        "offline": "defer",
        "deliver_on_battery": False,
        "deliver_metered": False,
        "deliver_in_session": False,
    },
    Kind.PI: {"link": "slow"},
}


def _sudo(value: object) -> Sudo:
    for sudo in Sudo:
        if value is sudo or (type(value) is type(sudo.value) and value == sudo.value):
            return sudo
    raise expected(value, 'false, true or "password"')


_tags = values.list_of(values.name, "tags")
_hosts = values.list_of(values.name, "host names")
_globs = values.list_of(values.unit_glob, "unit names")
_configurations = values.list_of(values.line, "names of configurations")
_drift = values.list_of(values.line, "globs for paths, or for kind:name")
_snippets = values.list_of(values.snippet, "names of activation scripts")


def _files(value: object, info: ValidationInfo) -> tuple[Path, ...]:
    if not isinstance(value, list | tuple):
        raise expected(value, "a list of files")
    return tuple(file(each, info) for each in value)


def _database(value: object, info: ValidationInfo) -> DatabaseAddress:
    return databases.database(value, folder_of(info))


def _addresses(value: object, info: ValidationInfo) -> tuple[str, ...]:
    return values.addresses(origins.named(value, info.data.get("name", "")))


def _secrets(value: object, info: ValidationInfo) -> object:
    return secrets.tables(value, info.data.get("name", ""))


def _attribute(value: object, info: ValidationInfo) -> tuple[str, ...]:
    return origins.attribute(value, info.data.get("name", ""))


def _profile(value: object) -> str:
    return values.profile(value) if value != "" else ""


def _flake(value: object, info: ValidationInfo) -> str:
    return origins.flake(value, folder_of(info))


def _expression(value: object, info: ValidationInfo) -> str:
    return origins.expression(value, folder_of(info))


class Host(Table):
    """A computer of the fleet, with defaults and presets applied."""

    name: Annotated[HostName, BeforeValidator(values.name)]
    kind: Kind = Kind.SERVER
    address: Annotated[tuple[str, ...], BeforeValidator(_addresses)] = Field(
        default_factory=lambda data: (data.get("name", ""),)
    )
    port: Annotated[int, BeforeValidator(values.port)] | None = None
    user: Annotated[str, BeforeValidator(values.user)] | None = None
    jump: Annotated[str | None, BeforeValidator(values.jump)] = None
    sudo: Annotated[Sudo, BeforeValidator(_sudo)] = Sudo.NONE
    gate: StrictBool = False
    """Whether the login runs nothing but the host's gate, which wants signatures: services.fleet.gate."""
    system: Annotated[str, BeforeValidator(values.system)] = "x86_64-linux"
    flake: Annotated[str, BeforeValidator(_flake)] | None = None
    """The flake that has its system; None if that is the one of the fleet, or the fleet's expression."""
    attr: Annotated[tuple[str, ...], BeforeValidator(_attribute)] = Field(
        default_factory=lambda data: default_attribute(data.get("name", ""))
    )
    driver: Driver = Field(default_factory=lambda data: recognised(data.get("attr", ())))
    """What activates its systems."""
    profile: Annotated[str, BeforeValidator(_profile)] = ""
    """The profile that this is, beside the own system of the computer: of home-manager, a user. Empty if it is none."""
    tags: Annotated[tuple[str, ...], BeforeValidator(_tags)] = ()
    after: Annotated[tuple[HostName, ...], BeforeValidator(_hosts)] = ()
    """The hosts that end before this one begins, where they take part in the same run."""
    window: Annotated[tuple[str, ...], BeforeValidator(windows)] = ()
    """When a switch may begin. `windows.Window.parse` reads each. Empty: at any time."""
    host_key: Annotated[str, BeforeValidator(values.host_key)] | None = None
    identity_file: File | None = None
    build_on: BuildOn = BuildOn.CONTROLLER
    substitute: StrictBool = True
    offline: Offline = Offline.FAIL
    deliver_within: PositiveSeconds = amounts.LONGEST
    """How long what it should get waits for it, if it was away."""
    deliver_on_battery: StrictBool = True
    """Whether that may come while it runs on battery."""
    deliver_metered: StrictBool = True
    """Whether that may come over a metered connection."""
    deliver_in_session: StrictBool = True
    """Whether that may come while somebody works there."""
    site: Annotated[str, BeforeValidator(working.site)] = ""
    """Where it is, for workers: those of the same site deliver to it. Empty for those of none."""
    site_address: Annotated[str, BeforeValidator(values.tcp_target)] | None = None
    """Where others of its site reach it, while it gives them what a run has brought; None if it gives nothing."""
    mesh: StrictBool = False
    """Whether its address in the mesh is the last of its addresses, for machines that are in the mesh."""
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
    keep_generations: Count = 5
    """How many of the newest generations `fleet gc` leaves in any case."""
    last_resort: Literal["reboot"] | None = None
    """What a host may do by itself if it cannot bring its old system back in any other way."""
    ignore_units: Annotated[tuple[str, ...], BeforeValidator(_globs)] = ()
    ignore_snippets: Annotated[tuple[str, ...], BeforeValidator(_snippets)] = ()
    """The activation scripts that may fail."""
    ignore_drift: Annotated[tuple[str, ...], BeforeValidator(_drift)] = ()
    """Globs for what `fleet drift` does not tell."""
    checks: tuple[Check, ...] = ()
    hooks: tuple[Hook, ...] = ()
    secrets: Annotated[dict[str, Secret], BeforeValidator(_secrets)] = Field(default_factory=dict)

    @property
    def has_fast_aes(self) -> bool:
        """Whether its processor has instructions for AES. A Pi before the fifth has none."""
        return self.kind is not Kind.PI

    @model_validator(mode="after")
    def _check_names_differ(self) -> Host:
        for name, count in Counter(check.name for check in self.checks).items():
            if count > 1:
                raise ValueError(f"two checks are called {shown(name)}; give them different names")
        secrets.require_apart(self.secrets)
        return self


class FleetTable(Table):
    """The table [fleet]."""

    name: Annotated[str, BeforeValidator(values.name)]
    flake: Annotated[str, BeforeValidator(_flake)] = Field(default=".", validate_default=True)
    expression: Annotated[str, BeforeValidator(_expression)] | None = None
    """The file that has the systems, for people without flakes: its value is an attribute set."""
    ignore: Annotated[tuple[str, ...], BeforeValidator(_configurations)] = ()
    """Globs for configurations that are no hosts."""
    nix_options: Annotated[dict[str, str], BeforeValidator(origins.nix_options)] = Field(default_factory=dict)
    signing_key: File | None = None
    id: Annotated[str, BeforeValidator(values.fleet_id)] = ""
    """Tells the fleet from every other, also one of the same name. Signed plans carry it."""
    age_identities: Annotated[tuple[Path, ...], BeforeValidator(_files)] = ()
    """The files with the keys that decrypt what age has encrypted; where there are none, those in the usual places."""
    state: Annotated[DatabaseAddress, BeforeValidator(_database)] | None = None
    """The database that keeps the state for all machines; None if this machine keeps it in a file."""

    @model_validator(mode="after")
    def _has_one_origin(self) -> FleetTable:
        if self.expression is not None and "flake" in self.model_fields_set:
            raise ValueError("has flake and expression; give one of them, and flake to the hosts of other flakes")
        return self


class Inventory(Table):
    """A whole fleet.toml, valid."""

    path: Path
    name: str
    flake: str
    expression: str | None = None
    """`file:` and the path of a file that has the systems, in place of the flake."""
    ignore: tuple[str, ...] = ()
    """Globs for configurations that are no hosts. No host of the file matches one."""
    nix_options: dict[str, str] = Field(default_factory=dict)
    """Options for every Nix command that runs on this machine. Whether Nix knows them is checked later."""
    signing_key: Path | None = None
    id: str = ""
    """Empty as long as nothing was signed."""
    age_identities: tuple[Path, ...] = ()
    state: DatabaseAddress | None = None
    """The database that keeps the state for all machines; None if this machine keeps it in a file."""
    hosts: dict[HostName, Host]
    rollout: RolloutTable
    notify: tuple[Notify, ...] = ()
    """Those who are told how runs end."""
    metrics: MetricsTable = MetricsTable()
    workers: WorkersTable = WorkersTable()

    def by_reference(self, hosts: Iterable[Host]) -> dict[str, list[Host]]:
        """Return the hosts by what has their systems, in their order: flake references, or `expression`."""
        groups: dict[str, list[Host]] = {}
        for host in hosts:
            groups.setdefault(host.flake or self.expression or self.flake, []).append(host)
        return groups
