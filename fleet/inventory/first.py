"""Write the text of a first fleet.toml. What is only likely, and what has no key, are comments in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import tomli_w
from pydantic import ValidationError

from fleet.inventory import values
from fleet.inventory.origins import NAME
from fleet.inventory.problems import dotted
from fleet.inventory.schema import Host
from fleet.text import plain_text

USUAL = {
    "address": f'address = "{NAME}.example.org"  # default: the name of the host',
    "user": 'user = "deploy"  # default: as your SSH configuration says, else root',
    "sudo": 'sudo = true  # for another user than root; or "password"',
    "checks": 'checks = [{ unit = "nginx.service" }]  # what says that a host is healthy: docs/checks.md',
}
"""Lines that [defaults] shows as comments where no host has such a key."""


@dataclass(frozen=True, kw_only=True)
class FirstHost:
    """A host as it was found."""

    name: str
    keys: Mapping[str, Any] = field(default_factory=dict)
    suggestions: Mapping[str, object] = field(default_factory=dict)
    """Keys that are likely right. They are written as comments."""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FirstFleet:
    """What a first fleet.toml is about."""

    hosts: tuple[FirstHost, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Names that get no table, with the reason. They are comments."""
    ignore: tuple[str, ...] = ()


def is_name(name: str) -> bool:
    """Whether a host or a tag can have this name."""
    try:
        values.name(name)
    except ValueError:
        return False
    return True


def written(fleet: FirstFleet, *, head: Mapping[str, Any]) -> str:
    """Return the text of fleet.toml; `head` has the keys of [fleet]. `parse` accepts it.

    A key whose value fleet.toml cannot have, and an address that another host has already, become comments.
    """
    defaults, hosts = _shared(_distinct([_fitting(host) for host in fleet.hosts]))
    used = {key for host in (defaults, *hosts) for key in (*host.keys, *host.suggestions)}
    if "user" in used:
        used.add("sudo")
    ignore = [f"ignore = {_value(fleet.ignore)}  # images or virtual machines, no hosts"] if fleet.ignore else []
    tables = [
        [
            "# Written by fleet init: docs/fleet-toml.md has every key, docs/adopting.md says where they come from.",
            "# Host keys: fleet trust --all shows those that hosts answer with, asks once, and writes each host_key.",
        ],
        ["[fleet]", *(f"{key} = {_value(value)}" for key, value in head.items()), *ignore],
        [*_table("defaults", defaults), *(f"# {line}" for key, line in USUAL.items() if key not in used)],
        *(_table(dotted("hosts", host.name), host) for host in hosts),
        *([f"# [{dotted('hosts', name)}]  # {_comment(reason)}"] for name, reason in fleet.left_out.items()),
    ]
    return "\n\n".join("\n".join(table) for table in tables) + "\n"


def _table(name: str, host: FirstHost) -> list[str]:
    return [
        f"[{name}]",
        *_lines(host.keys),
        *(f"# {line}" for line in _lines(host.suggestions)),
        *(f"# {_comment(remark)}" for remark in host.remarks),
    ]


def _fitting(host: FirstHost) -> FirstHost:
    """Return the host without values that fleet.toml cannot have, which become remarks."""
    keys, remarks = {}, list(host.remarks)
    for key, value in host.keys.items():
        if (key, value) == ("address", host.name):
            continue  # that is what it is without the key
        try:
            Host.model_validate({"name": host.name, key: value})
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            remarks.append(
                f"{key} = {_value(value)} was left out: {problem.get('ctx', {}).get('error', problem['msg'])}"
            )
        else:
            keys[key] = value
    likely = {key: value for key, value in host.suggestions.items() if _is_fine(host.name, key, value)}
    return replace(host, keys=keys, suggestions=likely, remarks=tuple(remarks))


def _is_fine(name: str, key: str, value: object) -> bool:
    try:
        Host.model_validate({"name": name, key: value})
    except ValidationError:
        return False
    return True


def _distinct(hosts: Sequence[FirstHost]) -> list[FirstHost]:
    """Return the hosts, without addresses that make two of them the same computer, and jumps to hosts that are none."""
    names = {host.name for host in hosts}
    seen: dict[tuple[object, ...], str] = {}
    distinct = []
    for host in hosts:
        keys, remarks = dict(host.keys), list(host.remarks)
        jump = keys.get("jump", "")
        if jump and "@" not in jump and (jump not in names or jump == host.name):
            remarks.append(f"jump = {_value(keys.pop('jump'))} is no host here: ProxyJump of ~/.ssh/config counts, too")
        place = (str(keys.get("address", host.name)).lower(), keys.get("port", 22), keys.get("jump"))
        other = seen.setdefault(place, host.name)
        if other != host.name and "address" in keys:
            remarks.append(f"address = {_value(keys.pop('address'))} was left out: it is that of {other}")
        distinct.append(replace(host, keys=keys, remarks=tuple(remarks)))
    return distinct


def _shared(hosts: Sequence[FirstHost]) -> tuple[FirstHost, list[FirstHost]]:
    """Return what all hosts have in common, for [defaults], and the hosts without that."""
    if len(hosts) < 2:
        return FirstHost(name=""), list(hosts)
    hosts = [replace(host, keys=_with_template(host)) for host in hosts]
    keys = _common([host.keys for host in hosts])
    likely = _common([host.suggestions for host in hosts])
    remarks = tuple(remark for remark in hosts[0].remarks if all(remark in host.remarks for host in hosts))
    rest = [
        replace(
            host,
            keys={key: value for key, value in host.keys.items() if key not in keys},
            suggestions={key: value for key, value in host.suggestions.items() if key not in likely},
            remarks=tuple(remark for remark in host.remarks if remark not in remarks),
        )
        for host in hosts
    ]
    # Where one host alone says it in full, no template is needed.
    return FirstHost(name="", keys=keys, suggestions=likely, remarks=remarks), [
        _without_template(host) for host in rest
    ]


def _common(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first, *others = tables
    return {
        key: value
        for key, value in first.items()
        if all(key in other and _value(other[key]) == _value(value) for other in others)
    }


def _with_template(host: FirstHost) -> dict[str, Any]:
    """Return the keys of the host, with `{name}` in its address if that begins with its name."""
    address = host.keys.get("address")
    if not isinstance(address, str) or not (address == host.name or address.startswith(f"{host.name}.")):
        return dict(host.keys)
    return {**host.keys, "address": f"{NAME}{address.removeprefix(host.name)}"}


def _without_template(host: FirstHost) -> FirstHost:
    """Return the host with its own name in place of `{name}` in its address."""
    if not isinstance(host.keys.get("address"), str):
        return host
    return replace(host, keys={**host.keys, "address": host.keys["address"].replace(NAME, host.name)})


def _lines(table: Mapping[str, Any]) -> list[str]:
    """Return a line for each key, in the order of docs/fleet-toml.md."""
    order = Host.toml_keys()
    keys = sorted(table, key=lambda key: order.index(key) if key in order else -1)
    return [f"{key} = {_value(table[key])}" for key in keys]


def _value(value: object) -> str:
    """Return the value as TOML on one line."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(_lines(value))} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")


def _comment(text: str) -> str:
    return " ".join(plain_text(text).split())
