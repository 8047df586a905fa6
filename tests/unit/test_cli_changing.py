"""What a changing command tells beside its run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.cli import run
from fleet.events import RunFinished
from fleet.model import RunId

if TYPE_CHECKING:
    from fleet.deploy.request import Run


async def finished(run: Run, *_: object, **__: object) -> int:
    run.emit(RunFinished(run=RunId("r"), exit_code=0, error=None, hosts=()))
    return 0


@pytest.mark.parametrize(("place", "warns"), [("/dev/full", True), ("/dev/null", False)])
@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_record_that_cannot_be_written_is_told_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
    flags: tuple[str, ...],
    *,
    warns: bool,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    record = Path(place).open("w", encoding="utf-8")  # noqa: SIM115 - the command closes it
    monkeypatch.setattr("fleet.runs.open_record", lambda _: record)
    monkeypatch.setattr("fleet.cli.changing.deaf_at_the_end", lambda _: None)
    monkeypatch.setattr("fleet.deploy.run.execute", finished)
    file = tmp_path / "fleet.toml"
    file.write_text('[fleet]\nname = "home"\n[hosts.a]\n')
    assert run(["deploy", "a", "--file", str(file), *flags]) == 0
    told = capsys.readouterr().err
    assert ("events.jsonl is not complete: No space left on device" in told) is warns
