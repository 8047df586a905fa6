"""Drivers in fleet.toml, and the profiles that hosts have beside their own systems."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from fleet.errors import ConfigError
from fleet.host.program import HostProgram, for_driver, sent_along
from fleet.inventory import edit, load, parse
from fleet.inventory.drivers import Driver
from fleet.inventory.profiles import computers
from fleet.selector import waves
from fleet.steps.system import NEEDED, is_for, recognised

if TYPE_CHECKING:
    from fleet.inventory import Host, Inventory

PLACE = Path("/etc/home/fleet.toml")


def read(text: str) -> Inventory:
    return parse(PLACE, dedent(text))


def hosts(text: str) -> dict[str, Host]:
    return dict(read(text).hosts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keys", "driver", "attr"),
    [
        ("", Driver.NIXOS, "nixosConfigurations.web.config.system.build.toplevel"),
        ('driver = "system-manager"', Driver.SYSTEM_MANAGER, "systemConfigs.web"),
        ('driver = "generic"', Driver.GENERIC, "packages.x86_64-linux.web"),
        ('driver = "generic"\nsystem = "aarch64-linux"', Driver.GENERIC, "packages.aarch64-linux.web"),
        ('attr = "systemConfigs.other"', Driver.SYSTEM_MANAGER, "systemConfigs.other"),
        ('attr = "packages.x86_64-linux.tools"', Driver.GENERIC, "packages.x86_64-linux.tools"),
        ('driver = "generic"\nattr = "systemConfigs.web"', Driver.GENERIC, "systemConfigs.web"),
    ],
)
def test_driver_and_attribute_follow_from_each_other(keys: str, driver: Driver, attr: str) -> None:
    host = hosts(f"[hosts.web]\n{keys}\n")["web"]
    assert (host.driver, ".".join(host.attr)) == (driver, attr)


def test_profiles_are_deployed_in_order_after_their_host() -> None:
    inventory = read("""
        [hosts.web]
        address = "10.0.0.1"
        port = 2222
        tags = ["prod"]
        checks = [{ tcp = "localhost:80" }]
        profiles.alice = { }
        profiles.tools = { driver = "generic", after = ["db"] }
        [hosts.db]
    """)
    found = dict(inventory.hosts)
    assert list(found) == ["web", "web.alice", "web.tools", "db"]
    alice, tools = (found[name] for name in ("web.alice", "web.tools"))  # type: ignore[index]
    assert alice.attr == ("homeConfigurations", "alice@web", "activationPackage")
    assert (alice.driver, alice.profile, tools.driver, tools.profile) == ("home-manager", "alice", "generic", "tools")
    assert {(host.address, host.port, host.tags) for host in (alice, tools)} == {(("10.0.0.1",), 2222, ("prod",))}
    assert (alice.checks, alice.after, tools.after) == ((), ("web",), ("web.alice", "db"))
    assert [wave.hosts for wave in waves(inventory, found.values())] == [("web", "db"), ("web.alice",), ("web.tools",)]


def test_a_computer_is_asked_once_for_all_that_is_on_it() -> None:
    fleet = read("""
        [hosts.web]
        profiles.alice = { }
        [hosts.db]
        driver = "none"
        profiles.bob = { }
        profiles.eve = { }
    """)
    found = fleet.hosts.values()
    assert [host.name for host in computers(fleet, found)] == ["web", "db.bob"]
    assert [host.name for host in computers(fleet, list(found)[1:2])] == ["web"]
    assert [host.name for host in computers(fleet, list(found)[::-1])] == ["db.eve", "web"]


def test_address_of_a_profile_is_that_of_its_host() -> None:
    found = hosts(
        '[defaults]\naddress = "{name}.lan"\n[hosts.web.profiles.alice]\n[hosts.db]\ndriver="none"\nprofiles.bob={}'
    )
    assert (found["web.alice"].address, found["db.bob"].address) == (("web.lan",), ("db.lan",))


def test_host_without_a_system_of_its_own_is_its_profiles() -> None:
    found = hosts('[hosts.web]\ndriver = "none"\n[hosts.web.profiles.alice]')
    assert (list(found), found["web.alice"].after, found["web.alice"].address) == (["web.alice"], (), ("web",))


def test_profile_gets_no_secrets_of_all_hosts() -> None:
    found = hosts('[defaults.secrets.tok]\nenv = "TOK"\n[hosts.web]\n[hosts.web.profiles.alice]')
    assert {name: list(host.secrets) for name, host in found.items()} == {"web": ["tok"], "web.alice": []}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[hosts.web]\ndriver = "home-manager"', "for a user: write it into [hosts.web.profiles.USER]"),
        ("[hosts.web.profiles.alice]\nport = 22", "[hosts.web.profiles.alice] port: belongs to the host: [hosts.web]"),
        ('[hosts.web.profiles.alice]\ndriver = "nixos"', 'driver: nixos is for a whole host'),
        ('[hosts.web]\ndriver = "generic"\ngate = true', "gate: is a login of NixOS, and there is none for generic"),
        ("[hosts.web]\ngate = true\nuser = \"fleet\"\n[hosts.web.profiles.alice]", "there is none for home-manager"),
        ("[hosts.web.profiles.alice]\ngate = true", "gate: belongs to the host: [hosts.web]"),
        ('[hosts.web]\ndriver = "system-manager"\n[hosts.web.profiles.b]\ndriver = "system-manager"',
         "driver: system-manager is for a whole host"),
        ('[hosts.web.profiles.alice.secrets.tok]\nenv = "TOK"', "secrets: are the host's, since root writes them"),
        ("[hosts.web]\nprofiles = 3", "[hosts.web] profiles: found 3, expected tables: [hosts.web.profiles.NAME]"),
        ("[hosts.web]\nprofiles = {}", "expected tables"),
        ("[hosts.web.profiles]\nalice = 3", "[hosts.web.profiles.alice]: found 3, expected a table"),
        ('[hosts.web.profiles."a/b"]', "a profile's name"),
        ('[hosts.web.profiles.alice]\n[hosts."web.alice"]', "web.alice is already a host"),
        ('[hosts.web]\ndriver = "none"', "driver: found"),
        ('[hosts.web]\ndriver = "none"\naddress = "local"\n[hosts.web.profiles.a]', "web] address: a machine knows"),
        ('[hosts.web]\ndriver = "nixs"', "did you mean nixos?"),
        ("[hosts.web.profiles.alice]\nchekcs = []", "[hosts.web.profiles.alice] chekcs: unknown key; did you mean"),
        ('[hosts.web]\nattr = "homeConfigurations.alice"', "home-manager is for a user"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert said in str(caught.value)


def test_host_program_is_told_of_the_driver_before_its_format() -> None:
    found = hosts('[hosts.a]\n[hosts.b]\ndriver = "generic"\n[hosts.b.profiles.alice]')
    for program in (HostProgram(), HostProgram("/nix/store/x-fleet-host")):
        call = program.call("facts")
        assert for_driver(call, found["a"]) is call
        assert for_driver(call, found["b"]).argv[-5:] == ("for", "generic", "-", "2", "facts")
        assert for_driver(call, found["b.alice"]).argv[-5:] == ("for", "home-manager", "alice", "2", "facts")
    sent = sent_along(for_driver(HostProgram().call("facts"), found["b"]))
    assert sent.argv[-5:] == ("for", "generic", "-", "2", "facts")


@pytest.mark.parametrize("driver", list(Driver))
def test_closure_is_recognised_by_what_it_has(driver: Driver) -> None:
    assert recognised({group[0] for group in NEEDED[driver]}) is driver
    assert recognised([group[0] for group in NEEDED[driver]][1:]) is not driver


def test_script_of_a_nixos_system_is_never_run_by_the_generic_driver() -> None:
    assert is_for(Driver.HOME_MANAGER, Driver.GENERIC)
    assert not is_for(Driver.NIXOS, Driver.GENERIC)
    assert not is_for(Driver.GENERIC, Driver.NIXOS)
    assert not is_for(None, Driver.GENERIC)


def test_host_key_of_a_profile_is_written_to_its_host(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text('[hosts.web]\ndriver = "none"\n\n[hosts.web.profiles.alice]\ntags = ["a"]\n')
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    edit.set_host_keys(path, {"web.alice": key})  # type: ignore[dict-item]
    assert load(path).hosts["web.alice"].host_key == key  # type: ignore[index]
