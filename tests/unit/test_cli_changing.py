"""What a changing command hands to its run, and tells beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet import runs
from fleet.cli import run
from fleet.deploy.request import Request
from fleet.errors import INTERRUPTED
from fleet.events import PhaseStarted, RunFinished, RunStarted, event_json
from fleet.model import Goal, HostName, Phase, RunId

if TYPE_CHECKING:
    from fleet.deploy.past import PastRun
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


@pytest.mark.parametrize("code", [0, INTERRUPTED])
def test_plan_that_was_interrupted_is_not_taken_for_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    async def execute(run: Run, *_: object, **__: object) -> int:
        run.emit(RunFinished(run=RunId("r"), exit_code=code, error=None, hosts=()))
        return code

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("fleet.deploy.run.execute", execute)
    file = tmp_path / "fleet.toml"
    file.write_text('[fleet]\nname = "home"\n[hosts.a]\n')
    assert run(["plan", "--file", str(file)]) == code
    assert ("not complete" in capsys.readouterr().err) is (code == INTERRUPTED)


def test_run_is_taken_up_with_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Request] = []

    async def resume(run: Run, past: PastRun) -> int:
        asked.append(run.request)
        return await finished(run, past)

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("fleet.deploy.resume.resume", resume)
    monkeypatch.setattr("fleet.cli.changing.deaf_at_the_end", lambda _: None)
    file = tmp_path / "fleet.toml"
    file.write_text('[fleet]\nname = "home"\n[hosts.a]\n')
    folder = tmp_path / "state/fleet/home/runs/r"
    folder.mkdir(parents=True)
    name = HostName("a")
    events = [
        RunStarted(run=RunId("r"), verb="rollback", goal=Goal.TEST, hosts=(name,), watch=90.0, strict=True),
        PhaseStarted(host=name, phase=Phase.SWITCH),
    ]
    (folder / "events.jsonl").write_text("".join(f"{json.dumps(event_json(event))}\n" for event in events))
    assert run(["resume", "--file", str(file)]) == 0
    assert asked == [Request(verb="rollback", goal=Goal.TEST, watch=90.0, strict=True)]


def test_run_that_cannot_be_read_is_named_and_its_hosts_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[HostName] = []

    async def resume(run: Run, past: PastRun) -> int:
        assert not past.is_readable
        asked.extend(run.logins.sudo_passwords)
        return await finished(run)

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("fleet.deploy.resume.resume", resume)
    monkeypatch.setattr("fleet.cli.changing.deaf_at_the_end", lambda _: None)
    monkeypatch.setenv("FLEET_SUDO_PASSWORD", "secret")
    file = tmp_path / "fleet.toml"
    file.write_text('[fleet]\nname = "home"\n[hosts.a]\n[hosts.b]\nsudo = "password"\n')
    folder = tmp_path / "state/fleet/home/runs/r"
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_bytes(b"\0\377\n\0")
    assert run(["runs", "--file", str(file)]) == 0
    assert "cannot be read: fleet resume r" in capsys.readouterr().out
    with runs.taken_up(under_way(folder.parent / "s")):  # a later one, whose process is alive
        assert run(["runs", "--file", str(file)]) == 0
        assert "under way" in capsys.readouterr().out
        assert run(["runs", "--json", "--file", str(file)]) == 0
        told = json.loads(capsys.readouterr().out)["runs"]
        assert [(one["run"], one["under_way"], one["open"]) for one in told] == [
            ("s", True, False),
            ("r", False, False),
        ]
        assert run(["resume", "--file", str(file)]) == 0
    assert asked == ["b"]


def under_way(folder: Path) -> Path:
    """The folder of a run that pushes to a host."""
    folder.mkdir()
    name = HostName("a")
    events = [
        RunStarted(run=RunId("s"), verb="deploy", goal=Goal.SWITCH, hosts=(name,), watch=0.0, strict=False),
        PhaseStarted(host=name, phase=Phase.PUSH),
    ]
    (folder / "events.jsonl").write_text("".join(f"{json.dumps(event_json(event))}\n" for event in events))
    return folder


@pytest.mark.parametrize("words", [("deploy",), ("push",), ("rollback",)])
def test_all_commands_push_by_the_same_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    asked: list[Request] = []

    async def execute(run: Run, *_: object, **__: object) -> int:
        asked.append(run.request)
        return await finished(run)

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("fleet.deploy.run.execute", execute)
    monkeypatch.setattr("fleet.cli.changing.deaf_at_the_end", lambda _: None)
    file = tmp_path / "fleet.toml"
    file.write_text('[fleet]\nname = "home"\n[hosts.a]\n')
    assert run([*words, "a", "--file", str(file)]) == 0
    assert [one.copy_with for one in asked] == [Request(verb="deploy").copy_with] == ["serve"]
