"""Predict what a switch would do to units, judged by their files as switch-to-configuration does. No I/O.

This is an approximation: switch-to-configuration asks systemd what is active, and here only files are seen. So `stop`,
`restart` and `reload` mean "if it is active", a template stands for its instances, and `start` means that a unit of
normal operation wants it and none did before. Swap devices, user units, and the lists that activation scripts leave are
not looked at.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.diff.system import SystemFacts

_IGNORED = frozenset(
    [
        "AllowIsolate",
        "CollectMode",
        "Description",
        "Documentation",
        "IgnoreOnIsolate",
        "OnFailure",
        "OnFailureJobMode",
        "OnSuccess",
        "RefuseManualStart",
        "RefuseManualStop",
        "SourcePath",
        "StopWhenUnneeded",
        "X-Reload-Triggers",
    ]
)
"""Keys of [Unit] that systemd takes over at daemon-reload."""
_RELOADS = frozenset([("Unit", "X-Reload-Triggers"), ("Service", "ExecReload")])
"""Keys for which a unit is reloaded if nothing else has changed; ExecReload since nixpkgs #512578 (2026-04)."""
_REMOUNTS = ("Mount", "Options")
_NEVER_RESTARTED = (".target", ".slice", ".path", ".socket")
_NOT_NORMAL = re.compile(
    r"^(rescue|emergency|sleep|suspend|hibernate|hybrid-sleep|suspend-then-hibernate|shutdown|final|umount|"
    r"reboot|poweroff|halt|kexec|soft-reboot|initrd.*)\.target$"
)
_MASKED = "masked"

Sections = dict[tuple[str, str], list[str]]
"""The values of each (section, key)."""


@dataclass(frozen=True)
class UnitsDiff:
    """Names of units by what would happen to them. Each list is sorted."""

    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    reload: tuple[str, ...] = ()
    left_alone: tuple[str, ...] = ()
    """Units that have changed but go on running as they are: `restartIfChanged = false`, sockets, slices."""


def compare_units(old: SystemFacts, new: SystemFacts) -> UnitsDiff:
    """Return what a switch from old to new would do. A changed unit whose text was not read counts as restarted."""
    fates: dict[str, list[str]] = defaultdict(list)
    before, after = old.units, new.units
    for unit in sorted(unit for unit in before if before[unit] != after.get(unit)):
        if unit not in after or _is_masked(after[unit]):
            fate = "stop" if _stops_on_removal(old, before[unit]) and not _is_masked(before[unit]) else "none"
        else:
            fate = _fate(unit, _parsed(old, before[unit]), _parsed(new, after[unit]))
        fates[fate].append(unit)
    return UnitsDiff(
        start=tuple(sorted(_wanted(new) - _wanted(old))),
        stop=tuple(fates["stop"]),
        restart=tuple(fates["restart"]),
        reload=tuple(fates["reload"]),
        left_alone=tuple(fates["left alone"]),
    )


def changed_unit_files(old: SystemFacts, new: SystemFacts) -> set[str]:
    """Return the files whose text the comparison needs: those of units that changed or disappeared."""
    before, after = old.units, new.units
    return {
        path
        for unit, files in before.items()
        if files != after.get(unit)
        for path, content in (*files, *after.get(unit, ()))
        if content != _MASKED
    }


def parse_unit(text: str) -> Sections:
    """Return the keys of a unit file by section. An empty assignment clears earlier ones, as in systemd."""
    sections: Sections = {}
    section = ""
    for raw in re.sub(r"\\\n", " ", text).splitlines():
        line = raw.strip()
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            values = sections.setdefault((section, key.strip()), [])
            if value.strip():
                values.append(value.strip())
            else:
                values.clear()
    return sections


def _fate(unit: str, old: Sections | None, new: Sections | None) -> str:
    if unit.endswith(_NEVER_RESTARTED):
        return "left alone"
    if old is None or new is None:
        return "restart"
    keys = {key for key in old.keys() | new.keys() if key[0] != "Install" and old.get(key, []) != new.get(key, [])}
    reloads = {key for key in keys if key in new and (key in _RELOADS or (key == _REMOUNTS and key in old))}
    unnoticed = {(section, key) for section, key in keys if section == "Unit" and key in _IGNORED}
    if keys - reloads - unnoticed <= _RELOADS:
        return "reload" if reloads else "left alone"
    return _fate_of_changed(unit, new)


def _fate_of_changed(unit: str, new: Sections) -> str:
    if unit in ("-.mount", "nix.mount") or _is_true(new, "X-ReloadIfChanged", default=False):
        return "reload"
    may_restart = _is_true(new, "X-RestartIfChanged", default=True)
    refuses = any(_is_true(new, key, default=False) for key in ("RefuseManualStop", "X-OnlyManualStart"))
    return "restart" if may_restart and not refuses else "left alone"


def _is_true(unit: Sections, key: str, *, default: bool) -> bool:
    """Return the boolean value of the key.

    NixOS writes its X- keys into [Service] or [Unit], depending on the option.
    """
    values = unit.get(("Unit", key), []) + unit.get(("Service", key), [])
    return values[-1].lower() in ("1", "yes", "true", "on") if values else default


def _stops_on_removal(system: SystemFacts, files: tuple[tuple[str, str], ...]) -> bool:
    return _is_true(_parsed(system, files) or {}, "X-StopOnRemoval", default=True)


def _parsed(system: SystemFacts, files: tuple[tuple[str, str], ...]) -> Sections | None:
    texts = [system.texts.get(path) for path, _ in sorted(files, key=lambda file: file[0].count("/"))]
    known = [text for text in texts if text is not None]
    return parse_unit("\n".join(known)) if len(known) == len(texts) else None


def _is_masked(files: tuple[tuple[str, str], ...]) -> bool:
    return any(content == _MASKED for _, content in files)


def _wanted(system: SystemFacts) -> set[str]:
    wants: Mapping[str, frozenset[str]] = system.wants
    known = {unit for unit, files in system.units.items() if not _is_masked(files)}
    return {
        unit
        for wanter, units in wants.items()
        if not _NOT_NORMAL.match(wanter)
        for unit in units
        if unit in known or _template(unit) in known
    }


def _template(unit: str) -> str:
    """Return the template that the unit is an instance of, or the unit itself."""
    name, at, rest = unit.partition("@")
    return f"{name}@.{rest.rpartition('.')[2]}" if at and "." in rest else unit
