"""`fleet ssh` says to OpenSSH what a deployment says to the host."""

from __future__ import annotations

from pathlib import Path

from fleet.cli.access import ssh_argv
from fleet.inventory import Inventory, parse

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMzO7IZ+F5x+jLVvQUgo1qXMmnIMRnrABJmgSHClxH0E"
TOML = f"""
[fleet]
name = "home"
[hosts.plain]
[hosts.full]
address = ["full.lan", "10.0.0.1"]
port = 2222
identity_file = "/keys/id"
host_key = "{KEY} it's $(mine)"
[hosts.behind]
jump = "full"
[hosts.far]
jump = "me@bastion:23"
"""


def inventory() -> Inventory:
    return parse(Path("/fleet/fleet.toml"), TOML)


def argv(name: str) -> list[str]:
    known = inventory()
    host = next(host for host in known.hosts.values() if host.name == name)
    return ssh_argv(known, host, user_of=lambda host: f"user-of-{host.name}")


def test_host_without_words_of_its_own_has_its_user_said() -> None:
    assert argv("plain") == ["ssh", "-l", "user-of-plain", "plain"]


def test_everything_that_is_said_is_passed_on_and_a_comment_never_meets_a_shell() -> None:
    words = argv("full")
    assert words[:9] == [
        "ssh", "-l", "user-of-full", "-p", "2222", "-i", "/keys/id", "-o", "IdentitiesOnly=yes",
    ]  # fmt: skip
    assert words[-1] == "full.lan"
    assert f"KnownHostsCommand=/bin/sh -c 'echo \"$0 {KEY}\"' %H" in words
    assert "mine" not in " ".join(words)


def test_jump_hosts_are_passed() -> None:
    assert "-l user-of-full -p 2222" in argv("behind")[-2]
    assert argv("far")[-3:] == ["-J", "me@bastion:23", "far"]
