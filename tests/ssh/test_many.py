"""Many hosts at once, over real SSH: those that stand on the wanted closure are told from the one that does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncssh

from fleet import Fleet
from fleet.deploy.look import KEPT_OPEN
from fleet.deploy.options import Options
from fleet.events import HostPlanned, RunFinished
from fleet.inventory import parse
from fleet.library.tools import Tools
from fleet.machine import Output
from fleet.machine.login import Logins
from fleet.model import Outcome, Verb
from fleet.state import open_state
from tests.bench.simulate import simulated
from tests.fakes import Events, FakeMachine, runs
from tests.unit.builders import NEW, OLD, FakeSupply

if TYPE_CHECKING:
    from pathlib import Path

MANY = KEPT_OPEN + 12


async def test_the_host_that_is_behind_is_found_among_many(home: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(home / "key")
    key.write_public_key(home / "key.pub")
    with simulated(MANY, NEW, home / "key") as current, simulated(1, OLD, home / "key") as behind:
        hosts = {f"host-{number}": host for number, host in enumerate(current)} | {"behind": behind[0]}
        tables = [f'[hosts.{name}]\nport = {at.port}\nhost_key = "{at.host_key}"' for name, at in hosts.items()]
        defaults = f'[defaults]\naddress = "127.0.0.1"\nidentity_file = "{home}/key"\nsubstitute = false\n'
        inventory = parse(home / "fleet.toml", '[fleet]\nname = "many"\n' + defaults + "\n".join(tables))
        events = Events()
        tools = Tools(
            inventory=inventory,
            logins=Logins(inventory.hosts),
            state=open_state(home / "state"),
            here=FakeMachine((runs("xargs"), Output(status=0)), (runs("nix-store"), Output(status=1))),
            new_supply=FakeSupply,
        )
        async with Fleet(tools) as fleet:
            planning = fleet.plan_as(fleet.select(), Options(verb=Verb.PLAN, closure=NEW))
            async for event in planning:
                events(event)
    actions = {plan.host: plan.action for plan in events.of(HostPlanned)}
    assert [name for name, action in actions.items() if action != "unchanged"] == []
    (finished,) = events.of(RunFinished)
    assert finished.error is not None  # this machine's store has nothing for the one that is behind
    outcomes = {result.host: result.outcome for result in finished.hosts}
    assert [name for name, outcome in outcomes.items() if outcome is not Outcome.UNCHANGED] == ["behind"]
