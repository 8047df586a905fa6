"""A folder that colmena, deploy-rs, morph and fleet deploy a closure from, as people's own flakes say it to them.

Evaluation costs each of them what their own way of asking costs: the systems are in the store already, and of nixpkgs
there is its library and what the deployers ask for besides.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from tests.bench.closures import ask

if TYPE_CHECKING:
    from tests.bench.hosts import Hosts

STAND_IN = Path(__file__).with_name("stand_in")
COLMENA = ("eval.nix", "options.nix", "modules.nix")
"""Files of colmena's own sources, with which a flake makes its `colmenaHive`."""


def written(hosts: Hosts, closure: str) -> Path:
    """The folder; it is written once for the same hosts and closure.

    `PEERS_FROM` names the folder with the peers, as docs/bench.md lays them there; what it lacks is left out.
    """
    folder = hosts.folder / f"flake-{hashlib.sha256(closure.encode()).hexdigest()[:8]}"
    if not folder.exists():
        shutil.copytree(STAND_IN, folder, ignore=shutil.ignore_patterns("nixpkgs"))
        _fill(folder, hosts, closure)
    return folder


def _fill(folder: Path, hosts: Hosts, closure: str) -> None:
    system = f"{platform.machine()}-linux"
    sources = Path(os.environ.get("PEERS_FROM", ""))
    for name in COLMENA:
        if (file := sources / "colmena/src/nix/hive" / name).is_file():
            (folder / "colmena").mkdir(exist_ok=True)
            shutil.copy(file, folder / "colmena")
    activate = sources / "deploy-rs/target/release/activate"
    (derivation,) = ask("nix-store", "--query", "--deriver", closure)
    nixpkgs = _nixpkgs(hosts, system)
    given = {
        "hosts": hosts.names,
        "system": system,
        "closure": closure,
        "derivation": derivation,
        "nixpkgs": str(nixpkgs),
        "sshConfig": str(hosts.ssh_config),
        "activate": _added(activate, hosts.folder) if activate.is_file() else "",
    }
    (folder / "given.json").write_text(json.dumps(given))
    flake = folder / "flake.nix"
    flake.write_text(flake.read_text().replace("@nixpkgs@", str(nixpkgs)))
    shutil.copy(hosts.ssh_config, folder / "ssh_config")
    document = tomllib.loads(Path(hosts.inventory).read_text())
    document["fleet"]["flake"] = f"path:{folder}"
    document["defaults"] |= {"settle": "0s", "system": system}
    (folder / "fleet.toml").write_text(tomli_w.dumps(document))
    _nix("flake", "lock", f"path:{folder}")


def _nixpkgs(hosts: Hosts, system: str) -> Path:
    """The stand-in, with the library that `FLEET_NIXPKGS_LIB` names."""
    library = os.environ.get("FLEET_NIXPKGS_LIB", "")
    if not library:
        raise SystemExit("{flake} needs nixpkgs' library: FLEET_NIXPKGS_LIB names its folder lib")
    folder = hosts.folder / "nixpkgs"
    if not folder.exists():
        shutil.copytree(STAND_IN / "nixpkgs", folder)
        shutil.copytree(library, folder / "lib", ignore=shutil.ignore_patterns("tests"))
        (folder / "bin").mkdir()
        shutil.copy(hosts.lab.folder.path / "bin/busybox", folder / "bin")
        flake = folder / "flake.nix"
        flake.write_text(flake.read_text().replace("@system@", system))
    return folder


def _added(program: Path, folder: Path) -> str:
    """The store path of a folder with this program, without what only a debugger reads."""
    there = folder / "deploy-rs"
    there.mkdir(exist_ok=True)
    subprocess.run(["strip", "-o", there / "activate", program], check=True)
    (path,) = ask("nix-store", "--add", str(there))
    return path


def _nix(*words: str) -> None:
    argv = ["nix", "--extra-experimental-features", "nix-command flakes", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} failed:\n{done.stderr[-2000:]}")
