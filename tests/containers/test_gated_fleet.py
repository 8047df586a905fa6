"""`fleet` and a host with a gate: from the first key to a lost one, and everything that people do in between."""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w

from fleet.nix import quoted
from fleet.signing.keygen import read_public
from tests.containers.driver import WEB, Stage, answer, new_version, running
from tests.containers.files import put, shell
from tests.containers.gate_client import FileKey
from tests.containers.gated import FLEET, SCRIPTS, Gated, configured_gate, nix_files
from tests.tools import git

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.lab import Lab, LabHost
    from tests.containers.conftest import MakeLab
    from tests.containers.driver import Run

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
AGENT = {"FLEET_PRINCIPAL": "agent-3", "FLEET_INTENT": "update the shop"}


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("one")


@dataclass
class Keeper:
    """Whoever keeps the fleet: its files, its keys, and the gate that its host is to have."""

    stage: Stage
    host: LabHost
    found: dict[str, Any]
    program: str

    @classmethod
    def on(cls, stage: Stage) -> Keeper:
        (stage.home / ".ssh").mkdir()
        for name in ("ann", "agent", "deploy", "lost"):
            FileKey.new(stage.folder, name)
        shutil.copy(stage.folder / "ann", stage.home / ".ssh" / "id_ed25519")
        shutil.copy(stage.folder / "ann.pub", stage.home / ".ssh" / "id_ed25519.pub")
        for name in ("store-key", "cache-key"):
            key = stage.folder / name
            argv = ["nix-store", "--generate-binary-cache-key", f"{name}-1", str(key), f"{key}.pub"]
            subprocess.run(argv, check=True, timeout=60)
        shutil.copytree(stage.lab.folder.path, stage.folder / "flake", ignore=shutil.ignore_patterns("keys", ".*"))
        stage.flake = str(stage.folder / "flake")
        keeper = cls(stage, stage.host("one"), {}, Gated.add_program(stage.host("one")))
        keeper.git("init", "-q", "--initial-branch=main")
        keeper.principals("ann", "lost")
        return keeper

    def git(self, *words: str) -> None:
        git(self.stage.folder / "flake", *words)

    def principals(self, *keys: str) -> None:
        """ann has these keys, in principals.toml and in the gate that comes with the next system."""
        folder = self.stage.folder
        public = [str(read_public(folder / key)) for key in keys]
        tables = {
            "ann": {"kind": "person", "users": ["root"], "keys": public},
            "agent-3": {"kind": "agent", "keys": [str(read_public(folder / "agent"))]},
        }
        (folder / "principals.toml").write_text(tomli_w.dumps({"principals": tables}))
        store_key, cache_key = ((folder / f"{name}.pub").read_text().strip() for name in ("store-key", "cache-key"))
        self.found = configured_gate(
            f'fleet = "{FLEET}"; host = "one"; program = "{self.program}"; {SCRIPTS}'
            f"authorizedKeys = [ {json.dumps(str(read_public(folder / 'deploy')))} ];"
            f"principals = (builtins.fromTOML (builtins.readFile {folder}/principals.toml)).principals;"
            f'pushKeys = [ "{store_key}" ]; contentKeys = [ "{cache_key}" ];'
            'permitOpen = [ "127.0.0.1:8080" ]; checks.shop = "echo well";'
        )

    def commit(self, version: str, *, gate: bool = True, more: str = "") -> None:
        files = nix_files(self.found) if gate else ""
        service = f'services.web.http = {{ port = 8080; body = "version {version}"; }};'
        text = f'{{ busybox }}: {{ version = "{version}"; {service} {files} {more} }}'
        (self.stage.folder / "flake" / "hosts" / "one.nix").write_text(text)
        self.git("add", "--all")
        self.git("commit", "-qm", f"version {version}")

    def toml(self, **host: Any) -> None:
        file = self.stage.toml({"one": {"checks": [WEB, SHOP], **host}}, confirm_timeout="20s")
        document = tomllib.loads(file.read_text())
        document["fleet"] |= {"id": FLEET, "signing_key": str(self.stage.folder / "store-key")}
        file.write_text(tomli_w.dumps(document))

    def gated(self, **host: Any) -> None:
        self.toml(user="fleet", gate=True, identity_file=str(self.stage.folder / "deploy"), **host)

    def plan(self, name: str, *more: str) -> str:
        plan = str(self.stage.folder / f"{name}.plan")
        made = self.stage.fleet(
            "plan", "one", "--sign", "--key", str(self.stage.folder / "agent"), "-o", plan, *more, env=AGENT
        )
        assert made.code == 0, made
        return plan

    def approved(self, name: str, *more: str) -> str:
        plan = self.plan(name, *more)
        approved = self.stage.fleet("approve", plan, "--yes")
        assert approved.code == 0, approved
        return plan

    def checked(self) -> str:
        """What `fleet check` says."""
        done = self.stage.fleet("check")
        return done.stdout + done.stderr


SHOP = {"name": "shop", "command": "echo this is not what runs; false"}


def refused(run: Run, code: int, words: str) -> None:
    said = run.stdout + run.stderr
    assert (run.code, words in said) == (code, True), said[-2000:]


@pytest.fixture(scope="module")
def keeper(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeper]:
    """One fleet for all of these tests, which are one story."""
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "home").mkdir()
    stage = Stage(lab, folder, folder / "home")
    stage.settle("one")
    keeper = Keeper.on(stage)
    store_key = (folder / "store-key.pub").read_text().strip()
    put(keeper.host, "/etc/nix/nix.custom.conf", f"extra-trusted-public-keys = {store_key}\n")
    shell(keeper.host, "echo '!include nix.custom.conf' >>/etc/nix/nix.conf; systemctl restart nix-daemon")
    yield keeper
    stage.close()


def test_the_first_key_comes_beside_the_login_that_there_is(keeper: Keeper) -> None:
    stage = keeper.stage
    Gated.install_on(keeper.host, keeper.found)
    keeper.toml(checks=[WEB])
    keeper.commit(new_version())
    planned = stage.fleet("plan", "one")
    assert "gate on: from then on this host wants signed plans" in planned.stdout + planned.stderr, planned
    assert stage.deploy("one").code == 0
    keeper.gated()
    said = keeper.checked()
    assert "one: gate for fleet: approval by a person, of ann" in said
    assert "this gets round its gate: root logs in by keys" in said


def test_what_nobody_has_signed_is_refused_here_and_by_the_host(keeper: Keeper) -> None:
    stage, before = keeper.stage, answer(keeper.host)
    keeper.commit(new_version())
    refused(stage.deploy("one", env=AGENT), 2, "one: has a gate, which takes signed plans only")
    lone = keeper.plan("lone")
    refused(stage.fleet("apply", lone, "--json", env=AGENT), 1, "asks for 1 approvals by different people")
    assert answer(keeper.host) == before


def test_what_was_approved_is_deployed_by_whoever_has_the_key_of_the_gate(keeper: Keeper) -> None:
    """It is on a branch that nobody has checked out: whoever approves it evaluates that commit, too."""
    stage = keeper.stage
    keeper.git("checkout", "-q", "-b", "proposal")
    keeper.commit(version := new_version())
    keeper.git("checkout", "-q", "main")
    plan = keeper.approved("first", "--revision", "proposal")
    keeper.git("merge", "-q", "--ff-only", "proposal")
    applied = stage.fleet("apply", plan, env=AGENT)
    assert applied.code == 0, applied
    assert answer(keeper.host) == f"version {version}"
    assert stage.document("history", "one")["hosts"][0]["transactions"][0]["intent"] == "update the shop"


@pytest.mark.parametrize(
    "words",
    [("health", "one"), ("logs", "one", "web"), ("generations", "one"), ("who", "one"), ("diff", "one"),
     ("gc", "one", "--dry-run"), ("changes", "one")],
)  # fmt: skip
def test_what_people_look_at_is_a_verb_of_the_gate(keeper: Keeper, words: tuple[str, ...]) -> None:
    done = keeper.stage.fleet(*words)
    assert done.code == 0, done


def test_status_and_drift_tell_what_the_host_says(keeper: Keeper) -> None:
    stage = keeper.stage
    (told,) = stage.document("status", "one")["hosts"]
    assert told["running"] == running(keeper.host), told
    drift = stage.document("drift", "one", code=None)
    assert drift["hosts"][0]["error"] is None, drift


def test_what_would_run_anything_is_refused(keeper: Keeper) -> None:
    stage = keeper.stage
    refused(stage.fleet("exec", "one", "--", "id"), 1, "the gate of this host runs no commands")
    refused(stage.fleet("ssh", "one", "true"), 2, "its login runs the gate, and no shell")


def test_rollback_works_once_without_signatures(keeper: Keeper) -> None:
    stage, before = keeper.stage, answer(keeper.host)
    back = stage.fleet("rollback", "one", "--json", "--yes")
    assert back.code == 0, back
    assert answer(keeper.host) != before
    refused(stage.fleet("rollback", "one", "--json", "--yes"), 1, "has gone back without a signature already")
    refused(stage.fleet("rollback", "one", "--to", "1", "--json", "--yes"), 1, "lets nobody go back further")


def test_dry_activation_is_signed_for_and_changes_nothing(keeper: Keeper) -> None:
    before = answer(keeper.host)
    dry = keeper.approved("dry", "--goal", "dry-activate", "--copy-with", "nix")
    done = keeper.stage.fleet("apply", dry, env=AGENT)
    assert done.code == 0, done
    assert answer(keeper.host) == before


def test_a_model_beside_the_system_is_refused_before_it_is_fetched(keeper: Keeper) -> None:
    """Nobody is at that address: had it been fetched, that would be the error."""
    model: dict[str, Any] = {
        "name": "big",
        "path": f"/nix/store/{'0' * 32}-big",
        "url": "http://127.0.0.1:1/big",
        "hash": "sha256-A",
    }
    model |= {"license": "mit", "size": 1 << 31, "vram": None, "inClosure": False}
    text = json.dumps({"version": 1, "models": [model]})
    keeper.commit(new_version(), more=f'files."etc/fleet/models.json" = {quoted(text)};')
    refused(keeper.stage.fleet("plan", "one", env=AGENT), 1, "has a gate, and big would come beside its system")


def test_host_that_builds_its_own_system_takes_what_the_derivation_makes(keeper: Keeper) -> None:
    """All else that the system needs has to be built there too, or to come from a cache that the gate trusts."""
    stage = keeper.stage
    keeper.gated(build_on="target")
    keeper.commit(version := new_version())
    plan = keeper.approved("target")
    pushed = stage.fleet("apply", plan, "--json", env=AGENT)
    refused(pushed, 1, "was not built here, and is signed by")
    put(keeper.host, "/root/cache-key", (stage.folder / "cache-key").read_text(), mode="600")
    shell(keeper.host, "nix --extra-experimental-features nix-command store sign --all -k /root/cache-key")
    applied = stage.fleet("apply", plan, env=AGENT)
    keeper.gated()
    assert applied.code == 0, applied
    assert answer(keeper.host) == f"version {version}"


def test_part_for_a_host_that_is_away_is_brought_when_it_is_back(keeper: Keeper) -> None:
    stage, elsewhere = keeper.stage, {"XDG_STATE_HOME": str(keeper.stage.folder / "elsewhere")}
    keeper.gated(offline="defer")
    assert stage.fleet("status", "one").code == 0
    keeper.commit(version := new_version())
    keeper.host.power_off()
    unseen = stage.fleet("plan", "one", env=elsewhere)
    refused(unseen, 0, "was not seen from here since it last changed")
    plan, other = keeper.approved("away"), keeper.approved("other", "--intent", "the same again")
    assert "is planned for as it was seen at" in stage.fleet("show", plan).stdout
    for one in (other, plan):
        applied = stage.fleet("apply", one, "--json", env=AGENT)
        assert (applied.code, applied.outcomes) == (0, {"one": "deferred"}), applied
    keeper.host.power_on()
    delivered = stage.fleet("deliver", "--yes", "--json", env=AGENT)
    assert (delivered.code, delivered.outcomes) == (0, {"one": "kept"}), delivered
    assert answer(keeper.host) == f"version {version}"
    late = stage.fleet("apply", other, "--json", env=AGENT)
    refused(late, 1, "agent-3 from")
    assert late.failure("one")["kind"] == "stale"
    refused(stage.fleet("deliver", "--yes"), 0, "nothing waits")


def test_part_for_a_host_that_was_changed_meanwhile_is_refused_with_what_happened(keeper: Keeper) -> None:
    """What a run has left on the host is known here without another look."""
    stage, elsewhere = keeper.stage, {"XDG_STATE_HOME": str(keeper.stage.folder / "elsewhere")}
    keeper.commit(new_version())
    keeper.toml(user="fleet", gate=True, identity_file=str(stage.folder / "deploy"), offline="defer", port=1)
    plan, taken_back = keeper.approved("stale"), keeper.approved("back", "--intent", "never mind")
    for one in (taken_back, plan):
        assert stage.fleet("apply", one, "--json", env=AGENT).outcomes == {"one": "deferred"}
    keeper.gated(offline="defer")
    back = stage.fleet("rollback", "one", "--yes", env=elsewhere | {"FLEET_INTENT": "in the night"})
    assert back.code == 0, back
    before = answer(keeper.host)
    late = stage.fleet("apply", plan, "--json", env=AGENT)
    refused(late, 1, "in the night")
    assert late.failure("one")["kind"] == "stale"
    stage.fleet("deliver", "--yes")  # either finds that it was overtaken, or is refused in the same way
    refused(stage.fleet("deliver", "--yes"), 0, "nothing waits")
    assert answer(keeper.host) == before
    keeper.gated()


def test_rotation_is_a_change_of_the_gate_that_both_approve(keeper: Keeper) -> None:
    stage = keeper.stage
    keeper.principals("ann")
    keeper.gated(link="slow")
    keeper.commit(version := new_version())
    assert "its gate still trusts the key" in keeper.checked()
    plan = keeper.approved("rotation")
    assert "gate change" in stage.fleet("show", plan).stdout
    applied = stage.fleet("apply", plan, env=AGENT)
    assert applied.code == 0, applied
    assert answer(keeper.host) == f"version {version}"
    assert "still trusts" not in keeper.checked()


def test_lost_key_signs_for_nobody_on_hosts_that_have_forgotten_it(keeper: Keeper) -> None:
    """Though whoever has it writes what they like to their own principals.toml."""
    stage = keeper.stage
    keeper.commit(new_version())
    lost = keeper.plan("lost")
    keeper.principals("ann", "lost")
    signed = stage.fleet("approve", lost, "--yes", "--key", str(stage.folder / "lost"))
    assert signed.code == 0, signed
    refused(stage.fleet("apply", lost, "--json", env=AGENT), 1, "one by a key that nobody here has")
