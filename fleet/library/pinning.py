"""Tell what flakes are pinned to and what their hosts end with, and update one pin. No host is contacted."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from fleet import nix
from fleet.errors import ConfigError, EvaluationError
from fleet.files import read_file, replace_file
from fleet.inventory.drivers import default_attribute
from fleet.inventory.origins import is_expression
from fleet.source import git, lock, outputs
from fleet.source.options import require_known
from fleet.source.pins import Ends, findings, followed, pins
from fleet.source.tree import folder_of, said, work_tree
from fleet.steps.evaluate import WORKERS, grouped
from fleet.text import listed, parsed_json, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from fleet.inventory import Host, Inventory
    from fleet.machine import Machine
    from fleet.model import Finding, HostName
    from fleet.source.pins import Pin

LOCK_FILE = "flake.lock"
LARGEST = 16 << 20
"""The most bytes of a lock file."""
_LONGEST = 200
"""The most characters of what a configuration says about itself that are believed to be a version."""
_SYSTEM = default_attribute("")[2:]
"""Where in a configuration its system is."""


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """What the flakes of some hosts are pinned to."""

    pins: tuple[Pin, ...]
    ends: Mapping[HostName, Ends]
    failed: Mapping[HostName, EvaluationError]
    """The hosts that do not evaluate."""
    findings: tuple[Finding, ...]


class Pinner:
    """Looks at the pins of a fleet."""

    def __init__(self, here: Machine, fleet: Inventory, *, wait_for: Callable[[str], None]) -> None:
        """`wait_for` gets the words for what is done."""
        self._here = here
        self._fleet = fleet
        self._wait_for = wait_for

    async def look(self, hosts: Sequence[Host]) -> Pinned:
        """Return the pins of the flakes of these hosts, and what each host ends with.

        Raise `ConfigError` if Nix does not know an option of the fleet, and `EvaluationError` if it cannot be run or
        cannot read a flake.
        """
        await require_known(self._here, self._fleet.path, self._fleet.nix_options)
        known: list[Pin] = []
        found: list[Finding] = []
        ends: dict[HostName, Ends] = {}
        failed: dict[HostName, EvaluationError] = {}
        for flake, group in self._fleet.by_reference(hosts).items():
            if not is_expression(flake):
                self._wait_for(f"read {flake}")
                locks = await _locks(self._here, flake)
                known += pins(flake, locks)
                found += lock.findings(locks, now=time.time())
            self._wait_for("evaluate what the hosts end with")
            one, other = await self._ends(flake, group)
            ends |= one
            failed |= other
        found += findings(hosts, ends, known)
        return Pinned(pins=tuple(known), ends=ends, failed=failed, findings=tuple(found))

    async def _ends(
        self, flake: str, hosts: Sequence[Host]
    ) -> tuple[dict[HostName, Ends], dict[HostName, EvaluationError]]:
        """Ask for all at once and, if that fails, for each alone to find out which of them are at fault."""
        ends: dict[HostName, Ends] = {}
        failed: dict[HostName, EvaluationError] = {}
        places = asyncio.Semaphore(WORKERS)

        async def ask(output: str, group: Sequence[Host]) -> None:
            try:
                ends.update(await self._ask(flake, output, group))
            except EvaluationError as error:
                if len(group) == 1:
                    failed[group[0].name] = error
                    return
                async with asyncio.TaskGroup() as tasks:
                    for host in group:
                        tasks.create_task(alone(output, host))

        async def alone(output: str, host: Host) -> None:
            async with places:
                await ask(output, [host])

        for output, group in grouped(flake, hosts):
            await ask(output, group)
        return ends, failed

    async def _ask(self, flake: str, output: str, hosts: Sequence[Host]) -> dict[HostName, Ends]:
        attributes = {host.name: _configuration(host)[1 if output else 0 :] for host in hosts}
        answer = await self._here.run(nix.ends(flake, output, attributes))
        names = listed([host.name for host in hosts])
        if answer.status != 0:
            raise EvaluationError(
                f"{names}: Nix could not evaluate {flake}", said=tuple(answer.stderr.splitlines()[-20:])
            )
        try:
            values = parsed_json(answer.stdout)
            return {host.name: _read(values[host.name]) for host in hosts}
        except (ValueError, LookupError, TypeError) as error:
            raise EvaluationError(f"{names}: what Nix printed cannot be read: {error}") from error


def _configuration(host: Host) -> tuple[str, ...]:
    """Return the attribute of the host's configuration, which has its system; of a system alone that itself."""
    size = len(_SYSTEM)
    return host.attr[:-size] if host.attr[-size:] == _SYSTEM else host.attr


def _read(values: Mapping[str, Any]) -> Ends:
    names = [field.name for field in dataclasses.fields(Ends)]
    return Ends(
        **{name: shortened(value, _LONGEST) if isinstance(value := values[name], str) else None for name in names}
    )


async def _locks(here: Machine, flake: str) -> dict[str, Any]:
    described = await outputs.metadata(here, flake)
    if described.status != 0:
        stale = lock.stale(described.stderr)
        message = stale.message if stale else f"Nix cannot read {flake}"
        raise EvaluationError(
            message, said=tuple(described.stderr.splitlines()[-20:]), hint=stale.hint if stale else ""
        )
    return outputs.locks(described)


def document(pinned: Pinned) -> dict[str, Any]:
    """Return what `fleet pins --json` prints."""
    hosts: list[tuple[HostName, Ends, str | None]] = [(name, ends, None) for name, ends in pinned.ends.items()]
    hosts += [(name, Ends(), error.message) for name, error in pinned.failed.items()]
    return {
        "inputs": [dataclasses.asdict(pin) for pin in pinned.pins],
        "hosts": [
            {"name": name, "input": _input(ends, pinned), **dataclasses.asdict(ends), "error": error}
            for name, ends, error in hosts
        ],
        "findings": [dataclasses.asdict(finding) for finding in pinned.findings],
    }


def _input(ends: Ends, pinned: Pinned) -> str | None:
    pin = followed(ends, pinned.pins)
    return pin.name if pin else None


@dataclass(frozen=True, kw_only=True)
class Update:
    """An input that was locked anew. The lock file can still be put back."""

    file: Path
    before: bytes
    after: bytes
    old: Pin
    new: Pin

    def put_back(self) -> bool:
        """Let the lock file be what it was. Return whether it is: what others have made of it meanwhile stays."""
        if read_file(self.file, most=LARGEST) != self.after:
            return self.after == self.before
        replace_file(self.file, self.before, mode=self.file.stat().st_mode & 0o777)
        return True


async def update(here: Machine, flake: str, name: str) -> Update:
    """Lock an input of a flake in a folder of this machine anew.

    Raise `ConfigError` if the flake is elsewhere, has no such input of its own, or has a lock file with changes that
    are not committed; and `EvaluationError` if Nix cannot do it: the lock file is as it was then.
    """
    file = _lock_file(flake)
    old = _direct(pins(flake, await _locks(here, flake)), flake, name)
    await _require_committed(here, flake, file)
    before = read_file(file, most=LARGEST)
    version = await said(here, nix.VERSION) or ""
    try:
        await _relock(here, flake, name, version)
        new = _direct(pins(flake, await _locks(here, flake)), flake, name)
        return Update(file=file, before=before, after=read_file(file, most=LARGEST), old=old, new=new)
    except BaseException:
        replace_file(file, before, mode=file.stat().st_mode & 0o777)
        raise


async def _relock(here: Machine, flake: str, name: str, version: str) -> None:
    done = await here.run(nix.update_input(flake, name, version))
    if done.status != 0:
        raise EvaluationError(f"Nix could not update {name}", said=tuple(done.stderr.splitlines()[-20:]))


def _lock_file(flake: str) -> Path:
    folder = None if is_expression(flake) else folder_of(flake)
    if folder is None:
        raise ConfigError(f"{flake} is no flake in a folder of this machine", hint="update its inputs where it is")
    asked = dict(parse_qsl(flake.partition("?")[2]))
    return folder / asked.get("dir", "") / LOCK_FILE


def _direct(known: Sequence[Pin], flake: str, name: str) -> Pin:
    names = [pin.name for pin in known if pin.is_direct]
    for pin in known:
        if pin.is_direct and pin.name == name:
            return pin
    raise ConfigError(f"{flake} has no input {name}", hint=f"it has {listed(names)}" if names else "it has no inputs")


async def _require_committed(here: Machine, flake: str, file: Path) -> None:
    """Raise `ConfigError` unless git could bring back what the lock file is now."""
    root = await work_tree(here, flake, file.parent)
    if root is None:
        return
    if changed := await said(here, git.changed(root, file)):
        what = "is not in git" if changed.startswith("?") else "has changes that are not committed"
        raise ConfigError(f"{file} {what}", hint="commit it first: an update that fails is taken back to it")
