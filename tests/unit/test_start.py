"""What the command line does before anything else."""

from __future__ import annotations

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
