"""Weights of models come beside the system that names them: fetched once, kept as long as a system names them."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import json
import re
import secrets
import shlex
import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest

from fleet.nix import quoted
from fleet.scripts import one_line
from tests.containers.driver import WEB, Stage, new_version, running, web
from tests.containers.files import shell
from tests.containers.module_units import is_there
from tests.nixos_modules import configured

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet.lab import Lab, LabHost
    from tests.containers.conftest import MakeLab

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
ROOTS = "/nix/var/nix/gcroots/fleet-models"
MIB = 1 << 20
SEED = secrets.token_hex(8)
"""No model of an earlier run is the same: it would be in the store of this machine."""


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("one", "two", "three")


class Weights(http.server.SimpleHTTPRequestHandler):
    """A server for files, which remembers what was fetched."""

    fetched: list[str] = []  # noqa: RUF012 - of all requests

    def do_GET(self) -> None:
        self.fetched.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """An address, and the folder that is served there."""
    folder = tmp_path_factory.mktemp("weights")
    handler = functools.partial(Weights, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}", folder
        serving.shutdown()
        thread.join()


def weights(server: tuple[str, Path], name: str, size: int = MIB, **more: Any) -> dict[str, Any]:
    """Settings of a model that the server has: `size` bytes that no other has."""
    address, folder = server
    digest = hashlib.sha256()
    with (folder / name).open("wb") as file:
        for number in range(0, size, MIB):
            block = hashlib.shake_128(f"{SEED} {name} {number}".encode()).digest(min(MIB, size - number))
            digest.update(block)
            file.write(block)
    found = f"sha256-{base64.b64encode(digest.digest()).decode()}"
    return {"url": f"{address}/{name}", "hash": found, "license": "mit", "size": size, "inClosure": False, **more}


def system(models: dict[str, dict[str, Any]]) -> tuple[str, dict[str, str]]:
    """A lab system with what the module makes of these models, and the store path of each."""
    text = quoted(json.dumps({"services": {"fleet": {"models": {"weights": models}}}}))
    wanted = """{
      list = config.environment.etc."fleet/models.json".text; unit = config.systemd.services.fleet-models;
      inherit (config.system) systemBuilderArgs;
    }"""
    found = configured(("models",), f"builtins.fromJSON {text}", wanted)
    unit = found["unit"]
    more = f"""
      builderArgs.fleetModels = {quoted(found["systemBuilderArgs"]["fleetModels"])};
      files."etc/fleet/models.json" = {quoted(found["list"])};
      files."etc/fleet/look-for-models" = {quoted(unit["script"])};
      services.fleet-models = {{
        exec = "/bin/sh -eu /etc/fleet/look-for-models";
        service = {{ Type = "oneshot"; RemainAfterExit = true;
          Environment = [ "PATH=/usr/bin:/bin" ''"MODELS={unit["environment"]["MODELS"]}"'' ]; }};
      }};
    """
    paths = {model["name"]: model["path"] for model in json.loads(found["list"])["models"]}
    return web(new_version(), more=more), paths


def roots(host: LabHost) -> set[str]:
    return set(shell(host, f"ls {ROOTS}").split())


def name_of(path: str) -> str:
    return path.rpartition("/")[2]


def at_one_site(stage: Stage, *names: str) -> None:
    """These hosts are at one site, where they reach each other."""
    hosts = {}
    for name in names:
        container = stage.host(name).container
        container.reload()
        (network,) = container.attrs["NetworkSettings"]["Networks"].values()
        hosts[name] = {"checks": [WEB], "site": "fra", "site_address": f"{network['IPAddress']}:7397"}
    stage.toml(hosts)


def test_a_model_is_fetched_once_and_crosses_the_link_to_a_site_once_for_three_hosts(
    stage: Stage, server: tuple[str, Path]
) -> None:
    names = ("one", "two", "three")
    at_one_site(stage, *names)
    nix, paths = system({"shared.gguf": weights(server, "shared", 200 * MIB)})
    for name in names:
        stage.write(name, nix)
    run = stage.deploy(*names)
    assert run.outcomes == dict.fromkeys(names, "kept"), run
    assert Weights.fetched.count("/shared") == 1
    told = [note["message"] for note in run.told("finding_reported", kind="models")]
    assert told == ["gets shared.gguf (200 MiB, mit)"] * 3
    notes = [note["message"] for note in run.told("finding_reported", kind="site")]
    assert [note.split(" with ")[1].split(" from ")[0] for note in notes] == ["200 MiB"] * 2, notes
    assert 200 * MIB < sum(push["wire_bytes"] for push in run.told("push_finished")) < 210 * MIB
    for name in names:
        host = stage.host(name)
        assert is_there(host, paths["shared.gguf"])
        assert roots(host) == {name_of(paths["shared.gguf"])}
        assert paths["shared.gguf"] not in shell(host, f"nix-store -qR {running(host)}").split()
        assert host.exec("test", "-e", "/run/fleet-site", check=False).status == 1
        assert shell(host, "systemctl list-units --all --no-legend 'fleet-site*'") == ""


def test_a_door_for_a_site_gives_nothing_but_its_paths_and_only_for_its_token(stage: Stage) -> None:
    giver, other = stage.host("one"), stage.host("two")
    system, token = running(giver), secrets.token_hex(32)
    serve, close = (shlex.quote(one_line("fleet.steps", f"site-{name}")) for name in ("serve", "close"))
    opens = shlex.quote(one_line("fleet.steps", "site-open"))
    shell(giver, f"echo {system} | sh -c {opens} sh {token} 7397 {serve} {close} 60")
    container = giver.container
    container.reload()
    (network,) = container.attrs["NetworkSettings"]["Networks"].values()

    def given(said: str) -> int:
        """How many bytes somebody gets there who says this."""
        asked = f"exec 3<>/dev/tcp/{network['IPAddress']}/7397; printf %s {shlex.quote(said)} >&3; timeout 20 wc -c <&3"
        return int(other.exec("bash", "-c", asked, check=False).stdout or -1)

    size = int(shell(giver, f"nix-store --query --size {system}"))
    assert given(token) == size
    assert given(token + "/etc/shadow") == size
    wrong = [
        "0" * 64,
        "../" * 19 + "serve..",
        "serve" + "\n" * 59,
        "*" * 64,
        "GET / HTTP/1.1\r\n\r\n" + " " * 46,
        token.upper(),
    ]
    assert [given(said) for said in wrong if said != token] == [0] * len(wrong)
    assert shell(giver, f"stat -c '%a %U' /run/fleet-site /run/fleet-site/{token}") == "711 root\n644 root"
    assert other.exec("sh", "-c", f"test -e /run/fleet-site/{token}", check=False).status == 1
    shell(giver, f"sh -c {close} sh {token}")
    assert given(token) == -1
    assert shell(giver, "systemctl list-units --all --no-legend 'fleet-site*'") == ""


@pytest.mark.long
def test_what_is_damaged_at_the_giver_is_pushed(stage: Stage, server: tuple[str, Path]) -> None:
    stage.toml({"one": {"checks": [WEB]}})
    models = {"damaged.gguf": weights(server, "damaged", 8 * MIB)}
    nix, paths = system(models)
    stage.write("one", nix)
    assert stage.deploy("one").outcomes == {"one": "kept"}
    path = paths["damaged.gguf"]
    shell(stage.host("one"), f"chmod u+w {path}; printf x | dd of={path} conv=notrunc status=none; chmod u-w {path}")
    at_one_site(stage, "one", "two")
    nix, _ = system({**models, "whole.gguf": weights(server, "whole", 8 * MIB)})
    for name in ("one", "two"):
        stage.write(name, nix)
    run = stage.deploy("one", "two")
    assert run.outcomes == {"one": "kept", "two": "kept"}, run
    (note,) = run.told("finding_reported", kind="site")
    assert note["message"].startswith("nothing came from one, so it is pushed: ")
    assert shell(stage.host("two"), f"nix-store --verify-path {path} && echo whole") == "whole"


def test_another_version_is_in_the_diff_and_goes_back_with_the_system(stage: Stage, server: tuple[str, Path]) -> None:
    host = stage.host("one")
    stage.toml({"one": {"checks": [WEB]}})
    nix, old = system({"small.gguf": weights(server, "small-1")})
    stage.write("one", nix)
    assert stage.deploy("one").outcomes == {"one": "kept"}
    nix, new = system({"small.gguf": weights(server, "small-2", license="apache-2.0")})
    stage.write("one", nix)
    diff = stage.fleet("diff", "one")
    assert "fleet/models.json" in diff.stdout
    assert new["small.gguf"][11:20] in diff.stdout or "apache-2.0" in diff.stdout
    run = stage.deploy("one")
    assert run.outcomes == {"one": "kept"}
    (note,) = run.told("finding_reported", kind="models")
    assert note["message"] == "gets small.gguf (1 MiB, apache-2.0)"
    shell(host, "nix-store --gc >/dev/null 2>&1")
    assert is_there(host, old["small.gguf"])
    assert stage.fleet("rollback", "one", "--yes").code == 0
    assert old["small.gguf"] in shell(host, "cat /run/current-system/etc/fleet/models.json")
    assert shell(host, "systemctl is-active fleet-models") == "active"


@pytest.mark.long
def test_a_model_goes_with_the_last_system_that_names_it(stage: Stage, server: tuple[str, Path]) -> None:
    host = stage.host("two")
    stage.toml({"two": {"checks": [WEB], "keep_generations": 1}})
    nix, first = system({"first.gguf": weights(server, "first")})
    stage.write("two", nix)
    assert stage.deploy("two").outcomes == {"two": "kept"}
    last: dict[str, str] = {}
    for name in ("second", "third"):
        nix, last = system({f"{name}.gguf": weights(server, name)})
        stage.write("two", nix)
        assert stage.deploy("two").outcomes == {"two": "kept"}
    assert is_there(host, first["first.gguf"])
    shell(host, f"touch -h -d '2 days ago' {ROOTS}/*")
    told = stage.document("gc", "two", "--dry-run")["hosts"][0]
    assert told["bytes"] > MIB
    assert stage.fleet("gc", "two", "--yes").code == 0
    assert not is_there(host, first["first.gguf"])
    assert is_there(host, last["third.gguf"])
    assert {re.sub(r"^[^-]*-", "", name) for name in roots(host)} == {"second.gguf", "third.gguf"}


@pytest.mark.long
def test_a_system_whose_model_is_gone_is_not_kept(stage: Stage, server: tuple[str, Path]) -> None:
    """Somebody has brought the system by another way, which knows nothing of models."""
    host = stage.host("one")
    stage.settle("one")
    before = running(host)
    nix, paths = system({"lost.gguf": weights(server, "lost")})
    stage.write("one", nix)
    stage.toml({"one": {"checks": [WEB]}})
    closure = stage.document("build", "one")["hosts"][0]["closure"]
    assert stage.fleet("push", "one", "--json").outcomes == {"one": "staged"}
    shell(host, f"rm {ROOTS}/{name_of(paths['lost.gguf'])}; nix-store --delete {paths['lost.gguf']}")
    profile = "/nix/var/nix/profiles/system"
    shell(host, f"nix-env -p {profile} --set {closure}; nix-env -p {profile} --rollback")
    number = max(int(found) for found in re.findall(r"system-(\d+)-link", shell(host, f"ls {profile}-*")))
    run = stage.fleet("rollback", "one", "--to", str(number), "--yes", "--json")
    assert run.outcomes == {"one": "rolled_back"}, run
    assert running(host) == before


def test_a_host_that_builds_its_own_system_gets_the_models_beside_it(stage: Stage, server: tuple[str, Path]) -> None:
    host = stage.host("one")
    stage.toml({"one": {"checks": [WEB], "build_on": "target"}})
    nix, paths = system({"there.gguf": weights(server, "there", 4 * MIB)})
    stage.write("one", nix)
    made = stage.folder / "plan"
    planned = stage.fleet("plan", "one", "-o", str(made))
    assert "gets there.gguf (4 MiB, mit)" in planned.stdout, planned
    assert not is_there(host, paths["there.gguf"])
    run = stage.start("apply", str(made), "--yes", "--json").end()
    assert run.outcomes == {"one": "kept"}, run
    assert is_there(host, paths["there.gguf"])
    assert name_of(paths["there.gguf"]) in roots(host)
    nix, more = system({"next.gguf": weights(server, "next"), "there.gguf": weights(server, "there", 4 * MIB)})
    stage.write("one", nix)
    assert stage.deploy("one", "--copy-with", "nix").outcomes == {"one": "kept"}
    assert is_there(host, more["next.gguf"])


def test_a_model_that_cannot_be_fetched_is_no_matter_of_other_hosts(stage: Stage, server: tuple[str, Path]) -> None:
    before = running(stage.host("two"))
    stage.toml({"one": {"checks": [WEB]}, "two": {"checks": [WEB]}})
    wrong = {**weights(server, "wrong"), "hash": "sha256-" + "B" * 43 + "="}
    stage.write("two", system({"wrong.gguf": wrong})[0])
    stage.write("one", system({"right.gguf": weights(server, "right")})[0])
    run = stage.deploy("one", "two")
    assert (run.code, run.outcomes) == (1, {"one": "kept", "two": "failed"}), run
    failure = run.failure("two")
    assert (failure["kind"], failure["now"]) == ("build", "nothing was changed")
    assert failure["message"].startswith("wrong.gguf cannot be fetched from http://127.0.0.1")
    assert running(stage.host("two")) == before
    assert stage.deploy("one", "two", "--all-or-nothing").outcomes["two"] == "failed"


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        pytest.param(
            {"hash": "sha256-" + "A" * 43 + "="}, 3, "cannot be fetched from http://127.0.0.1", marks=pytest.mark.long
        ),
        pytest.param(
            {"size": MIB + 1}, 2, f"has {MIB} bytes, and the configuration says {MIB + 1}", marks=pytest.mark.long
        ),
        pytest.param({"size": 1 << 60}, 2, "are free on this machine's /nix", marks=pytest.mark.long),
        ({"vram": 8000}, 1, "needs 8000 MiB on GPUs, and nvidia-smi does not answer"),
    ],
)
def test_what_cannot_be_had_is_refused_before_the_host_changes(
    stage: Stage, server: tuple[str, Path], more: dict[str, Any], code: int, said: str
) -> None:
    host = stage.host("two")
    before = running(host)
    stage.toml({"two": {"checks": [WEB]}})
    name = f"bad-{next(iter(more))}-{more.get('size', 0)}"
    stage.write("two", system({f"{name}.gguf": {**weights(server, name), **more}})[0])
    run = stage.fleet("plan", "two")
    assert run.code == code, run
    assert said in run.stdout + run.stderr, run
    assert running(host) == before
    assert all("bad-" not in root for root in roots(host))
