"""Manual pages say what the commands say, and man can read them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from fleet import cli
from fleet.cli import manual, run
from tests.unit.test_cli_help import NAMES, command_of

PAGES = dict(manual.pages())
needs_groff = pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")


def test_every_command_has_a_page() -> None:
    assert set(PAGES) == {f"fleet {name}".strip() for name in NAMES}


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name or "fleet")
def test_page_has_every_flag_and_every_example(name: str) -> None:
    page = PAGES[f"fleet {name}".strip()].replace("\\-", "-")
    command, _ = command_of(name.split())
    for param in command.params:
        if isinstance(param, click.Option):
            assert all(flag in page for flag in param.opts)
    shown = [line.strip() for line in (command.help or "").splitlines() if line.strip().startswith("fleet ")]
    assert all(line.replace("\u2026", "...") in page.splitlines() for line in shown)


@needs_groff
@pytest.mark.parametrize("name", PAGES)
def test_page_is_one_that_man_can_read(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii", "-P-c", "-P-b", "-P-u"],
        input=PAGES[name], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert "SYNOPSIS" in done.stdout
    assert "-h, --help" in done.stdout
    assert name.replace(" ", "-") in done.stdout


@needs_groff
def test_what_looks_like_roff_is_text() -> None:
    @click.command()
    def odd() -> None:
        """.TH is no title, 'tis true, and neither is \\fB this.

        \b
        .so /etc/passwd
        'so x
        """

    (page,) = [text for _, text in manual._pages(click.Context(odd, info_name="odd"))]
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii", "-P-c"], input=page, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    for text in (".TH is no title", "\\fB this", ".so /etc/passwd", "'so x"):
        assert text in done.stdout


def test_one_command_installs_them_where_man_looks(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["man", "install"]) == 0
    folder = home / ".local" / "share" / "man" / "man1"
    assert {path.name for path in folder.iterdir()} == {f"{name.replace(' ', '-')}.1" for name in PAGES}
    assert (folder / "fleet-runs-show.1").read_text() == PAGES["fleet runs show"]
    assert (folder / "fleet.1").stat().st_mode & 0o777 == 0o644
    if shutil.which("man"):
        shown = subprocess.run(
            ["man", "-M", str(folder.parent), "fleet-deploy"], capture_output=True, text=True, check=True
        )
        assert "--all-or-nothing" in shown.stdout


def test_page_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["man", "show", "runs", "show"]) == 0
    assert capsys.readouterr().out == PAGES["fleet runs show"]
    assert run(["man", "show", "nothing"]) == 2
    assert "there is no command fleet nothing" in capsys.readouterr().err


def test_exit_codes_are_those_of_the_documentation() -> None:
    text = (Path(cli.__file__).parent.parent.parent / "docs" / "outcomes.md").read_text()
    rows = re.findall(r"^\| ([0-9]+) \| (.*) \|$", text.partition("| exit code | when |")[2].partition("## ")[0], re.M)
    assert {code: when.replace("`", "") for code, when in rows} == manual.EXIT_CODES
