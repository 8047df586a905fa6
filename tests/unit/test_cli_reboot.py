"""`fleet reboot`: who is rebooted, how that is seen, and how it ends."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from fleet.deploy.rebooting import Rebooting
from fleet.deploy.run import run_to_end
from fleet.deploy.stop import Stop
from fleet.errors import AuthenticationError, LockedError, UnfitError, UnreachableError
from fleet.host.facts import host_facts
from fleet.machine import Output
from fleet.model import HostName, Outcome
from fleet.scripts import one_line
from fleet.steps.reboot import require_same_boot
from fleet.steps.secret_values import SecretReader
from fleet.steps.secrets import refill
from tests.fakes import Says, asks, in_no_time, runs, said
from tests.unit import builders
from tests.unit.builders import NEW, OLD, RUN, host, outcomes
from tests.unit.world import FACTS, World

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.deploy.run import RunResult
    from fleet.host.facts import HostFacts
    from fleet.machine import Command
    from tests.fakes import Answer
    from tests.unit.conftest import CommandLine, Terminal

A, B = HostName("a"), HostName("b")
STATE = runs("sh", "-c", one_line("fleet.steps", "boot-state"))
REBOOT = runs("sh", "-c", one_line("fleet.steps", "reboot"))
GOES_DOWN = UnreachableError(A, "connection lost while running a command")
CHECK = 'checks = [{ name = "web", command = "web", within = "20s", interval = "1s" }]'
WEB = runs("sh", "-c", "web")


def boot(number: int, state: str = "running") -> Output:
    return said(boot=f"id {number}", state=state)


class Rebooted(World):
    """Hosts that reboot when they are told to."""

    def __init__(self, tmp_path: Path, *names: str, more: str = "") -> None:
        super().__init__(tmp_path, *names, more=more)
        self.boots = dict.fromkeys(names, 1)
        self.order: list[str] = []
        for name in names:
            self._answer(name)

    def _answer(self, name: str) -> None:
        self.on(
            name,
            (STATE, lambda _: boot(self.boots[name])),
            (REBOOT, lambda _: self.reboot(name)),
            (asks("busy"), said()),
        )

    def reboot(self, name: str) -> Exception:
        self.boots[name] += 1
        self.order.append(name)
        return GOES_DOWN

    async def rebooted(self, *, stop: Stop | None = None, **options: Any) -> RunResult:
        """Without a record of it: no thread, so that it takes no time."""
        seen = self.events
        context = builders.context(seen, here=self.here, links=self.links, stop=stop or Stop())
        rebooting = Rebooting(context, self.inventory, list(self.inventory.hosts.values()), yes, **options)
        return await run_to_end(context.journal, context.stop, tuple(self.links), rebooting.reboot_all())


async def yes(_: object) -> bool:
    return True


def facts(**more: Any) -> HostFacts:
    lines = {**FACTS, **more}
    return host_facts({key: value if isinstance(value, list) else [str(value)] for key, value in lines.items()})


# --- who is rebooted ---


def test_host_that_boots_what_it_runs_and_has_booted_needs_no_word() -> None:
    assert require_same_boot(host(), facts(), accept_boot_risk=False) == ()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"boot_default": NEW}, f"would lead to {NEW}, and not to what runs"),
        ({"profile": NEW, "boot_default": NEW}, f"would lead to {NEW}"),
        ({"profile": NEW}, f"would lead to {OLD}"),
        ({"profile": NEW, "boot_default": ""}, f"would lead to {NEW}"),
        ({"lock_holder": "77 nixos-rebuild"}, "process 77 nixos-rebuild"),
    ],
)
@pytest.mark.parametrize("accepts", [False, True])
def test_host_that_would_boot_something_else_is_never_rebooted(
    more: dict[str, object], message: str, *, accepts: bool
) -> None:
    with pytest.raises(UnfitError, match=message):
        require_same_boot(host(), facts(**more), accept_boot_risk=accepts)


def test_host_with_an_open_transaction_is_never_rebooted() -> None:
    with pytest.raises(LockedError):
        require_same_boot(host(), facts(open_run="r", open_state="switched"), accept_boot_risk=True)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"running_kernel": "/nix/store/k2", "booted_kernel": "/nix/store/k1"}, "what never booted there.*: kernel"),
        ({"boot_default": "", "boot_doubt": "it boots by Limine"}, r"cannot be read \(it boots by Limine\)"),
    ],
)
def test_what_never_booted_is_rebooted_into_only_at_a_risk(more: dict[str, object], message: str) -> None:
    with pytest.raises(UnfitError, match=message) as caught:
        require_same_boot(host(), facts(booted=OLD, **more), accept_boot_risk=False)
    assert "--accept-boot-risk" in caught.value.hint
    (told,) = require_same_boot(host(), facts(**more), accept_boot_risk=True)
    assert told


def test_remedy_for_a_kernel_that_never_booted_leads_there_by_a_trial() -> None:
    pending = facts(booted=OLD, running_kernel="/nix/store/k2", booted_kernel="/nix/store/k1")
    with pytest.raises(UnfitError) as caught:
        require_same_boot(host(), pending, accept_boot_risk=False)
    assert f"--to {OLD}" in caught.value.hint
    assert "--reboot always" in caught.value.hint


# --- how it goes ---


@in_no_time
async def test_host_is_back_when_it_has_booted_anew_and_is_as_it_was(tmp_path: Path) -> None:
    world = Rebooted(tmp_path, "a")
    done = await world.rebooted()
    (ended,) = done.hosts
    assert (done.exit_code, ended.outcome, ended.closure, ended.boot_proven) == (0, Outcome.KEPT, OLD, True)
    assert ended.notes[0].startswith("rebooted, back after ")
    names = [type(event).__name__ for event in world.events]
    assert names[-4:] == ["PhaseStarted", "HostProven", "HostFinished", "RunFinished"]
    (command,) = [one for one in world.links[A].ran if REBOOT(one)]
    assert command.argv[-2:] == ("id 1", OLD)


@in_no_time
async def test_nothing_counts_before_the_boot_is_another(tmp_path: Path) -> None:
    world = Rebooted(tmp_path, "a")
    down, starting = UnreachableError(A, "gone"), boot(2, "starting")
    answers: list[Answer] = [boot(1), boot(1), boot(1), down, starting, starting, boot(2)]
    world.on("a", (STATE, answers))
    done = await world.rebooted()
    assert outcomes({one.host: one for one in done.hosts}) == {"a": Outcome.KEPT}
    assert len([one for one in world.links[A].ran if STATE(one)]) >= len(answers)


@in_no_time
async def test_host_that_does_not_go_down_or_come_back_needs_a_person(tmp_path: Path) -> None:
    world = Rebooted(tmp_path, "a")
    world.on("a", (STATE, boot(1)))
    start = asyncio.get_running_loop().time()
    done = await world.rebooted()
    (ended,) = done.hosts
    assert (done.exit_code, ended.outcome) == (4, Outcome.NEEDS_HUMAN)
    assert ended.failure is not None
    assert (ended.failure.kind, "has not gone down" in ended.failure.message) == ("in_doubt", True)
    waited = asyncio.get_running_loop().time() - start
    assert 900 <= waited < 910  # five minutes to go down, and boot_timeout


@in_no_time
async def test_host_that_is_back_with_less_than_it_had_needs_a_person(tmp_path: Path) -> None:
    world = Rebooted(tmp_path, "a", "b")

    def is_then(name: str, more: dict[str, object]) -> None:
        world.on(name, (asks("facts"), lambda _: said(**FACTS | (more if world.boots[name] > 1 else {}))))

    is_then("a", {"failed_unit": ["x.service"]})
    is_then("b", {"running": NEW})
    done = await world.rebooted()
    told = {one.host: one.failure.message for one in done.hosts if one.failure}
    assert told == {
        "a": "after the reboot failed: x.service",
        "b": f"after the reboot it runs {NEW}, and before the reboot {OLD}",
    }
    assert done.exit_code == 4


SECRET = '[hosts.a.secrets.token]\ncommand = ["give"]\nstorage = "tmpfs"\n'


async def refilled(tmp_path: Path, *answers: Answer) -> tuple[str, int]:
    """What is said where a reboot took the secret of a host that answers these, and how often it was asked."""
    world = World(tmp_path, "a", more=SECRET)
    world.here_too((runs("env"), Output(status=0, stdout="Z29vZA==\n")))
    world.on("a", (asks("facts"), said(**FACTS, secret_missing="token")), (asks("secrets"), answers))
    reader = SecretReader(world.here, folder=tmp_path)
    link = world.links[A]
    return await refill(link, link.host, reader, RUN), len([one for one in link.ran if asks("secrets")(one)])


LOST = UnreachableError(A, "connection lost")


@in_no_time
async def test_host_that_is_lost_after_its_boot_is_asked_again_for_its_secrets(tmp_path: Path) -> None:
    assert await refilled(tmp_path, LOST, LOST, said(compared=["token yes"])) == ("", 3)


@in_no_time
async def test_host_whose_secrets_cannot_be_filled_is_one_that_is_back(tmp_path: Path) -> None:
    said_of, times = await refilled(tmp_path, LOST)
    assert (said_of, times > 10) == ("its secrets could not be filled: connection lost", True)


@pytest.mark.parametrize(
    "error", [AuthenticationError(A, "sudo said no"), said(refused="locked", message="R is at it")]
)
async def test_what_asking_again_does_not_help_is_told_at_once(tmp_path: Path, error: Answer) -> None:
    said_of, times = await refilled(tmp_path, error)
    assert (said_of.startswith("its secrets could not be filled: "), times) == (True, 1)


async def test_host_without_secrets_in_memory_is_not_asked(tmp_path: Path) -> None:
    world = World(tmp_path, "a", more=SECRET.replace("tmpfs", "disk"))
    world.links[A].is_lost = True
    assert await refill(world.links[A], world.links[A].host, SecretReader(world.here, folder=tmp_path), RUN) == ""
    assert world.links[A].ran == []


@in_no_time
async def test_check_that_passed_has_to_pass_again_and_one_that_failed_has_not(tmp_path: Path) -> None:
    world = Rebooted(tmp_path, "a", "b", "c")
    path = world.file
    path.write_text(path.read_text().replace("[defaults]", f"[defaults]\n{CHECK}"))
    from fleet.inventory import load

    world.inventory = load(path)
    for name, host_ in world.inventory.hosts.items():
        world.links[name].host = host_

    def web(name: str, *, before: int, after: int) -> None:
        world.on(name, (WEB, lambda _: Output(status=before if world.boots[name] == 1 else after)))

    web("a", before=0, after=1)
    web("b", before=1, after=1)
    web("c", before=0, after=0)
    done = await world.rebooted()
    assert outcomes({one.host: one for one in done.hosts}) == {
        "a": Outcome.NEEDS_HUMAN,
        "b": Outcome.KEPT,
        "c": Outcome.KEPT,
    }
    a, b, _c = done.hosts
    assert a.failure is not None
    assert "check web" in a.failure.message
    assert any("check web was failing before" in note for note in b.notes)


@in_no_time
async def test_host_that_changes_between_look_and_reboot_is_left_alone(tmp_path: Path) -> None:
    world = Rebooted(tmp_path, "a")
    world.on("a", (REBOOT, said(changed="a transaction is open")))
    done = await world.rebooted()
    (ended,) = done.hosts
    assert (ended.outcome, ended.failure and ended.failure.kind) == (Outcome.FAILED, "stale")
    assert ended.failure is not None
    assert ended.failure.now == "nothing was changed"


@in_no_time
async def test_each_host_is_looked_at_once_more_when_it_is_its_turn(tmp_path: Path) -> None:
    world = Rebooted(tmp_path, "a")
    world.on("a", (asks("facts"), [said(**FACTS), said(**{**FACTS, "boot_default": NEW})]))
    done = await world.rebooted()
    (ended,) = done.hosts
    assert (ended.outcome, ended.failure and ended.failure.kind, world.order) == (Outcome.FAILED, "unfit", [])


@in_no_time
async def test_reboot_that_systemd_refuses_changes_nothing(tmp_path: Path) -> None:
    world = Rebooted(tmp_path, "a")
    world.on("a", (REBOOT, Says(status=1, stderr=b"Access denied\n")))
    done = await world.rebooted()
    (ended,) = done.hosts
    assert (ended.outcome, done.exit_code) == (Outcome.FAILED, 1)
    assert ended.failure is not None
    assert ended.failure.said == ("Access denied",)


@in_no_time
async def test_waves_and_max_failures_are_those_of_a_deployment(tmp_path: Path) -> None:
    world = Rebooted(
        tmp_path,
        "a",
        "b",
        "c",
        more='[rollout]\nat_once = 1\nmax_failures = 0\n[[rollout.waves]]\nhosts = "c"\n[[rollout.waves]]\nhosts = "a"',
    )
    done = await world.rebooted()
    assert world.order == ["c", "a", "b"]
    assert done.exit_code == 0
    world.order.clear()
    world.on("c", (STATE, boot(1)))
    done = await world.rebooted()
    assert world.order == ["c"]
    assert outcomes({one.host: one for one in done.hosts}) == {
        "a": Outcome.SKIPPED,
        "b": Outcome.SKIPPED,
        "c": Outcome.NEEDS_HUMAN,
    }


@in_no_time
async def test_stop_lets_no_further_host_begin_and_waits_for_those_that_have(tmp_path: Path) -> None:
    world, stop = Rebooted(tmp_path, "a", "b", more="[rollout]\nat_once = 1"), Stop()

    def reboot(_: Command) -> Exception:
        stop.request()
        return world.reboot("a")

    world.on("a", (REBOOT, reboot))
    done = await world.rebooted(stop=stop)
    assert outcomes({one.host: one for one in done.hosts}) == {"a": Outcome.KEPT, "b": Outcome.SKIPPED}
    assert done.exit_code == 130


@in_no_time
async def test_second_stop_says_which_host_is_amid_a_reboot(tmp_path: Path) -> None:
    world, stop = Rebooted(tmp_path, "a"), Stop()
    world.on("a", (STATE, boot(1)))

    def reboot(_: Command) -> Exception:
        stop.request()
        stop.request()
        return GOES_DOWN

    world.on("a", (REBOOT, reboot))
    done = await world.rebooted(stop=stop)
    (ended,) = done.hosts
    assert (ended.outcome, done.exit_code) == (Outcome.NEEDS_HUMAN, 4)


@in_no_time
async def test_nobody_is_interrupted_unless_that_is_forced(tmp_path: Path) -> None:
    world = Rebooted(tmp_path, "a")
    world.on("a", (asks("busy"), said(busy=["ann, who is logged in (tty1)"])))
    done = await world.rebooted()
    assert (done.hosts[0].outcome, world.order) == (Outcome.FAILED, [])
    done = await world.rebooted(force=True)
    assert (done.hosts[0].outcome, world.order) == (Outcome.KEPT, ["a"])
    assert any("the reboot interrupts ann" in getattr(event, "message", "") for event in world.events)


# --- the command ---


def test_command_asks_for_several_hosts_when_all_were_looked_at(
    tmp_path: Path, command_line: CommandLine, terminal: Terminal
) -> None:
    world = Rebooted(tmp_path, "a", "b", "c")
    world.on("c", (asks("facts"), said(**{**FACTS, "boot_default": NEW})))
    terminal.answer("n\n")
    told = command_line(world, "reboot", "--all")
    assert told.code == 1
    assert "reboots a, b\n" in told.err
    assert "Reboot 2 hosts? [y/N]" in told.err
    assert f"a reboot would lead to {NEW}" in told.err
    assert world.order == []


def test_command_tells_events_to_scripts(tmp_path: Path, command_line: CommandLine) -> None:
    world = Rebooted(tmp_path, "a")
    told = command_line(world, "reboot", "a", "--json")
    events = list(map(json.loads, told.out.splitlines()))
    assert (events[0]["verb"], events[-1]["event"], told.code) == ("reboot", "run_finished", 0)
    assert json.loads(command_line(world, "runs", "--json").out)["runs"][0]["verb"] == "reboot"
    assert command_line(world, "reboot", "a").out.splitlines()[-1] == "1 kept"


@pytest.mark.parametrize("arguments", [[], ["--all"], ["zz"]])
def test_what_is_wrong_is_exit_2_and_no_host_is_asked(
    tmp_path: Path, command_line: CommandLine, arguments: list[str]
) -> None:
    world = Rebooted(tmp_path, "a", "b")
    assert command_line(world, "reboot", *arguments).code == 2
    assert world.links[A].ran == world.links[B].ran == []
