"""`fleet deliver --watch` fills what a reboot has taken of secrets, and bothers nobody in vain."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fleet.cli.filling import AGAIN, Filler
from fleet.deploy.stop import Stop
from fleet.errors import SecretError, UnreachableError
from fleet.host.secrets import Compared
from fleet.model import HostName
from tests.unit import builders

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = HostName("web-1")


class FakeFleet:
    """A fleet whose one host answers these, one after another."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Sequence[str]] = []

    async def fill_secrets(self, *names: str) -> dict[HostName, Any]:
        self.asked.append(names)
        return {NAME: self.answers.pop(0)}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that it is, as the only item."""
    now = [1000.0]
    monkeypatch.setattr("fleet.cli.filling.time.monotonic", lambda: now[0])
    return now


def filler(fleet: FakeFleet, storage: str = "tmpfs", stop: Stop | None = None) -> tuple[Filler, list[str]]:
    """One for two hosts, of which the first has a secret; and what it tells."""
    told: list[str] = []
    more = f'[hosts.web-1.secrets.token]\nenv = "X"\nstorage = "{storage}"'
    hosts = list(builders.inventory("web-2", more=more).hosts.values())
    return Filler(fleet, hosts, stop or Stop(), told.append), told  # type: ignore[arg-type]


async def test_hosts_with_secrets_in_memory_are_looked_at(clock: list[float]) -> None:
    fleet = FakeFleet(None, None)
    watching, told = filler(fleet)
    for _ in range(2):
        await watching.fill()
    assert (fleet.asked, told) == ([("web-1",), ("web-1",)], [])


async def test_hosts_with_secrets_on_the_disk_alone_are_left_alone(clock: list[float]) -> None:
    fleet = FakeFleet()
    watching, _ = filler(fleet, "disk")
    await watching.go_on()
    assert fleet.asked == []


async def test_what_was_filled_is_told(clock: list[float]) -> None:
    watching, told = filler(FakeFleet(Compared(changed=("token",))))
    await watching.fill()
    assert told == ["web-1: has its secrets again: token"]


async def test_host_that_cannot_be_filled_is_tried_again_later_and_told_once(clock: list[float]) -> None:
    error = SecretError(NAME, "the store is locked")
    fleet = FakeFleet(error, error, None)
    watching, told = filler(fleet)
    for step, tries in ((0.0, 1), (AGAIN - 1, 1), (1.0, 2), (AGAIN + 1, 2), (AGAIN, 3)):
        clock[0] += step
        await watching.fill()
        assert len(fleet.asked) == tries
    assert told == ["web-1: its secrets could not be filled: the store is locked"]


async def test_host_that_is_away_is_looked_for_again_at_once(clock: list[float]) -> None:
    fleet = FakeFleet(UnreachableError(NAME, "gone"), None)
    watching, told = filler(fleet)
    for _ in range(2):
        await watching.fill()
    assert (len(fleet.asked), told) == (2, [])


async def test_end_that_somebody_asks_for_comes_at_once() -> None:
    stop = Stop()
    watching, _ = filler(FakeFleet(None), stop=stop)
    going_on = asyncio.create_task(watching.go_on())
    stop.request()
    await asyncio.wait_for(going_on, 5)
