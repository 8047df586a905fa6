"""Say what a container of an image runs, and what else than the closure is in the image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fleet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleet.store.wire import PathInfo

_ARCHITECTURES = {
    "x86_64": {"architecture": "amd64"},
    "i686": {"architecture": "386"},
    "aarch64": {"architecture": "arm64"},
    "armv7l": {"architecture": "arm", "variant": "v7"},
    "armv6l": {"architecture": "arm", "variant": "v6"},
    "riscv64": {"architecture": "riscv64"},
    "powerpc64le": {"architecture": "ppc64le"},
    "s390x": {"architecture": "s390x"},
}
"""What Nix and OCI call processors."""
CREATED = "1970-01-01T00:00:01Z"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What an image is beside the paths of its closure."""

    name: str
    """Its repository, such as `web-1`."""
    top: str
    """The store path whose closure it has."""
    platform: Mapping[str, str]
    """The fields of OCI that say where it runs."""
    runs: Mapping[str, Any]
    """The `config` of OCI: entry point, environment and the like."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Symbolic links in its root, each with its target."""
    has_registration: bool = False
    """Whether the file that `nix-store --load-db` reads is in it, as in NixOS's own images."""

    @property
    def tag(self) -> str:
        """The hash of the store path: it says what is in the image, and not what runs."""
        return self.top[len("/nix/store/") :][:32]

    def configuration(self, diff_ids: Iterable[str]) -> dict[str, Any]:
        """Return the image configuration of OCI over layers with these digests, the lowest first."""
        return {
            **self.platform,
            "created": CREATED,
            "config": dict(self.runs),
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        }


def platform_of(system: str) -> dict[str, str]:
    """Return what OCI calls a system of Nix. Raise `ConfigError` for one on which no Linux container runs."""
    processor, _, kernel = system.partition("-")
    if kernel != "linux" or processor not in _ARCHITECTURES:
        raise ConfigError(
            f"there are no images for {system}", hint=f"for: {', '.join(f'{each}-linux' for each in _ARCHITECTURES)}"
        )
    return {"os": "linux", **_ARCHITECTURES[processor]}


def host_recipe(name: str, top: str, system: str) -> Recipe:
    """Return the recipe of a NixOS system, which boots in the container by its own init."""
    # systemd takes SIGRTMIN+3 as the order to power off, and learns from `container` where it is.
    runs = {"Entrypoint": ["/init"], "Env": ["container=oci"], "StopSignal": "SIGRTMIN+3"}
    links = {"init": f"{top}/init"}
    return Recipe(name=name, top=top, platform=platform_of(system), runs=runs, links=links, has_registration=True)


def program_recipe(name: str, top: str, system: str, program: str) -> Recipe:
    """Return the recipe of a package, which runs the program at this path."""
    runs = {"Entrypoint": [program], "Env": ["PATH=/bin"]}
    return Recipe(name=name, top=top, platform=platform_of(system), runs=runs, links={"bin": f"{top}/bin"})


def registration(infos: Iterable[PathInfo]) -> bytes:
    """Return what `nix-store --load-db` reads to know these paths."""
    lines: list[str] = []
    for info in sorted(infos, key=lambda info: info.path):
        references = sorted(info.references)
        lines += [info.path, info.nar_hash, str(info.nar_size), "", str(len(references)), *references]
    return "".join(f"{line}\n" for line in lines).encode()
