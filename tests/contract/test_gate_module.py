"""services.fleet.gate: what it makes, and what it refuses since it would get round the gate."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from fleet.signing import keygen
from fleet.signing.keys import PublicKey
from tests.nixos_modules import ROOT, RefusedError, complaints, configured
from tests.signer import Device

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
LOGIN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
SIGNER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "B" * 42 + "A"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "C" * 42 + "A"
STORE = "home-1:" + "A" * 43 + "="
GATE = f"""
  enable = true; authorizedKeys = [ "{LOGIN} deploy" ]; fleet = "0123456789abcdef";
  program = "/opt/fleet-host"; scripts = import {ROOT}/fleet/host/gate/scripts.nix;
"""
ANN = f'principals.ann = {{ kind = "person"; keys = [ "{SIGNER} ann@desk" ]; tokens = [ ]; users = [ "ann" ]; }};'
ROBOT = f'principals.robot = {{ kind = "agent"; keys = [ "{OTHER}" ]; }};'
BASE = f'services.fleet.base = {{ enable = true; authorizedKeys = [ "{OTHER}" ]; }};'


def of(settings: str, more: str = "") -> str:
    return f"{{ services.fleet.gate = {{ {settings} }}; {more} }}"


def made(settings: str, wanted: str, more: str = "") -> Any:
    return configured(("gate",), of(settings, more), wanted)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ('authorizedKeys = [ "replace me" ];', "SSH public key on one line and without options"),
        (f'authorizedKeys = [ "command=\\"sh\\" {LOGIN}" ];', "without options"),
        ('fleet = "home";', "fleet"),
        ("required = 0;", "positive integer"),
        ('touch = "yes";', "touch"),
        ('user = "Not A User";', "user"),
        ('principals.ann = { kind = "admin"; };', "kind"),
        ('principals.ann = { kind = "person"; keys = [ "x" ]; };', "keys"),
        ('permitOpen = [ "127.0.0.1" ];', "permitOpen"),
        ('permitOpen = [ "any:*" ];', "permitOpen"),
        ('contentKeys = [ "cache.nixos.org" ];', "contentKeys"),
        ('entry = "/bin/sh";', "read-only"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_name(settings: str, words: str) -> None:
    with pytest.raises(RefusedError, match=r"services\.fleet\.gate") as refused:
        made(settings, "config.services.fleet.gate")
    assert words in " ".join(str(refused.value).split())


@pytest.mark.parametrize(
    ("settings", "more", "words"),
    [
        ("enable = true;", "", "take the folder fleet of fleet's source"),
        (GATE.replace('fleet = "0123456789abcdef";', "") + ANN, "", "fleet is not set"),
        (GATE.replace(f'"{LOGIN} deploy"', "") + ANN, "", "authorizedKeys is empty"),
        (GATE, "", "0 people with keys"),
        (GATE + ROBOT, "", "0 people with keys"),
        (GATE + ANN + "required = 2;", "", "1 people with keys"),
        (GATE + ANN + ROBOT.replace(OTHER, SIGNER), "", "has one key under two names, ann robot"),
        (GATE + ANN, f'users.users.root.openssh.authorizedKeys.keys = [ "{LOGIN} me" ];', "opens root as well"),
        (
            GATE + ANN, f'users.users.bob = {{ isNormalUser = true; openssh.authorizedKeys.keys = [ "x {LOGIN}" ]; }};',
            "opens bob as well",
        ),
        (GATE + ANN, 'users.users.fleet.extraGroups = [ "wheel" ];', "is root or in wheel"),
        (GATE + ANN, 'users.groups.docker.members = [ "fleet" ];', "is root or in docker"),
        (GATE + ANN, 'nix.settings.trusted-users = [ "root" "fleet" ];', "trusted-users has fleet"),
        (GATE + ANN, 'nix.settings.trusted-users = [ "root" "@fleet" ];', "trusted-users has @fleet"),
        (GATE + ANN, 'nix.settings.trusted-users = [ "*" ];', "trusted-users has *"),
        (
            GATE + ANN, 'security.sudo.extraRules = [ { users = [ "fleet" ]; commands = [ "/bin/sh" ]; } ];',
            "lets fleet run something else than the gate",
        ),
        (
            GATE + ANN, 'security.sudo.extraRules = [ { groups = [ "fleet" ]; commands = [ "ALL" ]; } ];',
            "lets fleet run something else than the gate",
        ),
        (
            GATE + ANN, 'security.sudo.extraRules = [ { users = [ "ALL" ]; commands = [ "ALL" ]; } ];',
            "lets fleet run something else than the gate",
        ),
        (GATE + ANN, "security.sudo.enable = false;", "there is none"),
        (GATE + ANN, "security.sudo.execWheelOnly = true;", "remove security.sudo.execWheelOnly"),
        (GATE + ANN + f'pushKeys = [ "{STORE}" ]; contentKeys = [ "{STORE}" ];', "", "Leave it out of contentKeys"),
        (GATE + ANN + 'checks."../x" = "true";', "", "is no word of letters"),
        (GATE + ANN + 'user = "wheel";', "", "is root or in wheel"),
    ],
)  # fmt: skip
def test_what_would_get_round_it_is_refused_with_what_to_change(settings: str, more: str, words: str) -> None:
    messages = complaints(("gate",), of(settings, more))
    assert any(words in message for message in messages), messages


def test_base_beside_it_is_refused() -> None:
    (message,) = complaints(("base", "gate"), of(GATE + ANN, BASE))
    assert "become root without a password" in message
    assert complaints(("base", "gate"), of(GATE + ANN)) == []


def test_keys_in_files_open_no_other_account_either(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"# mine\n{LOGIN} me\n")
    more = f"users.users.root.openssh.authorizedKeys.keyFiles = [ {tmp_path}/keys ];"
    (message,) = complaints(("gate",), of(GATE + ANN, more))
    assert "opens root as well" in message


def test_one_fido_device_has_one_name_whatever_its_keys_were_made_for() -> None:
    """The same point with two applications is one device: `fleet check` and the host say so, too."""
    one = Device()
    other = Device(application=b"ssh:other", private=one.private)
    principals = "".join(
        f'principals.{name} = {{ kind = "person"; keys = [ "{device.public}" ]; }};'
        for name, device in (("ann", one), ("bob", other))
    )
    (message,) = complaints(("gate",), of(GATE + principals))
    assert "one key under two names, ann bob" in message
    assert complaints(("gate",), of(GATE + principals.replace(str(other.public), str(Device().public)))) == []


def test_root_that_still_logs_in_is_warned_of() -> None:
    keys = f'users.users.root.openssh.authorizedKeys.keys = [ "{OTHER}" ];'
    assert "gets round services.fleet.gate" in made(GATE + ANN, "config.warnings", keys)[0]
    shut = keys + 'services.openssh.settings.PermitRootLogin = "no";'
    assert made(GATE + ANN, "config.warnings", shut) == []


def test_user_has_the_gate_and_nothing_else() -> None:
    wanted = """{ inherit (config.users.users.fleet) shell extraGroups group openssh;
      inherit (config.services.openssh) extraConfig;
      sudo = config.security.sudo.extraRules; entry = config.services.fleet.gate.entry.text; }"""
    found = made(GATE + ANN + 'permitOpen = [ "127.0.0.1:80" "[::1]:81" ];', wanted)
    (key,) = found["openssh"]["authorizedKeys"]["keys"]
    words, _, blob = key.partition("ssh-ed25519 ")
    command = 'command="exec sudo -n -- /opt/fleet-gate \\"$SSH_ORIGINAL_COMMAND\\""'
    assert words == f'restrict,port-forwarding,permitopen="127.0.0.1:80",permitopen="[::1]:81",{command} '
    assert blob == LOGIN.partition(" ")[2]  # the comment is somebody else's text
    (rule,) = found["sudo"]
    assert rule["commands"] == [{"command": "/opt/fleet-gate", "options": ["NOPASSWD"]}]
    assert (rule["users"], rule["groups"], rule["runAs"]) == (["fleet"], [], "root")
    assert (found["extraGroups"], found["shell"]) == ([], "/bin/sh")
    assert (
        found["entry"].splitlines()[1].startswith("exec /usr/bin/env -i PATH=/run/current-system/sw/bin LC_ALL=C /opt/")
    )
    for line in ("AllowTcpForwarding local", "PermitOpen 127.0.0.1:80 [::1]:81", "PermitListen none", "PermitTTY no"):
        assert f"  {line}\n" in found["extraConfig"]
    closed = made(GATE + ANN, wanted)
    assert "  AllowTcpForwarding no\n" in closed["extraConfig"]
    assert "forwarding" not in closed["openssh"]["authorizedKeys"]["keys"][0]


def test_signers_are_what_fleet_writes_for_the_same_principals() -> None:
    text = made(GATE + ANN + ROBOT, 'config.environment.etc."fleet/gate/allowed_signers".text')
    signers = [("ann", PublicKey.parse(SIGNER), True), ("robot", PublicKey.parse(OTHER), False)]
    assert text == keygen.allowed_signers(signers)


def test_principals_are_those_of_principals_toml(tmp_path: Path) -> None:
    """As it is, with keys that say nothing to a host."""
    (tmp_path / "principals.toml").write_text(
        f'[principals.ann]\nkind = "person"\nkeys = ["{SIGNER} ann@desk"]\nusers = ["ann", "root"]\n'
        f'[principals.ci]\nkind = "ci"\ntokens = ["sha256:{"0" * 64}"]\n'
    )
    principals = f"principals = (lib.importTOML {tmp_path}/principals.toml).principals;"
    module = f"({{ lib, ... }}: {of(GATE + principals)})"
    text = configured(("gate",), module, 'config.environment.etc."fleet/gate/allowed_signers".text')
    assert text.split(" ", 1)[0] == "ann"


def test_what_nix_trusts_is_who_signs_pushes() -> None:
    content = STORE.replace("home", "cache")
    keys = f'pushKeys = [ "{STORE}" ]; contentKeys = [ "{content}" ];'
    wanted = (
        '{ nix = config.nix.settings.trusted-public-keys; gate = config.environment.etc."fleet/gate/config".text; }'
    )
    found = made(GATE + ANN + keys, wanted)
    assert found["nix"] == [STORE]
    assert f"content {content}\n" in found["gate"]
    assert STORE not in found["gate"]
