"""On a terminal: a table that moves, one question, and the terminal given back as it was."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from fleet.lab import faults
from tests.containers.driver import FLEET, PATIENCE, WEB, Stage, new_version, running, stands_on, web

if TYPE_CHECKING:
    from fleet.lab import Lab
    from tests.containers.conftest import MakeLab

HOSTS = ("alpha", "beta")
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(*HOSTS)


class Terminal:
    """A `fleet` on a terminal of 120 columns; the table and the summary are both on it."""

    def __init__(self, stage: Stage, *arguments: str, **env: str) -> None:
        self._ours, theirs = pty.openpty()
        self.text = ""
        self.process = subprocess.Popen(
            [FLEET, *arguments],
            cwd=stage.folder,
            env={**stage.environment, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40", **env},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def read_until(self, words: str | None) -> str:
        """What was shown up to these words, or to the end."""
        deadline = time.monotonic() + PATIENCE
        while words is None or words not in self.text:
            ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{words!r} never came:\n{self.text}"
            try:
                block = os.read(self._ours, 65536)
            except OSError:  # the end of a terminal
                block = b""
            if not block:
                assert words is None, f"ended before {words!r}:\n{self.text}"
                break
            self.text += block.decode(errors="replace")
        return self.text

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def end(self) -> int:
        self.read_until(None)
        os.close(self._ours)
        return self.process.wait(PATIENCE)


def plan(stage: Stage) -> None:
    stage.toml({name: {"checks": [WEB]} for name in HOSTS})
    version = new_version()
    for name in HOSTS:
        stage.write(name, web(version))


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_table_moves_question_is_asked_once_and_the_cursor_comes_back(stage: Stage) -> None:
    plan(stage)
    terminal = Terminal(stage, "deploy", "--all")
    before = terminal.read_until("Change 2 hosts? [y/N]: ")
    assert before.rindex(SHOW) > before.rindex(HIDE)
    assert "switch" in plain(before)
    assert re.search(r"^alpha, beta: .* → ", plain(before), re.MULTILINE)  # what differs stands before the question
    terminal.type("what\n")
    terminal.read_until("what\r\n\r\nChange 2 hosts? [y/N]: ")
    terminal.type("y\n")
    assert terminal.end() == 0
    after = terminal.text[len(before) :]
    assert HIDE in after
    assert after.rindex(SHOW) > after.rindex(HIDE)
    assert "2 kept" in plain(after).splitlines()[-1]


@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_no_changes_nothing(stage: Stage, answer: str) -> None:
    plan(stage)
    old = [running(stage.host(name)) for name in HOSTS]
    terminal = Terminal(stage, "deploy", "--all")
    terminal.read_until("Change 2 hosts?")
    terminal.type(answer)
    assert terminal.end() == 1
    assert plain(terminal.text).splitlines()[-1] == "Nothing was changed."
    assert all(stands_on(stage.host(name), closure) for name, closure in zip(HOSTS, old, strict=True))


def test_what_is_typed_while_the_plan_is_made_is_no_answer_and_is_not_shown(stage: Stage) -> None:
    plan(stage)
    old = [running(stage.host(name)) for name in HOSTS]
    terminal = Terminal(stage, "deploy", "--all")
    terminal.read_until(HIDE)
    terminal.type("y\ny\n")
    terminal.read_until("Change 2 hosts? [y/N]: ")
    terminal.type("n\n")
    assert terminal.end() == 1
    lines = plain(terminal.text).splitlines()
    assert (lines.count("y"), lines[-1]) == (0, "Nothing was changed.")
    assert all(stands_on(stage.host(name), closure) for name, closure in zip(HOSTS, old, strict=True))


def test_simple_terminal_gets_lines_and_a_word_on_what_is_waited_for(stage: Stage) -> None:
    plan(stage)
    faults.cut(stage.host("beta"))
    try:
        terminal = Terminal(stage, "status", TERM="dumb")
        terminal.read_until("status, 2.")
        assert "waiting for beta" in terminal.read_until("waiting for beta")
        assert terminal.end() == 1
    finally:
        faults.restore(stage.host("beta"))
    assert "\x1b" not in terminal.text


def test_interrupted_at_the_question_changes_nothing_and_ends_at_once(stage: Stage) -> None:
    plan(stage)
    old = [running(stage.host(name)) for name in HOSTS]
    terminal = Terminal(stage, "deploy", "--all")
    terminal.read_until("Change 2 hosts?")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert terminal.text.rindex(SHOW) > terminal.text.rindex(HIDE)
    assert all(stands_on(stage.host(name), closure) for name, closure in zip(HOSTS, old, strict=True))


def test_nothing_to_do_is_not_asked(stage: Stage) -> None:
    plan(stage)
    assert stage.deploy("--all").code == 0
    terminal = Terminal(stage, "deploy", "--all")
    assert terminal.end() == 0
    assert "Change" not in terminal.text
    assert "2 unchanged" in plain(terminal.text)


def test_no_color_is_honoured(stage: Stage) -> None:
    plan(stage)
    terminal = Terminal(stage, "deploy", "alpha", NO_COLOR="1")
    assert terminal.end() == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", terminal.text)
    assert "1 kept" in plain(terminal.text)
