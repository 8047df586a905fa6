"""Find out what hosts, and this machine, have that nobody needs, and let it go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.deploy.stop import Stop
from fleet.errors import StoppedError
from fleet.library.garbage_here import find_here, free_here
from fleet.library.governed import NOTHING
from fleet.library.reading import ask_all, ignore
from fleet.state import KEEP
from fleet.steps import garbage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleet.errors import FleetError
    from fleet.host.garbage import Freed, Garbage
    from fleet.inventory import Host
    from fleet.library.garbage_here import GarbageHere
    from fleet.library.judging import Judge, Plea
    from fleet.library.reading import OnWait
    from fleet.library.tools import Tools
    from fleet.machine import Link
    from fleet.model import HostName

    OnCount = Callable[[int], None]


class GarbageCollector:
    """Collects garbage of one fleet. Nothing here asks a person."""

    def __init__(self, tools: Tools, select: Callable[..., tuple[Host, ...]], judge: Judge) -> None:
        self._tools = tools
        self._select = select
        self._judge = judge

    async def find(
        self, *selectors: str, keep: int | None = None, stop: Stop | None = None, on_wait: OnWait = ignore
    ) -> dict[HostName, Garbage | FleetError]:
        """Return what each host has that no rollback needs, where its newest `keep` generations stay. Changes nothing.

        That is generations and store paths. None leaves `keep` to fleet.toml. `on_wait` gets the names of hosts that
        have not answered yet.
        """

        async def find(host: Host, link: Link) -> Garbage:
            return await garbage.find_garbage(link, host, keep=host.keep_generations if keep is None else keep)

        return await ask_all(self._tools.logins, self._select(*selectors), find, on_wait=on_wait, stop=stop or Stop())

    async def free(
        self,
        found: Mapping[HostName, Garbage],
        *,
        within: float = garbage.WITHIN,
        stop: Stop | None = None,
        on_wait: OnWait = ignore,
        on_count: OnCount = ignore,
        plea: Plea = NOTHING,
    ) -> dict[HostName, Freed | FleetError]:
        """Let go what `find` has found on these hosts, as far as no rollback needs it by now, and return what went.

        A collection ends after `within` seconds, and when somebody deploys to the host; what is left then goes the next
        time. `on_count` gets how many store paths are gone on all hosts together. At a request to stop, no further host
        begins, and the collection is ended where it runs, which harms nothing; their answer is `StoppedError`. Raise
        `PolicyError` if policy.toml does not allow it.
        """
        await self._judge.require_act("gc", list(found), plea)
        counts: dict[HostName, int] = {}

        async def free(host: Host, link: Link) -> Freed:
            counts[host.name] = 0

            def note(count: int) -> None:
                counts[host.name] = count
                on_count(sum(counts.values()))

            return await garbage.free(link, host, found[host.name], within=within, on_count=note)

        def told(name: HostName, answer: Freed | FleetError) -> Freed | FleetError:
            if not isinstance(answer, StoppedError):
                return answer
            if name not in counts:
                return StoppedError("interrupted before anything was deleted")
            return StoppedError("interrupted: what is gone was not needed, and the next fleet gc goes on")

        hosts = [host for host in self._tools.inventory.hosts.values() if host.name in found]
        answers = await ask_all(self._tools.logins, hosts, free, on_wait=on_wait, stop=stop or Stop())
        return {name: told(name, answer) for name, answer in answers.items()}

    async def find_here(self, *, keep: int = KEEP) -> GarbageHere:
        """Return what this machine keeps for runs, builds and plans that are over, where the newest `keep` runs stay.

        Changes nothing. Raise `StateError`, or `FleetError` if this machine's store does not answer.
        """
        return await find_here(self._tools.state, self._tools.here, keep=keep)

    async def free_here(self, found: GarbageHere, *, keep: int = KEEP) -> GarbageHere:
        """Remove what `find_here` has found, as far as nobody needs it by now, and return what is gone.

        Raise `StateError`, or `FleetError` if this machine's store does not answer.
        """
        return await free_here(self._tools.state, self._tools.here, found, keep=keep)
