"""One host that says anything at all, among others: it fails alone, by a kind that has a name, and in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fleet import nix
from fleet.errors import BugError, FleetError, HostError, LockedError
from fleet.host.facts import HostFacts, host_facts
from fleet.model import HostName, Outcome
from tests.fakes import asks, runs, said
from tests.unit.world import FACTS, World

if TYPE_CHECKING:
    from pathlib import Path

KEPT, FAILED = Outcome.KEPT, Outcome.FAILED
EVIL = HostName("evil")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, "a", EVIL, "b")


def kind_of(world: World, name: str = EVIL) -> str:
    (failure,) = [one.failure for one in world.end.hosts if one.host == name]
    assert failure is not None
    return failure.kind


@pytest.mark.parametrize("error", [OverflowError(), RecursionError(), ValueError("x"), ZeroDivisionError(), OSError()])
async def test_fault_of_our_own_at_what_one_host_says_leaves_that_host_out(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(lines: Any) -> HostFacts:
        if "evil" in lines:
            raise error
        return host_facts(lines)

    monkeypatch.setattr("fleet.steps.preflight.host_facts", failing)
    world.on(EVIL, (asks("facts"), said(**FACTS, evil="yes")))
    assert await world.execute() == 1
    assert world.outcomes == {"a": KEPT, EVIL: FAILED, "b": KEPT}
    assert kind_of(world) == "bug"
    async with world.fleet() as fleet:
        found = await fleet.status()
    assert isinstance(found[EVIL], BugError)
    assert not isinstance(found[HostName("a")], FleetError)


@pytest.mark.parametrize(
    "facts",
    [
        {"open_run": "r", "open_state": "switching", "open_since": "9" * 18, "open_closes_in": "9" * 18},
        {"open_run": "r", "open_state": "switching", "open_since": "-" + "9" * 18, "open_closes_in": "9" * 40},
        {"open_run": "r", "open_who": "\\ud800" * 100_000, "open_since": "1e999"},
    ],
)
async def test_time_of_an_open_transaction_may_be_anything(world: World, facts: dict[str, str]) -> None:
    world.on(EVIL, (asks("facts"), said(**FACTS | facts)))
    await world.execute()
    assert world.outcomes == {"a": KEPT, EVIL: FAILED, "b": KEPT}
    assert kind_of(world) == "locked"


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "1" * 10_000, '{"a": 1e999}', "\x00", '{"a": [[]]}']
)
async def test_inhibitors_may_be_anything(world: World, text: str) -> None:
    world.on(EVIL, (asks("facts"), said(**FACTS, inhibitors=text)))
    assert await world.execute() == 0
    assert world.outcomes == {"a": KEPT, EVIL: KEPT, "b": KEPT}


@pytest.mark.parametrize(("verb", "kind"), [("facts", "answer"), ("root", "answer"), ("begin", "")])
async def test_answer_without_an_end_is_that_hosts_failure(world: World, verb: str, kind: str) -> None:
    """If it is the answer to `begin`, nobody knows whether the host has begun: what it shows afterwards tells."""
    world.on(EVIL, (asks(verb), said(line=["x" * 5_000] * 1_000)))
    assert await world.execute() == bool(kind)
    assert world.outcomes == {"a": KEPT, EVIL: FAILED if kind else KEPT, "b": KEPT}
    assert not kind or kind_of(world) == kind


@pytest.mark.parametrize("verb", ["facts", "root", "unroot", "generations", "history"])
async def test_only_what_begins_can_have_ended_before(world: World, verb: str) -> None:
    world.on(EVIL, (asks(verb), said(refused="ended", message="x")))
    await world.execute()
    assert {name: world.outcomes[name] for name in ("a", "b")} == {"a": KEPT, "b": KEPT}
    assert verb not in ("facts", "root") or kind_of(world) == "switch"


async def test_caches_may_say_any_number(world: World) -> None:
    line = "this path will be fetched (1.2.3 KiB download, 9e999 MiB unpacked):\n  /nix/store/x\n"
    world.on(EVIL, (runs("xargs", "-r", "nix-store", "--realise"), said()))
    assert nix.read_substitutable(line * 2) == (frozenset({"/nix/store/x"}), 0)
    huge = f"these 2 paths will be fetched ({'9' * 400}.{'9' * 400} TiB download, 1 MiB unpacked):\n"
    assert nix.read_substitutable(huge) == (frozenset(), 0)


def test_error_has_no_more_than_somebody_reads_and_nothing_that_moves_a_cursor() -> None:
    evil = "\x1b]0;x\x07\x1b[2J\u202e" + "a" * 1_000_000
    for error in (HostError(EVIL, evil, ran=evil, said=[evil], hint=evil), FleetError(evil), LockedError(EVIL, evil)):
        failure = error.failure()
        for text in (str(error), failure.message, failure.ran, failure.hint, *failure.said):
            assert len(text) < 5_000
            assert text == "" or text.startswith("aaa")
