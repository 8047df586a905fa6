"""Sandboxes of a fleet: list, bring up, take down, reset and prove them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.library.governed import NOTHING
from fleet.library.reading import ask_all, ignore
from fleet.sandbox import SandboxReport, act, list_sandboxes

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from fleet.deploy.stop import Stop
    from fleet.errors import FleetError
    from fleet.inventory import Host
    from fleet.library.judging import Judge, Plea
    from fleet.library.reading import OnWait
    from fleet.library.tools import Tools
    from fleet.machine import Link
    from fleet.model import HostName
    from fleet.sandbox import Sandbox

    Act = Literal["up", "down", "reset", "prove"]


class Sandboxes:
    """The sandboxes of one fleet. Nothing here asks a person."""

    def __init__(self, tools: Tools, select: Callable[..., tuple[Host, ...]], judge: Judge) -> None:
        self._tools = tools
        self._select = select
        self._judge = judge

    async def list(
        self, *selectors: str, stop: Stop | None = None, on_wait: OnWait = ignore
    ) -> dict[HostName, tuple[Sandbox, ...] | FleetError]:
        """Return the sandboxes of these hosts, or of all. Changes nothing. A host without any is `unfit`."""

        async def ask(_: Host, link: Link) -> tuple[Sandbox, ...]:
            return await list_sandboxes(link)

        return await ask_all(self._tools.logins, self._select(*selectors), ask, on_wait=on_wait, stop=stop)

    async def act(
        self,
        verb: Act,
        name: str,
        *selectors: str,
        stop: Stop | None = None,
        on_wait: OnWait = ignore,
        plea: Plea = NOTHING,
    ) -> dict[HostName, SandboxReport | FleetError]:
        """Bring the sandbox of that name up on these hosts, take it down, reset or prove it, and return how it is then.

        A sandbox comes up only if it is proven that it holds. Raise `PolicyError` if policy.toml does not allow it.
        """
        hosts = self._select(*selectors)
        await self._judge.require_act("exec", [host.name for host in hosts], plea)

        async def do(_: Host, link: Link) -> SandboxReport:
            return await act(link, verb, name)

        return await ask_all(self._tools.logins, hosts, do, on_wait=on_wait, stop=stop)
