"""Runs `fleet` on a lab host itself: with the Python of this machine, since the host has none."""

from __future__ import annotations

import importlib.metadata
import io
import json
import re
import shlex
import subprocess
import sys
import sysconfig
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from tests.containers.driver import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fleet.lab import Lab, LabHost

PLACE = "/opt/fleet"
SOURCE = Path(__file__).parents[2] / "fleet"
UNUSED = re.compile(r"/_tkinter|/(?:test|idlelib|ensurepip|lib2to3|tkinter|site-packages|dist-packages|config-[^/]*)/")
"""Of Python's own library."""


@dataclass
class Inside:
    """The `fleet` on a lab host, of the user `deploy`, who has a copy of the lab's folder."""

    lab: Lab
    host: LabHost
    user: str = "deploy"

    @classmethod
    def on(cls, lab: Lab, name: str) -> Inside:
        """It is there, and the host has the public half of its key, as NixOS makes it."""
        host = lab.host(name)
        host.container.put_archive("/", _tar(_program()))
        inside = cls(lab, host)
        host.exec(*inside.python("root", "-m", "compileall", "-q", "-j", "0", f"{PLACE}/packages", f"{PLACE}/python"))
        host.exec("sh", "-c", "ssh-keygen -y -f /etc/ssh/ssh_host_ed25519_key >/etc/ssh/ssh_host_ed25519_key.pub")
        files = {f"{inside.folder}/{file.relative_to(lab.folder.path)}": file for file in _files(lab.folder.path)}
        host.container.put_archive("/", _tar(files))
        host.exec("chown", "-R", "deploy:", inside.folder)
        return inside

    @property
    def folder(self) -> str:
        return "/home/deploy/fleet"

    def write(self, nix: str) -> None:
        """What the next deployment puts on the host."""
        self._put(f"{self.folder}/hosts/{self.host.name}.nix", nix)

    def toml(self, **keys: Any) -> None:
        """fleet.toml has this host with these keys, besides what it needs to be this machine."""
        key = self.host.exec("cat", "/etc/ssh/ssh_host_ed25519_key.pub").stdout.strip()
        usual = {
            "address": "local",
            "host_key": key,
            "sudo": True,
            "user": "deploy",
            "identity_file": f"{self.folder}/keys/id_ed25519",
            "substitute": False,
            "settle": "300ms",
            "confirm_timeout": "10s",
        }
        table = {key: value for key, value in {**usual, **keys}.items() if value is not None}
        document = {"fleet": {"name": "self", "flake": "."}, "hosts": {self.host.name: table}}
        self._put(f"{self.folder}/fleet.toml", tomli_w.dumps(document))

    def _put(self, path: str, text: str) -> None:
        self.host.exec("sh", "-c", 'printf %s "$1" >"$0" && chown deploy: "$0"', path, text)

    def argv(self, *arguments: str) -> tuple[str, ...]:
        """The command that is `fleet` with these arguments, as this user."""
        return self.python(self.user, "-m", "fleet", *arguments)

    def python(self, user: str, *arguments: str) -> tuple[str, ...]:
        """The command that is Python with these arguments, as that user, in the folder."""
        loader = f"{PLACE}/lib/{_loader().name}"  # so that nothing but this Python meets the libraries it came with
        variables = {
            "HOME": "/home/deploy" if user == "deploy" else "/root",
            "PYTHONHOME": f"{PLACE}/python",
            "PYTHONPATH": f"{PLACE}/packages",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
        }
        words = " ".join(f"{name}={value}" for name, value in variables.items())
        python = f"exec env -i {words} {loader} --library-path {PLACE}/lib {PLACE}/bin/python3"
        script = f"mkdir -p {self.folder} && cd {self.folder} && {python} {shlex.join(arguments)}"
        return ("runuser", "-u", user, "--", "sh", "-c", script)

    def fleet(self, *arguments: str) -> Ended:
        """`fleet` with these arguments, ended."""
        done = self.host.exec(*self.argv(*arguments), check=False)
        return Ended(done.status, done.stdout, done.stderr)

    def deploy(self, *arguments: str) -> Ended:
        """`fleet deploy` of this host, ended."""
        return self.fleet("deploy", "--json", "--yes", self.host.name, *arguments)

    def in_terminal(self, *arguments: str) -> None:
        """`fleet` with these arguments is under way in a terminal, whose process id is in /run/terminal."""
        words = shlex.join(self.argv(*arguments))
        terminal = f"setsid script -qec {shlex.quote(words)} /run/typescript </dev/null >/dev/null 2>&1"
        self.host.exec("sh", "-c", f"{terminal} & echo $! >/run/terminal")

    def pids(self) -> list[str]:
        """The processes of `fleet` that run there."""
        found = self.host.exec("pgrep", "-f", f"^{PLACE}/lib/", check=False).stdout.split()
        return list(found)

    def is_over(self) -> None:
        """No `fleet` runs there any more."""
        wait_until(lambda: not self.pids(), "fleet has ended")


@dataclass
class Ended:
    """A `fleet` that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def result(self) -> dict[str, Any]:
        """What became of the host."""
        (host,) = json.loads(self.stdout.splitlines()[-1])["hosts"]
        return dict(host)


def _program() -> dict[str, Path]:
    """Every file that it takes, by its place on the host."""
    python = Path(sys.executable).resolve()
    found = {f"{PLACE}/bin/python3": python}
    standard = Path(sysconfig.get_path("stdlib"))
    modules = [file for file in _files(standard) if not UNUSED.search(f"/{file.relative_to(standard)}")]
    found |= {f"{PLACE}/python/lib/{standard.name}/{file.relative_to(standard)}": file for file in modules}
    found |= {f"{PLACE}/packages/fleet/{file.relative_to(SOURCE)}": file for file in _files(SOURCE)}
    found |= {f"{PLACE}/packages/{place}": file for place, file in _packages("fleet")}
    binaries = [python, *(file for file in found.values() if ".so" in file.suffixes)]
    found |= {f"{PLACE}/lib/{library.name}": library for library in _libraries(binaries)}
    return found


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if file.is_file())


def _packages(name: str) -> Iterator[tuple[str, Path]]:
    """The files of all that a distribution needs, without its own."""
    seen, left = {name}, [name]
    while left:
        for need in importlib.metadata.requires(left.pop()) or ():
            needed = re.split(r"[^\w.-]", need, maxsplit=1)[0]
            try:
                files = importlib.metadata.files(needed) or []
            except importlib.metadata.PackageNotFoundError:  # for another platform, or an extra
                continue
            if needed not in seen and "extra ==" not in need:
                seen.add(needed)
                left.append(needed)
                yield from ((str(file), Path(str(file.locate()))) for file in files if ".." not in file.parts)


def _libraries(binaries: Iterable[Path]) -> set[Path]:
    """The shared libraries that they are linked with, each under the name that they know it by."""
    said = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True, check=False).stdout
    return {Path(path) for path in re.findall(r"(?:=> |^\t)(/\S+) \(0x", said, re.MULTILINE)}


def _loader() -> Path:
    return next(path for path in _libraries([Path(sys.executable)]) if path.name.startswith("ld-"))


def _tar(files: Mapping[str, Path]) -> bytes:
    """The files as an archive. Links are what they lead to."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", dereference=True) as archive:
        for place, file in files.items():
            archive.add(file, place.lstrip("/"), recursive=False)
    return data.getvalue()
