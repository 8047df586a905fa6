"""Who gets first at a site what a run brings, and who waits for whom. tests/containers/test_models.py plays it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fleet.errors import UnreachableError
from fleet.machine import Output
from fleet.model import HostName
from fleet.scripts import one_line
from fleet.steps.load import Load
from fleet.steps.site import LEAST, Sites
from fleet.store.wire import PathInfo
from tests.fakes import Events, FakeMachine, runs
from tests.unit import builders

if TYPE_CHECKING:
    from fleet.machine import Command
    from fleet.steps.job import Job

PATHS = tuple(f"/nix/store/{digit * 32}-model" for digit in "01")
LARGE = Load(missing=PATHS, missing_bytes=LEAST)


def job(name: str, *, load: Load = LARGE, **keys: Any) -> Job:
    usual = {"site": "fra", "site_address": f"{name}:7397"}
    return builders.job(builders.host(name, **{**usual, **keys}), load=load)


class Store(builders.FakeSupply):
    """A local store whose paths are large."""

    async def infos(self, paths: Any) -> list[Any]:
        return [PathInfo(path=path, nar_hash="0" * 64, nar_size=LEAST) for path in paths]


def machine(name: str, *, fetches: int = 0) -> FakeMachine:
    return FakeMachine(
        (runs("xargs"), Output(status=0)),
        (runs("sh", "-c"), Output(status=0)),
        (runs("timeout"), Output(status=fetches, stderr="error: hash mismatch")),
        name=name,
    )


class Site:
    """Some hosts, and in which order they are pushed to."""

    def __init__(self, *names: str, fetches: int = 0) -> None:
        self.sites, self.events = Sites(), Events()
        self.links: dict[Any, Any] = {HostName(name): machine(name, fetches=fetches) for name in names}
        self.pushed: list[str] = []

    async def push(self, one: Job, *, until: asyncio.Event | None = None, fails: bool = False) -> None:
        async with self.sites.around(one, self.links, Store(), emit=self.events):
            self.pushed.append(one.host.name)
            if until is not None:
                await until.wait()
            if fails:
                raise ConnectionError("it went off")

    def fetched(self, name: str) -> list[Command]:
        return [command for command in self.links[HostName(name)].ran if command.argv[0] == "timeout"]

    @property
    def notes(self) -> list[str]:
        return [event.message for event in self.events if event.kind == "site"]  # type: ignore[attr-defined]


async def test_others_wait_for_the_first_and_have_it_from_there() -> None:
    site, done = Site("a", "b"), asyncio.Event()
    first = asyncio.create_task(site.push(job("a"), until=done))
    await asyncio.sleep(0)
    second = asyncio.create_task(site.push(job("b")))
    await asyncio.sleep(0)
    assert site.pushed == ["a"]
    done.set()
    await asyncio.gather(first, second)
    assert site.pushed == ["a", "b"]
    (command,) = site.fetched("b")
    assert command.argv[-3:-1] == ("a", "7397")
    assert command.stdin.count(b"/nix/store/") == len(PATHS)
    assert site.notes[0].startswith("got 2 paths with 8 MiB from a in ")
    closes = one_line("fleet.steps", "site-close")
    assert site.links[HostName("a")].ran[-1].argv == ("sh", "-c", closes, "sh", command.argv[-1])


async def test_if_the_first_fails_the_next_goes_ahead() -> None:
    site, done = Site("a", "b", "c"), asyncio.Event()
    first = asyncio.create_task(site.push(job("a"), until=done, fails=True))
    await asyncio.sleep(0)
    others = [asyncio.create_task(site.push(job(name))) for name in "bc"]
    await asyncio.sleep(0)
    done.set()
    with pytest.raises(ConnectionError):
        await first
    await asyncio.gather(*others)
    assert site.pushed == ["a", "b", "c"]
    assert (site.fetched("b"), len(site.fetched("c"))) == ([], 1)


async def test_what_did_not_come_is_told_and_pushed_and_the_door_is_closed() -> None:
    site = Site("a", "b", fetches=1)
    await site.push(job("a"))
    await site.push(job("b"))
    assert site.pushed == ["a", "b"]
    assert site.notes == ["nothing came from a, so it is pushed: error: hash mismatch"]
    assert site.links[HostName("a")].ran[-1].argv[2] == one_line("fleet.steps", "site-close")


@pytest.mark.parametrize(
    "other",
    [
        job("b", site="ber"),
        job("b", site=""),
        job("b", gate=True, user="fleet"),
        job("b", load=Load(missing=PATHS, missing_bytes=LEAST - 1)),
    ],
    ids=["another site", "no site", "a gate", "little"],
)
async def test_who_has_no_part_in_it_waits_for_nobody(other: Job) -> None:
    site, done = Site("a", "b"), asyncio.Event()
    first = asyncio.create_task(site.push(job("a"), until=done))
    await asyncio.sleep(0)
    await site.push(other)
    assert site.fetched("b") == []
    done.set()
    await first


@pytest.mark.parametrize(("later", "is_given"), [(Output(status=0), True), (None, False)])
async def test_a_host_whose_own_part_has_ended_gives_over_a_new_connection(
    later: Output | None, *, is_given: bool
) -> None:
    """A push ends at once with its last byte, and closes the connection amid what the others ask there."""
    site = Site("a", "b")
    lost = UnreachableError(HostName("a"), "connection lost while running a command")
    await site.push(job("a"))
    giver = site.links[HostName("a")]
    giver.table = [(runs("xargs"), [lost, later or lost]), *giver.table]
    await site.push(job("b"))
    assert (len(site.fetched("b")) == 1) is is_given
    assert site.notes[0].startswith(
        "got 2 paths" if is_given else "nothing came from a, so it is pushed: connection lost"
    )


async def test_a_host_without_an_address_gives_nothing() -> None:
    site = Site("a", "b")
    await site.push(job("a", site_address=None))
    await site.push(job("b"))
    assert site.fetched("b") == []
