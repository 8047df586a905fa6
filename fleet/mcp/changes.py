"""Ask for changes: plan, deploy, roll back, withdraw. What policy.toml leaves to people, no tool does.

None of them approves, unlocks, forces or breaks glass; there is no argument for that.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from fleet.errors import FleetError
from fleet.library.plans import require_applicable
from fleet.library.reading import ignore
from fleet.mcp.answers import Document, page, problem
from fleet.mcp.arguments import BackTo, Digest, Goal, Hosts, Intent, KeepGoing, Reboot, Revision, SomeHosts, Wait, Watch  # noqa: TC001 - the SDK reads these
from fleet.mcp.plans import READY, plan_file, plea_for, standing
from fleet.mcp.runs import told_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fleet.library.fleet import Fleet
    from fleet.mcp.desk import Desk
    from fleet.mcp.requests import Request

STARTS = 15.0
"""Seconds within which a process usually has said which run it is."""


class Changes:
    """Tools that ask for changes, for whoever is at the desk."""

    def __init__(self, desk: Callable[[], Desk]) -> None:
        self._desk = desk
        self._starting = asyncio.Lock()

    async def plan(  # noqa: PLR0913 - tools are called by name
        self,
        hosts: Hosts,
        intent: Intent,
        revision: Revision = "",
        goal: Goal = "switch",
        reboot: Reboot = "never",
        watch: Watch = "0s",
        keep_going: KeepGoing = False,  # noqa: FBT002 - tools are called by name
        wait: Wait = 20,
    ) -> Document:
        """Evaluate and build, and say what a deployment would do to each host. Changes no host.

        The plan is kept for a day; deploy does exactly what it says. Where it goes on, `run` tells its end.
        """
        desk = self._desk()
        async with await desk.fleet() as fleet:
            names = [host.name for host in fleet.select(*hosts)]
            flags = [f"--intent={intent}", f"--goal={goal}", f"--reboot={reboot}", f"--watch={watch}"]
            flags += ["--keep-going"] if keep_going else []
            flags += [f"--revision={revision}"] if revision else []
            flags += ["--sign", f"--key={desk.key}"] if desk.key is not None else []

            def words(folder: Path) -> Sequence[str]:
                file = folder / "fleet.plan"
                return ["plan", "--json", f"--file={fleet.inventory.path}", f"--output={file}", *flags, "--", *names]

            begun = desk.requests(fleet).begin(words, verb="plan", by=fleet.by, hosts=names)
            return await told_of(fleet, desk, begun.id, wait=wait)

    async def deploy(self, plan: Digest, hosts: SomeHosts = [], wait: Wait = 20) -> Document:  # noqa: B006 - read only
        """Do what a plan says. A host that is not proven healthy goes back by itself; one that has changed refuses.

        Where a person has to agree first nothing is done, and `human` has the command for them: call it again then.
        """
        desk = self._desk()
        async with await desk.fleet() as fleet:
            made = await fleet.kept_plan(plan)
            names = require_applicable(made, fleet.inventory, hosts, now=time.time())
            requests = desk.requests(fleet)
            file = await asyncio.to_thread(plan_file, requests, made)
            found = await standing(fleet, made, names, file)
            if found["state"] != READY:
                return {"plan": made.digest, **found}
            _, signed = plea_for(fleet, made, file)
            flags = ["--yes", "--json", f"--file={fleet.inventory.path}", *(f"--signatures={one}" for one in signed)]
            words = ["apply", *flags, "--", made.digest, *(names if set(names) != set(made.hosts) else ())]
            return await self._do(fleet, desk, words, wait, verb="deploy", plan=made.digest, hosts=sorted(names))

    async def rollback(self, hosts: Hosts, intent: Intent, to: BackTo = "", wait: Wait = 20) -> Document:
        """Take hosts back to what ran before, or to `to`, with the same care. A second time goes forward again."""
        desk = self._desk()
        async with await desk.fleet() as fleet:
            names = [host.name for host in fleet.select(*hosts)]
            flags = ["--yes", "--json", f"--file={fleet.inventory.path}", f"--intent={intent}"]
            flags += [f"--to={to}"] if to else []
            words = ["rollback", *flags, "--", *names]
            return await self._do(fleet, desk, words, wait, verb="rollback", hosts=sorted(names), to=to)

    async def withdraw(self, plan: Digest, hosts: SomeHosts = []) -> Document:  # noqa: B006 - read only
        """Make a plan worthless, wherever copies of it are: no host begins it any more.

        What has begun is seen through.
        """
        async with await self._desk().fleet() as fleet:
            made = await fleet.kept_plan(plan)
            names = require_applicable(made, fleet.inventory, hosts, now=0)
            answers = await fleet.withdraw(made, *names, on_wait=ignore)
            warned = {"warning": "; ".join(fleet.unentered)} if fleet.unentered else {}
        failed = {name: answer for name, answer in answers.items() if isinstance(answer, FleetError)}
        rows = ((name, {"name": name, "error": problem(error)}) for name, error in failed.items())
        return {
            "plan": made.digest,
            "withdrawn": sum(1 for answer in answers.values() if not isinstance(answer, FleetError) and answer),
            "was_worthless": sum(1 for answer in answers.values() if answer == ""),
            "failed": len(failed),
            **warned,
            **page(rows, []),
        }

    async def _do(
        self,
        fleet: Fleet,
        desk: Desk,
        words: Sequence[str],
        wait: float,
        *,
        hosts: list[str],
        **about: str,
    ) -> Document:
        """Start what changes hosts, unless the very same is under way, and tell what came of it within `wait` seconds.

        The answer has the id of the run, so that it can be looked at later. `about` has what `Requests.alive` tells
        requests apart by.
        """
        requests = desk.requests(fleet)
        async with self._starting:
            begun = await asyncio.to_thread(requests.alive, hosts, **about)
            if begun is None:
                begun = requests.begin(lambda _: words, by=fleet.by, hosts=hosts, **about)
        await _has_begun(begun)
        return await told_of(fleet, desk, begun.run or begun.id, wait=wait)


async def _has_begun(request: Request) -> None:
    """Wait until the process has said which run it is, or has ended."""
    deadline = time.monotonic() + STARTS
    while not request.run and request.is_alive and time.monotonic() < deadline:  # noqa: ASYNC110 - nobody tells us
        await asyncio.sleep(0.1)
