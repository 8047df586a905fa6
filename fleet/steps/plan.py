"""What a run would do to each host. Pure but for what has to be asked: what is the closure made of, what of it does the
host lack, what do its own caches have?"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet import nix
from fleet.errors import ConfigError, PushError
from fleet.host.obstacles import PARTS
from fleet.model import Reboot
from fleet.steps.caches import Caches, ask_caches
from fleet.steps.preflight import require_room
from fleet.steps.reboot import goes_by_reboot
from fleet.steps.system import look_here, look_there, require_switchable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.host.answers import HostFacts
    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.model import Closure, Derivation
    from fleet.steps.system import System


class Action(enum.StrEnum):
    """What the run would do to a host."""

    UNCHANGED = "unchanged"
    COMMIT = "commit"
    """The closure runs already, but is not what the profile or the boot loader names: it is proven and committed."""
    SWITCH = "switch"


@dataclass(frozen=True, kw_only=True)
class HostPlan:
    """What the run would do to one host."""

    host: Host
    facts: HostFacts
    closure: Closure
    derivation: Derivation | None = None
    """What to build on the host itself; None where the closure is in the local store."""
    action: Action
    missing: tuple[str, ...] = ()
    """Store paths that the host lacks."""
    missing_bytes: int = 0
    """Their NAR bytes."""
    substitutes: Mapping[str, int] = field(default_factory=dict)
    """Those of them that the host fetches from its own caches, with their NAR bytes."""
    download_bytes: int = 0
    """What fetching them downloads."""
    caches_trouble: str = ""
    """Why the caches could not be asked, if they could not."""
    wire_bytes: int = 0
    """What pushing it sends to the host."""
    push_seconds: float | None = None
    """How long that takes; None where it cannot be known."""
    room_needed: int = 0
    """Bytes on the disk that /nix is on."""
    reboot: tuple[str, ...] = ()
    """What of the closure only a reboot makes live, and what forbids a live switch to it."""
    by_reboot: bool = False
    """Whether the host is brought to it by way of a reboot."""

    @property
    def obstacles(self) -> tuple[str, ...]:
        """What forbids a live switch to the closure."""
        return tuple(reason for reason in self.reboot if reason not in PARTS)

    @property
    def pushed(self) -> tuple[str, ...]:
        """What the host lacks and does not fetch."""
        return tuple(path for path in self.missing if path not in self.substitutes)

    @property
    def push_bytes(self) -> int:
        """Their NAR bytes."""
        return self.missing_bytes - sum(self.substitutes.values())


@dataclass(frozen=True)
class Contents:
    """The store paths of a closure, each with its NAR size in bytes."""

    sizes: Mapping[str, int]


async def contents(here: Machine, closure: Closure) -> Contents:
    """What the closure is made of, by the local store."""
    listed = await here.run(nix.requisites(closure))
    paths = listed.stdout.split()
    sized = await here.run(nix.sizes(paths))
    if listed.status or sized.status:
        said = (listed.stderr or sized.stderr).splitlines()[-5:]
        raise ConfigError(f"{closure} is not in this machine's store", said=said, hint="nix copy it here first")
    return Contents(dict(zip(paths, map(int, sized.stdout.split()), strict=True)))


def choose_action(facts: HostFacts, closure: Closure) -> Action:
    """What has to happen so that the host stands on the closure."""
    if facts.stands_on(closure):
        return Action.UNCHANGED
    return Action.COMMIT if facts.runs(closure) else Action.SWITCH


async def lacking(machine: Machine, host: Host, contents: Contents) -> tuple[tuple[str, ...], int]:
    """Which paths the host lacks, and their NAR bytes."""
    answer = await machine.run(nix.missing(contents.sizes))
    if answer.status != 0:
        raise PushError(host.name, "the host's store does not answer", said=answer.stderr.splitlines()[-5:])
    paths = tuple(path for path in answer.stdout.split() if path in contents.sizes)
    return paths, sum(contents.sizes[path] for path in paths)


async def plan_host(
    machine: Machine,
    host: Host,
    facts: HostFacts,
    closure: Closure,
    *,
    made_of: Contents | None,
    derivation: Derivation | None = None,
    wanted: Reboot = Reboot.NEVER,
) -> HostPlan:
    """The plan of one host. `made_of` is None where nothing will be pushed: rollback, or a build on the host.

    Raises what makes the host or the closure unfit for it.
    """
    action = choose_action(facts, closure)
    missing: tuple[str, ...] = ()
    size, caches = 0, Caches()
    if made_of is not None and action is Action.SWITCH:
        missing, size = await lacking(machine, host, made_of)
        if missing and host.substitute:
            caches = await ask_caches(machine, missing)
    system: System | None = None  # of what the host will build, nobody knows before it is built
    if made_of is not None or derivation is None:
        system = look_here(closure) if made_of is not None else await look_there(machine, host, closure)
    reboot = system.reboot_reasons(facts) if system is not None else ()
    by_reboot = action is Action.SWITCH and goes_by_reboot(wanted, reboot)
    if system is not None:
        require_switchable(host, system)
    if action is Action.SWITCH and (made_of is not None or derivation is not None):
        require_room(host, facts)
    sizes = made_of.sizes if made_of is not None else {}
    return HostPlan(
        host=host,
        facts=facts,
        closure=closure,
        derivation=derivation,
        action=action,
        missing=missing,
        missing_bytes=size,
        substitutes={path: sizes[path] for path in caches.paths},
        download_bytes=caches.download,
        caches_trouble=caches.trouble,
        reboot=reboot,
        by_reboot=by_reboot,
    )
