"""Signatures by [fleet] signing_key arrive with the closure, and count where they are checked."""

from __future__ import annotations

import subprocess
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w

from tests.containers.closures import has, many, requisites
from tests.containers.files import SSHD_ANEW, put, shell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet.lab import Lab, LabHost
    from tests.containers.conftest import MakeLab
    from tests.containers.driver import Stage

CACHE = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="
"""What a Nix trusts whose nix.conf names no key."""
NIX = "nix --extra-experimental-features nix-command"


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("one")


@dataclass
class Signed:
    """A host, and a fleet.toml with a key that the host need not know."""

    stage: Stage
    host: LabHost
    secret: str
    public: str
    before: str
    """nix.conf of the host."""

    def toml(self, **table: Any) -> None:
        """fleet.toml has the key."""
        path = self.stage.toml({"one": table})
        document = tomllib.loads(path.read_text())
        document["fleet"]["signing_key"] = "keys/secret"
        path.write_text(tomli_w.dumps(document))

    def configure(self, *lines: str) -> None:
        """The host's nix.conf has these lines too, and its daemon has read them."""
        put(self.host, "/etc/nix/nix.conf", "\n".join((self.before, *lines, "")))
        shell(self.host, "systemctl stop nix-daemon.service")


@pytest.fixture
def signed(lab: Lab, stage: Stage, tmp_path: Path) -> Iterator[Signed]:
    host = lab.host("one")
    folder = stage.folder / "keys"
    folder.mkdir()
    secret, public = folder / "secret", folder / "public"
    argv = ["nix-store", "--generate-binary-cache-key", "home-1", str(secret), str(public)]
    subprocess.run(argv, check=True)
    signed = Signed(stage, host, secret.read_text(), public.read_text().strip(), shell(host, "cat /etc/nix/nix.conf"))
    yield signed
    signed.configure()
    shell(host, f"sed -i '/^SetEnv NIX_REMOTE/d' /etc/ssh/sshd_config; {SSHD_ANEW}")


def signatures(host: LabHost, path: str) -> str:
    return shell(host, f"{NIX} path-info --sigs {path}")


def test_signatures_arrive_and_the_line_that_is_missing_is_told(stage: Stage, signed: Signed) -> None:
    closure = many(stage, count=2, kib=4)
    signed.toml(user="deploy", sudo=True)
    run = stage.fleet("push", "one", "--closure", closure, "--json")
    assert run.outcomes == {"one": "staged"}, run
    (note,) = run.told("finding_reported", kind="signature")
    assert (
        f"trusted-public-keys = cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY= {signed.public};"
        in note["hint"]
    )
    for path in requisites(closure):
        assert "home-1:" in signatures(signed.host, path)
    key = signed.secret.partition(":")[2]
    assert key not in run.stdout + run.stderr
    assert subprocess.run(["grep", "-rqF", key, str(stage.home)], check=False).returncode == 1
    assert signed.host.exec("grep", "-rqsF", key, "/nix/var", "/run", "/var", "/etc", "/home", check=False).status != 0

    signed.configure(f"trusted-public-keys = {signed.public}")
    again = stage.fleet("push", "one", "--closure", closure, "--json")
    assert again.told("finding_reported", kind="signature") == []
    shell(signed.host, f"{NIX} store verify --recursive --no-contents --sigs-needed 1 {closure}")


@pytest.mark.parametrize("engine", ["serve", "nix"])
def test_host_whose_daemon_trusts_not_even_root_takes_what_is_signed(stage: Stage, signed: Signed, engine: str) -> None:
    closure = many(stage, count=2, kib=4)
    shell(signed.host, f"echo 'SetEnv NIX_REMOTE=daemon' >>/etc/ssh/sshd_config; {SSHD_ANEW}")
    signed.configure("trusted-users = operator")
    push = ("push", "one", "--closure", closure, "--json", "--copy-with", engine)

    stage.toml({"one": {}})
    error = stage.fleet(*push).failure("one")
    assert "signature" in " ".join([error["message"], *error["said"]])
    assert "signing_key" in error["hint"]

    signed.toml()
    error = stage.fleet(*push).failure("one")
    assert (error["kind"], "does not trust us" in error["message"]) == ("unfit", True)
    assert signed.public in error["hint"]

    signed.configure("trusted-users = operator", f"trusted-public-keys = {signed.public}")
    run = stage.fleet(*push)
    assert run.outcomes == {"one": "staged"}, run
    assert run.told("finding_reported", kind="signature") == []
    assert has(signed.host, closure)


def test_key_that_cannot_be_used_stops_the_run_before_any_host_is_asked(stage: Stage, signed: Signed) -> None:
    signed.toml()
    (stage.folder / "keys/secret").write_text(signed.public)
    run = stage.fleet("push", "one", "--closure", "/nix/store/x", "--json")
    assert (run.code, run.error["kind"]) == (2, "config")
    assert f"[fleet] signing_key: {stage.folder}/keys/secret: is a public key" in run.error["message"]
    assert run.told("phase_started") == []
    (stage.folder / "keys/secret").unlink()
    assert stage.fleet("plan", "one", "--closure", "/nix/store/x").code == 2
    assert stage.fleet("status", "one").code == 0
