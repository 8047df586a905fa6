"""Build the root of every lab host, as a Docker image that is named after the hash of its recipe."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fleet.lab.engine import Engine

_REPOSITORY = "fleet-lab"
_SUITE = "trixie"
_CHANGES = ["ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", 'CMD ["/usr/sbin/lab-boot-stage"]']


def ensure(engine: Engine, say: Callable[[str], None]) -> str:
    """Build the image of this recipe if it does not exist, and return its name."""
    with recipe_folder() as recipe:
        name = f"{_REPOSITORY}:{digest(recipe)}"
        if _exists(engine, name):
            return name
        with alone():
            if not _exists(engine, name):
                say(f"building the image {name}, once: about half a minute")
                _build(engine, recipe, name)
    return name


def digest(recipe: Path) -> str:
    """Return a word that changes with any file of the recipe."""
    total = hashlib.sha256(_SUITE.encode())
    for path in sorted(path for path in recipe.rglob("*") if path.is_file()):
        content = path.read_bytes()
        total.update(f"\0{path.relative_to(recipe)}\0{len(content)}\0".encode() + content)
    return total.hexdigest()[:12]


@contextmanager
def recipe_folder(*, vm: bool = False) -> Iterator[Path]:
    """Collect everything that the image is made from in a folder, while inside; with `vm` also what a VM needs."""
    with tempfile.TemporaryDirectory(prefix="fleet-lab-") as temporary:
        recipe = Path(temporary) / "lab"
        with as_file(files("fleet.lab")) as package:
            shutil.copytree(package / "image", recipe)
            shutil.copytree(package / "template" / "system", recipe / "system")
            shutil.copy(package / "template" / "system.nix", recipe)
            if vm:
                shutil.copytree(package / "vm-image", recipe / "vm-image")
        for script in ("setup", "boot-stage", "stage-2", "disk", "grub", "vm-image/setup"):
            if (recipe / script).exists():
                (recipe / script).chmod(0o755)  # the bit may be lost in a wheel
        yield recipe


@contextmanager
def alone(what: str = "containers") -> Iterator[None]:
    """Keep other processes of this user from building the same images, while inside."""
    with (Path(tempfile.gettempdir()) / f"fleet-lab-{what}-{os.getuid()}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _exists(engine: Engine, name: str) -> bool:
    return bool(engine.client.images.list(name))


def _build(engine: Engine, recipe: Path, name: str) -> None:
    if shutil.which("mmdebstrap"):
        _bootstrap(engine, recipe, name)
    else:
        _docker_build(engine, recipe, name)


def _bootstrap(engine: Engine, recipe: Path, name: str) -> None:
    """Build the image from Debian's packages, without a registry."""
    from docker.errors import APIError

    with tempfile.TemporaryDirectory(prefix="fleet-lab-") as temporary:
        root = Path(temporary) / "root.tar"
        debootstrap(recipe, root)
        repository, _, tag = name.partition(":")
        try:
            engine.client.api.import_image(src=str(root), repository=repository, tag=tag, changes=_CHANGES)
        except APIError as error:
            hint = "see the log of dockerd; does it have room?"
            raise ConfigError(f"Docker does not take the lab's image: {error.explanation}", hint=hint) from error


def debootstrap(recipe: Path, root: Path) -> None:
    """Install a Debian as the recipe says, in this tar file or folder.

    Raise `ConfigError` with mmdebstrap's output if it fails.
    """
    vm = recipe / "vm-image"
    lists = [recipe / "packages", *([vm / "packages"] if vm.exists() else [])]
    packages = ",".join(word for file in lists for word in file.read_text(encoding="utf-8").split())
    setups = [*(["/lab/vm-image/setup"] if vm.exists() else []), "/lab/setup"]
    argv = [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        f"--include={packages}",
    ]
    if vm.exists():
        argv += [f'--essential-hook=sh {shlex.quote(str(vm / "no-initramfs"))} "$1"', "--dpkgopt=force-confold"]
    argv += [f"--customize-hook=sync-in {recipe.parent} /"]
    argv += [f'--customize-hook=chroot "$1" {setup}' for setup in setups]
    done = subprocess.run([*argv, _SUITE, str(root)], capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        raise ConfigError(
            "mmdebstrap could not make the lab's image",
            said=(done.stdout + done.stderr).splitlines()[-10:],
            hint="it needs root or user namespaces, Debian's archive key (debian-archive-keyring), "
            "and to reach a Debian mirror",
        )


def _docker_build(engine: Engine, recipe: Path, name: str) -> None:
    """Build the image from a registry's Debian, on machines without mmdebstrap such as NixOS.

    Never run where `fleet` is developed, since no registry answers there.
    """
    from docker.errors import APIError, BuildError

    try:
        engine.client.images.build(path=str(recipe), tag=name, rm=True, forcerm=True)
    except BuildError as error:
        log = "".join(str(part.get("stream", "")) for part in error.build_log)
        raise ConfigError("docker build of the lab's image failed", said=log.splitlines()[-10:]) from error
    except APIError as error:
        raise ConfigError(
            f"docker cannot build the lab's image: {error.explanation}",
            hint="it pulls debian:trixie-slim; where no registry answers, install mmdebstrap and be root",
        ) from error
