"""Systems that somebody else has built, with a switch-to-configuration of their own, in another language."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.containers.driver import WEB, Stage, answer, new_version, running, stands_on, web

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.lab import Lab
    from tests.containers.conftest import MakeLab

FLAKE = """\
{
  outputs = { self }:
    let
      system = "x86_64-linux";
      busybox = builtins.path { path = ./busybox; name = "bb"; };
      unit = builtins.toFile "beacon.service" ''
        [Unit]
        Description=A beacon that somebody else wrote
        [Service]
        ExecStart=/usr/bin/perl ${./beacon.pl} @STATUS@ @VERSION@
      '';
    in {
      packages.${system}.beacon-os = derivation {
        name = "beacon-os-@VERSION@";
        inherit system busybox unit;
        builder = "${busybox}/busybox";
        args = [ "sh" "-ec" ''
          $busybox/busybox mkdir -p $out/bin $out/etc/systemd/system
          $busybox/busybox sed "s|@out@|$out|g" ${./switch.pl} >$out/bin/switch-to-configuration
          $busybox/busybox chmod 755 $out/bin/switch-to-configuration
          $busybox/busybox ln -s bin/switch-to-configuration $out/activate
          $busybox/busybox ln -s /bin/sh $out/init
          $busybox/busybox cp $unit $out/etc/systemd/system/beacon.service
          echo "26.11.beacon@VERSION@" >$out/nixos-version
          printf "${system}" >$out/system
          printf "systemd 2" >$out/init-interface-version
        '' ];
      };
    };
}
"""
BEACON = """\
use IO::Socket::INET;
my ($status, $version) = @ARGV;
my $server = IO::Socket::INET->new(LocalPort => 9090, Listen => 5, ReuseAddr => 1) or die "cannot listen: $!";
print STDERR "beacon $version is lit\\n";
while (my $client = $server->accept) {
    while (<$client>) { last if /^\\r?$/ }
    print $client "HTTP/1.1 $status Beacon\\r\\nContent-Length: 9\\r\\nX-Beacon: yes\\r\\n\\r\\nbeacon $version\\n";
    print STDERR "the lamp is broken\\n" if $status != 200;
    close $client;
}
"""
SWITCH = """\
#!/usr/bin/perl
# No lock, no boot entries for other generations, units in /run: not at all like the lab's own.
use strict; use warnings; use File::Basename;
my ($self, $action) = ("@out@", $ARGV[0] // "test");
sub put { my ($path, $text) = @_; open(my $file, ">", $path) or die "$path: $!"; print $file $text; close $file }
if ($action eq "boot") {
    put("/boot/loader/entries/beacon.conf", "title Beacon\\noptions   init=$self/init quiet\\n");
    put("/boot/loader/loader.conf", "timeout 1\\ndefault beacon.conf\\n");
    exit 0;
}
exit 0 if $action eq "dry-activate";
my $current = readlink("/run/current-system") // "";
for my $unit (glob "$current/etc/systemd/system/*.service") {
    system("systemctl", "stop", basename($unit)) unless -e "$self/etc/systemd/system/" . basename($unit);
}
mkdir "/run/systemd/system";
unlink "/run/systemd/system/beacon.service";
symlink("$self/etc/systemd/system/beacon.service", "/run/systemd/system/beacon.service") or die $!;
unlink "/run/current-system"; symlink($self, "/run/current-system") or die $!;
system("systemctl", "daemon-reload") == 0 or exit 3;
exit(system("systemctl", "restart", "beacon.service") == 0 ? 0 : 4);
"""
CHECK = {"http": "http://127.0.0.1:9090/lamp", "body": "^beacon", "within": "3s", "interval": "200ms"}


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("beacon")


def build(folder: Path, lab: Lab, version: str, status: int) -> str:
    """The closure, as the CI of those people builds it."""
    folder.mkdir()
    texts = {"flake.nix": FLAKE, "beacon.pl": BEACON, "switch.pl": SWITCH}
    for name, text in texts.items():
        (folder / name).write_text(text.replace("@VERSION@", version).replace("@STATUS@", str(status)))
    (folder / "busybox").mkdir()
    (folder / "busybox/busybox").write_bytes((lab.folder.path / "bin/busybox").read_bytes())
    (folder / "busybox/busybox").chmod(0o755)
    argv = ["nix", "--extra-experimental-features", "nix-command flakes", "build", "--out-link", str(folder / "result")]
    subprocess.run([*argv, f"path:{folder}#beacon-os"], check=True, capture_output=True)
    return str((folder / "result").resolve())


def test_closure_built_elsewhere_is_deployed_and_with_a_failing_check_goes_back(stage: Stage, tmp_path: Path) -> None:
    host = stage.host("beacon")
    good = build(tmp_path / "one", stage.lab, "1", 200)
    bad = build(tmp_path / "two", stage.lab, "2", 500)
    stage.toml({"beacon": {"checks": [CHECK]}})
    assert stage.deploy("beacon", "--closure", str(tmp_path / "one/result")).outcomes == {"beacon": "kept"}
    assert stands_on(host, good)
    assert answer(host, 9090) == "beacon 1"

    run = stage.deploy("beacon", "--closure", bad)
    assert (run.code, run.outcomes) == (1, {"beacon": "rolled_back"})
    assert stands_on(host, good)
    assert answer(host, 9090) == "beacon 1"
    failure = run.failure("beacon")
    assert failure["message"].startswith("check http://127.0.0.1:9090/lamp: 500 Beacon, wanted 200")
    assert not run.told("evaluation_finished")


def test_back_from_a_foreign_system_to_one_of_ours_and_forward_again(stage: Stage, tmp_path: Path) -> None:
    host = stage.host("beacon")
    foreign = build(tmp_path / "three", stage.lab, "3", 200)
    version = new_version()
    stage.write("beacon", web(version))
    stage.toml({"beacon": {"checks": [WEB]}})
    ours = stage.deploy("beacon").hosts["beacon"]["closure"]
    assert stands_on(host, ours)
    stage.toml({"beacon": {"checks": [CHECK]}})
    assert stage.deploy("beacon", "--closure", foreign).outcomes == {"beacon": "kept"}
    stage.toml({"beacon": {"checks": [WEB]}})
    back = stage.fleet("rollback", "beacon", "--json")
    assert (back.code, back.outcomes) == (0, {"beacon": "kept"})
    assert stands_on(host, ours)
    assert answer(host) == f"version {version}"
    assert host.exec("systemctl", "is-active", "beacon.service", check=False).stdout != "active\n"
    assert stage.fleet("rollback", "beacon", "--json").code == 0
    assert running(host) == foreign
