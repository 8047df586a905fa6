"""What modules/ configure, at work: their units, sshd's settings and systemd's, on lab hosts."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.containers.driver import WEB, Stage, boot_default, new_version, profile, running, wait_until, web
from tests.containers.files import put, shell
from tests.nixos_modules import configured, needs_lib, nix_conf, script_text, unit_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.lab import Lab, LabHost
    from fleet.machine import Output
    from tests.containers.conftest import MakeLab

needs_nix = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
pytestmark = [needs_nix, needs_lib]
PROFILE = "/nix/var/nix/profiles/system"
ROOTS = "/nix/var/nix/gcroots/fleet"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA me"


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("small", "open")


def install_units(host: LabHost, modules: tuple[str, ...], settings: str) -> list[str]:
    """The host has the units of these modules, and systemd-analyze finds nothing wrong with them."""
    found = configured(modules, settings, "{ inherit (config.systemd) services timers; }")
    names = []
    for kind in ("service", "timer"):
        for stem, unit in found[f"{kind}s"].items():
            name, script = f"{stem}.{kind}", f"/opt/{stem}"
            if unit["script"]:
                put(host, script, script_text(unit), mode="755")
            put(host, f"/etc/systemd/system/{name}", unit_text(name, unit, script))
            names.append(name)
    verified = host.exec("systemd-analyze", "verify", *names, check=False)
    assert (verified.status, verified.stderr) == (0, "")
    host.exec("systemctl", "daemon-reload")
    return names


def generations(host: LabHost) -> list[int]:
    return sorted(int(number) for number in re.findall(r"system-(\d+)-link", shell(host, f"ls {PROFILE}-*-link")))


def generation(host: LabHost, number: int) -> str:
    return shell(host, f"readlink -f {PROFILE}-{number}-link")


def live_number(host: LabHost) -> int:
    return int(re.findall(r"system-(\d+)-link", shell(host, f"readlink {PROFILE}"))[0])


def is_there(host: LabHost, path: str) -> bool:
    return host.exec("nix-store", "--check-validity", path, check=False).status == 0


def collect(host: LabHost) -> str:
    """`fleet-gc` ran, and said this."""
    begun = shell(host, "date +%s.%N")
    host.exec("systemctl", "start", "fleet-gc.service")
    return shell(host, f"journalctl --sync; journalctl -q -o cat --since=@{begun} _SYSTEMD_UNIT=fleet-gc.service")


GC = "{ services.fleet.gc = { enable = true; keep = 1; }; }"


@pytest.fixture
def eight(stage: Stage) -> LabHost:
    """A host with eight generations, of which the second is live; all but one are wanted for a reason of their own."""
    host = stage.host("small")
    stage.toml({"small": {"checks": [WEB]}})
    stage.write("small", web(new_version(), more='preSwitchChecks.picky = "test $2 != boot";'))
    assert stage.deploy("small").outcomes == {"small": "kept"}
    live = live_number(host)
    for name in "abcdef":
        made = (
            f"d=$(mktemp -d)/nixos-system-{name}; cp -a /run/current-system/. $d; echo {name}{live} >$d/nixos-version"
        )
        shell(host, f"{made}; chmod -R u+w $d; nix-env -p {PROFILE} --set $(nix-store --add $d)")
    shell(host, f"nix-env -p {PROFILE} --switch-generation {live}")
    for root, after in (("previous", 3), ("staged", 2), ("20261120T000000-abcdef-new", 4)):
        shell(host, f"ln -sfn {generation(host, live + after)} {ROOTS}/{root}")
    install_units(host, ("gc",), GC)
    return host


def test_gc_keeps_every_system_that_a_rollback_may_need(eight: LabHost) -> None:
    live = running(eight)
    first, second, *_ = before = generations(eight)
    newest = before[-1]
    gone = [generation(eight, number) for number in (second + 1, second + 5)]
    wanted = [first, second, second + 2, second + 3, second + 4, newest]
    assert (len(before), newest) == (8, second + 6)
    kept = {number: generation(eight, number) for number in wanted}

    said = collect(eight)

    assert generations(eight) == wanted
    assert f"keeps generation {second}: /run/current-system" in said
    assert f"keeps generation {first}: /run/booted-system" in said
    assert f"keeps generation {second + 3}: {ROOTS}/previous" in said
    assert f"keeps generation {newest}: one of the newest 1" in said
    assert all(is_there(eight, path) for path in kept.values())
    assert not any(is_there(eight, path) for path in gone)
    assert (running(eight), profile(eight), boot_default(eight)) == (live, live, live)
    entries = shell(eight, "ls /boot/loader/entries")
    assert sorted(int(number) for number in re.findall(r"generation-(\d+)", entries)) == wanted
    eight.exec(f"{live}/bin/switch-to-configuration", "test")
    collect(eight)
    assert generations(eight) == wanted


def test_gc_waits_for_a_deployment_to_end(eight: LabHost) -> None:
    before = generations(eight)
    shell(eight, "mkdir -p /run/fleet/open && echo 20261120T000001-abcdef >/run/fleet/open/run")
    try:
        assert "run 20261120T000001-abcdef is under way: nothing is collected now" in collect(eight)
    finally:
        shell(eight, "rm -r /run/fleet/open")
    assert generations(eight) == before


def test_gc_removes_nothing_while_the_boot_menu_names_it(eight: LabHost) -> None:
    superfluous = live_number(eight) + 1
    path = generation(eight, superfluous)
    lock = "/run/nixos/switch-to-configuration.lock"
    shell(eight, f"systemd-run -q --unit=busy /usr/bin/flock {lock} /usr/bin/sleep 60")
    wait_until(lambda: eight.exec("flock", "-n", lock, "true", check=False).status, "the lock is taken")
    assert eight.exec("systemctl", "start", "fleet-gc.service", check=False).status != 0
    assert superfluous not in generations(eight)
    assert is_there(eight, path)
    shell(eight, "systemctl stop busy.service; systemctl reset-failed")
    collect(eight)
    assert not is_there(eight, path)
    assert f"generation-{superfluous}.conf" not in shell(eight, "ls /boot/loader/entries")


def test_gc_does_nothing_where_there_is_room_and_a_dry_run_changes_nothing(eight: LabHost) -> None:
    before = generations(eight)
    install_units(eight, ("gc",), "{ services.fleet.gc = { enable = true; keep = 1; startBelow = 1; }; }")
    assert "GiB are free, which is enough" in collect(eight)
    said = shell(eight, "KEEP=1 DRY_RUN=yes /opt/fleet-gc 2>/dev/null")
    assert said.startswith("would delete generations:")
    assert generations(eight) == before


def test_gc_has_a_timer_that_systemd_understands(eight: LabHost) -> None:
    assert "fleet-gc.timer" in install_units(eight, ("gc",), GC)
    eight.exec("systemctl", "enable", "--now", "fleet-gc.timer")
    timer = shell(eight, "systemctl show -P TimersCalendar -P RandomizedDelayUSec -P Persistent fleet-gc.timer")
    assert ("OnCalendar=Mon" in timer, "45min" in timer, "yes" in timer) == (True, True, True)


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
    """As NixOS writes them: the settings, then what is told verbatim."""
    words = {True: "yes", False: "no"}
    return "".join(f"{key} {words.get(value, value)}\n" for key, value in settings.items()) + extra


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
    assert (run.code, run.outcomes) == (0, {"open": "kept"})
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
