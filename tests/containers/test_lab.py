"""The lab keeps its promises: to people who use it, and to tests that take it for NixOS."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from typing import TYPE_CHECKING

import pytest

from fleet.lab import Lab, LabHost
from tests.containers.nixos_switch import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fleet.machine import Output

    MakeLab = Callable[..., Lab]

pytestmark = pytest.mark.skipif(bool(PROGRAM), reason="this is about the lab's own switch-to-configuration")
NIX = ("nix", "--extra-experimental-features", "nix-command flakes")
GENERATION_1 = "/nix/var/nix/profiles/system-1-link"
LOCK = "/run/nixos/switch-to-configuration.lock"


def attribute(host: str) -> str:
    return f"nixosConfigurations.{host}.config.system.build.toplevel"


def build(lab: Lab, name: str) -> str:
    """The host's closure, built by the controller's Nix."""
    argv = [*NIX, "build", "--no-link", "--json", f"path:{lab.folder.path}#{attribute(name)}"]
    done = subprocess.run(argv, check=True, capture_output=True)
    return str(json.loads(done.stdout)[0]["outputs"]["out"])


def feed(host: LabHost, data: bytes, *argv: str) -> None:
    subprocess.run(["docker", "exec", "-i", host.container.name, *argv], input=data, check=True, capture_output=True)


def put(lab: Lab, host: LabHost, nix: str) -> str:
    """The closure of this text, on the host."""
    lab.write_host(host.name, nix)
    closure = build(lab, host.name)
    paths = subprocess.run(["nix-store", "-qR", closure], check=True, capture_output=True, text=True).stdout
    export = subprocess.run(["nix-store", "--export", *paths.split()], check=True, capture_output=True).stdout
    feed(host, export, "nix-store", "--import")
    return closure


def switch(host: LabHost, closure: str, action: str, *env: str) -> Output:
    return host.exec("env", *env, f"{closure}/bin/switch-to-configuration", action, check=False)


def running(host: LabHost) -> str:
    return real(host, "/run/current-system")


def real(host: LabHost, path: str) -> str:
    return host.exec("readlink", "-f", path).stdout.strip()


def is_active(host: LabHost, unit: str) -> bool:
    return host.exec("systemctl", "is-active", "-q", unit, check=False).status == 0


def set_profile(host: LabHost, closure: str) -> None:
    host.exec("nix-env", "-p", "/nix/var/nix/profiles/system", "--set", closure)


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("one", "two")


@pytest.fixture
def host(lab: Lab) -> Iterator[LabHost]:
    """A host that runs generation 1, and will again."""
    host = lab.host("one")
    yield host
    host.exec("systemctl", "stop", "holder", check=False)
    generation_1 = real(host, GENERATION_1)
    assert switch(host, generation_1, "test", "NIXOS_NO_CHECK=1").status == 0
    assert running(host) == generation_1


# --- the hosts ---


def test_hosts_stand_on_generation_1(lab: Lab) -> None:
    for host in lab.hosts:
        closure = real(host, GENERATION_1)
        assert running(host) == closure
        assert real(host, "/run/booted-system") == closure
        assert real(host, "/nix/var/nix/profiles/system") == closure
        assert f"init={closure}/init" in host.exec("cat", "/boot/loader/entries/nixos-generation-1.conf").stdout
        assert "default nixos-generation-1.conf\n" in host.exec("cat", "/boot/loader/loader.conf").stdout
        assert host.exec("nix-store", "--verify-path", closure).status == 0
        assert host.exec("systemctl", "is-system-running").stdout == "running\n"


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("root", "id -u"),
        ("deploy", "sudo -n id -u"),
        ("operator", "echo operator | sudo -S -p '' id -u"),
    ],
)
def test_every_user_logs_in_with_the_key_of_the_lab_and_becomes_root(
    lab: Lab, host: LabHost, tmp_path: Path, user: str, command: str
) -> None:
    known = tmp_path / "known_hosts"
    key = tomllib.loads(lab.folder.inventory.read_text())["hosts"]["one"]["host_key"]
    known.write_text(f"[127.0.0.1]:{host.port} {key}\n")
    options = ["-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"]
    login = ["-i", str(lab.folder.path / "keys/id_ed25519"), "-p", str(host.port), f"{user}@127.0.0.1"]
    done = subprocess.run(["ssh", "-F", "none", *options, *login, command], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_transient_units_find_no_tools(host: LabHost) -> None:
    done = host.exec(
        "systemd-run", "-q", "--wait", "--pipe", "/bin/sh", "-c", "systemctl || nix-store || sleep 0", check=False
    )
    assert done.status == 127


def test_everybody_may_ask_the_nix_daemon(host: LabHost) -> None:
    asked = host.exec("runuser", "-u", "operator", "--", "nix-store", "-q", "--hash", "/run/current-system")
    assert asked.stdout.startswith("sha256:")


def test_both_versions_of_nix_build_the_same_closure(lab: Lab, host: LabHost) -> None:
    lab.write_host("one", '{ version = "9"; services.web.http = { port = 8080; }; packages.hello = "2"; }')
    tar = subprocess.run(["tar", "-c", "-C", str(lab.folder.path), "."], check=True, capture_output=True).stdout
    host.exec("mkdir", "-p", "/var/tmp/lab")
    feed(host, tar, "tar", "-x", "-C", "/var/tmp/lab")
    built = host.exec("nix", "build", "--no-link", "--print-out-paths", f"path:/var/tmp/lab#{attribute('one')}")
    assert built.stdout.strip() == build(lab, "one")


# --- switching ---


def test_test_moves_the_running_system_alone(lab: Lab, host: LabHost) -> None:
    closure = put(lab, host, '{ version = "2"; services.web.http = { port = 8080; status = 503; body = "ill"; }; }')
    loader = host.exec("cat", "/boot/loader/loader.conf").stdout
    done = switch(host, closure, "test")
    assert done.status == 0
    assert done.stderr == "activating the configuration...\nthe following new units were started: web.service\n"
    assert running(host) == closure
    assert real(host, "/nix/var/nix/profiles/system") == real(host, GENERATION_1)
    assert host.exec("cat", "/boot/loader/loader.conf").stdout == loader
    asked = host.exec("busybox", "wget", "-q", "-S", "-O-", "http://127.0.0.1:8080/health", check=False)
    assert "503" in asked.stderr


def test_only_changed_units_are_restarted(lab: Lab, host: LabHost) -> None:
    services = 'a.exec = "${{busybox}} sleep {0}"; b.exec = "${{busybox}} sleep 9";'
    text = '{{ busybox }}: {{ version = "{0}"; services = {{ ' + services + " }}; }}"
    switch(host, put(lab, host, text.format(3)), "test")
    before = [host.exec("systemctl", "show", "-P", "MainPID", unit).stdout for unit in "ab"]
    done = switch(host, put(lab, host, text.format(4)), "test")
    after = [host.exec("systemctl", "show", "-P", "MainPID", unit).stdout for unit in "ab"]
    assert done.status == 0
    assert "stopping the following units: a.service\n" in done.stderr
    assert "starting the following units: a.service\n" in done.stderr
    assert (before[0] != after[0], before[1] == after[1]) == (True, True)


def test_what_a_closure_leaves_behind_is_gone_and_what_is_not_its_own_stays(lab: Lab, host: LabHost) -> None:
    host.exec("sh", "-c", "mkdir -p /etc/app && echo mine >/etc/app/mine")
    host.exec("systemd-run", "-q", "--unit=holder", "sleep", "inf")
    files = 'files = { "etc/app/theirs" = "1"; "etc/app/mine" = "2"; };'
    text = '{ busybox }: { services.gone.exec = "${busybox} sleep inf"; ' + files + " }"
    done = switch(host, put(lab, host, text), "test")
    assert "/etc/app/mine is not from a closure" in done.stderr
    assert host.exec("cat", "/etc/app/theirs").stdout == "1"
    assert is_active(host, "gone")
    done = switch(host, real(host, GENERATION_1), "test")
    assert "stopping the following units: gone.service\n" in done.stderr
    assert host.exec("sh", "-c", "cat /etc/app/*; ls /etc/systemd/system").stdout.startswith("mine\n")
    assert host.exec("test", "-L", "/etc/systemd/system/gone.service", check=False).status == 1
    assert (is_active(host, "gone"), is_active(host, "holder"), is_active(host, "ssh")) == (False, True, True)


def test_activation_that_fails_exits_2_and_still_moves_the_running_system(lab: Lab, host: LabHost) -> None:
    text = '{ busybox }: { version = "2a"; services.s.exec = "${busybox} sleep inf"; activationScript = "exit 3"; }'
    closure = put(lab, host, text)
    done = switch(host, closure, "test")
    assert done.status == 2
    assert "Activation script snippet 'lab' failed (3)" in done.stdout + done.stderr
    assert "Failed to run activate script\n" in done.stderr
    assert running(host) == closure
    assert is_active(host, "s")


@pytest.mark.parametrize("restart", ["no", "always"])
def test_unit_that_fails_exits_4(lab: Lab, host: LabHost, restart: str) -> None:
    service = f'{{ Type = "oneshot"; Restart = "{"on-failure" if restart == "always" else "no"}"; RestartSec = "1h"; }}'
    closure = put(
        lab, host, f'{{ busybox }}: {{ services.bad = {{ exec = "${{busybox}} false"; service = {service}; }}; }}'
    )
    done = switch(host, closure, "test")
    assert done.status == 4
    assert "warning: the following units failed: bad.service\n" in done.stderr
    assert running(host) == closure


def test_any_unit_of_the_host_that_fails_meanwhile_exits_4_and_older_failures_are_forgotten(
    lab: Lab, host: LabHost
) -> None:
    exec_start = "/usr/bin/systemd-run -q --unit=stray /usr/bin/false"
    spawner = f'{{ exec = "{exec_start}"; service.Type = "oneshot"; }}'
    assert switch(host, put(lab, host, f"{{ services.spawner = {spawner}; }}"), "test").status == 4
    assert host.exec("systemctl", "is-failed", "stray").stdout == "failed\n"
    assert switch(host, real(host, GENERATION_1), "test").status == 0


def test_switch_does_not_wait_for_another_that_holds_the_lock(lab: Lab, host: LabHost) -> None:
    closure = real(host, GENERATION_1)
    holder = ["systemd-run", "-q", "--unit=holder", "-p", "Type=notify", "-p", "NotifyAccess=all", "flock", LOCK]
    host.exec(*holder, "/bin/sh", "-c", "/usr/bin/systemd-notify --ready; exec /usr/bin/sleep inf")
    done = switch(host, closure, "test")
    assert (done.status, done.stderr) == (11, "Could not acquire lock\n")


def test_checks_before_a_switch_are_in_the_order_of_their_names_until_one_fails(lab: Lab, host: LabHost) -> None:
    """As NixOS's: its own is among them, and only the last command of each counts."""
    names = ("~last", "a", "Z", "switchA", "switchZ")
    checks = " ".join(f'"{name}" = "false; echo ran {name}";' for name in names)
    closure = put(lab, host, f"{{ preSwitchChecks = {{ {checks} }}; }}")
    said = switch(host, closure, "check").stderr
    assert re.findall(r"ran (\S+)", said) == ["Z", "a", "switchA", "switchZ", "~last"]
    refused = put(lab, host, f'{{ preSwitchChecks = {{ {checks} t = "false"; }}; }}')
    done = switch(host, refused, "check")
    assert done.status == 1
    assert re.findall(r"ran (\S+)", done.stderr) == ["Z", "a", "switchA", "switchZ"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{ preSwitchChecks.never = "exit 1"; }', "Pre-switch check 'never' failed\nPre-switch checks failed\n"),
        ('{ switchInhibitors.dbus = "broker"; }', "dbus : dbus -> broker\n"),
    ],
)
def test_refused_switch_changes_nothing_unless_checks_are_off(lab: Lab, host: LabHost, text: str, words: str) -> None:
    first = put(lab, host, '{ version = "i"; switchInhibitors.dbus = "dbus"; }')
    switch(host, first, "test")
    closure = put(lab, host, text)
    done = switch(host, closure, "test")
    assert done.status == 1
    assert words in done.stderr
    assert running(host) == first
    assert switch(host, closure, "test", "NIXOS_NO_CHECK=1").status == 0
    assert running(host) == closure


def test_another_init_interface_exits_100(lab: Lab, host: LabHost) -> None:
    closure = put(lab, host, '{ initInterfaceVersion = "systemd 3"; }')
    assert switch(host, closure, "test").status == 100
    assert running(host) == real(host, GENERATION_1)


def test_dry_activate_tells_and_changes_nothing(lab: Lab, host: LabHost) -> None:
    text = '{{ busybox }}: {{ services.a.exec = "${{busybox}} sleep {}"; dryActivationScript = "exit 1"; }}'
    first = put(lab, host, text.format(5))
    switch(host, first, "test")
    done = switch(host, put(lab, host, text.format(6)), "dry-activate")
    assert done.status == 0
    assert "would stop the following units: a.service\n" in done.stderr
    assert "would start the following units: a.service\n" in done.stderr
    assert running(host) == first


def test_systemd_that_changed_is_restarted(lab: Lab, host: LabHost) -> None:
    done = switch(host, put(lab, host, '{ systemd = "258"; }'), "test")
    assert (done.status, "restarting systemd...\n" in done.stderr) == (0, True)
    assert host.exec("systemctl", "is-system-running").stdout == "running\n"


# --- booting ---


def test_boot_of_a_closure_in_no_generation_leaves_the_boot_loader_alone(lab: Lab, host: LabHost) -> None:
    closure = put(lab, host, '{ version = "unrooted"; }')
    look = ("sh", "-c", "cat /boot/loader/loader.conf; ls /boot/loader/entries")
    before = host.exec(*look).stdout
    assert switch(host, closure, "boot").status == 0
    assert host.exec(*look).stdout == before


def test_power_cut_boots_what_the_loader_files_say_and_a_one_shot_counts_once(lab: Lab) -> None:
    host = lab.host("two")
    generation_1, port = real(host, GENERATION_1), host.port
    tried = put(lab, host, '{ version = "tried"; files."etc/tried" = ""; }')
    kept = put(lab, host, '{ version = "kept"; services.web.http = { port = 8080; }; }')
    switch(host, tried, "test")
    host.power_off()
    assert not host.is_on
    assert host.power_on() == "running"
    assert (running(host), host.port) == (generation_1, port)
    assert host.exec("test", "-L", "/etc/tried", check=False).status == 1

    set_profile(host, kept)
    assert switch(host, kept, "boot").status == 0
    assert running(host) == generation_1
    host.exec("sh", "-c", "echo stale >/nix/var/nix/temproots/1")
    host.power_off()
    host.power_on()
    assert (running(host), real(host, "/run/booted-system")) == (kept, kept)
    assert is_active(host, "web")
    assert host.exec("ls", "/nix/var/nix/temproots").stdout == ""

    host.exec("sh", "-c", "echo nixos-generation-1.conf >/boot/loader/oneshot")
    for expected in (generation_1, kept):
        host.power_off()
        host.power_on()
        assert real(host, "/run/booted-system") == expected


# --- the lab ---


def test_second_up_starts_what_is_off_remakes_what_is_lost_and_keeps_the_rest(make_lab: MakeLab) -> None:
    lab = make_lab("stays", "off", "lost")
    inventory = lab.folder.inventory
    inventory.write_text(inventory.read_text().replace("[defaults]", "# mine\n[defaults]"))
    lab.write_host("stays", "{ }")
    ports = {host.name: host.port for host in lab.hosts}
    started = lab.host("stays").container.attrs["State"]["StartedAt"]
    lab.host("off").power_off()
    lab.host("lost").container.remove(force=True)
    text, said = inventory.read_text(), list[str]()
    Lab.up(lab.folder.path, say=said.append)
    assert not [line for line in said if "image" in line]
    assert {host.name: host.port for host in lab.hosts} == ports
    assert lab.host("stays").container.attrs["State"]["StartedAt"] == started
    assert inventory.read_text() == text
    assert (lab.folder.path / "hosts" / "stays.nix").read_text() == "{ }"


def test_hosts_whose_keys_were_deleted_are_remade(make_lab: MakeLab) -> None:
    lab = make_lab("one")
    path, before = lab.folder.path, lab.host("one").container.id
    shutil.rmtree(path)
    Lab.up(path, ["one"])
    assert lab.host("one").container.id != before
    assert len(lab.hosts) == 1


def test_ports_are_published_on_this_machine_alone(lab: Lab) -> None:
    for host in lab.hosts:
        (binding,) = host.container.attrs["HostConfig"]["PortBindings"]["22/tcp"]
        assert binding["HostIp"] == "127.0.0.1"


def test_down_leaves_nothing(make_lab: MakeLab) -> None:
    lab = make_lab("one")
    assert lab.down() == []
    assert lab.hosts == ()
    assert not lab.folder.path.exists()


def test_down_keeps_what_people_edited(make_lab: MakeLab) -> None:
    lab = make_lab("one")
    closure = lab.folder.path / "hosts" / "one.nix"
    closure.write_text("{ }")
    assert lab.down() == ["hosts/one.nix"]
    assert [path for path in lab.folder.path.rglob("*") if path.is_file()] == [closure]
