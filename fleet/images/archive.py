"""Write an image as one file, which is both an OCI layout and what `docker load` takes.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from fleet.images.configuration import registration
from fleet.images.layers import MOST_LAYERS, layers
from fleet.images.tree import MTIME, Tar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.images.configuration import Recipe
    from fleet.store.wire import PathInfo

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
"""Not compressed: what zlib makes of a layer differs from one version of it to another, and nothing of this does."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image that was written."""

    reference: str
    """NAME:TAG."""
    digest: str
    """Of its manifest: what registries and containerd know it by."""
    configuration: str
    """The digest of its configuration: Docker's and podman's id of it."""
    layers: int
    paths: int
    size: int
    """Bytes of the file."""


@dataclass(frozen=True, kw_only=True)
class _Blob:
    digest: str
    size: int

    def described(self, kind: str) -> dict[str, Any]:
        return {"mediaType": kind, "digest": f"sha256:{self.digest}", "size": self.size}


class _Digesting:
    """A file whose digest is taken of what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        self.size += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.size

    @property
    def blob(self) -> _Blob:
        return _Blob(digest=self._digest.hexdigest(), size=self.size)


def write_image(file: IO[bytes], infos: Sequence[PathInfo], recipe: Recipe, *, most: int = MOST_LAYERS) -> Image:
    """Write the image of a closure to an empty file that can be read and written, and return what it is.

    The same closure makes the same bytes, on every machine. Raise `ConfigError` if a path is not what the store says,
    and `OSError` if the file cannot be written.
    """
    divided = layers(infos, recipe.top, most=most)
    blobs = [_layer(file, part, infos, recipe, is_last=part is divided[-1]) for part in divided]
    configuration = _document(file, recipe.configuration(f"sha256:{blob.digest}" for blob in blobs))
    manifest = _document(
        file,
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": configuration.described(_CONFIG),
            "layers": [blob.described(_LAYER) for blob in blobs],
        },
    )
    reference = f"{recipe.name}:{recipe.tag}"
    _member(file, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
    _member(file, "index.json", _json(_index(manifest, recipe, reference)))
    _member(file, "manifest.json", _json(_docker(configuration, blobs, reference)))
    file.write(bytes(2 * tarfile.BLOCKSIZE))
    return Image(
        reference=reference,
        digest=f"sha256:{manifest.digest}",
        configuration=f"sha256:{configuration.digest}",
        layers=len(blobs),
        paths=len(infos),
        size=file.tell(),
    )


def _layer(
    file: IO[bytes], part: Sequence[PathInfo], infos: Sequence[PathInfo], recipe: Recipe, *, is_last: bool
) -> _Blob:
    """Write the layer with these paths. The last one has what is not in the store, too."""
    begins = file.tell()
    file.write(bytes(tarfile.BLOCKSIZE))  # its name and size are known when it is written
    sink = _Digesting(file)
    tar = Tar(sink)
    for name in ("nix", "nix/store"):
        tar.folder(name)
    for info in part:
        tar.store_path(info)
    if is_last:
        for name, target in sorted(recipe.links.items()):
            tar.link(name, target)
        tar.folder("tmp", 0o1777)
        if recipe.has_registration:
            tar.file("nix-path-registration", registration(infos))
    tar.close()
    file.write(bytes(-sink.size % tarfile.BLOCKSIZE))
    ends = file.tell()
    file.seek(begins)
    file.write(_header(f"blobs/sha256/{sink.blob.digest}", sink.size))
    file.seek(ends)
    return sink.blob


def _document(file: IO[bytes], value: dict[str, Any]) -> _Blob:
    data = _json(value)
    blob = _Blob(digest=hashlib.sha256(data).hexdigest(), size=len(data))
    _member(file, f"blobs/sha256/{blob.digest}", data)
    return blob


def _member(file: IO[bytes], name: str, data: bytes) -> None:
    file.write(_header(name, len(data)) + data + bytes(-len(data) % tarfile.BLOCKSIZE))


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o444, MTIME
    return entry.tobuf(tarfile.GNU_FORMAT)


def _index(manifest: _Blob, recipe: Recipe, reference: str) -> dict[str, Any]:
    names = {
        "io.containerd.image.name": f"docker.io/library/{reference}",
        "org.opencontainers.image.ref.name": recipe.tag,
    }
    described = {**manifest.described(_MANIFEST), "platform": dict(recipe.platform), "annotations": names}
    return {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [described]}


def _docker(configuration: _Blob, blobs: Sequence[_Blob], reference: str) -> list[dict[str, Any]]:
    return [
        {
            "Config": f"blobs/sha256/{configuration.digest}",
            "RepoTags": [reference],
            "Layers": [f"blobs/sha256/{blob.digest}" for blob in blobs],
        }
    ]


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
