"""The host fetches from its own caches before the push, and what it does not get is pushed."""

from __future__ import annotations

import pytest

from fleet import nix
from fleet.errors import CommandFailedError, UnreachableError
from fleet.events import FindingReported, HostFetched, OutputLine
from fleet.host.program import bringing
from fleet.machine import Output
from fleet.steps.caches import fetch
from tests.fakes import Answers, Events, FakeMachine, runs
from tests.unit.builders import RUN, host

SIZES = {"/nix/store/a": 10, "/nix/store/b": 200}
FETCH = runs("xargs", "-r", "nix-store", "--realise")
ALL_THERE, LACKS_B = Output(status=0), Output(status=0, stdout="/nix/store/b\nnoise\n")
MISSING = runs("xargs", "-r", "nix-store", "--check-validity")


def there(fetched: Answers, missing: Answers = ALL_THERE) -> FakeMachine:
    return FakeMachine((FETCH, fetched), (MISSING, missing))


async def test_nothing_to_fetch_asks_nothing() -> None:
    assert await fetch(FakeMachine(), host(), {}, RUN, emit=Events()) == frozenset()


async def test_what_is_fetched_is_told_and_counted() -> None:
    events = Events()
    machine = there(Output(status=0, stderr="copying path '/nix/store/a' from 'https://cache'...\n"))
    assert await fetch(machine, host(), SIZES, RUN, emit=events) == frozenset()
    assert machine.ran[0] == bringing(nix.fetch(SIZES), RUN)
    assert machine.ran[0].stdin == b"/nix/store/a\n/nix/store/b\n"
    assert [line.text for line in events.of(OutputLine)] == ["copying path '/nix/store/a' from 'https://cache'..."]
    (fetched,) = events.of(HostFetched)
    assert (fetched.paths, fetched.nar_bytes) == (2, 210)
    assert events.of(FindingReported) == []


@pytest.mark.parametrize(
    ("fetched", "missing", "lost", "why"),
    [
        (
            Output(status=1, stderr="error: no signature\n"),
            LACKS_B,
            {"b"},
            "no signature",
        ),
        (Output(status=1, stderr=""), LACKS_B, {"b"}, "exit status 1"),
        (Output(status=0), LACKS_B, {"b"}, "1 of 2 paths"),
        (CommandFailedError(host().name, "died of SIGKILL"), Output(status=0), {"a", "b"}, "SIGKILL"),
        (UnreachableError(host().name, "connection lost"), Output(status=0), {"a", "b"}, "connection lost"),
    ],
)
async def test_what_the_caches_do_not_give_is_left_to_the_push(
    fetched: Answers, missing: Answers, lost: set[str], why: str
) -> None:
    events = Events()
    found = await fetch(there(fetched, missing), host(), SIZES, RUN, emit=events)
    assert found == {f"/nix/store/{name}" for name in lost}
    (note,) = events.of(FindingReported)
    assert why in note.message
    assert "pushed instead" in note.hint
    assert [event.paths for event in events.of(HostFetched)] == [2 - len(lost)]
