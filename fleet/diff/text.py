"""Show comparisons to people, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleet.errors import FleetError
from fleet.output.format import change, counted, human_bytes, one_line
from fleet.output.patch import coloured, patch_lines
from fleet.output.table import table
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.diff.agents import AgentChange, AgentPackage
    from fleet.diff.compare import EtcChange, SystemDiff
    from fleet.diff.packages import PackageChange
    from fleet.diff.units import UnitsDiff
    from fleet.model import HostName

_FATES = ("start", "stop", "restart", "reload", "left_alone")
MOST_PACKAGES = 30
"""The most packages that are listed before a question."""
MOST_UNITS = 12
"""The most units of one kind that are listed before a question."""


def diff_json(diffs: Mapping[HostName, SystemDiff]) -> dict[str, Any]:
    """Return the document of `fleet diff --json`. Sizes are NAR bytes; `patch` is null if there is no text diff."""
    return {"hosts": [_host_json(host, diff) for host, diff in diffs.items()]}


def diff_lines(host: HostName, diff: SystemDiff, *, is_terminal: bool = False) -> list[str]:
    """Return the lines that show everything that differs on one host."""
    title = f"{host}: {change(diff.old, diff.new, host)}"
    packages = [f"    {line}" for line in _package_table(diff.packages)]
    parts = [*(["  packages", *packages] if packages else []), *_parts(diff, is_terminal=is_terminal)]
    return [one_line(title if parts else f"{title} (no difference)"), *parts]


def fold(diffs: Mapping[HostName, SystemDiff], *, is_terminal: bool = False) -> list[str]:
    """Return lines with each package change once and its hosts, then what else differs on each host."""
    lines = _folded_packages(diffs, is_terminal=is_terminal)
    for host, diff in diffs.items():
        title = f"{host}: {change(diff.old, diff.new, host)}"
        parts = _parts(diff, is_terminal=is_terminal)
        lines += [*([""] if lines else []), one_line(title if parts else f"{title} (no difference)"), *parts]
    return lines


def brief(found: Mapping[HostName, SystemDiff | FleetError], *, is_terminal: bool = False) -> list[str]:
    """Return lines that show packages and units, for a person who is asked to agree.

    Hosts for which the same is to be said are named together. Long lists and the texts of files are left to
    `fleet diff`.
    """
    diffs = {host: diff for host, diff in found.items() if not isinstance(diff, FleetError)}
    lines = _folded_packages(diffs, is_terminal=is_terminal, most=MOST_PACKAGES)
    groups: dict[tuple[str, ...], list[HostName]] = {}
    for host, diff in diffs.items():
        title = one_line(change(diff.old, diff.new, host))
        parts = _parts(diff, is_terminal=is_terminal, is_brief=True)
        groups.setdefault((title if parts else f"{title} (no difference)", *parts), []).append(host)
    for host, error in found.items():
        if isinstance(error, FleetError):
            message = one_line(error.message.removeprefix(f"{host}: "))
            groups.setdefault((f"not compared: {message}",), []).append(host)
    for (title, *parts), hosts in groups.items():
        lines += [*([""] if lines else []), f"{listed(hosts)}: {title}", *parts]
    return lines


def _folded_packages(diffs: Mapping[HostName, SystemDiff], *, is_terminal: bool, most: int | None = None) -> list[str]:
    """Return a table with each package change once and its hosts, of `most` rows at most."""
    hosts: dict[tuple[str, str], list[HostName]] = {}
    for host, diff in diffs.items():
        for package in diff.packages:
            hosts.setdefault((package.name, _versions(package)), []).append(host)
    rows = [(*package, _where(names)) for package, names in sorted(hosts.items())]
    if not rows:
        return []
    shown = rows if most is None or len(rows) <= most else rows[: most - 1]
    lines = table(("package", "version", "hosts"), shown).splitlines()
    if is_terminal:
        styles = ["bold", *map(_package_style, shown)]
        lines = [coloured(line, style) for line, style in zip(lines, styles, strict=True)]
    if len(shown) < len(rows):
        lines.append(f"… and {len(rows) - len(shown)} more packages: fleet diff lists them")
    return lines


def _package_style(row: tuple[str, ...]) -> str:
    return {"added": "green", "removed": "red"}.get(row[1].partition(" ")[0], "")


def _where(hosts: list[HostName]) -> str:
    return ", ".join(hosts) if len(hosts) <= 3 else counted(len(hosts), "host")


def _parts(diff: SystemDiff, *, is_terminal: bool, is_brief: bool = False) -> list[str]:
    """Return the lines for what differs besides packages."""
    lines = [f"  size {_signed(diff.size)}"] if diff.size else []
    lines += _agent_lines(diff.agents, is_terminal=is_terminal, most=MOST_UNITS if is_brief else None)
    lines += _unit_lines(diff.units, is_terminal=is_terminal, most=MOST_UNITS if is_brief else None)
    if diff.etc and is_brief:
        lines.append(f"  etc: {counted(len(diff.etc), 'file')}, which fleet diff shows")
    elif diff.etc:
        lines.append("  etc")
        lines += [line for entry in diff.etc for line in _etc_lines(entry, is_terminal=is_terminal)]
    if diff.reboot:
        line = f"  needs reboot: {', '.join(diff.reboot)}"
        lines.append(coloured(line, "yellow") if is_terminal else line)
    return lines


def _package_table(packages: tuple[PackageChange, ...]) -> list[str]:
    rows = [(package.name, _versions(package), _signed(package.size)) for package in packages]
    return table(("name", "version", "size"), rows).splitlines()[1:] if rows else []


def _versions(package: PackageChange) -> str:
    old, new = (", ".join(version or "-" for version in versions) for versions in (package.old, package.new))
    if not package.old:
        return f"added {new}"
    if not package.new:
        return f"removed {old}"
    return f"{old} → {new}" if old != new else old


_FATE_STYLES = {"start": "green", "stop": "red", "restart": "yellow", "reload": "yellow"}


def _unit_lines(units: UnitsDiff, *, is_terminal: bool, most: int | None) -> list[str]:
    lines = []
    for fate in _FATES:
        if names := getattr(units, fate):
            shown = ", ".join(names) if most is None else listed(names, most=most)
            line = f"    {fate.replace('_', ' '):<11}{one_line(shown)}"
            lines.append(coloured(line, _FATE_STYLES.get(fate, "")) if is_terminal else line)
    return ["  units", *lines] if lines else []


def _agent_lines(agents: tuple[AgentChange, ...], *, is_terminal: bool, most: int | None) -> list[str]:
    """Return a line for each agent, with the packages whose versions differ."""
    lines = []
    for agent in agents:
        packages = [f"{package.name} {_agent_version(package)}" for package in agent.packages]
        told = ", ".join(packages) if most is None else listed(packages, most=most)
        kind = "" if agent.kind == "changed" else agent.kind + (": " if told else "")
        line = f"    {one_line(f'{agent.name:<11}{kind}{told}')}"
        lines.append(coloured(line, {"added": "green", "removed": "red"}.get(agent.kind, "")) if is_terminal else line)
    return ["  agents", *lines] if lines else []


def _agent_version(package: AgentPackage) -> str:
    if package.old is None or package.new is None:
        kind, version = ("added", package.new) if package.old is None else ("removed", package.old)
        return f"{kind} {version or '-'}"
    return f"{package.old or '-'} → {package.new or '-'}"


def _etc_lines(entry: EtcChange, *, is_terminal: bool) -> list[str]:
    line = f"    {entry.kind:<8} {one_line(entry.path)}"
    if is_terminal:
        line = coloured(line, {"added": "green", "removed": "red"}.get(entry.kind, ""))
    if entry.kind != "changed":
        return [line]
    if entry.patch is None:
        return [f"{line} (binary or large, not shown)"]
    return [line, *(f"      {text}" for text in patch_lines(entry.patch, is_terminal=is_terminal))]


def _signed(size: int) -> str:
    return f"+{human_bytes(size)}" if size >= 0 else human_bytes(size)


def _host_json(host: HostName, diff: SystemDiff) -> dict[str, Any]:
    return {
        "name": host,
        "from": diff.old,
        "to": diff.new,
        "packages": [
            {"name": package.name, "old": list(package.old), "new": list(package.new), "size": package.size}
            for package in diff.packages
        ],
        "size": diff.size,
        "agents": [
            {
                "name": agent.name,
                "kind": agent.kind,
                "packages": [{"name": one.name, "old": one.old, "new": one.new} for one in agent.packages],
            }
            for agent in diff.agents
        ],
        "units": {fate: list(getattr(diff.units, fate)) for fate in _FATES},
        "etc": [
            {
                "path": entry.path,
                "kind": entry.kind,
                "patch": None if entry.patch is None else "\n".join(entry.patch),
            }
            for entry in diff.etc
        ],
        "reboot": list(diff.reboot),
    }
