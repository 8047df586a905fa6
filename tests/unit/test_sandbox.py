"""What hosts say of sandboxes is data, and what people may ask about them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from fleet.cli import run
from fleet.errors import AnswerError, CommandFailedError, UnfitError
from fleet.machine import Output
from fleet.model import HostName
from fleet.sandbox import Held, Probe, SandboxReport, act, list_sandboxes, report_json, report_lines
from tests.fakes import FakeLink
from tests.unit import builders

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.machine import Command


def answering(text: str, *, status: int = 0, stderr: str = "") -> FakeLink:
    """A host whose program of sandboxes says this, whatever it is asked."""

    def fits(command: Command) -> bool:
        return command.argv[0] == "/etc/fleet/sandbox"

    return FakeLink(builders.host("web-1"), (fits, Output(status=status, stdout=text, stderr=stderr)))


UP = "probe\troot\theld\truns as user 7\nprobe\tstore\tbroken\tsees x\nproof\tbroken\nstate\tinactive\t\nend\n"


async def test_what_came_of_the_probes_is_read() -> None:
    report = await act(answering(UP), "up", "a")
    assert (report.state, report.left, report.holds, report.is_up) == ("inactive", None, False, False)
    assert report.probes[1] == Probe(name="store", held=Held.BROKEN, seen="sees x")
    report = await act(answering("said\tno\nproof\theld\nstate\tactive\t90\nend\n"), "prove", "a")
    assert (report.left, report.holds, report.is_up, report.said) == (90, True, True, ("no",))


async def test_a_word_that_nobody_knows_is_not_held() -> None:
    report = await act(answering("probe\tx\tsurely\tyes\nstate\tactive\t1\nend\n"), "prove", "a")
    assert report.probes[0].held is Held.UNKNOWN
    assert report.holds is None


@pytest.mark.parametrize("text", ["", "state\tactive\t1\n", "end\n", "probe\tx\theld\ty\nproof\theld\nend\n"])
async def test_an_answer_without_its_end_or_its_state_counts_for_nothing(text: str) -> None:
    with pytest.raises(AnswerError):
        await act(answering(text), "up", "a")


async def test_names_are_shown_as_text() -> None:
    line = "sandbox\ta\x1b[31m\tsystemd\tactive\t198.18.0.1\t99999999999999999999\tclaude-code 2.1\n"
    (found,) = await list_sandboxes(answering(f"{line}sandbox\tshort\n{'x' * 9000}\tend\nend\n"))
    assert (found.name, found.left, found.packages) == ("a", 0, "claude-code 2.1")


async def test_a_host_without_sandboxes_says_what_to_do() -> None:
    with pytest.raises(UnfitError, match="has no sandboxes") as raised:
        await list_sandboxes(answering("", status=127, stderr="sh: not found"))
    assert "services.fleet.sandbox" in raised.value.hint
    with pytest.raises(CommandFailedError, match="declares no sandbox b"):
        await act(answering("", status=1, stderr="this host declares no sandbox b: x\n"), "up", "b")


def test_people_are_told_what_does_not_hold_and_scripts_everything() -> None:
    probes = (
        Probe(name="root", held=Held.HELD, seen="runs as user 7"),
        Probe(name="nix", held=Held.OPEN, seen="declared"),
        Probe(name="store", held=Held.BROKEN, seen="sees\nx"),
    )
    report = SandboxReport(state="inactive", left=None, holds=False, probes=probes, said=("failed",))
    assert report_lines("web-1/a", report, in_full=False) == [
        "web-1/a: down; DOES NOT HOLD, 1 of 3 probes were refused",
        "  open     nix    declared",
        "  broken   store  sees x",
        "  said: failed",
    ]
    assert "  held     root   runs as user 7" in report_lines("web-1/a", report, in_full=True)
    (row,) = report_json({HostName("web-1"): report}, "a")["hosts"]
    assert [probe["held"] for probe in row["probes"]] == ["held", "open", "broken"]
    json.dumps(row)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "fleet.toml"
    path.write_text('[fleet]\nname = "home"\n[hosts.web-1]\n[hosts.safe]\ngate = true\nuser = "fleet"\n')
    return str(path)


@pytest.mark.parametrize("verb", ["up", "down", "reset", "prove", "ssh"])
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("web-1", "write HOST/NAME"),
        ("web-1/", "write HOST/NAME"),
        ("web-1/A b", "write HOST/NAME"),
        ("web-1/-x", "write HOST/NAME"),
        ("other/a", "other"),
        ("safe/a", "its login runs the gate"),
    ],
)
def test_what_is_no_sandbox_is_refused_before_anything_is_touched(
    verb: str, place: str, words: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sandbox", verb, place, "--file", file]) == 2
    assert words in capsys.readouterr().err
