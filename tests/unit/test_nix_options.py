"""Options for Nix: every command here has them, wrong ones are refused, and plans show them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet import nix
from fleet.errors import ConfigError, EvaluationError
from fleet.events import FindingReported
from fleet.inventory import parse
from fleet.library.describe import describe
from fleet.library.documents import whole_plan
from fleet.library.tools import LocalNix
from fleet.machine import Command, Output
from fleet.model import Derivation
from fleet.plans import Plan
from fleet.source import git, snapshot
from fleet.source.options import require_known
from tests.fakes import FakeMachine, runs
from tests.unit import builders
from tests.unit.world import World

FILE = Path("/fleet/fleet.toml")
SETTINGS = {
    "cores": {"value": 0, "aliases": ["build-cores"]},
    "sandbox": {"value": True, "aliases": []},
    "substituters": {"value": [], "aliases": ["binary-caches"]},
}
KNOWN = runs("nix"), Output(status=0, stdout=json.dumps(SETTINGS))


def options(text: str) -> dict[str, str]:
    return parse(FILE, f"[fleet]\nname = 'home'\nnix_options = {{ {text} }}\n[hosts.web]").nix_options


def test_values_are_passed_as_nix_takes_them() -> None:
    assert options('cores = 4, sandbox = false, substituters = ""') == {
        "cores": "4", "sandbox": "false", "substituters": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("substituters = ['a', 'b']", "one string, with spaces between its words"),
        ("cores = 1.5", "text on one line, a whole number, true or false"),
        ('sandbox = "a\\nb"', "text on one line"),
        ("Cores = 1", "the name of a Nix option"),
        ("pure-eval = false", "pure-eval: fleet decides it"),
        ("extra-access-tokens = 'x'", "no places for secrets"),
    ],
)
def test_what_is_no_option_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=r"\[fleet\] nix_options") as caught:
        options(text)
    assert problem in caught.value.message


@pytest.mark.parametrize(
    "command",
    [
        nix.evaluate("/f", "nixosConfigurations", {}),
        nix.realise([Derivation("/nix/store/x.drv")], root=Path("/r")),
        nix.missing(["/nix/store/x"]),
        nix.CURRENT_SYSTEM,
    ],
)
async def test_every_nix_command_here_has_them_before_its_own(command: Command) -> None:
    here = FakeMachine((lambda _: True, Output(status=0)))
    await LocalNix({"cores": "4"}, here).run(command)
    argv = here.ran[0].argv
    at = argv.index("--option")
    assert argv[at : at + 3] == ("--option", "cores", "4")
    assert argv[:at] + argv[at + 3 :] == command.argv
    assert Path(argv[at - 1]).name.startswith("nix")


async def test_other_commands_stay_as_they_are() -> None:
    here = FakeMachine((runs("git"), Output(status=0)))
    command = git.files(Path("/f"))
    await LocalNix({"cores": "4"}, here).run(command)
    assert here.ran == [command]


# --- whether Nix knows them ------------------------------------------------------------------------


async def test_names_aliases_and_additions_that_nix_knows_are_fine() -> None:
    await require_known(
        FakeMachine(KNOWN), FILE, {"cores": "4", "build-cores": "4", "extra-substituters": "x", "sandbox": "true"}
    )


async def test_an_option_that_nix_does_not_know_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        await require_known(FakeMachine(KNOWN), FILE, {"coers": "4", "extra-cores": "4"})
    assert caught.value.message.splitlines() == [
        f"{FILE}: [fleet.nix_options] coers: Nix has no such option; did you mean cores?",
        f"{FILE}: [fleet.nix_options] extra-cores: Nix has no such option; did you mean cores?",
    ]


async def test_a_value_that_nix_does_not_take_is_refused() -> None:
    said = "warning: error: setting 'cores' has invalid value 'many'\n"
    here = FakeMachine((runs("nix"), Output(status=0, stdout=json.dumps(SETTINGS), stderr=said)))
    with pytest.raises(ConfigError, match="cores: Nix does not take \"many\": setting 'cores' has invalid value"):
        await require_known(here, FILE, {"cores": "many"})


async def test_all_that_is_wrong_is_told_at_once() -> None:
    said = "warning: error: setting 'cores' has invalid value 'many'\nwarning: unknown setting 'coers'\n"
    here = FakeMachine((runs("nix"), Output(status=0, stdout=json.dumps(SETTINGS), stderr=said)))
    with pytest.raises(ConfigError) as caught:
        await require_known(here, FILE, {"cores": "many", "coers": "4"})
    assert [line.split()[2] for line in caught.value.message.splitlines()] == ["cores:", "coers:"]


async def test_a_nix_that_ends_with_the_first_wrong_value_is_understood() -> None:
    here = FakeMachine((runs("nix"), Output(status=1, stderr="error: setting 'cores' has invalid value 'many'\n")))
    with pytest.raises(ConfigError, match='cores: Nix does not take "many"'):
        await require_known(here, FILE, {"cores": "many", "sandbox": "true"})


async def test_trouble_of_nix_conf_is_not_blamed_on_fleet_toml() -> None:
    said = "warning: error: setting 'max-jobs' has invalid value 'x'\n"
    here = FakeMachine((runs("nix"), Output(status=0, stdout=json.dumps(SETTINGS), stderr=said)))
    await require_known(here, FILE, {"cores": "4"})


async def test_a_nix_that_shows_its_settings_another_way_is_understood() -> None:
    unknown = Output(status=1, stderr="error: 'show-config' is not a recognised command")
    here = FakeMachine(
        (lambda command: "show-config" in command.argv, unknown), (lambda command: "show" in command.argv, KNOWN[1])
    )
    with pytest.raises(ConfigError, match="did you mean cores"):
        await require_known(here, FILE, {"coers": "4"})


async def test_a_nix_that_does_not_tell_is_an_error_and_not_a_yes() -> None:
    with pytest.raises(EvaluationError, match="does not tell its settings"):
        await require_known(FakeMachine((runs("nix"), Output(status=0, stdout="[]"))), FILE, {"cores": "4"})


def world(tmp_path: Path, options: str) -> World:
    made = World(tmp_path, "a", more=f"[fleet.nix_options]\n{options}", verb="plan")
    made.here_too((lambda command: "show-config" in command.argv, KNOWN[1]))
    return made


async def test_no_plan_is_made_with_an_option_that_nix_does_not_know(tmp_path: Path) -> None:
    wrong = world(tmp_path, "coers = 4")
    assert await wrong.execute() == 2
    assert not [command for command in wrong.here.ran if "eval" in command.argv]


async def test_people_are_told_the_options_when_a_plan_is_made(tmp_path: Path) -> None:
    right = world(tmp_path, "cores = 4")
    assert await right.execute() == 0
    notes = [event for event in right.events.of(FindingReported) if event.kind == "nix_options"]
    assert [note.message for note in notes] == ["Nix runs with cores = 4"]


# --- plans -----------------------------------------------------------------------------------------


def test_a_plan_shows_its_options_and_old_plans_have_none() -> None:
    bare = builders.plan(("web-1",))
    made = builders.plan(("web-1",), nix_options=(("cores", "4"), ("substituters", "")))
    assert "nix_option" not in bare.head
    assert Plan.parse(made.text) == made
    assert "nix_option cores 4\nnix_option substituters -\n" in made.head
    assert made.digest != bare.digest
    assert "nix:     cores = 4, substituters = " in describe(made, now=0)
    assert whole_plan(made)["nix_options"] == {"cores": "4", "substituters": ""}


async def test_other_options_are_another_source(tmp_path: Path) -> None:
    (tmp_path / "flake.nix").write_text("{ }")
    here = FakeMachine((runs("nix"), Output(status=0, stdout="nix 2.8")), (runs("git"), Output(status=128)))
    bare, with_options = [await snapshot.take(here, str(tmp_path), each) for each in ({}, {"cores": "4"})]
    assert bare is not None
    assert with_options is not None
    assert bare.digest != with_options.digest
