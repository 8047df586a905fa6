"""A rehearsal asks what the host is for, and nothing that is in use."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.errors import ConfigError
from fleet.inventory import Host, Inventory, Sudo, parse
from fleet.library.rehearsing import Scene, require_rehearsable, scene

LAB = parse(
    Path("/lab/fleet.toml"),
    '[fleet]\nname = "lab-1"\nflake = "."\n[hosts.web-1]\naddress = "127.0.0.1"\nport = 22001\nuser = "root"\n',
)


def host(text: str) -> Host:
    return next(iter(parse(Path("/real/fleet.toml"), f'[fleet]\nname = "real"\nflake = "."\n{text}').hosts.values()))


def web(checks: str = "", more: str = "") -> Scene:
    table = '[hosts.web-1]\naddress = ["web-1.example.org", "10.0.0.7"]\nuser = "deploy"\nsudo = true\n'
    return scene(host(f"{table}{more}\n{checks}"), LAB)


def check(text: str) -> Scene:
    return web(f'[[hosts.web-1.checks]]\nname = "it"\n{text}')


def test_the_host_is_reached_as_the_lab_s_and_keeps_its_times() -> None:
    made = web(
        more='settle = "7s"\nwindow = ["Mon 01:00-02:00"]\njump = "me@bastion:22"\nbuild_on = "target"\ntags = ["prod"]'
    )
    there = made.host
    assert (there.address, there.port, there.user, there.sudo) == (("127.0.0.1",), 22001, "root", Sudo.NONE)
    assert (there.settle, there.tags, there.window, there.jump) == (7.0, ("prod",), (), None)
    assert made.inventory.name == "lab-1"
    assert isinstance(made.inventory, Inventory)
    assert made.left_out == ()


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ('http = "http://127.0.0.1:8080/x"', "http", "http://127.0.0.1:8080/x"),
        ('http = "http://localhost:8080/"\nfrom = "controller"', "http", "http://localhost:8080/"),
        ('http = "http://web-1.example.org:81/x?y"\nfrom = "controller"', "http", "http://127.0.0.1:81/x?y"),
        ('http = "https://10.0.0.7/"\nverify_tls = false', "http", "https://127.0.0.1/"),
        ('tcp = "web-1:443"\nfrom = "controller"', "tcp", "127.0.0.1:443"),
        ('tcp = "[::1]:443"', "tcp", "[::1]:443"),
        ('unit = "nginx.service"', "unit", "nginx.service"),
        ('command = "true"', "command", "true"),
    ],
)
def test_a_check_of_the_host_itself_is_asked_on_the_lab_s(text: str, key: str, expected: str) -> None:
    made = check(text)
    (found,) = made.host.checks
    assert getattr(found, key) == expected
    assert found.from_ == "host"
    assert made.left_out == ()


def test_a_check_by_name_keeps_the_name_for_the_server() -> None:
    (found,) = check('http = "http://web-1.example.org:81/"').host.checks
    assert found.headers == {"Host": "web-1.example.org:81"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('http = "http://db-1:8080/"', "it asks db-1, which is another"),
        ('http = "https://web-1.example.org/"', "nobody in a lab has a certificate for web-1.example.org"),
        ('tcp = "10.0.0.8:443"', "it asks 10.0.0.8, which is another"),
        ('tcp = "127.example.org:443"', "it asks 127.example.org, which is another"),
        ("gpu = true", "a lab has no GPU"),
    ],
)
def test_what_would_ask_somebody_else_is_not_rehearsed_and_told(text: str, why: str) -> None:
    made = check(text)
    assert made.host.checks == ()
    assert made.left_out == (f"it: {why}",)


def test_secrets_and_hooks_stay_here_and_are_told() -> None:
    made = web(
        '[hosts.web-1.secrets.token]\nenv = "TOKEN"\npath = "/run/keys/token"\n'
        '[[hosts.web-1.hooks]]\nwhen = "before_switch"\ncommand = "drain"\n'
    )
    assert (made.host.secrets, made.host.hooks) == ({}, ())
    assert made.left_out == ("token: values of secrets go to no lab", "1 hooks: they are for the host itself")


def test_a_host_of_another_system_is_refused() -> None:
    with pytest.raises(ConfigError, match="aarch64-linux"):
        require_rehearsable(host('[hosts.pi]\nsystem = "aarch64-linux"\n'), "x86_64-linux")
