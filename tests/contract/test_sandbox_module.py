"""What modules/sandbox.nix makes of sandboxes: addresses by their names, rules, units, and what it refuses."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from tests.nixos_modules import DATA, MICROVM, RefusedError, complaints, configured

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
PROGRAMS = 'enable = true; program = "/nix/store/x-program"; probe = "/nix/store/x-probe";'


def having(sandboxes: str, more: str = "") -> str:
    return f"{{ services.fleet.sandbox = {{ {PROGRAMS} sandboxes = {{ {sandboxes} }}; {more} }}; }}"


def declared(sandboxes: str, name: str = "a", more: str = "") -> dict[str, list[str]]:
    """What the host reads of a sandbox: the values of each word."""
    wanted = f'config.environment.etc."fleet/sandboxes/{name}".text'
    title, *lines = configured(("sandbox",), having(sandboxes, more), wanted).splitlines()
    assert title == "fleet-sandbox v1"
    found: dict[str, list[str]] = {}
    for line in lines:
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value)
    return found


def units(sandboxes: str) -> dict[str, Any]:
    found: dict[str, Any] = configured(("sandbox",), having(sandboxes), "config.systemd.services")
    return found


def test_addresses_and_links_follow_from_the_name() -> None:
    first, again, other = declared("a = { };"), declared('a = { egress = [ "x.org" ]; };'), declared("b = { };", "b")
    keys = ("tap", "mac", "host", "address")
    assert [first[key] for key in keys] == [again[key] for key in keys]
    assert all(first[key] != other[key] for key in keys)
    (tap,), (host,), (address,) = first["tap"], first["host"], first["address"]
    assert len(tap) <= 15
    assert first["mac"][0].startswith("02:")
    assert int(host.split(".")[-1]) % 2 == 0
    assert int(address.split(".")[-1]) == int(host.split(".")[-1]) + 1
    moved = declared("a = { index = 256; };", more='network = "10.77";')
    assert (moved["host"], moved["address"]) == (["10.77.2.0"], ["10.77.2.1"])


def test_two_names_with_one_address_are_refused() -> None:
    (message,) = complaints(("sandbox",), having("a = { index = 7; }; b = { index = 7; }; c = { };"))
    assert "lead to the same addresses: a b. Set index" in message


def test_what_may_be_reached_is_told_apart() -> None:
    found = declared('a = { egress = [ "api.example.org" "192.0.2.0/24:8080" "192.0.2.7" "x-y.example:1" ]; };')
    assert found["allow"] == ["192.0.2.0/24 8080", "192.0.2.7 443"]
    assert found["resolve"] == ["api.example.org 443", "x-y.example 1"]
    assert "fleet-sandbox-a-names.timer" in units('a = { egress = [ "x.org" ]; };')["fleet-sandbox-a-setup"]["wants"]
    assert units('a = { egress = [ "192.0.2.7" ]; };')["fleet-sandbox-a-setup"]["wants"] == []


@pytest.mark.parametrize("place", ["http://x.org", "x.org/path", "*.x.org", "::1", "x.org:0", "x.org:", "a b.org", "x"])
def test_what_is_no_place_is_refused(place: str) -> None:
    with pytest.raises(RefusedError, match="IPv4 address, network or name"):
        declared(f'a = {{ egress = [ "{place}" ]; }};')


@pytest.mark.parametrize("place", ["x.org:70000", "256.1.1.1", "10.0.0.0/33"])
def test_numbers_that_are_too_big_are_refused(place: str) -> None:
    (message,) = complaints(("sandbox",), having(f'a = {{ egress = [ "{place}" ]; }};'))
    assert "egress of a has a number that is too big" in message


@pytest.mark.parametrize(
    ("sandbox", "words"),
    [
        ('credentials.x = "/nix/store/y-secret";', "in the Nix store, where everybody can read it"),
        ('user = "root";', "root could leave a"),
        ('workspace = "/home/";', "a would see all of"),
        ('readOnly = [ "/nix/store" ];', "a would see all of"),
        ('backend = "microvm";', "does not know microvm.nix"),
    ],
)
def test_what_would_not_hold_is_refused(sandbox: str, words: str) -> None:
    assert any(words in message for message in complaints(("sandbox",), having(f"a = {{ {sandbox} }};")))


def test_names_and_programs_are_asked_for() -> None:
    assert any("small letters" in message for message in complaints(("sandbox",), having("A_b = { };")))
    settings = "{ services.fleet.sandbox.enable = true; }"
    assert any("services.fleet.sandbox.probe is not set" in message for message in complaints(("sandbox",), settings))


def test_whoever_comes_in_is_held_as_what_runs_there() -> None:
    """The properties of a shell are those of the unit, and so are those of the probes."""
    sandbox = 'a = { credentials.t = "/run/t"; readOnly = [ "/srv/data" ]; };'
    found, told = units(sandbox), declared(sandbox)["property"]
    ours = {"Type", "ExecStart", "TimeoutStartSec", "TimeoutStopSec", "KillSignal", "StandardOutput", "RemainAfterExit"}
    for unit in ("fleet-sandbox-a", "fleet-sandbox-a-prove"):
        held = {key: value for key, value in found[unit]["serviceConfig"].items() if key not in ours}
        words = {True: "yes", False: "no"}
        lines = [
            f"{key}={words.get(one, one) if isinstance(one, bool) else one}"
            for key, value in held.items()
            for one in (value if isinstance(value, list) else [value])
        ]
        assert sorted(lines) == sorted(told)
    assert any("io_uring_setup" in one for one in told if one.startswith("SystemCallFilter=~"))
    assert {"CapabilityBoundingSet=", "PrivateDevices=yes", "LoadCredential=t:/run/t"} < set(told)


def test_the_command_is_run_by_the_probe_and_has_no_variables_of_systemd() -> None:
    service = units('a = { command = [ "sh" "-c" "echo $HOME 100%" ]; };')["fleet-sandbox-a"]
    line = service["serviceConfig"]["ExecStart"]
    assert line.startswith("/usr/bin/busybox sh /run/fleet-sandbox/probe /run/fleet-sandbox/facts /usr/bin/busybox ")
    assert line.endswith('"env" "--" "sh" "-c" "echo $$HOME 100%%"')
    assert service["wantedBy"] == []


def test_of_the_store_it_sees_what_its_packages_need() -> None:
    wanted = "map (package: package.text) config.systemd.packages"
    (text,) = configured(("sandbox",), having("a = { packages = [ ]; };"), wanted)
    assert "s/^/BindReadOnlyPaths=/" in text
    assert "fleet-sandbox-a-prove" in text


def guest(sandbox: str, wanted: str) -> Any:
    """What `wanted` is of the guest `a`, by the options of microvm.nix, or by stand-ins for them."""
    module = f"{MICROVM}/host/options.nix" if MICROVM else f"{DATA}/microvm.nix"
    pkgs = f"{{ lib, ... }}: {{ microvm.vms.a = {{ nixpkgs = {DATA}/nixpkgs; }}; }}" if MICROVM else "{ }"
    settings = having(f'a = {{ backend = "microvm"; {sandbox} }};')
    everything = f"{{ imports = [ {module} ({pkgs}) ({settings}) ]; }}"
    assert complaints(("sandbox",), everything) == []
    return configured(("sandbox",), everything, f"let guest = config.microvm.vms.a.config.config; in {wanted}")


def test_a_microvm_has_the_link_of_its_name_and_nothing_of_the_host() -> None:
    link = declared("a = { };")
    made = guest(
        'cpus = 3; memory = "3G"; ephemeral = true; authorizedKeys = [ "ssh-ed25519 AAAA" ];',
        """{ inherit (guest.microvm) hypervisor vcpu mem volumes shares;
          links = map (one: { inherit (one) type id mac; }) guest.microvm.interfaces;
          net = guest.systemd.network.networks."10-fleet"; keys = guest.users.users.agent.openssh.authorizedKeys.keys;
          wrong = lib.filter (one: !one.assertion) guest.assertions; inherit (config.microvm.vms.a) autostart; }""",
    )
    assert (made["hypervisor"], made["vcpu"], made["mem"]) == ("cloud-hypervisor", 3, 3072)
    assert (made["volumes"], made["shares"], made["wrong"], made["autostart"]) == ([], [], [], False)
    assert made["links"] == [{"type": "tap", "id": link["tap"][0], "mac": link["mac"][0]}]
    assert made["net"]["address"] == [f"{link['address'][0]}/31"]
    assert made["net"]["routes"][0]["Gateway"] == link["host"][0]
    assert made["keys"] == ["ssh-ed25519 AAAA"]


def test_a_microvm_that_keeps_its_files_shares_one_folder() -> None:
    wanted = "map (one: { inherit (one) proto tag source mountPoint; }) guest.microvm.shares"
    shared = {"proto": "virtiofs", "tag": "work", "mountPoint": "/work"}
    assert guest("ephemeral = false;", wanted) == [{**shared, "source": "/var/lib/fleet-sandboxes/a"}]
    assert guest('workspace = "/srv/a";', wanted) == [{**shared, "source": "/srv/a"}]
    files = 'hypervisor = "qemu"; credentials.token = "/run/secrets/t";'
    assert guest(files, "guest.microvm.credentialFiles") == {"token": "/run/secrets/t"}


@pytest.mark.parametrize(
    ("sandbox", "words"),
    [('credentials.t = "/run/t";', 'set hypervisor = "qemu" for a'), ('command = [ "x" ];', "takes no readOnly")],
)
def test_what_a_microvm_cannot_have_is_refused(sandbox: str, words: str) -> None:
    settings = having(f'a = {{ backend = "microvm"; {sandbox} }};')
    everything = f"{{ imports = [ {DATA}/microvm.nix ({settings}) ]; }}"
    assert any(words in message for message in complaints(("sandbox",), everything))


def test_the_rules_of_a_microvm_stand_before_its_link_does() -> None:
    settings = having('a = { backend = "microvm"; ttl = "1d"; };')
    wanted = "{ inherit (config.systemd) services timers packages; }"
    found = configured(("sandbox",), f"{{ imports = [ {DATA}/microvm.nix ({settings}) ]; }}", wanted)
    assert set(found["services"]) == {f"fleet-sandbox-a-{unit}" for unit in ("setup", "end", "names")} | {"microvm@a"}
    assert found["services"]["fleet-sandbox-a-setup"]["before"] == ["microvm-tap-interfaces@a.service"]
    machine = found["services"]["microvm@a"]
    assert (machine["overrideStrategy"], machine["bindsTo"]) == ("asDropin", ["fleet-sandbox-a-setup.service"])
    assert machine["serviceConfig"]["ExecStartPre"].startswith("+/opt/fleet-sandbox link a")
    assert machine["requires"] == ["fleet-sandbox-a-end.timer"]
    assert found["timers"]["fleet-sandbox-a-end"]["partOf"] == ["microvm@a.service"]
    assert found["timers"]["fleet-sandbox-a-end"]["timerConfig"]["OnActiveSec"] == "86400s"
    assert found["packages"] == []
