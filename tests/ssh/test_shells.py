"""Commands arrive as they are, whatever root's login shell is. The shells are real."""

from __future__ import annotations

import shlex
import shutil
from typing import TYPE_CHECKING

import pytest

from fleet.errors import HostError
from fleet.host.program import HostProgram, ask
from fleet.machine import Command, words
from tests.ssh.conftest import BOTH_WAYS

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.inventory import Host
    from fleet.machine.login import Logins
    from tests.sshd import Server

NASTY = (
    "two\nlines\n\n", "!!", "it's", "back\\slash\\", "$HOME ${x} `id`", "*", "~", "{a,b}", "=ls", "%1", "", '\t ü "q"',
    "#no", "a;b|c&d>e<f", "(x)", "[y]", "^z", "-n", "@(1)", "\\n", "\n",
)  # fmt: skip
SHOW = ("sh", "-c", 'for word; do printf "<%s>" "$word"; done; cat', "sh", *NASTY)
SHELLS = ("sh", "bash", "tcsh", "fish", "xonsh")


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, server: Server) -> str:
    """Everybody's login shell on the server."""
    found = shutil.which(request.param)
    if found is None and request.param == "xonsh":
        pytest.skip("xonsh is in no package of Debian 12; `pip install xonsh` lets this run")
    assert found, f"{request.param} is not installed: see .ci/setup"
    server.shell = found
    return str(request.param)


@BOTH_WAYS
async def test_words_and_input_arrive_as_they_are(logins: Logins, host: Host, shell: str) -> None:
    expected = "".join(f"<{word}>" for word in NASTY) + "input\n"
    async with logins.connect(host) as machine:
        for _ in range(4):  # from the third on by a shell that waits
            output = await machine.run(Command(argv=SHOW, stdin=b"input\n", timeout=30))
            assert (output.status, output.stdout) == (0, expected)
            output = await machine.run(Command(argv=("sh", "-c", "exit 4"), timeout=30))
            assert output.status == 4


async def test_plain_words_arrive(logins: Logins, host: Host, shell: str) -> None:
    plain = ("sh", "-s", "--", "2", "facts")
    async with logins.connect(host) as machine:
        output = await machine.run(Command(argv=plain, stdin=b'echo "$1 $2"; cat', timeout=30))
    assert (output.status, output.stdout) == (0, "2 facts\n")


async def test_long_command_arrives(logins: Logins, host: Host, shell: str) -> None:
    text = "y'\n" * 20_000
    async with logins.connect(host) as machine:
        output = await machine.run(Command(argv=("printf", "%s", text), timeout=30))
    assert output.stdout == text


@pytest.mark.parametrize("script", ["read-command", "wait-for-command"])
def test_line_for_the_login_shell_has_nothing_that_a_shell_reads_into_quotes(script: str) -> None:
    line = words.reader(script)
    inside = line.removeprefix("exec sh -c '").removesuffix("'")
    assert len(shlex.split(line)) == 4
    assert not set(inside) & set("'!\\\n`{}~")


@pytest.mark.parametrize("word", ["=ls", "%1", "~", "a b", "", "a'b", "{x}", "*", "$x", "-*", "--=x", "a!b"])
def test_word_that_a_shell_may_expand_is_not_plain(word: str) -> None:
    line, first = words.asked(("echo", word))
    assert (line, first) == (words.reader("read-command"), words.line(("echo", word)))
    assert words.asked(("/nix/store/a-b.c/bin/x", "-s", "--", "2", "a:b,c@d+e")) == (
        "/nix/store/a-b.c/bin/x -s -- 2 a:b,c@d+e",
        b"",
    )


@pytest.mark.parametrize("greeting", ["hello", "PATH=/bin", "absent=yes"])
async def test_host_program_is_sent_to_a_shell_that_greets(
    logins: Logins, host: Host, server: Server, tmp_path: Path, greeting: str
) -> None:
    """As a ~/.bashrc with an echo does, of which a line may look like an answer."""
    shell = tmp_path / "shell"
    shell.write_text(f'#!/bin/sh\necho "{greeting}"\nexec sh "$@"\n')
    shell.chmod(0o755)
    server.shell = str(shell)
    async with logins.connect(host) as machine:
        with pytest.raises(HostError, match="no command bogus"):
            await ask(machine, host, HostProgram().call("bogus"))
