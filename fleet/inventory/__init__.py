"""Turn fleet.toml into an Inventory, or into a ConfigError that names everything that is wrong with it.

`values`, `amounts` and `origins` read single values, `schema` and `check` have the keys, `matching` the selectors,
`profiles` the tables of profiles, `problems` and `words` the text of errors; `local` is about the address of that name;
`edit` writes the file; `mesh` is about mesh.toml.
"""

from __future__ import annotations

import errno
import tomllib
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fleet.errors import ConfigError
from fleet.files import read_file
from fleet.inventory import origins, values
from fleet.inventory.check import Check, shape_problems
from fleet.inventory.drivers import attribute_of
from fleet.inventory.gated import check_gated
from fleet.inventory.hooks import Hook
from fleet.inventory.local import check_addresses, check_local
from fleet.inventory.matching import Named, matching
from fleet.inventory.mesh import with_mesh
from fleet.inventory.problems import HOST_KEYS, Problems, dotted, entry_table, unknown_key
from fleet.inventory.profiles import check_drivers, computer, expanded
from fleet.inventory.rollouts import RolloutTable, order_problems
from fleet.inventory.schema import (
    PRESETS,
    BuildOn,
    FleetTable,
    Host,
    Inventory,
    Kind,
    LinkSpeed,
    Offline,
    Sudo,
)
from fleet.inventory.secrets import Secret, SecretPlace, merged
from fleet.inventory.telling import Notify, Occasion, read_told
from fleet.inventory.words import nearest, shown
from fleet.inventory.working import read_workers
from fleet.model import HostName

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = [
    "BuildOn",
    "Check",
    "Hook",
    "Host",
    "Inventory",
    "Kind",
    "LinkSpeed",
    "Notify",
    "Occasion",
    "Offline",
    "RolloutTable",
    "Secret",
    "SecretPlace",
    "Sudo",
    "load",
    "parse",
]

LARGEST = 64 << 20
"""The most bytes of a fleet.toml that are read."""
_TABLES = ("fleet", "defaults", "hosts", "rollout", "metrics", "workers")
_LISTS = ("notify",)
Raw = dict[str, Any]


def load(path: Path) -> Inventory:
    """Return the inventory that the file describes, and mesh.toml. Raise one `ConfigError` with all their problems."""
    return with_mesh(parse(path, read(path)))


def read(path: Path) -> str:
    """Return the text of the file. Raise `ConfigError` if it cannot be read."""
    try:
        data = read_file(path, most=LARGEST)  # a named pipe would be waited for
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file", hint="fleet init writes one") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder", hint=f"did you mean {path / 'fleet.toml'}?") from None
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.EFBIG:
            raise ConfigError(f"{path}: is larger than any fleet.toml: more than {LARGEST >> 20} MiB") from None
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: is not UTF-8: the byte at offset {error.start} is 0x{data[error.start]:02x}"
        ) from None


def parse(path: Path, text: str) -> Inventory:
    """Return the inventory that the text describes. `path` is where the file is, or will be."""
    document = _document(path, text)
    problems = Problems(path)
    for key in document:
        if key not in (*_TABLES, *_LISTS):
            problems.add("", dotted(key), unknown_key(key, (*_TABLES, *_LISTS)).replace("key", "table", 1))
    raw = {key: _table(problems, document, key) for key in _TABLES}
    raw["hosts"] = expanded(problems, raw["hosts"], raw["defaults"])
    if not raw["hosts"] and isinstance(document.get("hosts", {}), dict):
        problems.add("[hosts]", "", "there are no hosts; a host is a table such as [hosts.web-1]")
    context = {"folder": path.resolve().parent, "has_expression": "expression" in raw["fleet"]}
    fleet = _fleet(problems, path, raw["fleet"], context)
    hosts = _hosts(problems, raw, context)
    _check_jumps(problems, raw["hosts"], raw["defaults"])
    check_addresses(problems, hosts)
    # A host whose own system is nobody's business has profiles alone.
    check_local(problems, {HostName(computer(host)): host for host in hosts.values()})
    check_drivers(problems, hosts)
    check_gated(problems, hosts)
    _check_ignored(problems, fleet, raw["hosts"])
    rollout = _rollout(problems, raw, hosts)
    told = read_told(problems, document.get("notify", []), raw["metrics"], context)
    workers = read_workers(problems, raw["workers"])
    problems.raise_if_any()
    assert fleet is not None
    assert rollout is not None
    return Inventory(
        path=path.resolve(),
        name=fleet.name,
        flake=fleet.flake,
        expression=fleet.expression,
        ignore=fleet.ignore,
        nix_options=fleet.nix_options,
        signing_key=fleet.signing_key,
        id=fleet.id,
        age_identities=fleet.age_identities,
        state=fleet.state,
        hosts=hosts,
        rollout=rollout,
        workers=workers,
        **told,
    )


def _document(path: Path, text: str) -> Raw:
    if not text.strip():
        raise ConfigError(f"{path}: is empty", hint="fleet init writes one; move the empty file away first")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error)
        if "end of document" in reason:
            lines = text.splitlines()
            end = f"at line {len(lines)}, column {len(lines[-1]) + 1}, the end"
            reason = reason.replace("at end of document", end)
        raise ConfigError(f"{path}: is not TOML: {reason}") from None


def _table(problems: Problems, parent: Raw, key: str, outer: str = "") -> Raw:
    """Return the table with this key; an empty one if there is none or something else."""
    table = parent.get(key, {})
    if isinstance(table, dict):
        return table
    name = dotted(*([outer] if outer else []), key)
    problems.add("", name, f"found {shown(table)}, expected a table: [{name}]")
    return {}


def _fleet(problems: Problems, path: Path, raw: Raw, context: Raw) -> FleetTable | None:
    folder = path.resolve().parent.name
    try:
        return FleetTable.model_validate({"name": folder, **raw}, context=context)
    except ValidationError as error:
        if "name" not in raw and any(detail["loc"] == ("name",) for detail in error.errors()):
            problems.add("[fleet]", "name", f"is missing, and the folder's name {shown(folder)} cannot serve")
            return _fleet(problems, path, {**raw, "name": "fleet"}, context)
        problems.add_invalid(error, "[fleet]", FleetTable.toml_keys(), raw)
    return None


def _hosts(problems: Problems, raw: Raw, context: Raw) -> dict[HostName, Host]:
    """Return the valid hosts in the order of the file, and note the problems of the others."""
    defaults = raw["defaults"]
    bad = _validate(problems, "[defaults]", defaults, partial(_host, "defaults", {}, defaults, context))
    hosts = {}
    for name in raw["hosts"]:
        table, own = f"[{dotted('hosts', name)}]", _table(problems, raw["hosts"], name, "hosts")
        try:
            values.name(name)
        except ValueError as error:
            problems.add(table, "", f"a host's name: {error}")
            continue
        # Problems of [defaults] were noted there. They must not be repeated for each host.
        good = {key: value for key, value in defaults.items() if bad is not None or (key in own and key != "secrets")}
        host = _validate(problems, table, own, partial(_host, name, own, good, context))
        if host is not None and bad is not None:
            hosts[host.name] = host
    return hosts


def _host(name: str, own: Raw, defaults: Raw, context: Raw) -> Host:
    """Build one host. Its own keys come before [defaults], then the preset of its kind, then the built-in values."""
    kind = own.get("kind", defaults.get("kind"))
    preset = PRESETS.get(kind, {}) if isinstance(kind, str) else {}
    of_expression = context["has_expression"] and "flake" not in {**defaults, **own}
    builtin: Raw = {"attr": origins.NAME} if of_expression else {"attr": attribute_of(name, {**defaults, **own})}
    inherited = {key: value for key, value in defaults.items() if (key, value) != ("jump", name)}
    return Host.model_validate(
        {**builtin, **preset, **inherited, **own, **merged(defaults, own), "name": name}, context=context
    )


def _validate(problems: Problems, table: str, raw: Raw, make: Callable[[], Host]) -> Host | None:
    """Return what `make` returns. If there are problems, note them and return None."""
    before = len(problems)
    if "name" in raw:
        problems.add(table, "name", "unknown key; the name of a host is the name of its table")
    for number, check in enumerate(raw["checks"] if isinstance(raw.get("checks"), list) else (), 1):
        for key, problem in shape_problems(set(check)) if isinstance(check, dict) else ():
            problems.add(entry_table(table, "checks", number, check), key, problem)
    try:
        host = make()
    except ValidationError as error:
        problems.add_invalid(error, table, HOST_KEYS, raw)
        return None
    return host if len(problems) == before else None


def _check_jumps(problems: Problems, hosts: Raw, defaults: Raw) -> None:
    """Note jumps to unknown hosts of the file, and jumps that lead in a circle."""
    jumps = {name: _jump(name, own, defaults) for name, own in hosts.items() if isinstance(own, dict)}
    for name, jump in jumps.items():
        table = f"[{dotted('hosts', name)}]" if "jump" in hosts[name] else "[defaults]"
        if jump and jump not in hosts:
            near = nearest(jump, hosts) or "; expected a host of this file, or user@host:port"
            problems.add(table, "jump", f"unknown host {shown(jump)}{near}")
        way = [name]
        while jump and jump not in way:
            way.append(jump)
            jump = jumps.get(jump, "")
        if jump == name:
            problems.add(table, "jump", f"leads in a circle: {' -> '.join([*way, jump])}")


def _jump(name: str, own: Raw, defaults: Raw) -> str:
    """Return the host of the file that this host jumps to; empty if there is none. The host may have problems."""
    jump = own.get("jump", "" if defaults.get("jump") == name else defaults.get("jump"))
    with suppress(ValueError):
        return values.name(jump)
    return ""


def _check_ignored(problems: Problems, fleet: FleetTable | None, hosts: Raw) -> None:
    """Note globs for configurations without a host that match a host."""
    for glob in fleet.ignore if fleet is not None else ():
        if matched := next((name for name in hosts if fnmatchcase(name, glob)), None):
            remedy = "it is for configurations that are no hosts: narrow it, or remove the table of the host"
            problems.add("[fleet]", "ignore", f"{shown(glob)} means the host {matched} of this file; {remedy}")


def _rollout(problems: Problems, raw: Raw, hosts: dict[HostName, Host]) -> RolloutTable | None:
    try:
        rollout = RolloutTable.model_validate(raw["rollout"])
    except ValidationError as error:
        problems.add_invalid(error, "[rollout]", RolloutTable.toml_keys(), raw["rollout"])
        return None
    named = [_named(name, own, raw["defaults"]) for name, own in raw["hosts"].items() if isinstance(own, dict)]
    waves = []
    for number, wave in enumerate(rollout.waves, 1):
        try:
            waves.append(frozenset(map(HostName, matching(named, [wave.hosts]))))
        except ConfigError as error:
            problems.add(f"[[rollout.waves]] {number}", "hosts", error.message)
    _check_order(problems, raw, hosts, waves)
    return rollout


def _check_order(problems: Problems, raw: Raw, hosts: dict[HostName, Host], waves: list[frozenset[HostName]]) -> None:
    """Note `after` with unknown hosts, with circles, and against the order of the waves."""
    for name, host in hosts.items():
        for other in host.after:
            if other not in raw["hosts"]:
                near = nearest(other, raw["hosts"]) or "; expected hosts of this file"
                problems.add(f"[{dotted('hosts', name)}]", "after", f"unknown host {shown(other)}{near}")
    for name, problem in order_problems({name: host.after for name, host in hosts.items()}, waves):
        problems.add(f"[{dotted('hosts', name)}]", "after", problem)


def _named(name: str, own: Raw, defaults: Raw) -> Named:
    """Return what selectors see of a host, which may have problems."""
    tags, kind = ({**defaults, **own}.get(key) for key in ("tags", "kind"))
    return Named(
        name,
        kind if isinstance(kind, str) else Kind.SERVER.value,
        tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else (),
    )
