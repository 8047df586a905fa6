"""Find what somebody has installed by hand, by the places in which tools put it."""

from __future__ import annotations

import functools
import re
from posixpath import join, normpath
from typing import TYPE_CHECKING

from fleet.drift.finding import Drift, Item
from fleet.drift.places import HOME_PLACES, PROFILES, RUSTUP_PROXIES, SYSTEM_PLACES, USER_UNITS, Place
from fleet.text import listed, store_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from fleet.drift.observed import Entry, Home, Observation

STORE = "/nix/store/"
SAME_TIME = 120
"""Seconds within which pip writes a package and its commands."""
_GENERATION = re.compile(r".*-[0-9]+-link")
_METADATA = re.compile(r"(.+?)-(\d[^-]*)(?:-py[\d.]+)?\.(?:dist-info|egg-info)")
_OWN_PROFILES = (
    *("system", "system-profiles", "channels", "per-user", "home-manager", "system-manager-profiles"),
    *("fleet", "fleet-profiles"),  # of the driver `generic`
)
"""Links for profiles that are no packages, or that another tool declares."""


def of_homes(seen: Observation) -> Iterator[Item]:
    """Yield what is installed in the whole host, and in each home."""
    for home in seen.homes:
        is_host = home.folder == "/"
        folder = "" if is_host else home.folder.rstrip("/")
        toolchains: dict[str, Item] = {}
        for place, path, entries in _by_place(home, folder, SYSTEM_PLACES if is_host else HOME_PLACES):
            if not place.each:
                item = _toolchain(home, place, path, entries)
                if item is not None:
                    toolchains[path] = item
                    yield item
                continue
            for entry in entries:
                if (single := _single(seen, home, place, entry, toolchains)) is not None:
                    yield single


def _by_place(home: Home, folder: str, places: Sequence[Place]) -> Iterator[tuple[Place, str, list[Entry]]]:
    """Yield each place that has something, its path, and what it has, in the order of the places."""
    found: dict[tuple[int, str], list[Entry]] = {}
    for entry in home.entries:
        parent = entry.path.rpartition("/")[0]
        relative = parent.removeprefix(f"{folder}/")
        for number, place in enumerate(places):
            if _pattern(place.path).fullmatch(relative):
                found.setdefault((number, parent), []).append(entry)
                break
    for (number, path), entries in sorted(found.items(), key=lambda one: (one[0][0], one[0][1])):
        yield places[number], path, entries


@functools.cache
def _pattern(path: str) -> re.Pattern[str]:
    return re.compile("[^/]*".join(map(re.escape, path.split("*"))))


def _toolchain(home: Home, place: Place, path: str, entries: list[Entry]) -> Item | None:
    """Return what a tool has put into its place; None if that is nothing, or a link to what Nix has there."""
    has_rustup = any(entry.path.startswith(f"{home.folder}/.rustup/") for entry in home.entries)
    there = [
        entry
        for entry in entries
        if entry.name not in place.leaves and not entry.target.startswith(STORE)
        if not (has_rustup and place.path == ".cargo/bin" and entry.name in RUSTUP_PROXIES)
    ]
    if not there:
        return None
    metadata = [match for entry in there if (match := _METADATA.fullmatch(entry.name))]
    names = sorted({f"{match[1]} {match[2]}" for match in metadata} or {entry.name for entry in there})
    newest = max(there, key=lambda entry: entry.at)
    return Item(
        drift=Drift.PACKAGES,
        kind=place.kind,
        id=path,
        message=f"installed by hand: {listed(names, most=8)}",
        path=path,
        owner=home.user if home.folder != "/" else "root",
        at=newest.at,
        cause=place.tool,
        fix=place.fix.format(names=listed(names, most=3), path=path, user=home.user),
        sign=" ".join(names),
        key=f"place:{path}",
    )


def _single(seen: Observation, home: Home, place: Place, entry: Entry, toolchains: Mapping[str, Item]) -> Item | None:
    """Return a thing that stands for itself; None for what is no such thing."""
    if place.kind == "nix_profile":
        return _profile(seen, home, place, entry)
    if entry.name in place.leaves or entry.target.startswith(STORE) or entry.name == "__pycache__":
        return None
    if place.kind == "user_unit" and (entry.is_folder or entry.target == "/dev/null"):
        return None
    is_timer = entry.name.endswith(".timer")
    is_unit = place.path == USER_UNITS
    drift = Drift.PACKAGES if not is_unit else Drift.ACCESS if is_timer else Drift.FILES
    stem = entry.name.rpartition(".")[0]
    words = {"user_unit": f"a unit of {home.user} that nothing declares", "program": "a program installed by hand"}
    fix = f"declare it in systemd.user.services, or remove {entry.path}" if is_unit else place.fix
    return Item(
        drift=drift,
        kind="timer" if is_timer and is_unit else place.kind,
        id=entry.path,
        message=words[place.kind] + (f" -> {entry.target}" if entry.is_link else ""),
        path=entry.path,
        owner=seen.owner(entry.uid),
        at=entry.at,
        cause=place.tool,
        fix=fix.format(names=entry.name, path=entry.path, user=home.user),
        sign=f"-> {entry.target}" if entry.is_link else f"{entry.size} {entry.at}",
        key=f"unit:{home.user}:{stem}" if is_unit else "",
        of=() if is_unit else tuple(_tools_of(entry, toolchains)),
    )


def _tools_of(entry: Entry, toolchains: Mapping[str, Item]) -> Iterator[str]:
    """Yield the keys of the tools that have probably made a program: it leads into their place, or came with them."""
    target = normpath(join(entry.path.rpartition("/")[0], entry.target)) if entry.is_link else ""
    for path, item in toolchains.items():
        is_from_pip = "site-packages" in path or "dist-packages" in path
        if target.startswith(f"{path}/") or (is_from_pip and abs(entry.at - item.at) <= SAME_TIME):
            yield item.key


def _profile(seen: Observation, home: Home, place: Place, entry: Entry) -> Item | None:
    """Return a profile of Nix that somebody has made; None for what is no profile, or is declared elsewhere."""
    folder, _, name = entry.path.rpartition("/")
    if not entry.is_link or name in _OWN_PROFILES or _GENERATION.fullmatch(name):
        return None
    generation = next((one.target for one in home.entries if one.path == f"{folder}/{entry.target}"), entry.target)
    return Item(
        drift=Drift.PACKAGES,
        kind="nix_profile",
        id=entry.path,
        message="a profile of Nix",
        path=entry.path,
        owner=home.user if place.path == PROFILES else seen.owner(entry.uid),
        at=entry.at,
        cause=place.tool,
        fix="declare the packages in environment.systemPackages or home-manager, and nix profile remove them",
        sign=generation,
        key=f"profile:{entry.path}",
        of=(f"profile:{normpath(join(folder, entry.target))}",),
    )


def profile_paths(items: Iterable[Item]) -> tuple[str, ...]:
    """Return the store paths of profiles, as far as their links name some: a link may name anything."""
    signs = {item.sign for item in items if item.kind == "nix_profile"}
    return tuple(sorted(sign for sign in signs if store_path(sign)))[:50]


def contents_of_profile(references: Iterable[str]) -> list[str] | None:
    """Return the names of the packages of a profile; None if home-manager declares all of them, or it is empty."""
    names = [path.removeprefix(STORE)[33:] for path in references if store_path(path)]
    return [name for name in names if name not in ("home-manager-path", "env-manifest.nix", "builder.pl")] or None


def of_dpkg(seen: Observation) -> Iterator[Item]:
    """Yield the packages that Debian's package manager has installed. A newer version of one is no change."""
    for name, at in seen.packages.items():
        yield Item(
            drift=Drift.PACKAGES,
            kind="package",
            id=f"package:{name}",
            message=f"a package of the distribution: {name}",
            path=f"/var/lib/dpkg/info/{name}.list",
            owner="root",
            at=at,
            cause="apt install",
            fix=f"declare what it is for, or remove it: apt purge {name}",
            key=f"package:{name}",
        )
