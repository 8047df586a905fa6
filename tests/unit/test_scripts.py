"""Scripts that go along with a command: their text, on one line where a session has to take it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import fleet
from fleet.deploy.bundle import FROM_HOST
from fleet.host.obstacles import PARTS
from fleet.host.program import WENT_DOWN
from fleet.scripts import joined, one_line, script

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")

ROOT = Path(fleet.__file__).parent
FILES = sorted(ROOT.rglob("scripts/*.sh"))
LINES = sorted(
    {
        found
        for path in ROOT.rglob("*.py")
        for found in re.findall(r'one_line\("([\w.]+)", "([\w-]+)"\)', path.read_text())
    }
    | {("fleet.deploy", name) for name in FROM_HOST}
)


def package_of(path: Path) -> str:
    """The package whose script the file is."""
    return ".".join(path.parent.parent.relative_to(ROOT.parent).parts)


def as_bash_reads(text: str) -> str:
    """The commands of a script in bash's own words: the same for texts that do the same."""
    argv = ["bash", "-c", 'eval "whole() {\n$1\n}" && declare -f whole', "bash", text]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("package", "name"), LINES)
def test_a_script_on_one_line_does_the_same(package: str, name: str) -> None:
    line = one_line(package, name)
    assert "\n" not in line
    assert as_bash_reads(line) == as_bash_reads(script(package, name))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# a comment\n\na\nb\n", "a; b"),
        ("if a; then\n    b\nelse\n    c\nfi\nd\n", "if a; then b; else c; fi; d"),
        ("for x in y; do\n    a ||\n        b\ndone |\n    c\n", "for x in y; do a || b; done | c"),
        ("f() {\n    a \\\n        b\n}\n(\n    c\n)\n", "f() { a          b; }; ( c; )"),
        ("case x in\n    a) b ;;\nesac\n", "case x in a) b ;; esac"),
    ],
)
def test_each_line_ends_a_command(text: str, line: str) -> None:
    assert joined(text) == line
    assert as_bash_reads(line) == as_bash_reads(text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_script_is_used_by_its_package(path: Path) -> None:
    sources = [source.read_text() for source in path.parent.parent.glob("*.py")]
    assert any(f'"{path.stem}"' in source for source in sources)
    assert script(package_of(path), path.stem) == path.read_text()


def test_what_python_and_a_script_both_name_is_the_same() -> None:
    assert f"exit {WENT_DOWN}\n" in script("fleet.host", "leave-mark")
    look = script("fleet.steps", "look-at-system")
    assert f"for part in {' '.join(PARTS)}; do" in look
