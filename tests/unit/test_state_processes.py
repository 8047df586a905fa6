"""Many processes at one state, and processes that die."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.unit.state_builders import RUN, open_state, python, run_id, said

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("kept")
RECORD = """
import asyncio, sys; from pathlib import Path
from fleet.events import OutputLine
from fleet.model import Phase, RunId
from tests.unit.state_builders import open_state
from tests.unit.state_builders import started, wrapped

async def main(folder, run, count):
    state = open_state(Path(folder))
    with state.hold(run), state.recorder(run) as recorder:
        lines = [OutputLine(host=None, phase=Phase.BUILD, text=str(number)) for number in range(count)]
        for envelope in wrapped(started(run=run), *lines, run=run):
            recorder.record(envelope)
            await recorder.flush()
            print(envelope.seq, flush=True)

sys.stdin.readline()
asyncio.run(main(sys.argv[1], RunId(sys.argv[2]), int(sys.argv[3])))
"""


def test_eight_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    runs = [run_id(number) for number in range(8)]
    with ExitStack() as stack:
        others = [stack.enter_context(python(RECORD, tmp_path, run, 24)) for run in runs]
        for other in others:
            assert other.stdin is not None
            other.stdin.write("\n")
            other.stdin.flush()
        for other in others:
            assert other.communicate()[0].split() == [str(number) for number in range(1, 26)]
            assert other.returncode == 0
    state = open_state(tmp_path)
    assert sorted(run.id for run in state.runs()) == runs
    for run in runs:
        assert [envelope.seq for envelope in state.events(run)] == list(range(1, 26))


def test_process_that_is_killed_loses_nothing_that_was_secured(tmp_path: Path) -> None:
    with python(RECORD, tmp_path, RUN, 10_000) as other:
        assert other.stdin is not None
        other.stdin.write("\n")
        other.stdin.flush()
        for number in range(1, 51):
            assert said(other) == str(number)
        other.kill()
        assert other.stdout is not None
        flush = 50 + len(other.stdout.read().split("\n")[:-1])
    state = open_state(tmp_path)
    assert not state.is_under_way(RUN)
    (run,) = state.runs()
    assert (run.verb, run.exit_code) == ("deploy", None)
    numbers = [envelope.seq for envelope in state.events(RUN)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= flush
