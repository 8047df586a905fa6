"""The example fleet as Nix sees it: with a stand-in for nixpkgs, and with its real lib where that is given."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w

from fleet import inventory, nix
from fleet.model import HostName
from tests.nixos_modules import DATA, MODULES, ROOT, RefusedError, run, value_of, warned

if TYPE_CHECKING:
    from pathlib import Path

NIX_FILES = sorted(
    path
    for path in ROOT.rglob("*.nix")
    if not any(part.startswith(".") or part == "lab" for part in path.relative_to(ROOT).parts[:1])
)
PARTS = ("flake.nix", "flake.lock", "fleet.toml", "hosts", "modules")
PROGRAM = ("pyproject.toml", "docs/template", "riglets", "tests/nixos")
NIXPKGS = """
{
  outputs = { self }:
    let
      derivationOf = system: name: derivation { inherit system name; builder = "/bin/sh"; args = [ "-c" ">$out" ]; };
      names = [ "git" "mypy" "openssh" "python3" "ruff" "shellcheck" "nixfmt-tree" ];
      packages = system:
        builtins.listToAttrs (map (name: { inherit name; value = derivationOf system name; }) names) // {
          stdenv.hostPlatform = { inherit system; };
          callPackage = file: arguments: derivationOf system (baseNameOf file);
          mkShell = arguments: derivationOf system "shell" // { inherit arguments; };
          testers.runNixOSTest = test: derivationOf system "test";
          cudaPackages = builtins.listToAttrs (map (name: { inherit name; value = name; }) [
            "cuda_nvcc" "cuda_cudart" "libcublas"
          ]);
        };
    in
    {
      lib.nixosSystem = given: {
        inherit given;
        pkgs = packages "x86_64-linux";
        config.system.build.toplevel = derivationOf "x86_64-linux" "system";
      };
      legacyPackages = { x86_64-linux = packages "x86_64-linux"; aarch64-linux = packages "aarch64-linux"; };
    };
}
"""

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")


@pytest.fixture
def flake(tmp_path: Path) -> Path:
    """A copy of the flake without the rest of the repository, and stand-ins for its inputs beside it."""
    copy = tmp_path / "flake"
    copy.mkdir()
    for part in (*PARTS, *PROGRAM):
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, copy / part, dirs_exist_ok=True)
        else:
            shutil.copy(ROOT / part, copy)
    (tmp_path / "nixpkgs").mkdir()
    (tmp_path / "nixpkgs" / "flake.nix").write_text(NIXPKGS)
    hardware(tmp_path / "nixos-hardware")
    return copy


def hardware(folder: Path) -> Path:
    """As much of nixos-hardware as the example needs is in the folder: files, of which none is a flake."""
    (folder / "raspberry-pi" / "4").mkdir(parents=True)
    (folder / "raspberry-pi" / "4" / "default.nix").write_text("{ }")
    return folder


def with_stand_ins(flake: Path) -> list[str]:
    flags = ["--no-write-lock-file"]
    for name in ("nixpkgs", "nixos-hardware"):
        flags += ["--override-input", name, f"path:{flake.parent / name}"]
    return flags


def evaluate(flake: Path, output: str, apply: str) -> Any:
    return json.loads(
        run(*nix.NIX, "eval", "--json", f"path:{flake}#{output}", "--apply", apply, *with_stand_ins(flake))
    )


@pytest.mark.parametrize("path", NIX_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_nix_file_parses(path: Path) -> None:
    run("nix-instantiate", "--parse", str(path))


def test_the_lock_file_is_accepted_without_a_network(flake: Path) -> None:
    described = json.loads(run(*nix.NIX, "flake", "metadata", "--json", "--no-update-lock-file", f"path:{flake}"))
    nodes = described["locks"]["nodes"]
    assert set(nodes["root"]["inputs"]) == {"nixpkgs", "nixos-hardware"}
    assert nodes == json.loads((ROOT / "flake.lock").read_text())["nodes"]


def test_the_lock_file_claims_no_inputs_of_inputs(flake: Path) -> None:
    """What an input of ours has as inputs changes with its revision, and nobody here can look."""
    nodes = json.loads((ROOT / "flake.lock").read_text())["nodes"]
    assert {name for name, node in nodes.items() if node.get("inputs")} == {"root"}
    done = warned(*nix.NIX, "flake", "metadata", "--json", "--no-update-lock-file", f"path:{flake}")
    assert "non-existent input" not in done


def test_there_is_one_configuration_for_each_host_of_fleet_toml(flake: Path) -> None:
    hosts = inventory.load(ROOT / "fleet.toml").hosts
    assert evaluate(flake, "nixosConfigurations", "builtins.attrNames") == sorted(hosts)


def test_fleet_finds_the_closures_of_the_example(flake: Path) -> None:
    hosts = inventory.load(ROOT / "fleet.toml").hosts.values()
    attributes = " ".join(f"{nix.quoted(host.name)} = o.{'.'.join(map(nix.quoted, host.attr[1:]))};" for host in hosts)
    found = evaluate(flake, "nixosConfigurations", f"o: builtins.mapAttrs (_: c: c.drvPath) {{ {attributes} }}")
    assert set(found) == {host.name for host in hosts}


def test_a_host_without_a_folder_is_named(flake: Path) -> None:
    shutil.rmtree(flake / "hosts" / "pi-edge")
    apply = "hosts: map builtins.typeOf hosts.pi-edge.given.modules"
    with pytest.raises(RefusedError, match=r"has a host pi-edge, and there is no folder \S+/hosts/pi-edge"):
        evaluate(flake, "nixosConfigurations", apply)


def test_lib_and_modules_need_no_input(flake: Path) -> None:
    for output in ("lib", "nixosModules"):
        run(*nix.NIX, "eval", "--json", f"path:{flake}#{output}", "--apply", "builtins.attrNames")


def test_the_flake_check_of_old_nix_passes(flake: Path) -> None:
    run(*nix.NIX, "flake", "check", "--no-build", f"path:{flake}", *with_stand_ins(flake))


def test_the_template_makes_its_host(flake: Path) -> None:
    template = flake.parent / "template"
    shutil.copytree(ROOT / "docs" / "template", template)
    flags = ["--no-write-lock-file", "--override-input", "fleet", f"path:{flake}"]
    flags += ["--override-input", "nixpkgs", f"path:{flake.parent / 'nixpkgs'}"]
    flags += ["--override-input", "fleet/nixos-hardware", f"path:{flake.parent / 'nixos-hardware'}"]
    names = run(
        *nix.NIX, "eval", "--json", f"path:{template}#nixosConfigurations", "--apply", "builtins.attrNames", *flags
    )
    assert json.loads(names) == list(inventory.load(template / "fleet.toml").hosts)


def test_the_package_is_described_by_pyproject_toml() -> None:
    text = f"""
      let
        # The real one needs a newer Nix than the oldest that fleet works with.
        fileset = {{ unions = lib.id; toSource = from: from.fileset; }};
        names = lib.genAttrs [
          "asyncssh" "backports-zstd" "click" "google-re2" "h11" "hatchling" "mcp" "pydantic" "rich" "testcontainers"
          "tomli-w"
        ];
        python3Packages = names (name: name) // {{ buildPythonApplication = lib.id; pythonOlder = _: true; }};
        package = import {ROOT}/modules/lib/package.nix {{
          inherit python3Packages;
          lib = lib // {{ inherit fileset; }};
          gitMinimal = "/git";
          installShellFiles = "/install-shell-files";
          openssh = "/openssh";
        }};
      in
      {{
        inherit (package) pname version dependencies;
        inherit (package.meta) mainProgram;
        license = package.meta.license.spdxId;
        files = map baseNameOf package.src;
      }}
    """
    package = value_of(text)
    assert package["license"] == "MIT"
    assert (package["pname"], package["mainProgram"]) == ("fleet", "fleet")
    assert set(package["files"]) == {"LICENSE", "README.md", "fleet", "pyproject.toml"}
    dependencies = "asyncssh click google-re2 h11 pydantic rich tomli-w backports-zstd"
    assert package["dependencies"] == dependencies.split()


def names(dependencies: list[str]) -> set[str]:
    """The distributions of these requirements."""
    return {re.split(r"[^A-Za-z0-9-]", dependency)[0] for dependency in dependencies}


def test_the_package_needs_what_pyproject_toml_does() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    package = (ROOT / "modules/lib/package.nix").read_text()
    lists = re.findall(r"(\S+) =\s*with python3Packages;\s*\[([^]]*)\]", package)
    listed = {name: set(words.split()) for name, words in lists}
    assert listed.pop("dependencies") == names(project["dependencies"])
    assert set(listed) == {"scale", "serve"}
    for extra, packages in listed.items():  # nixpkgs has more packages where a distribution has extras of its own
        assert packages >= names(project["optional-dependencies"][extra]), extra


SHELLS = "builtins.mapAttrs (_: builtins.attrNames)"


def test_only_systems_with_a_gpu_host_have_a_shell_for_cuda(flake: Path) -> None:
    assert evaluate(flake, "devShells", SHELLS) == {"x86_64-linux": ["cuda", "default"], "aarch64-linux": ["default"]}
    packages = "shells: map (p: p.name or p) shells.x86_64-linux.cuda.arguments.packages"
    assert evaluate(flake, "devShells", packages) == ["cuda_nvcc", "cuda_cudart", "libcublas"]


def test_the_checks_have_a_test_on_virtual_machines(flake: Path) -> None:
    names = ["deploy", "fleet"]
    assert evaluate(flake, "checks", SHELLS) == {"x86_64-linux": names, "aarch64-linux": names}


def test_the_example_can_be_taken_without_the_program(flake: Path) -> None:
    for part in PROGRAM:
        shutil.rmtree(flake / part) if (flake / part).is_dir() else (flake / part).unlink()
    hosts = inventory.load(ROOT / "fleet.toml").hosts
    assert evaluate(flake, "nixosConfigurations", "builtins.attrNames") == sorted(hosts)
    run(*nix.NIX, "flake", "check", "--no-build", f"path:{flake}", *with_stand_ins(flake))
    assert [
        evaluate(flake, output, "builtins.attrNames") for output in ("checks", "packages", "riglets", "templates")
    ] == [[]] * 4


def test_each_module_is_an_output(flake: Path) -> None:
    modules = sorted(path.stem for path in (ROOT / "modules").glob("*.nix"))
    assert evaluate(flake, "nixosModules", "builtins.attrNames") == sorted([*modules, "default"])
    count = evaluate(flake, "nixosModules", "modules: builtins.length modules.default.imports")
    assert count == len(modules)


def test_lib_and_one_module_fetch_no_input(flake: Path, tmp_path: Path) -> None:
    """Their inputs cannot be had here: a fetch would fail, and Nix would say so."""
    consumer = tmp_path / "consumer"
    consumer.mkdir()
    (consumer / "flake.nix").write_text(f"""{{
      inputs.fleet.url = "path:{flake}";
      outputs = {{ fleet, ... }}: {{ found = {{
        make = builtins.isFunction fleet.lib.mkFleet;
        module = map builtins.typeOf fleet.nixosModules.base.imports;
      }}; }};
    }}""")
    found = run(*nix.NIX, "eval", "--json", "--no-write-lock-file", f"path:{consumer}#found")
    assert json.loads(found) == {"make": True, "module": ["path"]}


def fleet_of(tmp_path: Path, toml: str, **hosts: str) -> str:
    """`mkFleet` with stand-ins for NixOS's options, and all modules."""
    (tmp_path / "fleet.toml").write_text(toml)
    for name, text in hosts.items():
        (tmp_path / "hosts" / name.replace("_", "-")).mkdir(parents=True)
        (tmp_path / "hosts" / name.replace("_", "-") / "default.nix").write_text(text)
    return f"""
      let
        nixpkgs.lib.nixosSystem = {{ modules, specialArgs }}: lib.evalModules {{
          inherit specialArgs;
          modules = modules ++ [
            {DATA}/options.nix {DATA}/journald-26.11.nix
            {{ _module.args.pkgs = import {DATA}/packages.nix {{ inherit lib; }}; }}
          ];
        }};
        failed = c: map (a: a.message) (lib.filter (a: !a.assertion) c.config.assertions);
        fleet = import {ROOT}/modules/lib/mk-fleet.nix {{
          inherit nixpkgs;
          inventory = {tmp_path}/fleet.toml;
          hosts = {tmp_path}/hosts;
          modules = [ {ROOT}/modules/gpu.nix ];
        }};
      in
    """


def test_every_host_has_its_name_and_system(tmp_path: Path) -> None:
    toml = '[defaults]\nsystem = "aarch64-linux"\n[hosts."a.example.org"]\n[hosts.b]\nsystem = "x86_64-linux"\n'
    text = fleet_of(tmp_path, toml, b="{ }").replace("hosts/b", "hosts/b")
    (tmp_path / "hosts" / "a.example.org").mkdir()
    (tmp_path / "hosts" / "a.example.org" / "default.nix").write_text("{ }")
    facts = "lib.mapAttrs (_: c: [ c.config.networking.hostName c.config.nixpkgs.hostPlatform.system ]) fleet"
    assert value_of(text + facts) == {"a.example.org": ["a", "aarch64-linux"], "b": ["b", "x86_64-linux"]}
    profile = """{ lib, ... }: {
      networking.hostName = lib.mkDefault ""; nixpkgs.hostPlatform = lib.mkDefault "aarch64-linux"; }"""
    (tmp_path / "hosts" / "b" / "default.nix").write_text(profile)
    assert value_of(text + facts)["b"] == ["", "aarch64-linux"]


def test_the_hosts_of_the_example_fit_the_modules_and_say_which_key_to_replace(tmp_path: Path) -> None:
    """As far as that can be told without NixOS: what our modules do not set is taken as it is."""
    text = f"""
      let
        pkgs = import {DATA}/packages.nix {{ inherit lib; }} // {{ git = 1; ollama-cuda = 1; }};
        nixpkgs.lib.nixosSystem = {{ modules, specialArgs }}: lib.evalModules {{
          inherit specialArgs;
          modules = modules ++ [
            {DATA}/options.nix {DATA}/journald-26.11.nix
            {{ _module.freeformType = lib.types.attrsOf lib.types.anything; _module.args.pkgs = pkgs; }}
          ];
        }};
        fleet = import {ROOT}/modules/lib/mk-fleet.nix {{
          inherit nixpkgs;
          inventory = {ROOT}/fleet.toml;
          hosts = {ROOT}/hosts;
          modules = map (name: {ROOT}/modules + "/${{name}}.nix") [ {" ".join(f'"{name}"' for name in MODULES)} ]
            ++ [ {{ services.fleet.gc.program = "/nix/store/x-fleet-host"; }} ];  # as the flake does
          specialArgs.nixos-hardware = "{hardware(tmp_path / "nixos-hardware")}";
        }};
      in
      lib.mapAttrs (_: c: {{
        failed = map (a: a.message) (lib.filter (a: !a.assertion) c.config.assertions);
        inherit (c.config) warnings fileSystems system;
        gc = c.config.services.fleet.gc.enable;
        keys = c.config.users.users.deploy.openssh.authorizedKeys.keys;
        luks = c.config.boot.initrd.luks.devices or {{ }};
        watchdog = c.config.systemd.settings.Manager;
      }}) fleet
    """
    hosts = value_of(text)
    assert set(hosts) == set(inventory.load(ROOT / "fleet.toml").hosts)
    for host in hosts.values():
        assert host["failed"] == []
        assert ["key of the example" in warning for warning in host["warnings"]] == [True]
        assert "/" in host["fileSystems"]
        assert host["system"]["stateVersion"]
        assert host["gc"]
    assert hosts["laptop"]["fileSystems"]["/"]["device"] == "/dev/mapper/root"
    assert list(hosts["laptop"]["luks"]) == ["root"]
    assert hosts["pi-edge"]["watchdog"]["RuntimeWatchdogSec"] == "30s"


def test_the_page_of_the_example_names_each_file_with_lines_to_replace() -> None:
    rows = re.findall(
        r"^\| `((?:fleet\.toml|hosts/)[^`]*)` \|", (ROOT / "docs" / "example.md").read_text(), re.MULTILINE
    )
    marked = {path for path in (ROOT / "hosts").rglob("*.nix") if "# yours" in path.read_text()}
    marked |= {path for path in (ROOT / "fleet.toml",) if "# yours" in path.read_text()}
    # The card of the Raspberry Pi is as its image makes it.
    assert marked == {path for row in rows for path in ROOT.glob(row)} - {ROOT / "hosts/pi-edge/disks.nix"}
    addresses = [line for line in (ROOT / "fleet.toml").read_text().splitlines() if line.startswith("address")]
    assert all(line.endswith("# yours") for line in addresses)


def test_the_driver_that_a_host_demands_is_the_one_that_its_check_demands() -> None:
    (check,) = [check for check in inventory.load(ROOT / "fleet.toml").hosts[HostName("gpu-01")].checks if check.gpu]
    assert f'minDriver = "{check.min_driver}"' in (ROOT / "hosts" / "gpu-01" / "default.nix").read_text()


GPU = '{ services.fleet.gpu = { enable = true; capabilities = [ "%s" ]; }; }'


def test_gpu_hosts_of_one_tag_may_not_differ(tmp_path: Path) -> None:
    toml = """[defaults]
kind = "gpu"
[hosts.gpu-1]
tags = ["prod", "train"]
[hosts.gpu-2]
tags = ["train"]
[hosts.gpu-3]
tags = ["other"]
[hosts.a-server]
kind = "server"
tags = ["train"]
"""
    text = fleet_of(tmp_path, toml, gpu_1=GPU % "9.0", gpu_2=GPU % "8.9", gpu_3=GPU % "8.6", a_server=GPU % "7.0")
    found = value_of(text + "lib.mapAttrs (_: failed) fleet")
    assert [len(found[host]) for host in ("gpu-1", "gpu-2", "gpu-3", "a-server")] == [0, 1, 0, 0]
    (message,) = found["gpu-2"]
    assert "gpu-2 and gpu-1 are both tagged train" in message
    assert "different tags in fleet.toml" in message
    (tmp_path / "hosts" / "gpu-2" / "default.nix").write_text(GPU % "9.0")
    assert value_of(text + "failed fleet.gpu-2") == []


def test_the_test_on_virtual_machines_is_a_test(tmp_path: Path) -> None:
    """Its script is Python, and its hosts are what the modules accept; only the machines are missing."""
    (tmp_path / "nixos" / "tests").mkdir(parents=True)
    keys = '_: { snakeOilEd25519PublicKey = "ssh-ed25519 AAAA me"; snakeOilEd25519PrivateKey = "/key"; }'
    (tmp_path / "nixos" / "tests" / "ssh-keys.nix").write_text(keys)
    text = f"""
      let
        test = import {ROOT}/tests/nixos/deploy.nix {{
          inherit lib;
          fleet = "fleet";
          nixosModules = {{ base = {ROOT}/modules/base.nix; guard = {ROOT}/modules/guard.nix; }};
          pkgs = {{
            path = {tmp_path};
            jq = "jq";
            coreutils = "coreutils";
            formats.toml = _: {{ generate = _: value: value; }};
          }};
        }};
        nodes.target.system.build.toplevel = "/nix/store/x-system";
        controller = test.nodes.controller {{ inherit nodes; }};
      in
      {{
        script = test.testScript {{ inherit nodes; }};
        toml = controller.environment.etc."fleet/fleet.toml".source;
        variants = lib.attrNames test.nodes.target.specialisation;
        base = test.nodes.target.services.fleet.base;
      }}
    """
    found = value_of(text)
    compile(found["script"], "testScript", "exec")
    (tmp_path / "fleet.toml").write_text(tomli_w.dumps(found["toml"]))
    assert list(inventory.load(tmp_path / "fleet.toml").hosts) == ["target"]
    switches = set(re.findall(r"""(?:deploy|closure)\(["'](\w+)["']\)""", found["script"]))
    assert switches == set(found["variants"])
    assert found["base"] == {"enable": True, "authorizedKeys": ["ssh-ed25519 AAAA me"]}
