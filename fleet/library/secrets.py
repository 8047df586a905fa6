"""Secrets outside of deployments: what hosts have of them, and how they get them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.deploy.stop import Stop
from fleet.errors import StoppedError
from fleet.ledger import Kind
from fleet.library.entering import enter
from fleet.library.governed import NOTHING, GovernedFleet
from fleet.library.reading import ask_all, ignore
from fleet.library.tools import new_run_id
from fleet.steps.secrets import fill as fill_host
from fleet.steps.secrets import look, put
from fleet.steps.switch import LOST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.errors import FleetError
    from fleet.host.secrets import Compared, SecretState
    from fleet.inventory import Host
    from fleet.library.judging import Plea
    from fleet.library.reading import OnWait
    from fleet.library.tools import Tools
    from fleet.machine import Link
    from fleet.model import HostName

LATE = 2.0
"""Seconds that hosts at which nobody answers get, when the others have been asked."""

MAYBE = "secrets may have been written: fleet secrets status tells"
"""What is to be said of a host that has been asked to write, and has not answered."""


@dataclass(frozen=True, kw_only=True)
class HostSecretStates:
    """What a host has of its secrets."""

    states: tuple[SecretState, ...]
    left: tuple[str, ...]
    """The names of secrets that it got once, and that fleet.toml does not have any more."""

    @property
    def is_as_declared(self) -> bool:
        """Whether it has exactly what fleet.toml says."""
        return not self.left and all(one.state == "same" for one in self.states)


async def states(
    tools: Tools, hosts: Sequence[Host], *, on_wait: OnWait
) -> dict[HostName, HostSecretStates | FleetError]:
    """Return what each host has of its secrets. Their values are read here, and none is sent."""
    reader = tools.secret_reader()

    async def ask(host: Host, link: Link) -> HostSecretStates:
        found, left = await look(link, host, reader)
        return HostSecretStates(states=found, left=left)

    return await ask_all(tools.logins, hosts, ask, on_wait=on_wait)


async def push(
    tools: Tools, hosts: Sequence[Host], *, stop: Stop, on_wait: OnWait
) -> dict[HostName, Compared | FleetError]:
    """Let each host have its secrets now. What differs is written, and its units are started anew.

    At a request to stop no further host begins, and nobody waits for those that have begun. What was to be written on
    these is not known, as after a lost connection, and their answer says so.
    """
    reader, run = tools.secret_reader(), new_run_id()
    begun: set[HostName] = set()

    async def ask(host: Host, link: Link) -> Compared:
        written = await put(link, host, reader, run, on_begin=lambda: begun.add(host.name))
        for name in written.changed:
            await enter(tools, Kind.SECRET_CHANGED, waits=False, host=host.name, secret=name)
        return written

    def told(name: HostName, answer: Compared | FleetError) -> Compared | FleetError:
        if name in begun and isinstance(answer, LOST):
            answer.hint = answer.hint or f"its {MAYBE}"
        if not isinstance(answer, StoppedError):
            return answer
        return StoppedError(f"interrupted: {MAYBE}" if name in begun else "interrupted before anything was written")

    answers = await ask_all(tools.logins, hosts, ask, on_wait=on_wait, stop=stop)
    return {name: told(name, answer) for name, answer in answers.items()}


async def fill(tools: Tools, hosts: Sequence[Host], *, on_wait: OnWait) -> dict[HostName, Compared | FleetError | None]:
    """Write what a reboot has taken of the secrets of these hosts. Those that lack nothing have None for an answer."""
    reader, run = tools.secret_reader(), new_run_id()

    async def ask(host: Host, link: Link) -> Compared | None:
        return await fill_host(link, host, reader, run)

    return await ask_all(tools.logins, hosts, ask, on_wait=on_wait, late=LATE)


class SecretsFleet(GovernedFleet):
    """A fleet whose hosts get secrets without a deployment, too."""

    async def secrets_status(
        self, *selectors: str, on_wait: OnWait = ignore
    ) -> dict[HostName, HostSecretStates | FleetError]:
        """Return what each host has of its secrets. Their values are read on this machine, and none is sent."""
        return await states(self._tools, self._owners(*selectors), on_wait=on_wait)

    async def push_secrets(
        self, *selectors: str, stop: Stop | None = None, on_wait: OnWait = ignore, plea: Plea = NOTHING
    ) -> dict[HostName, Compared | FleetError]:
        """Let each host have its secrets now, and restart the units that read what differs. Raise `PolicyError`."""
        hosts = self._owners(*selectors)
        await self._judge.require_act("deploy", [host.name for host in hosts], plea)
        return await push(self._tools, hosts, stop=stop or Stop(), on_wait=on_wait)

    async def fill_secrets(self, *selectors: str) -> dict[HostName, Compared | FleetError | None]:
        """Write what a reboot has taken of the secrets of these hosts. None stands for a host that lacks nothing."""
        return await fill(self._tools, self._owners(*selectors), on_wait=ignore)

    def _owners(self, *selectors: str) -> tuple[Host, ...]:
        """Return those of the selected that can have secrets: hosts, and no profiles beside their systems."""
        return tuple(host for host in self.select(*selectors) if not host.profile)
