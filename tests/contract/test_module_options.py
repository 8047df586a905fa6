"""Each file of modules/: what it makes of right values, and what it says to wrong ones and to collisions."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.nixos_modules import (
    MODULES,
    ROOT,
    RefusedError,
    complaints,
    configured,
    nix_conf,
    setting_text,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
SIGNER = "home-1:" + "A" * 43 + "="
BASE = f'enable = true; authorizedKeys = [ "{KEY} me" ];'
CACHE = f'{{ url = "https://cache.lan"; publicKey = "{SIGNER}"; }}'
GUARD = 'enable = true; program = "/nix/store/x-fleet-host";'
GC = GUARD
HASH = "sha256-" + "A" * 43 + "="
MODEL = f'weights.x = {{ url = "file:///srv/x"; hash = "{HASH}"; license = "mit"; size = 2000; }}'
MACHINE = f'machines.big = {{ hostKey = "{KEY}"; }};'


def of(module: str, settings: str) -> str:
    return f"{{ services.fleet.{module} = {{ {settings} }}; }}"


def sshd(key: str, *words: str) -> str:
    return f"{{ services.openssh.settings.{key} = [ {' '.join(json.dumps(word) for word in words)} ]; }}"


def both(one: str, other: str) -> str:
    return f"{{ imports = [ ({one}) ({other}) ]; }}"


@pytest.mark.parametrize("module", MODULES)
def test_each_module_is_usable_alone_and_does_nothing_unless_asked(module: str) -> None:
    # What has no default or is a function is no JSON, and no module sets it.
    everything = """builtins.removeAttrs config [ "nixpkgs" ] // {
      nixpkgs = { inherit (config.nixpkgs) config; overlays = builtins.length config.nixpkgs.overlays; };
      set = [ options.nixpkgs.hostPlatform.isDefined options.nixpkgs.pkgs.isDefined ]; }"""
    plain = configured((), "{ }", everything)
    found = configured((module,), "{ }", everything)
    found["services"].pop("fleet")
    assert found == plain


@pytest.mark.parametrize("module", MODULES)
def test_every_option_is_typed_and_described(module: str) -> None:
    facts = """map (o: {
        name = lib.showOption o.loc; text = o.description or "";
        typed = !lib.elem o.type.name [ "unspecified" "anything" ];
      })
      (lib.collect lib.isOption (builtins.removeAttrs options.services.fleet [ "_module" ]))"""
    for option in configured((module,), "{ }", facts):
        assert option["text"].strip().endswith((".", ":")), option
        assert option["typed"], option


def test_every_option_is_documented() -> None:
    names = """map (o: lib.showOption o.loc)
      (lib.filter (o: !(o.internal or false)) (lib.collect lib.isOption options.services.fleet))"""
    page = (ROOT / "docs" / "modules.md").read_text()
    shown = re.findall(rf"^\| `((?:{'|'.join(MODULES)})\.[\w.]+)` \|", page, re.MULTILINE)
    assert sorted(f"services.fleet.{name}" for name in shown) == sorted(configured(MODULES, "{ }", names))


@pytest.mark.parametrize("module", MODULES)
def test_no_module_needs_the_command_line(module: str) -> None:
    text = (ROOT / "modules" / f"{module}.nix").read_text()
    assert not re.search(r"\.\./|pkgs\.fleet|(?<!builtin:)fetch(url|Git|Tarball|Tree)|getFlake|<nixpkgs>", text)


@pytest.mark.parametrize(
    ("module", "settings", "words"),
    [
        ("base", 'enable = true; user = "Not A User";', "user"),
        ("base", "enable = true; user = 1;", "user"),
        ("base", 'authorizedKeys = "one";', "authorizedKeys"),
        ("base", 'authorizedKeys = [ "-----BEGIN OPENSSH PRIVATE KEY-----" ];', "SSH public key on one line"),
        ("base", 'authorizedKeys = [ "replace me" ];', "SSH public key on one line"),
        ("base", 'trustedSigningKeys = [ "home" ];', "trustedSigningKeys"),
        ("base", "enabled = true;", "enabled"),
        ("gc", "keep = 0;", "positive integer"),
        ("gc", "keep = -3;", "positive integer"),
        ("gc", "startBelow = 0;", "positive integer"),
        ("gc", 'enable = "yes";', "enable"),
        ("edge", 'watchdog.timeout = "soon";', "time such as 30s or 10min"),
        ("edge", 'journal.storage = "none";', "volatile"),
        ("edge", 'journal.maxUse = "lots";', "maxUse"),
        ("edge", "keepGenerations = 1;", "between 2 and 20"),
        (
            "cache",
            'caches = [ { url = "cache.lan"; publicKey = "' + SIGNER + '"; } ];',
            "address of a cache, such as https://",
        ),
        ("cache", f'caches = [ {{ url = "http://c"; publicKey = "k:{"A" * 86}=="; }} ];', "a secret key is twice"),
        ("cache", 'caches = [ { url = "http://c"; } ];', "publicKey"),
        ("builder", 'emulatedSystems = [ "arm" ];', "system such as aarch64-linux"),
        ("builder", "machines.big = { };", "hostKey"),
        ("builder", f'machines.big = {{ hostKey = "{KEY}"; maxJobs = 0; }};', "positive integer"),
        ("guard", 'window = "soon";', "time such as 90s or 5min"),
        ("guard", "window = 60;", "time such as 90s or 5min"),
        ("guard", 'units = [ "sshd" ];', "unit with its suffix"),
        ("guard", 'checks = "true";', "attribute set of"),
        ("guard", "restartThreshold = 0;", "positive integer"),
        ("guard", 'action = "reboot";', "revert"),
        ("guard", 'program = "fleet";', "absolute path"),
        ("models", 'weights.x = { license = "mit"; };', "hash"),
        ("models", f"{MODEL} // {{ size = 0; }};", "positive integer"),
        ("models", f"{MODEL} // {{ vram = 0; }};", "positive integer"),
        ("models", f'{MODEL} // {{ hash = "sha256-x"; }};', "as nix hash file prints it"),
        ("models", f'{MODEL} // {{ url = "llama"; }};', "address of a file"),
        ("models", f'{MODEL} // {{ license = ""; }};', "license"),
        ("gpu", 'capabilities = [ "sm_90" ];', "compute capability such as 8.9 or 9.0a"),
        ("gpu", 'minDriver = "new";', "version such as 570.86"),
        ("gpu", 'cudaPackages = "12.9";', "cudaPackages"),
        ("gpu", 'cudaPackages = "cudaPackages";', "cudaPackages"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_name(module: str, settings: str, words: str) -> None:
    with pytest.raises(RefusedError, match=rf"services\.fleet\.{module}") as refused:
        configured((module,), of(module, settings), "config.services.fleet")
    assert words in " ".join(str(refused.value).split())


@pytest.mark.parametrize(
    ("module", "settings", "words"),
    [
        ("base", of("base", "enable = true;"), "authorizedKeys is empty"),
        ("base", of("base", BASE + 'user = "root";'), "disable services.fleet.base"),
        ("base", both(of("base", BASE), "{ security.sudo.enable = false; }"), "set security.sudo.enable or"),
        (
            "base",
            both(of("base", BASE), "{ security.sudo.execWheelOnly = true; }"),
            "remove security.sudo.execWheelOnly",
        ),
        (
            "base",
            both(of("base", BASE), '{ services.openssh.settings.AllowUsers = [ "root" "me@10.0.0.1" ]; }'),
            "lets only root me@10.0.0.1 log in, and deploy is none of them",
        ),
        ("base", both(of("base", BASE), sshd("AllowUsers", "deployer")), "lets only deployer log in"),
        (
            "base",
            both(of("base", BASE), sshd("DenyUsers", "me", "deploy")),
            "keeps out me deploy, and deploy with them",
        ),
        ("base", both(of("base", BASE), sshd("DenyUsers", "d*y@*")), "keeps out d*y@*, and deploy with them"),
        (
            "base",
            both(of("base", BASE), sshd("AllowGroups", "wheel", "admins")),
            "add one to users.users.deploy.extraGroups",
        ),
        ("base", both(of("base", BASE), sshd("DenyGroups", "user?")), "keeps out user?, and deploy is in users"),
        ("gc", both(of("gc", GC), '{ nix.gc.options = "-d"; }'), "remove nix.gc.options"),
        ("gc", both(of("gc", GC), '{ nix.gc.options = "-vd"; }'), "remove nix.gc.options"),
        ("gc", both(of("gc", GC), '{ nix.gc.options = "--delete-old"; }'), "services.fleet.gc.keep"),
        (
            "gc",
            both(of("gc", GC), '{ nix.gc.options = "--max-freed 1 --delete-older-than 9d"; }'),
            "deletes old generations",
        ),
        ("gc", both(of("gc", GC), "{ nix.enable = false; }"), "disable services.fleet.gc"),
        ("gc", of("gc", "enable = true;"), "take the folder fleet/host/program"),
        ("edge", both(of("gc", GC), of("edge", "enable = true; store.maxFree = 100;")), "raise maxFree"),
        ("edge", f"{{ services.fleet = {{ edge.enable = true; gc = {{ {GC} keep = 1; }}; }}; }}", "make them equal"),
        ("cache", of("cache", "enable = true;"), "set services.fleet.cache.caches"),
        ("cache", of("cache", f"enable = true; caches = [ {CACHE} {CACHE} ];"), "keep one of them"),
        (
            "cache",
            of(
                "cache", f'enable = true; caches = [ {CACHE} {{ url = "s3://b"; publicKey = "home-1:{"B" * 43}="; }} ];'
            ),
            "two different public keys of one name",
        ),
        (
            "cache",
            both(of("cache", f"enable = true; caches = [ {CACHE} ];"), "{ nix.settings.require-sigs = false; }"),
            "remove that setting",
        ),
        ("builder", of("builder", "enable = true;"), "services.fleet.builder.authorizedKeys is empty"),
        ("builder", of("builder", 'emulatedSystems = [ "x86_64-linux" ];'), "remove it from the list"),
        (
            "builder",
            of("builder", MACHINE + 'machines.big.sshKey = "/nix/store/x-key";'),
            "machines.big.sshKey is in the Nix store",
        ),
        ("guard", of("guard", "enable = true;"), "take the folder fleet/host/program"),
        ("guard", of("guard", GUARD + 'window = "4s";'), "make it 5s or longer"),
        ("gpu", of("gpu", 'enable = true; minDriver = "590";'), "the NVIDIA driver would be 580.95.05"),
        ("gpu", of("gpu", 'enable = true; branch = "legacy_470";'), "CUDA 12.9 needs"),
        ("gpu", both(of("gpu", "enable = true;"), "{ nixpkgs.pkgs = { }; }"), "NixOS: nixpkgs.config is ignored"),
        (
            "base",
            both(of("base", BASE), "{ users.mutableUsers = false; }"),
            "NixOS: neither root nor a user of wheel can log in",
        ),
        ("gpu", of("gpu", 'enable = true; capabilities = [ "9.0" "9.0" ];'), "names a capability twice"),
    ],
)
def test_a_collision_says_what_to_change(module: str, settings: str, words: str) -> None:
    messages = complaints((module,), settings)
    (message,) = [one for one in messages if not one.startswith("NixOS: ")] or messages
    assert words in message


OF_A_CLOUD = """{ lib, ... }: {
  networking.hostName = lib.mkDefault "";
  services.openssh = {
    enable = lib.mkDefault true;
    settings.PermitRootLogin = lib.mkDefault "prohibit-password";
    settings.PasswordAuthentication = lib.mkDefault true;
    settings.X11Forwarding = lib.mkDefault true;
  };
  nix = {
    daemonCPUSchedPolicy = lib.mkDefault "idle";
    settings = lib.mapAttrs (_: lib.mkDefault) {
      connect-timeout = 7; fallback = false; max-free = 1; min-free = 1; builders-use-substitutes = false;
      narinfo-cache-negative-ttl = 7; max-jobs = 7;
    };
  };
  hardware.nvidia.open = lib.mkDefault false;
  boot.loader.systemd-boot.configurationLimit = lib.mkDefault 7;
  systemd.settings.Manager.RuntimeWatchdogSec = lib.mkDefault "7s";
}"""
"""What profiles of NixOS, or of others, set as defaults."""
ALL_ENABLED = f"""{{ services.fleet = {{
  base = {{ {BASE} }};
  gc.enable = true;
  edge.enable = true;
  cache = {{ enable = true; caches = [ {CACHE} ]; }};
  builder = {{ enable = true; authorizedKeys = [ "{KEY}" ]; {MACHINE} }};
  guard = {{ {GUARD} }};
  gpu.enable = true;
}}; }}"""
SEEN = """{ inherit (config.services.openssh) settings; nix = config.nix.settings;
  inherit (config.hardware.nvidia) open;
  limit = config.boot.loader.systemd-boot.configurationLimit; manager = config.systemd.settings.Manager;
  policy = config.nix.daemonCPUSchedPolicy; }"""


def test_modules_go_before_the_defaults_of_profiles_and_after_the_host() -> None:
    plain = configured(MODULES, ALL_ENABLED, SEEN)
    with_profile = configured(MODULES, both(ALL_ENABLED, OF_A_CLOUD), SEEN)
    assert with_profile == plain
    assert (plain["settings"]["PermitRootLogin"], plain["open"], plain["limit"]) == ("no", True, 3)
    as_host = OF_A_CLOUD.replace("lib.mkDefault", "lib.id")
    of_host = configured(MODULES, both(ALL_ENABLED, as_host), SEEN)
    assert (of_host["settings"]["PermitRootLogin"], of_host["open"], of_host["limit"]) == (
        "prohibit-password",
        False,
        7,
    )
    assert (of_host["nix"]["max-free"], of_host["policy"], of_host["manager"]["RuntimeWatchdogSec"]) == (
        1,
        "idle",
        "7s",
    )


@pytest.mark.parametrize("system", ["x86_64-linux", "aarch64-linux"])
def test_no_module_needs_to_be_told_the_platform(system: str) -> None:
    """A host may have its packages made elsewhere, and set no nixpkgs.hostPlatform."""
    settings = of("builder", f'emulatedSystems = [ "{system}" "riscv64-linux" ];')
    assert len(complaints(("builder",), settings, system=system)) == 1
    found = configured(MODULES, settings, "config.boot.binfmt.emulatedSystems", system=system)
    assert found == ["riscv64-linux"]


def test_base_fits_users_that_nobody_can_change() -> None:
    fixed = "{ users.mutableUsers = false; users.allowNoPasswordLogin = true; }"
    assert complaints(("base",), both(of("base", BASE), fixed)) == []


@pytest.mark.parametrize("module", ["base", "gc"])
def test_lock_of_a_switch_is_a_file_that_only_root_can_open(module: str) -> None:
    """From the boot on, whether or not anything of fleet has ever run there."""
    rules = configured(
        (module,), of(module, BASE if module == "base" else "enable = true;"), "config.systemd.tmpfiles.rules"
    )
    assert rules == [
        "d /run/nixos 0755 root root -", "f /run/nixos/switch-to-configuration.lock 0600 root root -",
    ]  # fmt: skip


def test_edge_lets_the_host_have_the_last_word_of_its_journal() -> None:
    mine = '{ services.journald.extraConfig = "SystemMaxUse=1G"; }'
    for settings in (both(of("edge", "enable = true;"), mine), both(mine, of("edge", "enable = true;"))):
        found = configured(("edge",), settings, "config.services.journald.extraConfig", journald="26.05")
        values = [line.partition("=")[2] for line in found.splitlines() if line.startswith("SystemMaxUse=")]
        assert values == ["64M", "1G"]


def test_gc_calls_the_program_that_has_the_rule() -> None:
    for settings, words in (("", "5 0"), ("keep = 3; startBelow = 20;", "3 20")):
        script = configured(("gc",), of("gc", GC + settings), "config.systemd.services.fleet-gc.script")
        assert script == f"/nix/store/x-fleet-host gc {words}"


def test_all_of_them_fit_together() -> None:
    settings = f"""{{ services.fleet = {{
      base = {{ {BASE} }};
      gc = {{ {GC} keep = 4; }};
      edge.enable = true;
      cache = {{ enable = true; caches = [ {CACHE} ]; }};
      builder = {{ enable = true; authorizedKeys = [ "{KEY}" ]; emulatedSystems = [ "aarch64-linux" ]; {MACHINE} }};
      guard = {{ {GUARD} }};
      gpu = {{ enable = true; capabilities = [ "9.0a" ]; minDriver = "570.86"; branch = "production"; }};
    }}; nix.gc.options = "--max-freed 10G"; }}"""
    assert complaints(MODULES, settings) == []


def test_base_lets_its_user_in_and_up() -> None:
    settings = both(
        of("base", BASE + 'user = "ops";'),
        '{ lib, ... }: { services.openssh.extraConfig = lib.mkOrder 1400 "MaxAuthTries 3"; }',
    )
    config = configured(("base",), settings, "{ inherit (config) users security services warnings; }")
    assert config["users"]["users"]["ops"]["openssh"]["authorizedKeys"]["keys"] == [f"{KEY} me"]
    for sudo in ("sudo", "sudo-rs"):
        (rule,) = config["security"][sudo]["extraRules"]
        assert (rule["users"], rule["groups"], rule["host"], rule["runAs"]) == (["ops"], [], "ALL", "ALL:ALL")
        assert rule["commands"] == [{"command": "ALL", "options": ["NOPASSWD"]}]
    sshd = config["services"]["openssh"]["extraConfig"].splitlines()
    assert sshd.index("MaxAuthTries 3") < sshd.index("Match User ops") < sshd.index("Match All")
    assert config["warnings"] == []


@pytest.mark.parametrize(
    ("key", "word"),
    [
        *(("AllowUsers", word) for word in ("deploy", "deploy@10.0.0.*", "d*", "?eploy")),
        *(("DenyUsers", word) for word in ("deployer", "deploy@10.0.0.*", "d.*", "x*")),
        *(("AllowGroups", word) for word in ("users", "u*", "ops", "ssh")),
        *(("DenyGroups", word) for word in ("user", "deploy", "guests")),
    ],
)
def test_base_takes_lists_of_sshd_that_let_its_user_in(key: str, word: str) -> None:
    member = (
        '{ users = { users.deploy.extraGroups = [ "ops" ]; groups.ssh.members = [ "deploy" ]; groups.guests = { }; }; }'
    )
    assert complaints(("base",), both(both(of("base", BASE), member), sshd(key, "root", word))) == []


def test_base_minds_only_the_sudo_that_is_used() -> None:
    other = "{ security.sudo-rs.execWheelOnly = true; }"
    assert complaints(("base",), both(of("base", BASE), other)) == []
    used = "{ security.sudo-rs = { enable = true; execWheelOnly = true; }; security.sudo.enable = false; }"
    assert len(complaints(("base",), both(of("base", BASE), used))) == 1


def test_base_warns_of_the_key_of_the_example_and_of_a_needless_trust() -> None:
    example = re.search(r'"(ssh-ed25519 [^"]+)"', (ROOT / "hosts" / "keys.nix").read_text())
    assert example
    settings = of("base", f'enable = true; authorizedKeys = [ "{example[1]}" ];')
    trusted = '{ nix.settings.trusted-users = [ "deploy" ]; }'
    found = configured(("base",), both(settings, trusted), "config.warnings")
    assert ["key of the example" in found[0], "fleet does not need that" in found[1]] == [True, True]


def test_base_takes_hardening_by_others_and_keys_with_options() -> None:
    settings = of("base", f'enable = true; authorizedKeys = [ "from=\\"10.0.0.0/8\\" {KEY}" ];')
    settings = both(settings, '{ services.openssh.settings.PermitRootLogin = "prohibit-password"; }')
    found = configured(("base",), settings, "config.services.openssh.settings")
    assert (found["PermitRootLogin"], found["PasswordAuthentication"]) == ("prohibit-password", False)


def test_base_trusts_signatures_and_not_users() -> None:
    settings = of("base", BASE + f'trustedSigningKeys = [ "{SIGNER}" ];')
    found = configured(("base",), settings, "config.nix.settings")
    assert (found["trusted-public-keys"], found["trusted-users"]) == ([SIGNER], ["root"])


@pytest.mark.parametrize("journald", ["26.05", "26.11"])
def test_edge_limits_the_journal_in_the_words_of_both_releases(journald: str) -> None:
    settings = of("edge", 'enable = true; journal.maxUse = "32M";')
    found = configured(("edge",), settings, "config.services.journald", journald=journald)
    if journald == "26.05":
        reader = configparser.ConfigParser()
        reader.optionxform = str  # type: ignore[assignment,method-assign]
        reader.read_string(f"[Journal]\nStorage={found['storage']}\n{found['extraConfig']}")
        journal = dict(reader["Journal"])
    else:
        journal = found["settings"]["Journal"]
    assert journal == {"Storage": "volatile", "SystemMaxUse": "32M", "RuntimeMaxUse": "32M", "SyncIntervalSec": "15m"}


def test_edge_fits_a_small_card_and_every_number_can_be_overridden() -> None:
    wanted = """{ inherit (config.services.fleet) gc; inherit (config.nix) settings; inherit (config.systemd) settings;
      limits = with config.boot.loader; [ generic-extlinux-compatible.configurationLimit grub.configurationLimit
        systemd-boot.configurationLimit limine.maxGenerations ]; nix = config.nix.settings; }"""
    wanted = wanted.replace("inherit (config.nix) settings; ", "")
    found = configured(("edge",), of("edge", "enable = true;"), wanted)
    assert (found["gc"]["enable"], found["gc"]["keep"], found["limits"]) == (True, 3, [3, 3, 3, 3])
    assert (found["nix"]["min-free"], found["nix"]["max-free"], found["nix"]["max-jobs"]) == (2**29, 2**30, 0)
    assert found["settings"]["Manager"] == {"RuntimeWatchdogSec": "30s", "RebootWatchdogSec": "10min"}
    mine = """{ systemd.settings.Manager.RuntimeWatchdogSec = "15s"; nix.settings.max-jobs = 2;
      boot.loader.generic-extlinux-compatible.configurationLimit = 5; boot.loader.grub.configurationLimit = 6; }"""
    found = configured(("edge",), both(of("edge", "enable = true;"), mine), wanted)
    assert (found["settings"]["Manager"]["RuntimeWatchdogSec"], found["nix"]["max-jobs"]) == ("15s", 2)
    assert found["limits"] == [5, 6, 3, 3]
    theirs = "{ lib, ... }: { boot.loader.grub.configurationLimit = lib.mkDefault 50; }"
    assert configured(("edge",), both(of("edge", "enable = true;"), theirs), wanted)["limits"] == [3, 3, 3, 3]


def test_cache_adds_to_what_there_is() -> None:
    caches = f'[ {CACHE} {{ url = "s3://b?region=eu"; publicKey = "{SIGNER}"; priority = 30; }} ]'
    settings = both(
        of("cache", f"enable = true; caches = {caches};"), '{ nix.settings.substituters = [ "https://a" ]; }'
    )
    found = configured(("cache",), settings, "config.nix.settings")
    assert set(found["substituters"]) == {"https://a", "https://cache.lan", "s3://b?region=eu&priority=30"}
    assert found["trusted-public-keys"] == [SIGNER]


def test_what_cache_and_edge_set_is_understood_by_nix(tmp_path: Any) -> None:
    settings = f"""{{ services.fleet.cache = {{ enable = true; caches = [ {CACHE} ]; }};
      services.fleet.edge.enable = true; }}"""
    found = configured(("cache", "edge"), settings, "config.nix.settings")
    (tmp_path / "nix.conf").write_text(nix_conf(found))
    argv = ["nix", "--extra-experimental-features", "nix-command", "show-config"]
    environment = {"NIX_CONF_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert "unknown setting" not in done.stderr
    shown = dict(line.split(" = ", 1) for line in done.stdout.splitlines() if " = " in line)
    assert {key: shown[key] for key in found} == {key: setting_text(value) for key, value in found.items()}


def test_builder_lets_its_user_forward_nothing() -> None:
    """NixOS forbids it all else: sockets are a kind of their own."""
    settings = of("builder", f'enable = true; authorizedKeys = [ "{KEY}" ];')
    sshd = configured(("builder",), settings, "config.services.openssh.extraConfig").split("\n")
    block = sshd[sshd.index("Match User nix-ssh") : sshd.index("Match All") + 1]
    assert [line.strip() for line in block[1:-1]] == ["AllowStreamLocalForwarding no"]


def test_builder_is_nixos_s_own_restricted_user() -> None:
    settings = of("builder", f'enable = true; authorizedKeys = [ "{KEY}" ]; emulatedSystems = [ "aarch64-linux" ];')
    found = configured(("builder",), settings, "{ serve = config.nix.sshServe; inherit (config.boot) binfmt; }")
    assert found["serve"] == {"enable": True, "protocol": "ssh-ng", "write": True, "trusted": True, "keys": [KEY]}
    assert found["binfmt"]["emulatedSystems"] == ["aarch64-linux"]


def test_a_host_that_only_uses_a_builder_serves_nobody() -> None:
    wanted = (
        "{ inherit (config.nix) sshServe buildMachines distributedBuilds; known = config.programs.ssh.knownHosts; }"
    )
    found = configured(("builder",), of("builder", MACHINE), wanted)
    assert (found["sshServe"]["enable"], found["distributedBuilds"]) == (False, True)
    (machine,) = found["buildMachines"]
    assert (machine["hostName"], machine["sshUser"], machine["protocol"]) == ("big", "nix-ssh", "ssh-ng")
    known = found["known"]["big"]
    assert (known["hostNames"], known["publicKey"], known["certAuthority"]) == (["big"], KEY, False)


def guarded(settings: str = "") -> dict[str, Any]:
    wanted = '{ inherit (config.systemd) services; check = config.system.preSwitchChecks."~fleet-guard"; }'
    found: dict[str, Any] = configured(("guard",), of("guard", GUARD + settings), wanted)
    return found


def test_guard_is_called_by_every_switch_and_stops_none(tmp_path: Path) -> None:
    program = tmp_path / "fleet-host"
    program.write_text('#!/bin/sh\necho "$@"; cat; exit 1\n')
    program.chmod(0o755)
    settings = """window = "2min"; restartThreshold = 5; action = "report"; ignoreUnits = [ "backup-*" "b" ];
        ignoreSnippets = [ "specialfs" ];"""
    check = guarded(settings)["check"].replace("/nix/store/x-fleet-host", str(program))
    argv = ["bash", "-euo", "pipefail", "-c", f"if ! (\n{check}\n) ; then exit 7; fi", "check", "/nix/store/x-system"]
    environment = {"NIXOS_ACTION": "test", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert said[0] == "guard /nix/store/x-system test"
    assert said[1:-1] == [
        "fleet-guard v1", "confirm 120", "threshold 5", "guarded report", "ignore backup-*", "ignore b",
        "snippet specialfs", "end",
    ]  # fmt: skip
    assert said[-1] == "services.fleet.guard does not watch this switch"


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here")
def test_scripts_of_the_guard_satisfy_a_host_that_checks_scripts() -> None:
    """`writeShellApplication` makes the checks of a switch, and units where `enableStrictShellChecks` is set."""
    found = guarded('units = [ "dev-disk-by\\\\x2dlabel-x.mount" ]; checks = { "a\\\\nb" = "true"; };')
    checks = f"if ! (\n  {found['check']}\n) >&2 ; then\n  exit 1\nfi\n"
    for text in (checks, found["services"]["fleet-guard"]["script"]):
        head = "#!/usr/bin/env bash\nset -o errexit\nset -o nounset\nset -o pipefail\n"
        argv = ["shellcheck", "-"]
        done = subprocess.run(argv, input=head + text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "")


def test_the_check_of_the_guard_is_the_last_one() -> None:
    """They run in the order of their names, by bytes, until one fails. Others' begin with a letter."""
    names = configured(("guard",), of("guard", GUARD), "builtins.attrNames config.system.preSwitchChecks")
    others = ["switchInhibitors", "zfs", "zzzLast", "Z", "_", "z"]
    assert sorted([*others, *names])[-1:] == names


def test_guard_asks_for_units_and_checks_only_where_there_are_some() -> None:
    assert "fleet-guard" not in guarded()["services"]
    assert "ask " not in guarded()["check"]
    found = guarded('units = [ "sshd.service" ]; checks = { "it\'s up" = "true\nexit 3"; never = "exit 0"; };')
    assert "ask fleet-guard.service\n" in found["check"]
    script = found["services"]["fleet-guard"]["script"]
    argv = ["sh", "-e", "-c", f"systemctl() {{ echo systemctl $*; }}\n{script}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.splitlines() == [
        "is sshd.service active?",
        "systemctl is-active --quiet sshd.service",
        "check it's up",
    ]


def test_gpu_pins_what_is_built_for_it() -> None:
    wanted = """{ inherit (config.nixpkgs) config; inherit (config.hardware) nvidia; inherit (config.services) xserver;
      inherit (config.services.fleet.gpu) pin; }"""
    settings = of("gpu", 'enable = true; capabilities = [ "9.0" ]; branch = "production"; open = false;')
    found = configured(("gpu",), settings, wanted)
    assert found["config"] == {"cudaSupport": True, "cudaCapabilities": ["9.0"]}
    assert configured(("gpu",), of("gpu", "enable = true;"), "config.nixpkgs.config") == {"cudaSupport": True}
    assert (found["nvidia"]["branch"], found["nvidia"]["open"]) == ("production", False)
    assert found["xserver"]["videoDrivers"] == ["nvidia"]
    assert found["pin"] == {"driver": "580.95.05", "cuda": "12.9", "capabilities": ["9.0"], "open": False}


def test_gpu_leaves_the_driver_of_data_centers_to_nixos() -> None:
    settings = both(of("gpu", "enable = true;"), "{ hardware.nvidia.datacenter.enable = true; }")
    assert complaints(("gpu",), settings) == []
    assert "nvidia" not in configured(("gpu",), settings, "config.services.xserver.videoDrivers")


def test_a_cuda_set_that_nixpkgs_removed_is_an_error_that_names_the_others() -> None:
    apply = """let prev = { cudaPackages_13_0 = 1; hello = 2; };
      final = prev // (builtins.head config.nixpkgs.overlays) final prev; in final.cudaPackages"""
    settings = of("gpu", 'enable = true; cudaPackages = "cudaPackages_{}";')
    assert configured(("gpu",), settings.replace("{}", "13_0"), apply) == 1
    with pytest.raises(
        RefusedError, match=r"cudaPackages_12_0, which this nixpkgs does not have. It has cudaPackages_13_0"
    ):
        configured(("gpu",), settings.replace("{}", "12_0"), apply)


WORKER = 'enable = true; package = pkgs.nix; file = "/etc/fleet/fleet.toml";'
"""The package is another one, since none of these is ours: it lies below /usr."""


def worker(settings: str) -> str:
    return f"{{ pkgs, ... }}: {of('worker', settings)}"


def test_worker_runs_as_nobody_else_and_finishes_what_has_begun() -> None:
    settings = worker(f'{WORKER} site = "fra"; atOnce = 8;')
    assert complaints(("worker",), settings) == []
    unit = configured(("worker",), settings, "config.systemd.services.fleet-worker")
    service = unit["serviceConfig"]
    assert service["ExecStart"] == ("/usr/bin/fleet worker --file /etc/fleet/fleet.toml --site fra --at-once 8")
    assert (service["User"], service["KillMode"], service["Restart"]) == ("fleet-worker", "mixed", "always")
    assert not unit["restartIfChanged"]


def test_worker_trusts_the_database_only_if_it_is_told_to() -> None:
    wanted = "config.systemd.services.fleet-worker.serviceConfig.ExecStart"
    assert "--trust-database" not in configured(("worker",), worker(WORKER), wanted)
    assert "--trust-database" in configured(("worker",), worker(f"{WORKER} trustDatabase = true;"), wanted)


def test_worker_needs_to_know_its_hosts() -> None:
    (*_, said) = complaints(("worker",), worker('enable = true; package = pkgs.nix; file = "fleet.toml";'))
    assert "has to begin with /" in said
    assert any("needs file and package" in each for each in complaints(("worker",), worker("enable = true;")))


def test_database_lets_others_in_with_a_password_and_proves_which_it_is() -> None:
    settings = of("database", 'enable = true; clients = [ "10.1.0.0/16" ]; certificate = "/var/lib/acme/db";')
    assert complaints(("database",), settings) == []
    found = configured(("database",), settings, "config.services.postgresql")
    assert found["authentication"] == "hostssl fleet fleet 10.1.0.0/16 scram-sha-256\n"
    assert found["settings"]["ssl_cert_file"] == "/var/lib/acme/db/fullchain.pem"
    assert found["ensureUsers"] == [{"ensureDBOwnership": True, "name": "fleet"}]


def test_database_that_cannot_prove_which_it_is_is_for_this_machine_alone() -> None:
    said = complaints(("database",), of("database", 'enable = true; clients = [ "10.1.0.0/16" ];'))
    assert any("services.fleet.database.certificate" in each for each in said)
    found = configured(("database",), of("database", "enable = true;"), "config.services.postgresql")
    assert (found["enableTCPIP"], found["authentication"]) == (False, "")


def test_database_for_this_machine_alone_leaves_its_neighbours_their_clients() -> None:
    settings = both(of("database", "enable = true;"), "{ services.postgresql.enableTCPIP = true; }")
    assert configured(("database",), settings, "config.services.postgresql.enableTCPIP") is True


@pytest.mark.parametrize(
    ("module", "settings"),
    [
        ("deliver", of("deliver", 'enable = true; user = "ann"; file = "/f"; package = "/nix/store/x-fleet";')),
        ("worker", worker(WORKER)),
    ],
)
def test_service_that_deploys_finds_nix_a_shell_and_ssh(module: str, settings: str) -> None:
    """NixOS gives a service no more than coreutils, findutils, gnugrep, gnused and systemd, and no `sh`."""
    wanted = (
        f"with config.systemd.services.fleet-{module}; {{ path = map (p: p.name) path; inherit restartIfChanged; }}"
    )
    found = configured((module,), settings, wanted)
    assert {"nix", "bash", "openssh"} <= set(found["path"])
    assert not found["restartIfChanged"]  # a switch of this very machine would wait for what carries it out
