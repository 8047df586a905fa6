"""What the command line says of itself: kept in tests/data/help, so that a change is seen in review.

FLEET_WRITE_HELP=1 writes the files anew.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from fleet.cli import COMMANDS, fleet, run

KEPT = Path(__file__).parent.parent / "data" / "help"


def subcommands(group: click.Command, name: str) -> list[str]:
    """The command, and those below it."""
    below = group.commands if isinstance(group, click.Group) and name else {}
    return [name, *(each for sub, command in below.items() for each in subcommands(command, f"{name} {sub}"))]


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the words name, and its arguments."""
    command: click.Command = fleet
    context = click.Context(fleet)
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words[0])
        assert found is not None, f"no such command: {words}"
        command, words = found, words[1:]
    return command, words


def loaded(name: str) -> click.Command:
    found = fleet.get_command(click.Context(fleet), name)
    assert found is not None
    return found


NAMES = ["", *(each for name in COMMANDS for each in subcommands(loaded(name), name))]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name or "fleet")
def test_help_is_what_was_reviewed(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert run([*name.split(), "--help"]) == 0
    said = capsys.readouterr().out
    file = KEPT / f"{name.replace(' ', '-') or 'fleet'}.txt"
    if os.environ.get("FLEET_WRITE_HELP"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(said)
    assert said == file.read_text(), "if this is meant: FLEET_WRITE_HELP=1 writes it anew"


def test_no_help_is_kept_of_what_is_gone() -> None:
    assert {file.stem for file in KEPT.iterdir()} == {name.replace(" ", "-") or "fleet" for name in NAMES}


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_a_click_command_with_an_example(name: str) -> None:
    command = loaded(name)
    assert command.name == name
    assert re.search(rf"^\s*(?:.*&& )?fleet {name}\b", command.help or "", re.MULTILINE)


def examples() -> list[str]:
    """Every call of fleet in a help text."""
    groups = [name for name in COMMANDS if isinstance(loaded(name), click.Group)]
    texts = [fleet.help or ""] + [
        command_of(name.split())[0].help or "" for name in NAMES if name and name not in groups
    ]
    texts += [loaded(name).help or "" for name in groups]
    lines = [line.strip() for text in texts for line in text.splitlines() if re.match(r"\s*(?:cd .*|fleet \w)", line)]
    calls = [call.strip() for line in lines for call in re.split(r"&&|[|;]", line)]
    return [call for call in calls if call.startswith("fleet ")]


@pytest.mark.parametrize("example", examples())
def test_example_in_a_help_text_parses(example: str) -> None:
    command, arguments = command_of(shlex.split(example)[1:])
    command.make_context("fleet", arguments, resilient_parsing=False).close()


def test_every_command_has_examples() -> None:
    assert len(examples()) >= len(COMMANDS)


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from fleet import __version__

    assert run(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["--help"], ["deploy", "--help"], ["apply", "--help"], ["mcp", "--help"], ["--version"]]
)
def test_help_loads_nothing_that_it_does_not_need(words: list[str]) -> None:
    heavy = ("asyncssh", "cryptography", "mcp", "pydantic", "rich", "starlette")
    script = f"import sys\nfrom fleet.cli import run\nrun({words})\nprint(set({heavy}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()"
