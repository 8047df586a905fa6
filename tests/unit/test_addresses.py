"""A host with several addresses: which are tried, when, and what becomes of those that lose."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING

import pytest

from fleet.errors import AuthenticationError, HostError, UnreachableError
from fleet.machine.addresses import SOON, Resources, first_that_works
from fleet.model import HostName
from tests.fakes import in_no_time

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from fleet.machine import OnAnswer

    Attempt = Callable[[OnAnswer], Coroutine[Any, Any, tuple[str, Resources]]]

HOST = HostName("web")


class Addresses:
    """Addresses that answer when a test says so. Remembers when each was tried, and what is open."""

    def __init__(self) -> None:
        self.start = asyncio.get_running_loop().time()
        self.tried: dict[str, float] = {}
        self.open: list[str] = []

    @property
    def seconds(self) -> float:
        return asyncio.get_running_loop().time() - self.start

    def at(self, name: str, *, answers: float, ends: float, error: Exception | None = None) -> Attempt:
        """An address that answers and ends so many seconds after it was tried."""
        return partial(self._attempt, name, answers, ends, error)

    async def _attempt(
        self, name: str, answers: float, ends: float, error: Exception | None, on_answer: OnAnswer
    ) -> tuple[str, Resources]:
        self.tried[name] = self.seconds
        async with contextlib.AsyncExitStack() as resources:
            self.open.append(name)
            resources.callback(self.open.remove, name)
            if answers <= ends:
                await asyncio.sleep(answers)
                on_answer()
            await asyncio.sleep(max(ends - answers, 0.0) if answers <= ends else ends)
            if error is not None:
                raise error
            return name, resources.pop_all()


@in_no_time
async def test_next_address_is_tried_beside_one_that_is_silent() -> None:
    there = Addresses()
    found, resources = await first_that_works([
        there.at("home", answers=9, ends=5, error=UnreachableError(HOST, "no answer")),
        there.at("vpn", answers=0.1, ends=2),
    ])  # fmt: skip
    assert (found, there.seconds) == ("vpn", SOON + 2)
    assert (there.tried, there.open) == ({"home": 0.0, "vpn": SOON}, ["vpn"])
    await resources.aclose()
    assert there.open == []


@in_no_time
async def test_address_that_answers_is_waited_for() -> None:
    there = Addresses()
    found, _ = await first_that_works([
        there.at("slow", answers=0.5, ends=20), there.at("other", answers=0, ends=0)
    ])  # fmt: skip
    assert (found, there.tried) == ("slow", {"slow": 0.0})


@in_no_time
async def test_next_address_is_tried_at_once_where_one_has_failed() -> None:
    there = Addresses()
    refusal = UnreachableError(HOST, "refused")
    found, _ = await first_that_works([
        there.at("off", answers=9, ends=0.25, error=refusal), there.at("on", answers=0, ends=0)
    ])  # fmt: skip
    assert (found, there.tried) == ("on", {"off": 0.0, "on": 0.25})


@in_no_time
async def test_one_that_works_first_wins_and_the_other_is_closed() -> None:
    there = Addresses()
    found, _ = await first_that_works([
        there.at("home", answers=1.5, ends=2), there.at("vpn", answers=0.1, ends=30)
    ])  # fmt: skip
    assert (found, there.seconds, there.open) == ("home", 2.0, ["home"])


@in_no_time
async def test_two_that_work_in_the_same_moment_leave_one_open() -> None:
    there = Addresses()
    found, _ = await first_that_works([
        there.at("home", answers=1.5, ends=2), there.at("vpn", answers=0.1, ends=2 - SOON)
    ])  # fmt: skip
    assert (found, there.open) == ("home", ["home"])


@in_no_time
async def test_where_none_works_the_error_that_says_most_is_raised() -> None:
    there = Addresses()
    silent = UnreachableError(HOST, "no answer")
    silent.is_silent = True
    refused = UnreachableError(HOST, "refused")
    with pytest.raises(HostError) as raised:
        await first_that_works([
            there.at("a", answers=9, ends=5, error=silent), there.at("b", answers=9, ends=1, error=refused)
        ])  # fmt: skip
    assert raised.value is refused
    no_login = AuthenticationError(HOST, "no")
    with pytest.raises(HostError) as raised:
        await first_that_works([
            there.at("a", answers=9, ends=5, error=refused), there.at("b", answers=0, ends=1, error=no_login)
        ])  # fmt: skip
    assert (raised.value, there.open) == (no_login, [])


@in_no_time
async def test_what_is_no_matter_of_the_host_is_raised_at_once() -> None:
    there = Addresses()
    with pytest.raises(ZeroDivisionError):
        await first_that_works([
            there.at("a", answers=0, ends=1, error=ZeroDivisionError()), there.at("b", answers=0, ends=1)
        ])  # fmt: skip
    assert (there.tried, there.open) == ({"a": 0.0}, [])


@in_no_time
async def test_nothing_stays_open_where_it_is_given_up() -> None:
    there = Addresses()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SOON + 0.5):
            await first_that_works([there.at("a", answers=9, ends=5), there.at("b", answers=0, ends=5)])
    assert (sorted(there.tried), there.open) == (["a", "b"], [])
