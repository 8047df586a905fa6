"""Reads systems on machines that have sh, coreutils, findutils and Nix: two commands for each."""

from __future__ import annotations

import base64
import dataclasses
from typing import TYPE_CHECKING

from fleet.diff.compare import SystemDiff, compare, needed_texts
from fleet.diff.system import UNITS, SystemFacts
from fleet.errors import FleetError
from fleet.machine import Command, Machine

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleet.model import Closure

_MOST_BYTES = 64 * 1024
_MOST_FILES = 200
_TIMEOUT = 120.0
"""Seconds; a slow disk reads some thousand small files."""

# printf and not echo: names of units contain backslashes. A linked tree like etc/zoneinfo is some thousand
# files; one of more than 256 counts as one thing, known by its store path.
_SYSTEM = r"""
set -eu
cd "$1"
export LC_ALL=C
section() { printf '%%%s\n' "$1"; }
real() { while IFS= read -r file; do printf '%s  %s\n' "$(readlink -f "$file")" "$file"; done; }
section paths
paths=$(nix-store -q --requisites "$1")
printf '%s\n' "$paths"
section sizes
printf '%s\n' "$paths" | xargs nix-store -q --size
section parts
for part in kernel initrd kernel-modules systemd; do
  if [ -e "$part" ]; then printf '%s  %s\n' "$(readlink -f "$part")" "$part"; fi
done
if [ -f kernel-params ]; then printf '%s  kernel-params\n' "$(cat kernel-params)"; fi
for file in init-interface-version switch-inhibitors; do
  if [ -f "$file" ]; then printf '%s  %s\n' "$(tr -d '\n' <"$file")" "$file"; fi
done
if [ -d kernel-modules/lib/modules ]; then
  find -L kernel-modules/lib/modules -name 'nvidia.ko*' -exec readlink -f {} ';' | sed 's/$/  nvidia/'
fi
if ! [ -d etc ]; then exit 0; fi
section sums
find -L etc/ -type d -xtype l -prune -o -type f -size -1024k -exec sha256sum {} +
section links
find -L etc/ -type d -xtype l -prune -o -type f ! -size -1024k -print | real
find -L etc/ -type d -xtype l -prune -print | while IFS= read -r tree; do
  section links
  case $tree in
    etc/systemd | etc/systemd/system) count=0 ;;
    *) count=$(find -L "$tree" -type f | head -n 257 | wc -l) ;;
  esac
  if [ "$count" -gt 256 ]; then
    printf '%s\n' "$tree" | real
  else
    find -L "$tree" -type f ! -size -1024k | real
    section sums
    find -L "$tree" -path '*.wants' -prune -o -path '*.requires' -prune -o \
      -type f -size -1024k -exec sha256sum {} +
  fi
done
if ! [ -d etc/systemd/system ]; then exit 0; fi
section wants
find -L etc/systemd/system/ \( -path '*.wants/*' -o -path '*.requires/*' \) -print
section aliases
find etc/systemd/system/ -maxdepth 1 -type l ! -lname '*/*'
section masked
find -L etc/systemd/system/ -maxdepth 1 -type c
"""

_TEXTS = r"""
set -eu
cd "$1/etc"
while IFS= read -r file; do
  if [ -f "$file" ]; then printf '%s\t%s\n' "$(head -c "$2" -- "$file" | base64 -w0)" "$file"; fi
done
"""


async def read_diff(old_machine: Machine, old: Closure, new_machine: Machine, new: Closure) -> SystemDiff:
    """What differs between two closures, on one machine or on two; four commands at most."""
    before, after = await read_system(old_machine, old), await read_system(new_machine, new)
    wanted = needed_texts(before, after)
    before = dataclasses.replace(before, texts=await read_texts(old_machine, old, wanted))
    after = dataclasses.replace(after, texts=await read_texts(new_machine, new, wanted))
    return compare(before, after)


async def read_system(machine: Machine, closure: Closure) -> SystemFacts:
    """The facts of a closure that is in the machine's store, without texts; one command."""
    return parse_system(closure, await _sh(machine, _SYSTEM, closure))


async def read_texts(machine: Machine, closure: Closure, paths: Iterable[str]) -> dict[str, str | None]:
    """Contents of files below the closure's `etc`; None for one that is no text or over 64 KiB; one command.

    Only the first 200 paths are read, and files that are not there are left out.
    """
    wanted = [path for path in paths if "\n" not in path][:_MOST_FILES]
    if not wanted:
        return {}
    lines = await _sh(machine, _TEXTS, closure, str(_MOST_BYTES + 1), stdin="\n".join(wanted) + "\n")
    files = (line.split("\t", 1) for line in lines.splitlines())
    return {path: _text(base64.b64decode(content)) for content, path in files}


async def _sh(machine: Machine, script: str, *arguments: str, stdin: str = "") -> str:
    argv = ("sh", "-c", script, "fleet-diff", *arguments)
    command = Command(argv=argv, stdin=stdin.encode(), timeout=_TIMEOUT, root=False)
    output = await machine.run(command)
    if output.status != 0:
        said = output.stderr.splitlines()[-5:]
        raise FleetError(f"cannot read {arguments[0]} (exit status {output.status})", said=said)
    return output.stdout


def _text(content: bytes) -> str | None:
    if len(content) > _MOST_BYTES or b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def parse_system(closure: Closure, answer: str) -> SystemFacts:
    """What the reading script answered, as facts."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in answer.splitlines():
        if line.startswith("%"):
            lines = sections.setdefault(line[1:], [])
        else:
            lines.append(line)
    get = sections.get
    files = dict(_file(line) for line in (*get("sums", []), *get("links", [])))
    files |= {_below_etc(path): "masked" for path in get("masked", [])}
    for alias in map(_below_etc, get("aliases", [])):
        files.pop(alias, None)
    return SystemFacts(
        closure=closure,
        paths=dict(zip(get("paths", []), map(int, get("sizes", [])), strict=True)),
        files=files,
        wants=_wants(get("wants", [])),
        parts={part: value for value, part in (line.rsplit("  ", 1) for line in get("parts", []))},
    )


def _file(line: str) -> tuple[str, str]:
    """A line of sha256sum, which escapes backslashes in names and marks that by one in front."""
    content, path = line.split("  ", 1)
    if content.startswith("\\"):
        content, path = content[1:], path.replace("\\\\", "\\")
    return _below_etc(path), content


def _below_etc(path: str) -> str:
    return path.removeprefix("etc/")


def _wants(paths: Iterable[str]) -> Mapping[str, frozenset[str]]:
    wants: dict[str, frozenset[str]] = {}
    for path in paths:
        folder, _, unit = _below_etc(path).removeprefix(UNITS).partition("/")
        wanter = folder.rpartition(".")[0]
        wants[wanter] = wants.get(wanter, frozenset()) | {unit}
    return wants
