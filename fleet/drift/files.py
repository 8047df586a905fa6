"""Find files in /etc and units that the system does not declare."""

from __future__ import annotations

import re
import stat
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from fleet.drift.finding import Drift, Item
from fleet.model import RUN_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.drift.observed import Entry, Observation

CHANGING = (
    ".updated",
    ".pwd.lock",
    *(
        f"{name}{end}"
        for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")
        for end in ("", "-", ".lock")
    ),
    "resolv.conf*",
    "adjtime",
    "machine-id",
    "mtab",
    "ld.so.cache",
    "ssh/ssh_host_*",
    "NetworkManager/system-connections/*",
    "lvm/*",
    "zfs/zpool.cache",
    "cups/*",
    "printcap",
    "dhcpcd.duid",
)
"""Files below /etc that systems write themselves. Accounts and host keys are looked at in other ways."""
OF_NIXOS = (".clean", "NIXOS", "nixos/*", "localtime", "machine-info", "iscsi/*")
"""The same, on NixOS alone: its activation writes these, people their configuration, and timedatectl the rest."""
UNIT_FOLDERS = ("/etc/systemd/", "/run/systemd/", "/usr/local/lib/systemd/")
TRANSIENT = "/run/systemd/transient/"
NOT_STARTED = (".scope", ".slice", ".device", ".swap")
"""Units that start nothing: logind, Docker and others make scopes of what runs already."""
OUR_UNIT = re.compile(
    rf"fleet-(?:(?:keep|switch)-{RUN_ID}|wake|activate)(?:-[0-9A-Za-z_][0-9A-Za-z._-]*)?\.service"
    r"|fleet-sandbox-[a-z][a-z0-9-]{0,30}-shell-[0-9]+\.service"
)
"""The units of a transaction: docs/transaction.md. One may be open at any moment; that of a profile ends with its name.
What `activate` is in the driver `generic`: docs/drivers.md. And whoever is in a sandbox by `fleet sandbox ssh`."""
OUR_PLACE = "/system.attached/"
"""Where the host program writes those that outlive a boot."""
_FIXES = {
    "file": "declare it in environment.etc, or remove it",
    "unit": "declare it in systemd.services, or remove it: systemctl disable --now, and delete the file",
    "drop_in": "declare it in systemd.services.NAME.serviceConfig, or remove it: systemctl revert",
    "unit_link": "declare it by wantedBy in systemd.services, or remove it: systemctl disable",
    "timer": "declare it in systemd.timers, or stop and remove it",
    "transient_unit": "declare it in systemd.services, or stop it: it is gone after a reboot",
    "crontab": "declare it in services.cron.systemCronJobs or systemd.timers, or remove it",
    "sudo_rule": "declare it in security.sudo.extraRules, or remove it",
}


def of_etc(seen: Observation) -> Iterator[Item]:
    """Yield what is in /etc and not declared. Of what is declared, yield what is not there."""
    root = seen.etc.path.rstrip("/.") if seen.etc is not None else "/etc"
    at_place = {}
    changing = (*CHANGING, *OF_NIXOS) if seen.is_nixos else CHANGING
    for file in seen.files:
        name = file.path.removeprefix(f"{root}/")
        if seen.etc is not None and file.device != seen.etc.device:
            continue  # something is mounted there
        at_place[name] = file
        is_copy = name in seen.copies and name not in seen.differs
        is_ours = OUR_UNIT.fullmatch(file.name) is not None and OUR_PLACE in file.path
        if is_copy or is_ours or name in seen.differs or any(fnmatchcase(name, glob) for glob in changing):
            continue
        yield _in_etc(seen, file, f"/etc/{name}")
    for name in seen.differs:
        yield _differing(seen, name, at_place.get(name))


def _in_etc(seen: Observation, file: Entry, path: str) -> Item:
    kind = _kind(path)
    package = seen.conffiles.get(path, "")
    return _item(seen, file, path, kind, of=(f"package:{package}",) if package else ())


def _kind(path: str) -> str:
    """Return what sort of file it is, by its place."""
    if path.startswith(UNIT_FOLDERS) and path.count("/") > 3:
        folder = path.split("/")[-2]
        if folder.endswith((".wants", ".requires", ".upholds")):
            return "unit_link"
        if folder.endswith(".d"):
            return "drop_in"
        if path.endswith(".timer"):
            return "timer"
        return "transient_unit" if path.startswith(TRANSIENT) else "unit"
    if path.startswith(("/etc/cron", "/etc/anacron", "/etc/at.")):
        return "crontab"
    if path == "/etc/sudoers" or path.startswith("/etc/sudoers.d/"):
        return "sudo_rule"
    return "file"


def _item(seen: Observation, file: Entry, path: str, kind: str, *, of: tuple[str, ...] = ()) -> Item:
    stem = unit_stem(file.name)
    key = f"unit:{stem}" if kind in ("unit", "timer", "transient_unit") else f"file:{path}"
    if kind == "unit_link":
        of = (*of, f"unit:{stem}")
    if kind == "drop_in":
        of = (*of, f"unit:{unit_stem(path.split('/')[-2].removesuffix('.d'))}")
    is_access = kind in ("timer", "crontab", "sudo_rule")
    return Item(
        drift=Drift.ACCESS if is_access else Drift.FILES,
        kind=kind,
        id=path,
        message=_message(kind, file),
        path=path,
        owner=seen.owner(file.uid),
        at=file.at,
        cause=_cause(kind, path),
        fix=_FIXES[kind],
        sign=_sign(seen, file, path),
        key=key,
        of=of,
    )


def _message(kind: str, file: Entry) -> str:
    where = f" -> {file.target}" if file.is_link else ""
    words = {
        "file": "a file that the system does not declare",
        "unit": "a unit that the system does not declare",
        "drop_in": "changes a unit beside what the system declares",
        "unit_link": "enables a unit that the system does not enable",
        "timer": "a timer that the system does not declare",
        "transient_unit": "a unit that was started by hand",
        "crontab": "a timetable that the system does not declare",
        "sudo_rule": "a rule of sudo that the system does not declare",
    }
    return words[kind] + where


def _cause(kind: str, path: str) -> str:
    if path.startswith(TRANSIENT):
        return "systemd-run"
    if "/systemd/system.control/" in path:
        return "systemctl set-property"
    return {
        "unit": "a unit file written by hand or by an installer",
        "drop_in": "systemctl edit",
        "unit_link": "systemctl enable or mask",
        "timer": "a unit file written by hand or by an installer",
    }.get(kind, "written by hand or by an installer")


def _sign(seen: Observation, file: Entry, path: str) -> str:
    if file.is_link:
        return f"-> {file.target}"
    about = f"{stat.S_IMODE(file.mode):o} {file.uid}"
    content = seen.sums.get(path)
    return f"{about} {content[:32]}" if content else f"{about} {file.size}"


def _differing(seen: Observation, name: str, file: Entry | None) -> Item:
    """Return that a file is not what the system declares."""
    path = f"/etc/{name}"
    state = (
        "is missing, though the system declares it" if file is None else "stands in place of what the system declares"
    )
    return Item(
        drift=Drift.FILES,
        kind="declared_file",
        id=path,
        message=state,
        path=path,
        owner=seen.owner(file.uid) if file is not None else "",
        at=file.at if file is not None else 0,
        cause="removed by hand" if file is None else "written by hand or by an installer",
        fix="change what is declared, or remove the file and deploy again: activation puts it back",
        sign=_sign(seen, file, path) if file is not None else "missing",
        key=f"file:{path}",
    )


def of_units(seen: Observation) -> Iterator[Item]:
    """Yield the units outside of /etc that somebody has made, but for those of fleet's own transactions."""
    for file in seen.units:
        folder = file.path.split("/")[-2].removesuffix(".d")
        if not any(OUR_UNIT.fullmatch(name) or name.endswith(NOT_STARTED) for name in (file.name, folder)):
            yield _item(seen, file, file.path, _kind(file.path))


def of_crontabs(seen: Observation) -> Iterator[Item]:
    """Yield the timetables of users. What they have in them is not read: it only counts whether they have changed."""
    for file in seen.crontabs:
        yield Item(
            drift=Drift.ACCESS,
            kind="crontab",
            id=file.path,
            message="a timetable that the system does not declare",
            path=file.path,
            owner=seen.owner(file.uid),
            at=file.at,
            cause="at" if "/at" in file.path else "crontab -e",
            fix=_FIXES["crontab"],
            sign=f"{file.size} {file.at}",
        )


def unit_stem(name: str) -> str:
    """Return the name of a unit without its type: a timer and its service are one thing."""
    return name.rpartition(".")[0] or name
