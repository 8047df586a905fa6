"""modules/mesh.nix: what a host makes of mesh.toml, and what it refuses."""

from __future__ import annotations

import base64
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from fleet.inventory.mesh import address_of, prefix_of
from fleet.library.meshing import PUBLIC
from tests.nixos_modules import MODULES, RefusedError, complaints, configured

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
PREFIX = prefix_of("0123456789abcdef")
HOSTS = ("web", "db", "laptop")


def key(number: int) -> str:
    return base64.b64encode(bytes([number]) * 32).decode()


def mesh(*hosts: str) -> str:
    """A mesh.toml in which all but the laptop have an endpoint."""
    lines = [f'prefix = "{PREFIX}"']
    for number, name in enumerate(hosts):
        lines += [f"[hosts.{name}]", f'public_key = "{key(number)}"', f'address = "{address_of(PREFIX, name)}"']
        lines += [f'endpoint = "{name}.lan:51820"'] if name != "laptop" else []
    return "\n".join(lines)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "mesh.toml"
    found.write_text(mesh(*HOSTS))
    return found


def on(file: Path, name: str = "web", more: str = "") -> str:
    return f'{{ networking.hostName = "{name}"; services.fleet.mesh = {{ enable = true; file = {file}; {more} }}; }}'


WANTED = """{ inherit (config.networking) wireguard firewall; inherit (config) warnings;
  unit = config.systemd.services.fleet-mesh-key; }"""


def found(file: Path, name: str = "web", more: str = "", *, modules: tuple[str, ...] = ("mesh",)) -> Any:
    assert complaints(modules, on(file, name, more)) == []
    return configured(modules, on(file, name, more), WANTED)


@pytest.mark.parametrize("modules", [("mesh",), MODULES])
def test_every_host_has_all_others_as_peers_and_never_itself(file: Path, modules: tuple[str, ...]) -> None:
    seen = set()
    for number, name in enumerate(HOSTS):
        config = found(file, name, modules=modules)
        assert config["warnings"] == []
        (interface,) = config["wireguard"]["interfaces"].values()
        assert interface["ips"] == [f"{address_of(PREFIX, name)}/128"]
        assert {peer["publicKey"] for peer in interface["peers"]} == {
            key(other) for other in range(len(HOSTS)) if other != number
        }
        for peer in interface["peers"]:
            (allowed,) = peer["allowedIPs"]
            assert (peer["persistentKeepalive"], allowed.endswith("/128")) == (25, True)
        assert (interface["listenPort"], config["firewall"]["allowedUDPPorts"]) == (51820, [51820])
        seen |= set(interface["ips"])
    assert len(seen) == len(HOSTS)


def test_a_host_without_an_endpoint_begins_by_itself(file: Path) -> None:
    (interface,) = found(file)["wireguard"]["interfaces"].values()
    assert sorted(str(peer["endpoint"]) for peer in interface["peers"]) == ["None", "db.lan:51820"]


def test_the_private_key_is_of_the_host_alone_and_there_before_the_interface(file: Path) -> None:
    config = found(file)
    (interface,) = config["wireguard"]["interfaces"].values()
    assert (interface["privateKey"], interface["privateKeyFile"]) == (None, "/var/lib/fleet-mesh/key")
    unit = config["unit"]
    assert unit["requiredBy"] == unit["before"] == ["wireguard-fleet-mesh.service"]
    assert unit["wantedBy"] == ["multi-user.target"]
    assert unit["serviceConfig"]["UMask"] == "0077"
    assert f"/var/lib/{unit['serviceConfig']['StateDirectory']}/public" == PUBLIC
    assert "wg genkey" in unit["script"]
    assert not re.search(r"[A-Za-z0-9+/]{43}=", unit["script"])


@pytest.mark.parametrize("text", [None, mesh(), mesh("db", "laptop")])
def test_a_host_makes_its_key_before_anybody_knows_it(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "mesh.toml"
    if text is not None:
        file.write_text(text)
    config = found(file)
    assert (config["wireguard"]["interfaces"], config["firewall"]["allowedUDPPorts"]) == ({}, [])
    assert (config["unit"]["wantedBy"], config["unit"]["before"]) == (["multi-user.target"], [])
    assert ["has no host web" in each for each in config["warnings"]] == ([True] if text is not None else [])


def test_what_people_choose_is_taken(file: Path) -> None:
    more = 'name = "db"; interface = "wg7"; listenPort = 4000; openFirewall = false; persistentKeepalive = null;'
    config = found(file, "other", more)
    interface = config["wireguard"]["interfaces"]["wg7"]
    assert (interface["listenPort"], config["firewall"]["allowedUDPPorts"]) == (4000, [])
    assert interface["ips"] == [f"{address_of(PREFIX, 'db')}/128"]
    assert {peer["persistentKeepalive"] for peer in interface["peers"]} == {None}
    assert config["unit"]["before"] == ["wireguard-wg7.service"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (key(1), key(0), f"two hosts have one public_key, {key(0)}"),
        (key(1), "secret", "a public_key is none of WireGuard"),
        (key(1), key(1)[:-2] + "B=", "a public_key is none of WireGuard"),
        (address_of(PREFIX, "db"), address_of(PREFIX, "web"), "two hosts have one address"),
        (address_of(PREFIX, "db"), "fd00::1", "an address is not below prefix"),
        (address_of(PREFIX, "db"), "::/0", "an address is not below prefix"),
        (f'prefix = "{PREFIX}"', "", "an address is not below prefix, which is missing"),
    ],
)
def test_what_would_let_the_wrong_one_in_is_refused(file: Path, old: str, new: str, says: str) -> None:
    file.write_text(mesh(*HOSTS).replace(old, new))
    found = complaints(("mesh",), on(file))
    assert len(found) == 1
    assert says in found[0]


def test_a_mesh_needs_its_file_and_a_reader_that_is_root(file: Path) -> None:
    (missing,) = complaints(("mesh",), "{ services.fleet.mesh.enable = true; }")
    assert "services.fleet.mesh.file is not set" in missing
    networkd = f"{{ imports = [ ({on(file)}) {{ networking.wireguard.useNetworkd = true; }} ]; }}"
    (refused,) = complaints(("mesh",), networkd)
    assert "networking.wireguard.useNetworkd = false" in refused


@pytest.mark.parametrize(
    "more", ['interface = "a-name-that-is-too-long";', "listenPort = 0;", "persistentKeepalive = 0;", 'file = "x";']
)
def test_a_wrong_value_is_refused_by_its_name(file: Path, more: str) -> None:
    text = on(file, more=more) if "file" not in more else f"{{ services.fleet.mesh = {{ enable = true; {more} }}; }}"
    with pytest.raises(RefusedError, match=r"services\.fleet\.mesh"):
        configured(("mesh",), text, WANTED)
