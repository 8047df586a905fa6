"""What the command line does before anything else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.__main__ import LINKER_CACHE

COUNT = """
import sys
started = []
sys.addaudithook(lambda event, about: started.append(about) if event == "subprocess.Popen" else None)
import fleet.__main__, fleet.cli
fleet.cli.run = lambda _: 0
try:
    fleet.__main__.main()
except SystemExit:
    pass
import fleet.machine.login, asyncssh.crypto.pq
print([name for name, *_ in started if name != '/sbin/ldconfig'], asyncssh.crypto.pq.sntrup_available)
"""


@pytest.mark.skipif(not Path(LINKER_CACHE).exists(), reason="no ldconfig has run here")
def test_no_compiler_and_no_linker_is_started_to_load_asyncssh() -> None:
    ran = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    plainly = subprocess.run(
        [sys.executable, "-c", "import asyncssh.crypto.pq as pq; print(pq.sntrup_available)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == ["[]", plainly.stdout.strip()]


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a line of shell does with `$fleet`, beside a fleet.toml of one host and with a state of its own."""
    (folder / "fleet.toml").write_text("[hosts.a]\n")
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "fleet": f"{sys.executable} -m fleet"}
    return subprocess.run(
        ["sh", "-c", f"cd {folder} && {line}"], capture_output=True, text=True, check=False, env=environment
    )


@pytest.mark.parametrize("command", ["runs", "runs --json", "--help", "check --help"])
def test_stdout_that_takes_no_more_is_an_error_and_no_traceback(tmp_path: Path, command: str) -> None:
    ran = shell(f"$fleet {command} >/dev/full", tmp_path)
    assert (ran.returncode, ran.stderr) == (
        1,
        "error: what was found cannot be written to stdout: No space left on device\n",
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_reason_to_fail(tmp_path: Path, closed: str) -> None:
    ran = shell(f"$fleet runs {closed}", tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ("run" in ran.stdout) is (">&-" not in closed.replace("2>&-", ""))


def test_nothing_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """What is printed then would go there."""
    script = tmp_path / "opened.py"
    script.write_text(
        "import os, fleet.__main__ as main\n"
        "main._open_what_is_closed()\n"
        "os.write(3, str(open('file', 'w').fileno()).encode())\n"
    )
    number = shell(f"{sys.executable} {script} 3>number <&- >&- 2>&-; cat number", tmp_path).stdout
    assert int(number) > 3
