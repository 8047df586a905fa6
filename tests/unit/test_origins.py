"""Where the systems of hosts come from, and how one line of [defaults] says it for all."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.inventory import Host, Inventory, parse
from fleet.model import HostName, Severity
from fleet.source.outputs import idle, unmatched


def inventory(text: str) -> Inventory:
    return parse(Path("/etc/home/fleet.toml"), text)


def host(text: str, name: str = "web") -> Host:
    return inventory(text).hosts[HostName(name)]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ('"{name}.example.org"', ("web.example.org",)),
        ('["{name}.lan", "{name}.vpn", "10.0.0.7"]', ("web.lan", "web.vpn", "10.0.0.7")),
        ('"{name}"', ("web",)),
    ],
)
def test_an_address_of_defaults_has_each_host_s_own_name_in_it(address: str, expected: tuple[str, ...]) -> None:
    assert host(f"[defaults]\naddress = {address}\n[hosts.web]").address == expected


def test_an_own_address_wins_over_the_template() -> None:
    text = '[defaults]\naddress = "{name}.example.org"\n[hosts.web]\naddress = "10.0.0.1"\n[hosts.db]'
    assert [host(text, name).address for name in ("web", "db")] == [("10.0.0.1",), ("db.example.org",)]


def test_an_attribute_of_defaults_has_each_host_s_own_name_as_a_part() -> None:
    text = '[defaults]\nattr = "colmenaHive.nodes.{name}"\n[hosts."a.b"]\n[hosts.web]'
    assert host(text, "a.b").attr == ("colmenaHive", "nodes", "a.b")
    assert host(text).attr == ("colmenaHive", "nodes", "web")


def test_a_quoted_part_of_an_attribute_path_means_what_it_says() -> None:
    assert host("[hosts.web]\nattr = 'a.\"{name}\"'").attr == ("a", "{name}")


# --- configurations that are no hosts --------------------------------------------------------------


def messages(text: str, *there: str) -> list[tuple[str, Severity]]:
    fleet = inventory(text)
    hosts = fleet.hosts.values()
    findings = [*unmatched(hosts, hosts, there, fleet.ignore), *idle(fleet.ignore, there)]
    return [(found.message, found.severity) for found in findings]


def test_a_configuration_that_is_ignored_needs_no_host() -> None:
    assert messages('[fleet]\nignore = ["iso-*", "vm"]\n[hosts.web]', "web", "iso-arm", "vm") == []


def test_a_configuration_that_is_not_ignored_needs_one() -> None:
    assert [text for text, _ in messages('[fleet]\nignore = ["iso-*"]\n[hosts.web]', "web", "iso-arm", "vm")] == [
        "nixosConfigurations.vm is a configuration that no host of fleet.toml has"
    ]


def test_a_glob_that_ignores_nothing_is_noted() -> None:
    assert messages('[fleet]\nignore = ["iso-*"]\n[hosts.web]', "web") == [
        ("iso-* in ignore of [fleet] matches no configuration", Severity.NOTE)
    ]


def test_a_host_whose_system_is_in_a_hive_has_the_configuration_of_its_name_too() -> None:
    assert messages('[hosts.web]\nattr = "colmenaHive.nodes.web"', "web") == []


def test_a_node_of_a_hive_that_hosts_are_from_needs_a_host_too() -> None:
    fleet = inventory('[fleet]\nignore = ["gone"]\n[hosts.web]\nattr = "colmenaHive.nodes.web"\n[hosts.db]')
    hosts = fleet.hosts.values()
    found = unmatched(hosts, hosts, ["web", "db", "gone", "new"], fleet.ignore, output="colmenaHive.nodes")
    assert [finding.message for finding in found] == [
        "colmenaHive.nodes.new is a configuration that no host of fleet.toml has"
    ]
    found = unmatched(hosts, hosts, [], output="colmenaHive.nodes")
    assert [finding.message for finding in found] == [
        "web has no configuration: the flake has no colmenaHive.nodes.web"
    ]
