"""Find what no baseline can accept: another system than was deployed, a reboot that is due, and a damaged store."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.drift.finding import Drift, Item
from fleet.host.answers import State
from fleet.inventory.drivers import Driver
from fleet.text import listed, local_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fleet.drift.look import StoreLook
    from fleet.drift.observed import Observation
    from fleet.host.facts import HostFacts
    from fleet.host.history import PastTransaction
    from fleet.inventory import Host
    from fleet.model import Closure

KEPT = (State.COMMITTED, State.TESTED)


@dataclass(frozen=True)
class Places:
    """Where a driver keeps its systems, and what else than `fleet` changes them."""

    running: str
    """What tells which one is active."""
    profile: str
    """What names the one that a boot, or the next activation, makes active."""
    by_hand: str


NIXOS = Places("/run/current-system", "/nix/var/nix/profiles/system", "nixos-rebuild or nix-env by hand")


def places(host: Host) -> Places:
    """Return the places of the driver of this host, or of this profile. The host program has the same."""
    match host.driver:
        case Driver.SYSTEM_MANAGER:
            state = "/var/lib/system-manager/state/system-manager-state.json"
            profile = "/nix/var/nix/profiles/system-manager-profiles/system-manager"
            return Places(state, profile, "system-manager by hand")
        case Driver.HOME_MANAGER:
            home = f"~{host.profile}/.local/state"
            current, profile = f"{home}/home-manager/gcroots/current-home", f"{home}/nix/profiles/home-manager"
            return Places(current, profile, "home-manager by hand")
        case Driver.NIX_DARWIN:
            return dataclasses.replace(NIXOS, by_hand="darwin-rebuild or nix-env by hand")
        case Driver.GENERIC:
            profile = f"/nix/var/nix/profiles/fleet{f'-profiles/{host.profile}' if host.profile else ''}"
            return Places(profile, profile, "nix-env, or the script of another system, by hand")
    return NIXOS


def needs_history(facts: HostFacts) -> bool:
    """Whether only the history tells what was deployed last, and who has changed it since."""
    last = facts.last
    if last is None or facts.transaction is not None:
        return False
    if not last.part or last.state not in (*KEPT, State.REVERTED):
        return True
    return not _stands(facts, last.new if last.state in KEPT else last.old, last.state)


def of_system(host: Host, facts: HostFacts, seen: Observation, past: Sequence[PastTransaction]) -> Iterator[Item]:
    """Yield whether the host runs, or keeps, something else than was last deployed to it.

    `past` is what it remembers, oldest first, and may be empty where `needs_history` says no. While a transaction is
    open that is not known. A host that nothing was ever deployed to should run what its profile names.
    """
    if facts.transaction is not None:
        return
    if facts.last is None:
        if facts.running != facts.profile and facts.running not in facts.specialisations:
            yield _other_system(places(host), facts, seen, facts.profile, "its system profile", None)
        return
    last = next((one for one in reversed(past) if one.part), None)
    if last is None:  # it stands as its last transaction has left it, or remembers no deployment
        return
    deployed = last.new if last.state in KEPT else last.old
    if _stands(facts, deployed, last.state):
        return
    later = [one for one in past[past.index(last) + 1 :] if not one.part]
    by = f"{last.by} from {last.origin}" if last.origin else last.by
    what = f"run {last.run} of {by}, {local_time(last.ended)}"
    yield _other_system(places(host), facts, seen, deployed, what, later[-1] if later else None)


def _stands(facts: HostFacts, deployed: Closure, state: State) -> bool:
    """Whether the host runs this, and keeps it unless that was never asked for."""
    if not facts.runs(deployed) and not (state is State.TESTED and facts.running == deployed):
        return False
    return state is State.TESTED or facts.profile == deployed


def _other_system(
    where: Places, facts: HostFacts, seen: Observation, deployed: Closure, what: str, later: PastTransaction | None
) -> Item:
    runs_it = facts.runs(deployed) or facts.running == deployed
    path = where.profile if runs_it else where.running
    is_now = f"keeps {facts.profile} for the next boot" if runs_it else f"runs {facts.running}"
    by = later.by if later is not None else ""
    cause = where.by_hand
    if later is not None:
        cause = f"a switch by {later.by or 'somebody'}, which services.fleet.guard has seen"
    moment = _moment(facts.link) if runs_it else seen.switched
    return Item(
        drift=Drift.SYSTEM,
        kind="system",
        id=path,
        message=f"{is_now}; what was deployed is {deployed} ({what})",
        path=path,
        owner=by,
        at=later.ended if later is not None else moment,
        cause=cause,
        fix="commit what was changed and deploy it, or deploy again to go back",
    )


def _moment(link: str) -> int:
    seconds = link.partition("@")[2].partition(".")[0]
    return int(seconds) if seconds.isascii() and seconds.isdigit() else 0


def of_reboot(facts: HostFacts, name: str) -> Iterator[Item]:
    """Yield whether a reboot is due."""
    if facts.reboot_pending:
        yield Item(
            drift=Drift.REBOOT,
            kind="reboot",
            id="/run/booted-system",
            message=f"only a reboot makes live: {listed(facts.reboot_pending)}",
            path="/run/booted-system",
            at=facts.since,
            cause="a deployment without a reboot",
            fix=f"fleet reboot {name}, or deploy with --reboot if-needed",
        )


def of_store(store: StoreLook, seen: Observation) -> Iterator[Item]:
    """Yield the store paths that are not what Nix has recorded."""
    for wrong in store.wrong:
        state = "is gone, though Nix calls it valid" if wrong.is_gone else "is not what Nix has recorded of it"
        yield Item(
            drift=Drift.STORE,
            kind="store_path",
            id=wrong.path,
            message=state,
            path=wrong.path,
            owner=seen.owner(wrong.uid) if wrong.at else "",
            at=wrong.at,
            cause="somebody wrote to the store as root, or the disk is failing",
            fix=f"nix-store --repair-path {wrong.path} there, with a cache that has it",
        )
