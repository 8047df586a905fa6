"""A state with runs in it, and other processes that work on it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleet.events import Envelope, Envelopes, Event, HostFinished, PhaseStarted, RunFinished, RunStarted, encode
from fleet.inventory.databases import database
from fleet.model import DatabaseAddress, Failure, FailureKind, Goal, HostName, HostResult, Outcome, Phase, RunId
from fleet.state import open_state as _open_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.state import State

RUN = RunId("20261120T042211-3fa9c1d2")
WEB, DB = HostName("web-1"), HostName("db-1")
PUSH, SWITCH = PhaseStarted(host=WEB, phase=Phase.PUSH), PhaseStarted(host=WEB, phase=Phase.SWITCH)


KEPT_IN = "FLEET_TEST_STATE"
"""The variable with the URL of the database that keeps the states of a test, and of the processes that it starts."""


in_files = pytest.mark.parametrize("kept", ["sqlite"], indirect=True)
"""Marks a test that is about files."""


def address() -> DatabaseAddress | None:
    """Where the states of this test are kept; None if they are files."""
    url = os.environ.get(KEPT_IN)
    return database(url, Path("/")) if url else None


def open_state(folder: Path) -> State:
    """The state of the fleet with this folder, wherever the test keeps it."""
    return _open_state(folder, address())


def run_id(number: int) -> RunId:
    """Run ids that sort by number."""
    return RunId(f"20261120T{number:06}-3fa9c1")


def started(*hosts: HostName, run: RunId = RUN, **keys: Any) -> RunStarted:
    return RunStarted(**{"run": run, "verb": "deploy", "goal": Goal.SWITCH, "hosts": hosts or (WEB,), **keys})


def result(outcome: Outcome, kind: str = "", host: HostName = WEB) -> HostResult:
    failure = Failure(kind=FailureKind(kind), message="because") if kind else None
    return HostResult(host=host, outcome=outcome, failure=failure)


def ended(outcome: Outcome, kind: str = "", host: HostName = WEB) -> HostFinished:
    return HostFinished(host=host, result=result(outcome, kind, host))


def finished(*results: HostResult, run: RunId = RUN, exit_code: int = 0) -> RunFinished:
    return RunFinished(run=run, exit_code=exit_code, error=None, hosts=results)


def wrapped(*events: Event, run: RunId = RUN, after: int = 0, at: float = 1795946400.5) -> list[Envelope]:
    """The events in envelopes of one run, all at one time."""
    envelopes = Envelopes(run, "ann", after=after, clock=lambda: at)
    return [envelopes.wrap(event) for event in events]


async def record(state: State, *events: Event, run: RunId = RUN, plan: str | None = None, after: int = 0) -> None:
    """The events are on the disk."""
    with state.recorder(run, plan=plan) as recorder:
        for envelope in wrapped(*events, run=run, after=after):
            recorder.record(envelope)
        await recorder.flush()


def recorded(state: State, *events: Event, run: RunId = RUN, plan: str | None = None, after: int = 0) -> None:
    """The same where no loop runs."""
    asyncio.run(record(state, *events, run=run, plan=plan, after=after))


def old_line(event: Event) -> str:
    """As fleet 0.1.0 wrote it: without an envelope."""
    import json

    from fleet.events import event_json

    return json.dumps(event_json(event)) + "\n"


def folder_of_0_1_0(state: Path, run: RunId, *events: Event) -> Path:
    """What fleet 0.1.0 left of a run."""
    folder = state / "runs" / run
    folder.mkdir(parents=True, mode=0o700)
    (folder / "events.jsonl").write_text("".join(map(old_line, events)))
    return folder


def folder_of_today(state: State, *envelopes: Envelope) -> None:
    """What a run leaves for people and scripts, beside what is recorded."""
    with state.hold(envelopes[0].run) as folder:
        (folder / "events.jsonl").write_text("".join(f"{encode(envelope)}\n" for envelope in envelopes))


@contextmanager
def python(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs this code. It is killed at the end."""
    argv = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ}) as other:
        try:
            yield other
        finally:
            other.kill()


def said(process: subprocess.Popen[str]) -> str:
    """The next line that it prints, without the line feed; empty when it has ended."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")
