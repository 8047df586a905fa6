"""What a look at a host has shown."""

from __future__ import annotations

import functools
import stat
from dataclasses import dataclass, field

PARTS = ("declared", "files", "sums", "units", "crontabs", "people", "packages", "listeners", "homes", "actors")
"""What the script says `done` of, in its order."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file of any type, without its contents."""

    path: str
    """Escaped as C does it, where it has more than printable characters."""
    mode: int
    uid: int
    size: int
    at: int
    """When it last changed: seconds since 1970."""
    device: str
    target: str = ""
    """Where it leads, if it is a link."""

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key that lets somebody in."""

    fingerprint: str
    words: str
    """Its comment and type, as whoever owns the file has written them."""
    file: str
    at: int


@dataclass(kw_only=True)
class Home:
    """What a user has in the places that were looked at. It is the user's to say."""

    user: str
    uid: int
    folder: str
    entries: list[Entry] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    key_file: tuple[str, int] = ("", 0)
    """The file of the keys that come next, and when it last changed."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A process that holds a socket."""

    pid: int
    began: int
    """Ticks since the boot."""
    group: str
    """Its control group, which has the name of its unit."""
    name: str


@dataclass(frozen=True, kw_only=True)
class Socket:
    """A socket on which somebody listens."""

    inode: str
    table: str
    """`tcp`, `tcp6`, `udp` or `udp6`."""
    address: str
    port: int
    uid: int


@dataclass(kw_only=True)
class Observation:
    """Everything that the scripts have said of a host."""

    system: str = ""
    switched: int = 0
    """When the running system was made the current one: seconds since 1970."""
    is_nixos: bool = False
    now: int = 0
    uptime: int = 0
    own_units: set[str] = field(default_factory=set)
    """The units of the system."""
    differs: list[str] = field(default_factory=list)
    """Files below /etc that the system declares, and that are missing or something else."""
    copies: set[str] = field(default_factory=set)
    """Files below /etc that the system copies there."""
    etc: Entry | None = None
    files: list[Entry] = field(default_factory=list)
    sums: dict[str, str] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)
    """The secrets that fleet has brought, and the folders that have nothing else."""
    units: list[Entry] = field(default_factory=list)
    crontabs: list[Entry] = field(default_factory=list)
    users: dict[str, tuple[int, str, str, str]] = field(default_factory=dict)
    """Number, group, home and shell of each account."""
    passwords: dict[str, str] = field(default_factory=dict)
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The members of each group that has some."""
    accounts: set[str] = field(default_factory=set)
    """The accounts that the system declares."""
    packages: dict[str, int] = field(default_factory=dict)
    """What dpkg has installed, and when its files came."""
    conffiles: dict[str, str] = field(default_factory=dict)
    """The package of each file in /etc."""
    dynamic: int = 32768
    """The first port that the kernel gives out by itself."""
    sockets: list[Socket] = field(default_factory=list)
    holders: dict[str, Holder] = field(default_factory=dict)
    ports: dict[int, str] = field(default_factory=dict)
    """The socket unit of each port on which systemd itself listens."""
    homes: list[Home] = field(default_factory=list)
    origin: str = ""
    """The address that this very login came from."""
    actors: list[tuple[int, str, str]] = field(default_factory=list)
    """When somebody became root, how (`sudo` or `ssh`), and who or from where."""
    agents: set[str] = field(default_factory=set)
    """The accounts that are agents: services.fleet.agents."""
    done: set[str] = field(default_factory=set)
    is_complete: bool = False
    """Whether the answer has its end."""
    unread: int = 0
    """How many lines could not be read."""

    @functools.cached_property
    def _names(self) -> dict[int, str]:
        """The first account with each number."""
        return {user[0]: name for name, user in reversed(self.users.items())}

    def owner(self, uid: int) -> str:
        """Return the name of the user with this number, or the number. All accounts are known by then."""
        return self._names.get(uid, str(uid))

    @property
    def incomplete(self) -> tuple[str, ...]:
        """The parts that were cut short."""
        missing = [part for part in PARTS if part not in self.done]
        return (*missing, *(["unreadable lines"] if self.unread else []))
