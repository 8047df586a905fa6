"""Numbers, paths, names and JSON from outside: whatever they are, there is a message and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.deploy.target import require_rollback_target
from fleet.errors import CommandFailedError, ConfigError, EvaluationError, HostError
from fleet.files import read_file
from fleet.inventory import load
from fleet.inventory.patterns import PatternError, compiled, matches
from fleet.library import documents
from fleet.machine import Command, Output
from fleet.machine.local import LocalMachine
from fleet.source import commands, outputs
from fleet.source.tree import Tree
from fleet.text import local_time, parsed_json, whole_number
from tests.fakes import FakeMachine, asks, runs, said
from tests.tools import git
from tests.unit.world import FACTS, World

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("number", ["²", "१२", "1" * 5000, "-1", "1.0", "", "0x1", " 1", "1\n"])
def test_number_of_a_generation_has_digits_that_everybody_reads(number: str) -> None:
    with pytest.raises(ConfigError, match="neither the number of a generation nor a store path"):
        require_rollback_target(number)


@pytest.mark.parametrize("text", ["²", "१", "1" * 19, "1e9", "--1", "", "\x00", "1" * 5000])
def test_text_that_is_no_number_is_none(text: str) -> None:
    assert whole_number(text) == 0


@pytest.mark.parametrize("seconds", [10**18, -(10**18), -1, float("inf"), float("nan"), 253_402_300_800, 10**400])
def test_moment_that_is_none_is_told_so(seconds: float) -> None:
    assert local_time(seconds) == "?"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "", "{", "1" * 5000, b"\xff"])
def test_document_that_is_none_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parsed_json(text)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ("[fleet]\nflake = '~nobody9/x'", "a folder whose ~ can be resolved"),
        ('[fleet]\nflake = "a\\u0000b"', "flake"),
        ("[hosts.a]\naddress = 'x'\nattr = \"a.\\u0000b\"", "attr"),
        ('[hosts.a]\naddress = "x\\u0000"', "address"),
        ("[hosts.a]\naddress = 'x'\nchecks = [{ name = 'c', command = \"a\\u0000\" }]", "command"),
        ("x = " + "[" * 100_000, "is not TOML"),
    ],
)
def test_fleet_toml_may_be_anything(tmp_path: Path, lines: str, complaint: str) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(lines + "\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert complaint in "\n".join((caught.value.message, *caught.value.said))


async def test_command_that_cannot_be_is_not_run() -> None:
    with pytest.raises(CommandFailedError, match="cannot run"):
        await LocalMachine().run(Command(argv=("echo", "a\0b")))


@pytest.mark.parametrize("printed", ["", "{}", "null", "[1]", "[" * 100_000])
async def test_names_in_a_flake_may_be_anything(printed: str) -> None:
    with pytest.raises(EvaluationError, match="something else than a list"):
        await outputs.configurations(FakeMachine((runs("nix"), Output(status=0, stdout=printed))), "/f")


@pytest.mark.parametrize("printed", ["", "[]", "null", '{"locks": 1}', "[" * 100_000])
def test_lock_file_may_be_anything(printed: str) -> None:
    assert outputs.locks(Output(status=0, stdout=printed)) == {}


# --- files that are none ---------------------------------------------------------------------------


def fifo(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize("make", [fifo, endless, folder, huge])
def test_file_that_is_none_is_not_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "README.md")
    with pytest.raises(OSError, match=r"regular file|more than|directory"):
        read_file(tmp_path / "README.md", most=1 << 20)
    tree = Tree(tmp_path, (Path("README.md"), Path("docs/x.md")))
    assert list(commands.findings(tree, (), lambda _: "no")) == []


@pytest.mark.parametrize(
    "text",
    ["`" * 400_000, "` " * 200_000, "`a``b" * 100_000, "".join("`" * length + " " for length in range(1, 800)),
     "```sh\n" + "fleet " * 100_000, "&" * 400_000, "# " * 200_000, " " * 400_000 + "#", "\n```" * 100_000],
)  # fmt: skip
def test_documentation_is_read_in_a_time_that_no_text_can_stretch(text: str) -> None:
    begun = time.process_time()
    list(commands.shown(text, ()))
    assert time.process_time() - begun < 3


@pytest.mark.parametrize(
    ("line", "spans"),
    [
        ("`fleet a` and ``fleet b ` c`` x", ["fleet a", "fleet b ` c"]),
        ("``` `fleet a` ", ["fleet a"]),
        ("`fleet a`` `fleet b`", ["fleet a`` "]),
        ("no `` end", []),
    ],
)
def test_code_span_is_between_two_runs_of_as_many_backticks(line: str, spans: list[str]) -> None:
    assert list(commands._spans(line)) == spans


def test_file_with_any_name_is_found_in_the_posix_locale(tmp_path: Path) -> None:
    """In a process of its own: the locale of this one does not change any more."""
    (tmp_path / "README.md").write_text("`fleet grün →`\n", encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "grün.md").write_text("`fleet grün →`\n", encoding="utf-8")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    script = (
        "import asyncio, sys; from fleet.machine.local import LocalMachine; from fleet.source import commands, tree;"
        "found = asyncio.run(tree.look(LocalMachine(), sys.argv[1]));"
        "print(len([*commands.findings(found, (), lambda _: 'no')]), len(tree.findings(found)))"
    )
    posix = {**os.environ, "PYTHONUTF8": "0", "LC_ALL": "POSIX", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=posix, capture_output=True, check=True)
    assert done.stdout == b"2 0\n"


@pytest.mark.parametrize("arguments", [("--help",), ("runs",), ("check",)])
def test_every_locale_will_do(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "fleet.toml").write_text("# grün →\n[hosts.a]\naddress = '→'\n", encoding="utf-8")
    posix = {
        **os.environ, "PYTHONUTF8": "0", "LC_ALL": "POSIX", "PATH": "/x",
        "PYTHONPATH": os.pathsep.join(["", *sys.path]),
        "XDG_STATE_HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "fleet", *arguments]
    done = subprocess.run(command, env=posix, cwd=tmp_path, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr
    assert done.returncode in (0, 2)


def test_what_the_locale_cannot_print_is_spelled_out() -> None:
    posix = {**os.environ, "PYTHONUTF8": "0", "LC_ALL": "POSIX", "PYTHONPATH": os.pathsep.join(["", *sys.path])}
    script = "from fleet import cli; cli.run(['--version']); print('a \\u2192 b')"
    done = subprocess.run([sys.executable, "-c", script], env=posix, capture_output=True, check=True)
    assert done.stdout.endswith(b"a ? b\n")


# --- the regular expressions of people ----------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["(a+)+$", "(.*)*x$", "(a*)*(b*)*c", "(a?){500}a{500}$"])
def test_expression_is_matched_in_a_time_that_no_body_can_stretch(pattern: str) -> None:
    begun = time.process_time()
    assert not matches(pattern, "a" * 200_000 + "!")
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [("^ok$", "ok\n", True), ("^ok$", "ok", True), ("^ok$", "ok\n\n", False), (r"\bgrün\b|→", "→", True),
     ("(?i)OK", "ok", True), ("x", "", False), ("", "", True)],
)  # fmt: skip
def test_expression_means_what_people_are_used_to(pattern: str, text: str, found: bool) -> None:  # noqa: FBT001
    assert matches(pattern, text) is found


@pytest.mark.parametrize("pattern", ["(", "a**b(", r"(a)\1", "(?=a)", "a{100000}", "(?:" * 10_000])
def test_what_is_no_expression_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        compiled(pattern)


# --- answers of hosts ------------------------------------------------------------------------------


async def test_generation_may_be_called_anything(tmp_path: Path) -> None:
    for name, generation in (("a", "system-²-link"), ("b", f"system-{'9' * 5000}-link"), ("c", "system-7-link")):
        world = World(tmp_path / name, "a")
        world.on("a", (asks("facts"), said(**FACTS, generation=generation)))
        async with world.fleet() as fleet:
            (row,) = documents.status(await fleet.status())["hosts"]
        assert row["generation"] == (7 if name == "c" else None)


async def test_names_of_a_host_move_no_cursor(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    evil = "\x1b]0;x\x07\x1b[2J\u202eevil"
    world.on(
        "a",
        (asks("facts"), said(**FACTS | {"running": evil, "failed_unit": [evil], "upgrade": evil})),
        (asks("generations"), said(generation=[f"1 2 {evil}"], current=evil)),
    )
    async with world.fleet() as fleet:
        status, health, generations = await fleet.status(), await fleet.health(), await fleet.generations()
    told = repr((status, health, generations))
    assert "evil" in told
    assert not {"\\x1b", "\\x07", "\\u202e"} & {
        told[place : place + size] for place in range(len(told)) for size in (4, 6)
    }
    assert not any(isinstance(found, HostError) for found in status.values())
