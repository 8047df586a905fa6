"""The first fleet.toml is one that fleet accepts, whatever was found; what does not fit is told in it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from fleet.inventory import Inventory, parse
from fleet.inventory.first import FirstFleet, FirstHost, written
from fleet.model import HostName

HEAD = {"name": "home", "flake": "."}


def text(*hosts: FirstHost, **more: Any) -> str:
    return written(FirstFleet(hosts=hosts, **more), head=HEAD)


def inventory(*hosts: FirstHost, **more: Any) -> Inventory:
    return parse(Path("/home/fleet.toml"), text(*hosts, **more))


def host(name: str, **keys: Any) -> FirstHost:
    return FirstHost(name=name, keys=keys)


def comments(written: str) -> list[str]:
    return [line.removeprefix("# ") for line in written.splitlines() if line.startswith("# ")]


def test_every_key_is_written_as_it_was_found() -> None:
    found = inventory(
        host("web", address="10.0.0.1", port=2222, user="ann", sudo="password", tags=["a", "b"], build_on="target"),
        host("a.b", substitute=False, attr="nodes.{name}"),
    )
    web, other = found.hosts[HostName("web")], found.hosts[HostName("a.b")]
    assert (web.address, web.port, web.user, web.tags) == (("10.0.0.1",), 2222, "ann", ("a", "b"))
    assert (other.substitute, other.attr, other.port) == (False, ("nodes", "a.b"), None)


def test_what_all_hosts_have_is_said_once() -> None:
    made = text(
        host("web", address="web.lan", user="ann", sudo=True, port=22),
        host("db", address="db.lan", user="ann", sudo=True, port=23),
    )
    assert tomllib.loads(made)["defaults"] == {"address": "{name}.lan", "user": "ann", "sudo": True}
    assert tomllib.loads(made)["hosts"] == {"web": {"port": 22}, "db": {"port": 23}}


def test_one_host_has_its_keys_for_itself() -> None:
    made = tomllib.loads(text(host("web", address="web.lan", user="ann")))
    assert (made["defaults"], made["hosts"]["web"]) == ({}, {"address": "web.lan", "user": "ann"})


def test_addresses_that_are_no_pattern_stay_with_their_hosts() -> None:
    made = tomllib.loads(text(host("web", address="web.lan"), host("db", address="db.vpn")))
    assert {name: keys["address"] for name, keys in made["hosts"].items()} == {"web": "web.lan", "db": "db.vpn"}


def test_true_is_no_one() -> None:
    """In Python they are equal."""
    made = text(host("a", sudo=True), host("b", sudo=1))
    assert tomllib.loads(made)["hosts"] == {"a": {"sudo": True}, "b": {}}


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"address": "root@10.0.0.1"}, 'address = "root@10.0.0.1" was left out: found "root@10.0.0.1", expected'),
        ({"port": 0}, "port = 0 was left out: found 0, expected a port"),
        ({"user": 'x"\nsudo = true'}, 'user = "x\\"\\nsudo = true" was left out'),
        ({"jump": "bastion"}, 'jump = "bastion" is no host here'),
        ({"jump": "web"}, 'jump = "web" is no host here'),
    ],
)  # fmt: skip
def test_a_value_that_fleet_toml_cannot_have_is_a_comment(keys: dict[str, Any], told: str) -> None:
    made = text(host("web", **keys))
    assert tomllib.loads(made)["hosts"] == {"web": {}}
    assert any(line.startswith(told) for line in comments(made)), made
    parse(Path("/home/fleet.toml"), made)


def test_hosts_with_one_address_stay_two_hosts() -> None:
    made = text(host("a", address="10.0.0.1"), host("b", address="10.0.0.1"), host("c", address="10.0.0.1", port=2222))
    assert tomllib.loads(made)["hosts"] == {
        "a": {"address": "10.0.0.1"}, "b": {}, "c": {"address": "10.0.0.1", "port": 2222},
    }  # fmt: skip
    assert 'address = "10.0.0.1" was left out: it is that of a' in comments(made)
    parse(Path("/home/fleet.toml"), made)


def test_suggestions_reasons_and_remarks_are_comments_on_one_line() -> None:
    likely = {"user": "ann", "checks": [{"unit": "nginx.service"}], "address": "not an address"}
    made = text(
        FirstHost(name="web", suggestions=likely, remarks=("two\nlines\x1b[31m",)),
        left_out={"bad host": "does not evaluate: x\n[hosts.evil]"},
        ignore=("iso",),
    )
    document = tomllib.loads(made)
    assert (document["hosts"], document["fleet"]["ignore"]) == ({"web": {}}, ["iso"])
    assert {'user = "ann"', 'checks = [{ unit = "nginx.service" }]', "two lines"} <= set(comments(made))
    assert '[hosts."bad host"]  # does not evaluate: x [hosts.evil]' in comments(made)
    assert "not an address" not in made
    uncommented = made.replace('# user = "ann"', 'user = "ann"').replace("# checks = [{", "checks = [{")
    assert parse(Path("/home/fleet.toml"), uncommented).hosts[HostName("web")].user == "ann"


def test_a_bare_fleet_shows_what_is_usually_written() -> None:
    shown = [line.split(" = ")[0] for line in comments(text(host("web"))) if " = " in line]
    assert shown == ["address", "user", "sudo", "checks"]
    for line in comments(text(host("web"))):
        if " = " in line and not line.startswith("Written"):
            parse(Path("/home/fleet.toml"), f"[defaults]\n{line}\n[hosts.web]")
