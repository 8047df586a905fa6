"""Find who may come in and who listens, beside what the system declares."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from fleet.drift.files import unit_stem
from fleet.drift.finding import Drift, Item

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.drift.observed import Holder, Observation, Socket

TICKS = 100
"""Ticks of the kernel's clock in a second, on every system that Linux has."""


def of_users(seen: Observation) -> Iterator[Item]:
    """Yield accounts, and who is in a group that gives more than the account has. On NixOS these are declared."""
    if seen.is_nixos and not seen.accounts:
        return  # it is not known how this system declares them
    changed = next((file.at for file in seen.files if file.path == "/etc/passwd"), 0)
    for name, (uid, gid, home, shell) in seen.users.items():
        if seen.is_nixos and name in seen.accounts:
            continue
        yield Item(
            drift=Drift.ACCESS,
            kind="user",
            id=f"user:{name}",
            message=f"an account that the system does not declare: {name}, number {uid}, {shell or 'no shell'}",
            path="/etc/passwd",
            owner=name,
            at=changed,
            cause="useradd or adduser, or passwd",
            fix=f"declare it in users.users.{name}, or remove it: userdel {name}",
            sign="" if seen.is_nixos else f"{uid} {gid} {home} {shell} {seen.passwords.get(name, '')}".rstrip(),
            key=f"user:{name}",
        )
    for group, members in seen.groups.items() if not seen.is_nixos else ():
        for member in members:
            yield Item(
                drift=Drift.ACCESS,
                kind="group",
                id=f"group:{group}:{member}",
                message=f"{member} is in the group {group}",
                path="/etc/group",
                owner=member,
                at=changed,
                cause="usermod or gpasswd",
                fix=f"declare it in users.users.{member}.extraGroups, or undo it: gpasswd --delete {member} {group}",
                of=(f"user:{member}",),
            )


def of_keys(seen: Observation) -> Iterator[Item]:
    """Yield the SSH keys that let somebody in and are in no file that the system declares."""
    known = {f"/etc/{name}" for name in seen.copies} | {file.path for file in seen.files}
    for home in seen.homes:
        declared = {key.fingerprint for key in home.keys if _is_declared(seen, key.file, known)}
        for key in home.keys:
            if key.fingerprint in declared:
                continue
            yield Item(
                drift=Drift.ACCESS,
                kind="ssh_key",
                id=f"ssh_key:{home.user}:{key.fingerprint}",
                message=f"a key that lets in as {home.user}: {key.fingerprint} {key.words}".rstrip(),
                path=key.file,
                owner=home.user,
                at=key.at,
                cause="ssh-copy-id, or an editor",
                fix=f"declare it in users.users.{home.user}.openssh.authorizedKeys.keys, or remove its line",
                of=(f"file:{key.file}",),
            )


def _is_declared(seen: Observation, file: str, known: set[str]) -> bool:
    """Whether the system puts the file there: as a copy that is still the same, or as a link."""
    name = file.removeprefix("/etc/")
    if name == file or name in seen.differs:
        return False
    return name in seen.copies or file not in known


def of_listeners(seen: Observation) -> Iterator[Item]:
    """Yield the ports on which somebody listens, but for units of the system.

    Ports that the kernel gives out by itself are left out for UDP, since whoever asks a question has one; and sockets
    of the kernel's own.
    """
    found: dict[tuple[str, int, str], list[tuple[Socket, Holder]]] = {}
    for socket in seen.sockets:
        protocol, holder = socket.table.removesuffix("6"), seen.holders.get(socket.inode)
        if holder is None or (protocol == "udp" and socket.port >= seen.dynamic):
            continue
        unit = seen.ports.get(socket.port, "") if holder.pid == 1 else _unit(holder.group)
        if unit and _is_of_system(seen, unit):
            continue
        who = f"{unit}/{holder.name}" if unit else holder.name
        found.setdefault((protocol, socket.port, who), []).append((socket, holder))
    for (protocol, port, who), those in found.items():
        yield _listener(seen, protocol, port, who, those)


def _listener(seen: Observation, protocol: str, port: int, who: str, those: list[tuple[Socket, Holder]]) -> Item:
    socket, holder = those[0]
    unit = seen.ports.get(port, "") if holder.pid == 1 else _unit(holder.group)
    addresses = sorted({address(one.address) for one, _ in those})
    runs = f"{holder.name} ({unit})" if unit else holder.name
    return Item(
        drift=Drift.ACCESS,
        kind="listener",
        id=f"listener:{protocol}:{port}:{who}",
        message=f"{runs} listens on {protocol} port {port} of {' and '.join(addresses)}",
        path=f"/proc/{holder.pid}",
        owner=seen.owner(socket.uid),
        at=max(0, seen.now - seen.uptime + holder.began // TICKS) if holder.began else 0,
        cause=f"a unit that was started by hand: {unit}" if unit else "a program that was started by hand",
        fix="declare a service for it in systemd.services, or end it",
        sign=" ".join(addresses),
        of=(f"unit:{unit_stem(unit)}",) if unit else (),
    )


def _unit(group: str) -> str:
    """Return the unit of the system that a control group is of; empty for what somebody runs in a session."""
    parts = [part for part in group.split("/") if part]
    if not parts or parts[0] == "user.slice":
        return ""
    return next((part for part in reversed(parts) if part.endswith((".service", ".socket", ".mount"))), "")


def _is_of_system(seen: Observation, unit: str) -> bool:
    name, at, _ = unit.partition("@")
    return unit in seen.own_units or (bool(at) and f"{name}@.{unit.rpartition('.')[2]}" in seen.own_units)


def address(hexadecimal: str) -> str:
    """Return an address of /proc/net as people write it: it has words of 32 bits in the order of the processor."""
    try:
        raw = bytes.fromhex(hexadecimal)
        if len(raw) not in (4, 16):
            return "?"
        return str(ipaddress.ip_address(b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))))
    except ValueError:
        return "?"
