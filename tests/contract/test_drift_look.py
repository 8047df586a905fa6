"""What the script of `fleet drift` tells of processes, which their users name as they like."""

from __future__ import annotations

import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from fleet.scripts import script

if TYPE_CHECKING:
    from pathlib import Path


FUNCTIONS = script("fleet.drift", "look").replace("\nmain </dev/null", "")
"""Those of the script, of which none is called."""


def told_by(call: str) -> str:
    """What this call of one of its functions tells."""
    argv = ["sh", "-c", f"{FUNCTIONS}\n{call}"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_no_name_of_a_cgroup_makes_a_listener_one_of_a_system_unit(tmp_path: Path) -> None:
    """A user may make cgroups below their own, with names of all kinds."""
    group = "/user.slice/user-1000.slice/user@1000.service/a:/system.slice/nginx.service"
    (tmp_path / "cgroup").write_text(f"0::{group}\n")
    (tmp_path / "comm").write_text("backdoor\n")
    (tmp_path / "stat").write_text("7 (backdoor) S " + " ".join(map(str, range(40))) + "\n")
    assert told_by(f"holder 'socket:[5]' {tmp_path}").split("\t")[4] == group


@pytest.mark.parametrize(("most", "done"), [(2000, True), (1, False)])
def test_listeners_beyond_what_is_looked_at_are_not_told_as_none(most: int, *, done: bool) -> None:
    """Any user may open thousands, and one more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        told = told_by(f"most_sockets={most}; listeners")
    assert f"\ttcp\t0100007F\t{port:04X}\t" in told or not done
    assert ("done\tlisteners" in told.splitlines()) is done
