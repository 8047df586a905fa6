"""Bring the secrets of one host in one run: their values before it begins, and again after a reboot."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fleet.errors import FleetError, HostError
from fleet.events import SecretsCompared, SecretsFilled
from fleet.host.answers import State
from fleet.host.program import ask
from fleet.host.secrets import Bringing
from fleet.steps.secret_values import revealed
from fleet.steps.switch import while_lost

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet.deploy.context import Context
    from fleet.host.answers import View
    from fleet.host.program import HostProgram
    from fleet.inventory import SecretPlace
    from fleet.steps.hold import Hold
    from fleet.steps.job import Job
    from fleet.steps.secret_values import Value


class HostSecrets:
    """The secrets of one host that a run has a job for. Their values are read once, and forgotten with this object."""

    def __init__(self, context: Context, job: Job, program: HostProgram, hold: Hold) -> None:
        self._context = context
        self._job = job
        self._program = program
        self._hold = hold
        self._values: Mapping[str, Value] | None = None
        self._is_told = False

    async def read(self) -> None:
        """Read the values, unless they were read before. Raise `SecretError` if one cannot be read."""
        if self._values is None:
            self._values = await self._context.secrets.read(self._job.host, self._job.part.secrets)

    async def stage(self) -> bool:
        """Read the values and bring them to the host, where they wait for the run to begin.

        Return whether one differs from what is there. Raise `SecretError` if one cannot be read, and `UnfitError` if
        one cannot be written where it should be; nothing was changed then.
        """
        host, places = self._job.host, self._job.part.secrets
        if not places:
            return False
        found = await self._bringing.stage(places, await self._revealed())
        if not self._is_told:
            same = tuple(place.name for place in places if place.name not in found.changed)
            self._context.journal.emit(SecretsCompared(host=host.name, changed=found.changed, same=same))
            self._is_told = True
        return bool(found.changed)

    async def fill_trial(self) -> None:
        """Fill those that a reboot took, before the new system is judged.

        A host that has just booted may be lost for a moment: it is asked again for as long as it waits to be confirmed.
        If that fails the host is told to go back. Its new system is not to blame.
        """
        volatile = [place for place in self._job.part.secrets if place.is_volatile]
        if not self._job.part.by_reboot or not volatile:
            return
        try:
            await while_lost(lambda: self._fill(volatile), self._job.host.confirm_timeout)
        except FleetError as error:
            word = f"abandon silent its secrets could not be filled after the boot: {error.message}"
            link = self._context.links[self._job.host.name]
            with contextlib.suppress(HostError):  # then it goes back at its deadline
                await ask(link, self._job.host, self._program.word(self._context.run, word, number=self._hold.number))

    async def fill_after(self, end: View) -> str:
        """Fill those that a reboot amid the run took, now that the run has ended.

        A host that is lost for a moment is asked again, as `fill_trial` does. Return why that failed; nothing if it did
        not, or if none is missing. A host that went back without a reboot has what it had before: what is missing there
        was not there.
        """
        if not end.rebooted and end.state not in (State.COMMITTED, State.TESTED):
            return ""
        missing = [place for place in self._job.part.secrets if place.name in end.missing_secrets]
        if not missing:
            return ""
        try:
            await while_lost(lambda: self._fill(missing), self._job.host.confirm_timeout)
        except FleetError as error:
            names = ", ".join(end.missing_secrets)
            return f"its secrets in memory are gone with the reboot ({names}), and could not be filled: {error.message}"
        return ""

    async def _fill(self, places: Sequence[SecretPlace]) -> None:
        found = await self._bringing.fill(places, await self._revealed(), number=self._hold.number)
        self._context.journal.emit(SecretsFilled(host=self._job.host.name, secrets=found.changed))

    @property
    def _bringing(self) -> Bringing:
        host, context = self._job.host, self._context
        return Bringing(context.links[host.name], host, self._program, context.run)

    async def _revealed(self) -> dict[str, bytes]:
        await self.read()
        return revealed(self._values or {})
