"""What modules/ configure, at work: their units, sshd's settings and systemd's, on lab hosts."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.containers.driver import WEB, Stage, new_version, wait_until, web
from tests.containers.files import put, shell
from tests.containers.module_units import is_there
from tests.nixos_modules import configured, nix_conf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.lab import Lab, LabHost
    from fleet.machine import Output
    from tests.containers.conftest import MakeLab

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
PROFILE = "/nix/var/nix/profiles/system"
ROOTS = "/nix/var/nix/gcroots/fleet"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA me"


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("small", "open")


def test_edge_s_settings_are_understood_by_systemd(stage: Stage) -> None:
    host = stage.host("small")
    wanted = "{ inherit (config.systemd.settings) Manager; inherit (config.services.journald.settings) Journal; }"
    found = configured(("edge",), "{ services.fleet.edge.enable = true; }", wanted)
    for section, path in (("Manager", "system"), ("Journal", "journald")):
        lines = [f"{key}={value}" for key, value in found[section].items()]
        put(host, f"/etc/systemd/{path}.conf.d/edge.conf", "\n".join([f"[{section}]", *lines, ""]))
    shell(host, "systemctl daemon-reexec; systemctl restart systemd-journald")
    wait_until(lambda: host.exec("systemctl", "show", "-P", "Version", check=False).status == 0, "systemd is back")
    shown = shell(host, "systemctl show -P RuntimeWatchdogUSec -P RebootWatchdogUSec")
    assert shown.split() == ["30s", "10min"]
    said = shell(host, "journalctl -q -o cat -b _PID=1 + -u systemd-journald | grep -iE 'unknown|ignoring' || :")
    assert "edge.conf" not in said
    journal = shell(host, "journalctl -q -o cat -u systemd-journald -n 5")
    assert re.search(r"Runtime Journal .* max 64M", journal), journal


def sshd_lines(settings: dict[str, Any], extra: str) -> str:
    """As NixOS writes them: the settings that are set, then what is told verbatim."""
    words = {True: "yes", False: "no"}
    said = {key: words.get(value, value) for key, value in settings.items() if value is not None}
    return "".join(f"{key} {value}\n" for key, value in said.items()) + extra


@pytest.fixture
def hardened(stage: Stage) -> LabHost:
    """A host whose sshd is as `services.fleet.base` says."""
    host = stage.host("open")
    settings = f'{{ services.fleet.base = {{ enable = true; authorizedKeys = [ "{KEY}" ]; }}; }}'
    found = configured(("base",), settings, "config.services.openssh")
    put(host, "/etc/ssh/sshd_config.d/00-base.conf", sshd_lines(found["settings"], found["extraConfig"]))
    host.exec("sshd", "-t")
    host.exec("systemctl", "reload-or-restart", "ssh")
    return host


def test_base_s_sshd_gives_forwarding_to_its_user_alone(hardened: LabHost) -> None:
    def says(user: str) -> dict[str, str]:
        shown = shell(hardened, f"sshd -T -C user={user},host=h,addr=192.0.2.1")
        return dict(line.split(" ", 1) for line in shown.splitlines() if " " in line)

    deploy, other = says("deploy"), says("operator")
    assert (deploy["allowtcpforwarding"], deploy["allowstreamlocalforwarding"]) == ("local", "local")
    assert (other["allowtcpforwarding"], other["allowstreamlocalforwarding"]) == ("no", "no")
    for one in (deploy, other):
        keys = ("passwordauthentication", "kbdinteractiveauthentication", "permitrootlogin", "x11forwarding")
        assert [one[key] for key in keys] == ["no"] * 4
        assert one["allowagentforwarding"] == "no"


def test_base_s_sshd_lets_fleet_deploy_and_check(hardened: LabHost, stage: Stage) -> None:
    stage.toml({"open": {"user": "deploy", "sudo": True, "checks": [WEB, {"name": "tcp", "tcp": "127.0.0.1:22"}]}})
    stage.write("open", web(new_version()))
    run = stage.deploy("open")
    assert (run.code, run.outcomes) == (0, {"open": "kept"}), run
    stage.toml({"open": {"user": "root"}})
    status = stage.document("status", "open", code=1)["hosts"][0]
    assert status["error"]["kind"] == "authentication"


@pytest.fixture
def client(lab: Lab) -> Iterator[LabHost]:
    """A host as client of a cache at http://127.0.0.1:8099 as `services.fleet.cache` says; its folder is /srv/cache."""
    host = lab.host("small")
    shell(host, "mkdir -p /srv && cd /srv && rm -rf cache && nix-store --generate-binary-cache-key lab-1 secret public")
    public = shell(host, "cat /srv/public")
    settings = f"""{{ services.fleet.cache = {{ enable = true;
      caches = [ {{ url = "http://127.0.0.1:8099"; publicKey = "{public}"; priority = 30; }} ]; }}; }}"""
    before = shell(host, "cat /etc/nix/nix.conf")
    put(host, "/etc/nix/nix.conf", nix_conf(configured(("cache",), settings, "config.nix.settings")))
    shell(host, "mkdir /srv/cache; systemd-run -q --unit=cache busybox httpd -f -p 127.0.0.1:8099 -h /srv/cache")
    shell(host, "systemctl stop nix-daemon.service")  # its socket starts it again
    answers = "busybox nc -w 1 127.0.0.1 8099 </dev/null"
    wait_until(lambda: host.exec("sh", "-c", answers, check=False).status == 0, "the cache listens")
    yield host
    shell(host, "systemctl stop cache.service; rm -rf /srv; rm -f /root/.cache/nix/binary-cache-*")
    put(host, "/etc/nix/nix.conf", before + "\n")
    shell(host, "systemctl stop nix-daemon.service")


def cached(host: LabHost, name: str, sign: str) -> str:
    """A path that is in the cache, and not on the host. It was built: what is content-addressed needs no signature."""
    made = 'builder = "/bin/sh"; args = [ "-c" ">$out" ];'
    drv = f'derivation {{ name = "{name}"; system = builtins.currentSystem; {made} }}'
    nix = "nix --extra-experimental-features nix-command"
    path = shell(host, f"nix-build --no-out-link --option sandbox false --expr '{drv}'")
    shell(host, f"{nix} copy --to 'file:///srv/cache{sign}' {path}; nix-store --delete {path}")
    assert not is_there(host, path)
    return path


def fetch(host: LabHost, path: str) -> Output:
    """As a user whom Nix does not trust: what counts is the configuration of the daemon."""
    return host.exec("runuser", "-u", "operator", "--", "nix-store", "--realise", path, check=False)


def test_cache_s_client_fetches_what_is_signed_and_nothing_else(client: LabHost) -> None:
    signed = cached(client, "signed", "?secret-key=/srv/secret")
    assert fetch(client, signed).status == 0
    assert is_there(client, signed)

    shell(client, "cd /srv && nix-store --generate-binary-cache-key lab-1 other other.public")
    for name, sign in (("unsigned", ""), ("foreign", "?secret-key=/srv/other")):
        path = cached(client, name, sign)
        refused = fetch(client, path)
        assert (refused.status != 0, is_there(client, path)) == (True, False), refused
